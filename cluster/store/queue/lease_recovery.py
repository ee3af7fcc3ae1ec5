"""Takes back the leases of schedulers that died or stop, so that their videos are tried again.

A scheduler's death is not the video's doing: it counts as an interruption. An open stage run is closed as lost, naming
the stage.
"""

import time
from collections.abc import Collection, Mapping
from uuid import UUID

from psycopg import ClientCursor
from psycopg.rows import DictRow, dict_row

from cluster.contracts.events import Event
from cluster.contracts.stages import RetryRule
from cluster.security.event_log import EventLog
from cluster.store.postgres.connections import Pool
from cluster.store.postgres.plausible_times import STARTED_AT
from cluster.store.postgres.refusals import (
    BRIEFLY,
    ONE_BY_ONE_S,
    REFUSALS,
    SKIPPED,
    WITHIN_TURN,
    RefusedRows,
    sentence_of,
)
from cluster.store.queue.stage_runs import LOST_RUN

logger = EventLog(__name__)

SCHEDULER_DIED = "the scheduler that ran this stage died"
CLUSTER_STOPPED = "the cluster was stopped while this stage ran"

_TAKE_BACK = """
-- Lock the leases first: only a statement that begins afterwards sees every stage run that was opened under them.
-- Locking re-checks what is chosen on the latest row, so a heartbeat that came in between wins.
SELECT set_config('heimdex.taken_back', coalesce(string_agg(lease_token::text, ','), ''), true)
FROM (SELECT lease_token FROM video_leases WHERE {chosen} ORDER BY lease_token {locking}) AS locked;

-- Close the open stage runs as lost, naming the stage, and let the video wait again, or fail it there when this counts
-- and was once too often.
WITH held AS MATERIALIZED (
    SELECT video_id, lease_token FROM video_leases
    WHERE lease_token = ANY (string_to_array(current_setting('heimdex.taken_back'), ',')::bigint[])
), last_stage AS (
    SELECT DISTINCT ON (r.video_id) r.video_id, r.stage
    FROM held JOIN video_stage_runs AS r ON r.video_id = held.video_id AND r.outcome = 'running'
    ORDER BY r.video_id, r.ready_at DESC, r.stage
), verdict AS (
    SELECT v.id, held.lease_token, (v.status = 'PROCESSING') IS TRUE AS processing,
           p.interruptions + %(counted)s AS interruptions,
           %(counted)s > 0 AND p.interruptions + %(counted)s >= %(max_interruptions)s AS spent,
           coalesce(s.stage, nullif(v.processing_stage, 'queued'), 'failed') AS stage,
           greatest(date_trunc('milliseconds', clock_timestamp()), {started_at}) AS moment,
           {started_at} AS started_at
    FROM held JOIN videos AS v ON v.id = held.video_id
    JOIN video_processing AS p ON p.video_id = held.video_id
    LEFT JOIN last_stage AS s ON s.video_id = held.video_id
), written AS (
    UPDATE videos AS v
    SET status = CASE WHEN spent THEN 'FAILED' ELSE 'PENDING' END::video_status,
        processing_stage = CASE WHEN spent THEN stage ELSE 'queued' END,
        error_message = CASE WHEN %(counted)s > 0 THEN %(reason)s END,
        queued_at = CASE WHEN spent THEN v.queued_at ELSE moment END,
        processing_started_at = CASE WHEN spent THEN coalesce(started_at, moment) END,
        processing_finished_at = CASE WHEN spent THEN moment END,
        processing_duration_ms =
            CASE WHEN spent
                 THEN round(extract(epoch FROM moment - coalesce(started_at, moment)) * 1000)::integer END,
        updated_at = moment
    FROM verdict WHERE v.id = verdict.id AND v.status = 'PROCESSING'
    RETURNING v.id, v.status, spent, moment, verdict.interruptions
), taken_back AS (
    SELECT id, spent, moment, interruptions FROM written WHERE status <> 'PROCESSING'
), released AS (
    -- A video that a trigger of videos keeps PROCESSING keeps its lease: without one it would never be looked at again.
    DELETE FROM video_leases AS l USING verdict AS v
    WHERE l.video_id = v.id AND (NOT v.processing OR v.id IN (SELECT id FROM taken_back))
    RETURNING l.video_id
), lost AS (
    UPDATE video_stage_runs AS r
    SET {lost_run}, error_type = 'NodeLost', error_message = %(reason)s
    FROM released WHERE r.video_id = released.video_id AND r.outcome = 'running'
), waiting AS (
    UPDATE video_processing AS p
    SET interruptions = t.interruptions, error_type = CASE WHEN %(counted)s > 0 THEN 'NodeLost' END,
        available_at = CASE WHEN spent THEN NULL ELSE moment END
    FROM taken_back AS t WHERE p.video_id = t.id
)
SELECT v.id, v.lease_token, v.id IN (SELECT id FROM taken_back) AS taken_back FROM verdict AS v WHERE v.processing
"""

_SET_ASIDE = """
-- A video whose row the database refuses to change keeps its lease, which ends again after a while: it takes no other's
-- place among those that have expired.
UPDATE video_leases AS l
SET expires_at = greatest(l.expires_at, clock_timestamp() + make_interval(secs => r.delay_s))
FROM (SELECT d.lease_token, d.delay_s
      FROM unnest(%(tokens)s::bigint[], %(delays)s::float8[]) AS d (lease_token, delay_s)
      JOIN video_leases AS l USING (lease_token) ORDER BY d.lease_token FOR UPDATE OF l SKIP LOCKED) AS r
WHERE l.lease_token = r.lease_token
"""
# A lease that has just expired may have a scheduler that still writes under it: pass it over.
# What this scheduler holds is its heartbeat's: after an outage of the database, or a sleep of the machine, all of it
# has expired.
_EXPIRED = "expires_at < clock_timestamp() AND NOT (scheduler = %(scheduler)s AND lease_token = ANY (%(held)s))"
_PASSING_OVER = "LIMIT %(limit)s FOR UPDATE SKIP LOCKED"
# One's own are waited for: a heartbeat or a ledger write that is under way must not leave a video behind.
_OWN, _WAITING = "scheduler = %(scheduler)s", "FOR UPDATE"


class LeaseRecovery:
    """Takes leases back. ``scheduler`` names whose are one's own."""

    def __init__(self, pool: Pool, scheduler: str, rule: RetryRule) -> None:
        self._pool = pool
        self._scheduler = scheduler
        self._max_interruptions = rule.max_interruptions
        self._refused: RefusedRows[int] = RefusedRows(Event.VIDEO_NOT_TAKEN_BACK, "lease")

    @property
    def trouble(self) -> str | None:
        """What keeps videos from being taken back, in a sentence; None: nothing."""
        return self._refused.trouble

    def reap(self, limit: int = 100, held: Collection[int] = ()) -> list[UUID]:
        """Take back up to ``limit`` videos whose lease expired, of any scheduler, but those that this one holds.

        ``held``: the tokens of what it has in flight. A lease that it has without knowing, since the answer to a claim
        was lost, is taken back.
        """
        return self._take_back(_EXPIRED, _PASSING_OVER, SCHEDULER_DIED, counted=1, limit=limit, held=held)

    def reap_own(self) -> list[UUID]:
        """Take back all videos of this scheduler: it died and was started again."""
        return self._take_back(_OWN, _WAITING, SCHEDULER_DIED, counted=1)

    def hand_back(self) -> list[UUID]:
        """Let all videos of this scheduler wait again: it stops. This counts as nothing."""
        return self._take_back(_OWN, _WAITING, CLUSTER_STOPPED, counted=0)

    def _take_back(
        self,
        chosen: str,
        locking: str,
        reason: str,
        *,
        counted: int,
        limit: int | None = None,
        held: Collection[int] = (),
    ) -> list[UUID]:
        """Take back the chosen leases, one by one where the database refuses a row of them: it holds up no others."""
        parameters: dict[str, object] = {
            "scheduler": self._scheduler,
            "limit": limit,
            "held": list(held),
            "reason": reason,
            "counted": counted,
            "max_interruptions": self._max_interruptions,
        }
        refused: dict[int, str] = {}
        try:
            rows = self._execute(WITHIN_TURN, chosen, locking, parameters)
        except REFUSALS as error:
            logger.debug(Event.LEASE_RECOVERY_REFUSED, error=sentence_of(error))
            rows = []
            end_s = time.monotonic() + ONE_BY_ONE_S
            for token in self._tokens(chosen, parameters):
                if limit is not None and time.monotonic() > end_s:
                    break  # what is left has still expired at the next look
                one = f"{chosen} AND lease_token = %(token)s"
                try:
                    rows += self._execute(BRIEFLY, one, locking, {**parameters, "token": token})
                except REFUSALS as refusal:
                    refused[token] = sentence_of(refusal)
        refused |= {row["lease_token"]: SKIPPED for row in rows if not row["taken_back"]}
        taken_back = {row["lease_token"]: row["id"] for row in rows if row["taken_back"]}
        self._refused.release(taken_back)
        if refused:
            self._set_aside(refused)
        return list(taken_back.values())

    def _set_aside(self, reasons: Mapping[int, str]) -> None:
        delays = self._refused.note(reasons)
        with self._pool.autocommitted() as connection:
            connection.execute(_SET_ASIDE, {"tokens": list(reasons), "delays": delays})

    def _execute(self, within: str, chosen: str, locking: str, parameters: Mapping[str, object]) -> list[DictRow]:
        statement = within + _TAKE_BACK.format(chosen=chosen, locking=locking, started_at=STARTED_AT, lost_run=LOST_RUN)
        with self._pool.autocommitted() as connection:
            cursor = ClientCursor(connection, row_factory=dict_row)  # one message: no process is stopped in between
            cursor.execute(statement, parameters)
            while cursor.nextset():
                pass
            return cursor.fetchall()

    def _tokens(self, chosen: str, parameters: dict[str, object]) -> list[int]:
        statement = f"SELECT lease_token FROM video_leases WHERE {chosen} ORDER BY lease_token LIMIT %(limit)s"
        with self._pool.autocommitted() as connection:
            return [
                row["lease_token"]
                for row in ClientCursor(connection, row_factory=dict_row).execute(statement, parameters)
            ]
