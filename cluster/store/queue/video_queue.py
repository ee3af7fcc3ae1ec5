"""The durable queue as a scheduler sees it: claim under a lease, heartbeat, finish, fail, retry.

Every write about a claimed video matches its lease token; zero rows mean that the lease is lost, and the caller
must stop and discard. All times are the database's clock. Leases whose scheduler died are ``lease_recovery``'s, what
owners do ``submissions``', stage runs the ledger's, scenes ``scenes``'.
"""

import time
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from psycopg import ClientCursor, DatabaseError
from psycopg.rows import DictRow, dict_row

from cluster.contracts.errors import DatabaseUnavailable, LeaseLost, RefusedByDatabase, SourceChanging
from cluster.contracts.events import Event
from cluster.contracts.results import StageFailure
from cluster.contracts.stages import Blame, Setbacks, Stage
from cluster.contracts.uris import video_name
from cluster.contracts.videos import URGENT_AHEAD, ClaimedVideo, Origin
from cluster.security.event_log import EventLog
from cluster.store.postgres.bounded_texts import FILENAME, PATH
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

_CLAIM_LOCK = 0x636C61696D  # "claim"; schedulers claim one after the other, so that an owner's cap holds

_CLAIM_ROUNDS = 20
"""Rounds in which one claim chooses others in the places of refused videos."""

NOBODY_AHEAD: Mapping[UUID, float] = {}
NO_CAPS: Mapping[UUID, int] = {}

_CHOOSE = """
-- Lease up to n waiting videos to a scheduler. Each owner's are taken in order of when they are due; between owners,
-- the one with fewest in flight comes first, where a video's worth of run that an owner has received beyond the others
-- (``ahead``) counts as one in flight. Processing begins with the first worker, which the ledger writes down.
-- Times are cut to milliseconds so that durations are exact in them.
-- What is fetched was written down when the video was queued: who may change storage_path does not change that.
-- The orders and the subquery are such that only the two indexes of what waits and primary keys fit: what is read grows
-- with what is in flight and with the owners who wait, never with what has ended.
WITH RECURSIVE owners AS (
    (SELECT owner_id FROM video_processing WHERE available_at IS NOT NULL ORDER BY owner_id, due_at, video_id LIMIT 1)
    UNION ALL
    SELECT (SELECT p.owner_id FROM video_processing AS p
            WHERE p.available_at IS NOT NULL AND p.owner_id > o.owner_id
            ORDER BY p.owner_id, p.due_at, p.video_id LIMIT 1)
    FROM owners AS o WHERE o.owner_id IS NOT NULL
), holding AS (
    SELECT (SELECT p.owner_id FROM video_processing AS p WHERE p.video_id = l.video_id) AS owner_id, count(*) AS videos
    FROM video_leases AS l GROUP BY 1
), capped AS (
    SELECT * FROM unnest(%(capped)s::uuid[], %(caps)s::bigint[]) AS c (owner_id, cap)
), ahead AS (
    SELECT * FROM unnest(%(owners)s::uuid[], %(aheads)s::float8[]) AS a (owner_id, ahead)
), candidates AS (
    SELECT w.video_id, o.owner_id, w.due_at,
           coalesce(h.videos, 0) + coalesce(a.ahead, 0)
               + row_number() OVER (PARTITION BY o.owner_id ORDER BY w.due_at, w.video_id) AS turn
    FROM owners AS o LEFT JOIN holding AS h USING (owner_id) LEFT JOIN ahead AS a USING (owner_id)
    LEFT JOIN capped AS m USING (owner_id)
    CROSS JOIN LATERAL (
        SELECT p.video_id, p.due_at FROM video_processing AS p
        WHERE p.owner_id = o.owner_id AND p.available_at <= clock_timestamp(){only}
        ORDER BY p.due_at, p.video_id
        LIMIT least(%(limit)s, m.cap, greatest(%(owner_cap)s - coalesce(h.videos, 0), 0))
    ) AS w
), chosen AS (
    SELECT video_id, owner_id, turn, due_at FROM candidates ORDER BY turn, due_at, video_id LIMIT %(limit)s
){urgent}, waiting AS MATERIALIZED (
    SELECT v.id, p.owner_id, (v.status = 'PENDING') IS TRUE AS pending
    FROM {all_chosen} AS c
    JOIN videos AS v ON v.id = c.video_id
    JOIN video_processing AS p ON p.video_id = c.video_id
    WHERE p.available_at <= clock_timestamp()
    ORDER BY c.turn, c.due_at, v.id
    FOR UPDATE OF v, p SKIP LOCKED
)"""

_CLAIM = (
    _CHOOSE
    + """, processing AS (
    UPDATE videos AS v
    SET status = 'PROCESSING', processing_stage = 'queued', updated_at = clock_timestamp(),
        processing_started_at = NULL, processing_finished_at = NULL, processing_duration_ms = NULL,
        error_message = NULL
    FROM waiting WHERE v.id = waiting.id AND waiting.pending
    RETURNING v.id, v.status, """
    + PATH
    + """ AS storage_path, """
    + FILENAME
    + """ AS filename,
              -- Users of an existing database may write it: a moment that no program can hold must stop no claim.
              CASE WHEN v.queued_at > clock_timestamp() - interval '100 years'
                        AND v.queued_at < clock_timestamp() + interval '1 day'
                   THEN v.queued_at ELSE clock_timestamp() END AS queued_at
), claimed AS (
    -- One that another system has taken since waits here no more; one that a trigger of videos left PENDING still does.
    UPDATE video_processing AS p
    SET available_at = NULL, attempt = p.attempt + waiting.pending::integer,
        error_type = CASE WHEN waiting.pending THEN NULL ELSE p.error_type END
    FROM waiting LEFT JOIN processing AS v ON v.id = waiting.id
    WHERE p.video_id = waiting.id AND (NOT waiting.pending OR v.status <> 'PENDING')
    RETURNING p.*
), leased AS (
    INSERT INTO video_leases (video_id, lease_token, scheduler, expires_at)
    SELECT id, nextval('video_lease_tokens'), %(scheduler)s, clock_timestamp() + make_interval(secs => %(lease_s)s)
    FROM processing WHERE status = 'PROCESSING'
    RETURNING video_id, lease_token
)
SELECT w.id, w.owner_id, c.priority, coalesce(c.uri, v.storage_path) AS uri, c.origin, v.filename, c.language,
       c.attempt, l.lease_token, v.queued_at, greatest(date_trunc('milliseconds', clock_timestamp()),
                             date_trunc('milliseconds', v.queued_at + interval '999 microseconds')) AS claimed_at,
       c.failures AS errors, c.crashes, c.interruptions, c.postponed_s,
       ARRAY(SELECT stage FROM video_stage_results AS s WHERE s.video_id = v.id) AS stored
FROM waiting AS w LEFT JOIN processing AS v ON v.id = w.id LEFT JOIN claimed AS c ON c.video_id = w.id
LEFT JOIN leased AS l ON l.video_id = w.id
WHERE l.lease_token IS NOT NULL OR w.pending AND c.video_id IS NULL
ORDER BY c.due_at, w.id
"""
)
"""A row without a lease token is a video that a trigger of ``videos`` left PENDING."""

_CHOSEN_IDS = _CHOOSE + " SELECT id, owner_id FROM waiting WHERE pending"

_SET_ASIDE = """
-- Videos whose rows the database refuses to change are tried again after a while, and take no other's place until then.
WITH refused AS MATERIALIZED (
    SELECT p.video_id, r.delay_s
    FROM unnest(%(videos)s::uuid[], %(delays)s::float8[]) AS r (video_id, delay_s)
    JOIN video_processing AS p ON p.video_id = r.video_id
    WHERE p.available_at <= clock_timestamp()
    ORDER BY p.video_id FOR UPDATE OF p SKIP LOCKED
)
UPDATE video_processing AS p
SET available_at = clock_timestamp() + make_interval(secs => r.delay_s), error_type = %(error_type)s
FROM refused AS r WHERE p.video_id = r.video_id
"""

_URGENT = """, urgent_owners AS (
    (SELECT owner_id FROM video_processing WHERE available_at IS NOT NULL AND priority > 0
     ORDER BY owner_id, priority DESC, due_at, video_id LIMIT 1)
    UNION ALL
    SELECT (SELECT p.owner_id FROM video_processing AS p
            WHERE p.available_at IS NOT NULL AND p.priority > 0 AND p.owner_id > o.owner_id
            ORDER BY p.owner_id, p.priority DESC, p.due_at, p.video_id LIMIT 1)
    FROM urgent_owners AS o WHERE o.owner_id IS NOT NULL
), urgent_candidates AS (
    SELECT w.video_id, o.owner_id, w.due_at,
           row_number() OVER (PARTITION BY o.owner_id ORDER BY w.priority DESC, w.due_at, w.video_id)
               + coalesce(h.videos, 0) + coalesce(a.ahead, 0) AS turn
    FROM urgent_owners AS o LEFT JOIN holding AS h USING (owner_id) LEFT JOIN ahead AS a USING (owner_id)
    LEFT JOIN capped AS m USING (owner_id)
    CROSS JOIN LATERAL (
        SELECT p.video_id, p.priority, p.due_at FROM video_processing AS p
        WHERE p.owner_id = o.owner_id AND p.available_at <= clock_timestamp() AND p.priority > 0
          AND p.video_id NOT IN (SELECT video_id FROM chosen)
        ORDER BY p.priority DESC, p.due_at, p.video_id
        LIMIT least(%(urgent)s, greatest(least(m.cap, %(owner_cap)s - coalesce(h.videos, 0))
                                         - (SELECT count(*) FROM chosen WHERE chosen.owner_id = o.owner_id), 0))
    ) AS w
    WHERE coalesce(a.ahead, 0) <= %(urgent_ahead)s
), urgent AS (
    SELECT video_id, owner_id, turn, due_at FROM urgent_candidates ORDER BY turn, due_at, video_id LIMIT %(urgent)s
)"""
"""Urgent videos claimed beyond the limit: of each owner those of the highest priority, which is above the usual."""
_ALL_CHOSEN = "(TABLE chosen UNION ALL TABLE urgent)"
_CLAIM_ONE = _CLAIM.format(only=" AND p.video_id = %(video)s", urgent="", all_chosen="chosen")

_HEARTBEAT = """
-- Prolong every lease that this scheduler holds; the answer says which it still holds. Leases are locked in order of
-- their tokens, here and wherever several are, so that no two sessions wait for each other.
WITH held AS MATERIALIZED (
    SELECT video_id FROM video_leases
    WHERE scheduler = %(scheduler)s AND lease_token = ANY (%(tokens)s)
    ORDER BY lease_token FOR NO KEY UPDATE
)
UPDATE video_leases AS l SET expires_at = clock_timestamp() + make_interval(secs => %(lease_s)s)
FROM held WHERE l.video_id = held.video_id
RETURNING l.lease_token
"""

_FINISH = f"""
-- READY: the leases end, the last stage runs are closed and the videos' timings are set at one and the same moment,
-- which is not before the start where the clock was set back.
WITH done AS MATERIALIZED (
    SELECT * FROM unnest(%(videos)s::uuid[], %(tokens)s::bigint[], %(runs)s::float8[], %(nodes)s::text[],
                         %(workers)s::text[]) AS b (video_id, lease_token, run_s, node, worker)
), held AS MATERIALIZED (
    SELECT l.video_id, l.lease_token FROM video_leases AS l
    WHERE (l.video_id, l.lease_token) IN (SELECT video_id, lease_token FROM done)
    ORDER BY l.lease_token FOR UPDATE
), clock AS MATERIALIZED (
    SELECT date_trunc('milliseconds', clock_timestamp()) AS moment
), begun AS MATERIALIZED (
    SELECT v.id, held.lease_token, {STARTED_AT} AS started_at FROM held JOIN videos AS v ON v.id = held.video_id
), written AS (
    UPDATE videos AS v
    SET status = 'READY', processing_stage = 'completed',
        processing_finished_at = greatest(clock.moment, begun.started_at),
        updated_at = greatest(clock.moment, begun.started_at),
        processing_started_at = coalesce(begun.started_at, clock.moment),
        processing_duration_ms =
            round(greatest(extract(epoch FROM clock.moment - begun.started_at), 0) * 1000)::integer
    FROM begun, clock WHERE v.id = begun.id
    RETURNING v.id, v.status, begun.lease_token, v.processing_finished_at AS moment
), finished AS (
    -- A video that a trigger of videos keeps PROCESSING keeps its lease, by which it is taken back.
    SELECT id, lease_token, moment FROM written WHERE status <> 'PROCESSING'
), lease AS (
    DELETE FROM video_leases AS l USING finished WHERE l.video_id = finished.id
), forgotten AS (
    DELETE FROM video_stage_results AS s USING finished WHERE s.video_id = finished.id
), closed AS (
    UPDATE video_stage_runs AS r
    SET outcome = 'completed',
        finished_at = greatest(f.moment, r.ready_at),
        started_at = greatest(f.moment - make_interval(secs => d.run_s), r.ready_at),
        run_ms = extract(epoch FROM greatest(f.moment, r.ready_at)
                         - greatest(f.moment - make_interval(secs => d.run_s), r.ready_at)) * 1000,
        wait_ms = extract(epoch FROM greatest(f.moment - make_interval(secs => d.run_s), r.ready_at) - r.ready_at)
                  * 1000,
        node = d.node, worker = d.worker, device = 'cpu', resource_s = d.run_s, batch_size = 1
    FROM finished AS f JOIN done AS d USING (lease_token) JOIN video_processing AS p ON p.video_id = f.id
    WHERE r.video_id = f.id AND r.attempt = p.attempt AND r.stage = 'finalizing' AND r.outcome = 'running'
)
SELECT lease_token FROM finished
"""

_LOCK = """
-- First: only a statement that begins afterwards sees every stage run that was opened under the lease.
SELECT FROM video_leases WHERE video_id = %(id)s AND lease_token = %(token)s FOR UPDATE;
"""

_HELD = """held AS MATERIALIZED (
    SELECT video_id FROM video_leases WHERE video_id = %(id)s AND lease_token = %(token)s
)"""

_END_ATTEMPT = f"""settled AS (
    -- A video that a trigger of videos keeps PROCESSING keeps its lease, by which it is taken back.
    SELECT id FROM written WHERE status <> 'PROCESSING'
), lease AS (
    DELETE FROM video_leases AS l USING settled WHERE l.video_id = settled.id RETURNING l.video_id
), left_open AS (
    UPDATE video_stage_runs AS r
    SET {LOST_RUN}, error_type = 'Abandoned', error_message = 'the attempt ended while this stage was open'
    FROM lease WHERE r.video_id = lease.video_id AND r.outcome = 'running'
)"""
"""The lease of a video that ``written`` settled ends, and with it every stage run that is open."""

_FAIL = (
    _LOCK
    + """
-- FAILED for good: the stage that failed stays in processing_stage.
-- An attempt that failed before any worker began was queued until now.
WITH clock AS MATERIALIZED (
    SELECT greatest(date_trunc('milliseconds', clock_timestamp()), started_at) AS moment, started_at
    FROM (SELECT """
    + STARTED_AT
    + """ AS started_at FROM videos AS v WHERE v.id = %(id)s) AS begun
), """
    + _HELD
    + """, written AS (
    UPDATE videos AS v
    SET status = 'FAILED', processing_stage = %(stage)s, error_message = %(error_message)s,
        processing_finished_at = clock.moment, updated_at = clock.moment,
        processing_started_at = coalesce(clock.started_at, clock.moment),
        processing_duration_ms =
            round(extract(epoch FROM clock.moment - coalesce(clock.started_at, clock.moment)) * 1000)::integer
    FROM held, clock WHERE v.id = held.video_id
    RETURNING v.id, v.status
), """
    + _END_ATTEMPT
    + """
UPDATE video_processing AS p
SET failures = p.failures + %(errors)s, crashes = p.crashes + %(crashes)s,
    interruptions = p.interruptions + %(interruptions)s, error_type = %(error_type)s
FROM settled WHERE p.video_id = settled.id
"""
)

_RETRY = (
    _LOCK
    + """
-- PENDING again: queued from now on, claimable after the delay; the reason stays to be read. What was made of a file
-- that has become another one since is of no use.
WITH """
    + _HELD
    + """, written AS (
    UPDATE videos AS v
    SET status = 'PENDING', processing_stage = 'queued', error_message = %(error_message)s,
        queued_at = clock_timestamp(), processing_started_at = NULL, updated_at = clock_timestamp()
    FROM held WHERE v.id = held.video_id
    RETURNING v.id, v.status
), """
    + _END_ATTEMPT
    + """, forgotten AS (
    DELETE FROM video_stage_results AS s USING settled WHERE s.video_id = settled.id AND %(changing)s
)
UPDATE video_processing AS p
SET failures = p.failures + %(errors)s, crashes = p.crashes + %(crashes)s,
    interruptions = p.interruptions + %(interruptions)s, postponed_s = p.postponed_s + %(postponed_s)s,
    error_type = %(error_type)s,
    available_at = clock_timestamp() + make_interval(secs => %(delay_s)s)
FROM settled WHERE p.video_id = settled.id
"""
)


@dataclass(frozen=True)
class Finish:
    """A video that only has to become READY; its finalizing stage ran for ``run_s`` seconds on that worker."""

    video: ClaimedVideo
    run_s: float
    node: str
    worker: str


class VideoQueue:
    """The queue as one scheduler sees it. ``scheduler`` names it in its leases, the same after a restart.

    ``owner_cap``: how many videos of one owner may be on the way at once, in all schedulers together.
    """

    def __init__(self, pool: Pool, scheduler: str, lease_s: float, owner_cap: int | None = None) -> None:
        self._pool = pool
        self._scheduler = scheduler
        self._lease_s = lease_s
        self._owner_cap = owner_cap if owner_cap is not None else _NO_CAP
        self._refused: RefusedRows[UUID] = RefusedRows(Event.VIDEO_NOT_CLAIMED, "video_id")

    def claim(
        self,
        limit: int,
        urgent: int = 0,
        ahead: Mapping[UUID, float] = NOBODY_AHEAD,
        caps: Mapping[UUID, int] = NO_CAPS,
    ) -> list[ClaimedVideo]:
        """Lease up to ``limit`` waiting videos: each owner in turn, of each those first that are due first.

        Up to ``urgent`` more are leased of a priority above the usual, of owners who are not far ahead. ``ahead``: what
        owners have received beyond the others, in videos; the owner with least of that and of videos in flight comes
        first. ``caps``: how many more of an owner may be leased, where that is limited.

        One message to the server, which commits it: a scheduler that is stopped in here blocks no other. Videos whose
        rows the database refuses to change are set aside for a while, and others take their places.
        """
        claimed: list[ClaimedVideo] = []
        refused: set[UUID] = set()
        end_s = time.monotonic() + self._lease_s / 4  # what is claimed has no heartbeat before this returns
        try:
            for _ in range(_CLAIM_ROUNDS):
                if time.monotonic() > end_s:
                    break
                owners = Counter(video.owner_id for video in claimed)
                left = {owner: cap - owners[owner] for owner, cap in caps.items()} | dict.fromkeys(refused, 0)
                beyond = max(len(claimed) - limit, 0)
                again = self._claim(claimed, max(limit - len(claimed), 0), urgent - beyond, ahead, left)
                if not again or len(claimed) >= limit + urgent:
                    break
                refused |= again  # others take their places; what else is of these owners waits for the next claim
        except (DatabaseError, DatabaseUnavailable) as error:
            if not claimed:
                raise
            logger.warning(Event.CLAIM_CUT_SHORT, error=sentence_of(error), claimed=len(claimed))
        return claimed

    @property
    def trouble(self) -> str | None:
        """What keeps videos from being claimed, in a sentence; None: nothing."""
        return self._refused.trouble

    def _claim(
        self,
        claimed: list[ClaimedVideo],
        limit: int,
        urgent: int,
        ahead: Mapping[UUID, float],
        caps: Mapping[UUID, int],
    ) -> set[UUID]:
        """Add to ``claimed`` what one claim leases; returns the owners of videos whose rows the database refused.

        Where it raises for one of them, they are claimed one by one. Refused ones are set aside.
        """
        parameters = {
            "lock": _CLAIM_LOCK,
            "limit": limit,
            "urgent": urgent,
            "owners": list(ahead),
            "aheads": list(ahead.values()),
            "capped": list(caps),
            "caps": list(caps.values()),
            "urgent_ahead": URGENT_AHEAD,
            "scheduler": self._scheduler,
            "lease_s": self._lease_s,
            "owner_cap": self._owner_cap,
        }
        refused: dict[UUID, str] = {}
        owners: set[UUID] = set()
        for rows in self._rows(parameters, refused):
            claimed += [_ClaimedRow(**row).video() for row in rows if row["lease_token"] is not None]
            for row in rows:
                if row["lease_token"] is None:
                    refused.setdefault(row["id"], SKIPPED)
                    owners.add(row["owner_id"])
        self._refused.release(video.id for video in claimed)
        if refused:
            self._set_aside(refused)
        return owners

    def _rows(self, parameters: Mapping[str, object], refused: dict[UUID, str]) -> Iterator[list[DictRow]]:
        """The rows of one claim or, where the database refuses it, of one for each video; why goes into ``refused``."""
        parts = {"urgent": "", "all_chosen": "chosen"}
        if parameters["urgent"]:
            parts = {"urgent": _URGENT, "all_chosen": _ALL_CHOSEN}
        try:
            rows = self._locked(WITHIN_TURN + _CLAIM.format(only="", **parts), parameters)
        except REFUSALS as error:
            logger.debug(Event.CLAIM_REFUSED, error=sentence_of(error))
        else:
            yield rows
            return
        end_s = time.monotonic() + ONE_BY_ONE_S
        for chosen in self._locked(WITHIN_TURN + _CHOSEN_IDS.format(only="", **parts), parameters):
            if time.monotonic() > end_s:
                break
            try:
                yield self._locked(BRIEFLY + _CLAIM_ONE, {**parameters, "limit": 1, "video": chosen["id"]})
            except REFUSALS as error:
                refused[chosen["id"]] = sentence_of(error)
                yield [{**chosen, "lease_token": None}]

    def _locked(self, statement: str, parameters: Mapping[str, object]) -> list[DictRow]:
        with self._pool.autocommitted() as connection:
            cursor = ClientCursor(connection, row_factory=dict_row)
            cursor.execute(f"SELECT pg_advisory_xact_lock(%(lock)s); {statement}", parameters)
            while cursor.nextset():
                pass
            return cursor.fetchall()

    def _set_aside(self, reasons: Mapping[UUID, str]) -> None:
        parameters = {
            "videos": list(reasons),
            "delays": self._refused.note(reasons),
            "error_type": RefusedByDatabase.__name__,
        }
        with self._pool.autocommitted() as connection:
            connection.execute(_SET_ASIDE, parameters)

    def heartbeat(self, tokens: Sequence[int]) -> set[int]:
        """Prolong the leases of ``tokens`` in one statement; returns the tokens that are still held."""
        with self._pool.autocommitted() as connection:
            cursor = connection.execute(
                _HEARTBEAT, {"tokens": list(tokens), "scheduler": self._scheduler, "lease_s": self._lease_s}
            )
            return {row["lease_token"] for row in cursor}

    def held(self, tokens: Collection[int]) -> set[int]:
        """Those of ``tokens`` whose leases this scheduler still holds; prolongs none."""
        with self._pool.autocommitted() as connection:
            cursor = connection.execute(
                "SELECT lease_token FROM video_leases WHERE scheduler = %s AND lease_token = ANY (%s)",
                [self._scheduler, list(tokens)],
            )
            return {row["lease_token"] for row in cursor}

    def live_tokens(self) -> set[str]:
        """Every lease of all schedulers, as video id and token joined by a hyphen."""
        with self._pool.autocommitted() as connection:
            cursor = connection.execute("SELECT video_id || '-' || lease_token AS key FROM video_leases")
            return {row["key"] for row in cursor}

    def finish(self, done: Sequence[Finish]) -> set[int]:
        """Make the videos READY and close their finalizing runs; returns those of their lease tokens that were held.

        Of a video whose lease is lost, nothing is written.
        """
        parameters = {
            "videos": [each.video.id for each in done],
            "tokens": [each.video.lease_token for each in done],
            "runs": [each.run_s for each in done],
            "nodes": [each.node for each in done],
            "workers": [each.worker for each in done],
        }
        with self._pool.autocommitted() as connection:
            cursor = ClientCursor(connection, row_factory=dict_row)
            cursor.execute(WITHIN_TURN + _FINISH, parameters)
            cursor.nextset()
            return {row["lease_token"] for row in cursor}

    def fail(self, video: ClaimedVideo, stage: str, failure: StageFailure) -> None:
        """Make the video FAILED in ``stage`` for good. Raises LeaseLost."""
        self._fenced(_FAIL, video, stage=stage, **_reason(failure))

    def retry(self, video: ClaimedVideo, failure: StageFailure, delay_s: float) -> None:
        """Let the video wait for another attempt. Raises LeaseLost."""
        waits = {
            "delay_s": delay_s,
            "postponed_s": delay_s if failure.blame is Blame.POSTPONEMENT else 0.0,
            "changing": failure.error_type == SourceChanging.__name__,
        }
        self._fenced(_RETRY, video, **waits, **_reason(failure))

    def _fenced(self, statement: str, video: ClaimedVideo, **parameters: object) -> None:
        with self._pool.autocommitted() as connection:
            cursor = ClientCursor(connection)  # all statements in one message: no process is stopped in between
            cursor.execute(WITHIN_TURN + statement, {"id": video.id, "token": video.lease_token, **parameters})
            while cursor.nextset():
                pass
            if cursor.rowcount == 0:
                raise LeaseLost(f"the lease of {video.filename} is lost")


_NO_CAP = 1_000_000_000


@dataclass(frozen=True)
class _ClaimedRow:
    """A row of ``_CLAIM``."""

    id: UUID
    owner_id: UUID
    priority: int
    uri: str
    origin: str
    filename: str | None
    language: str | None
    attempt: int
    lease_token: int
    queued_at: datetime
    claimed_at: datetime
    errors: int
    crashes: int
    interruptions: int
    postponed_s: float
    stored: list[str]

    def video(self) -> ClaimedVideo:
        return ClaimedVideo(
            id=self.id,
            owner_id=self.owner_id,
            priority=self.priority,
            uri=self.uri,
            origin=Origin(self.origin),
            filename=video_name(self.filename, self.uri, self.id),
            language=self.language,
            attempt=self.attempt,
            lease_token=self.lease_token,
            queued_at=self.queued_at,
            claimed_at=self.claimed_at,
            setbacks=Setbacks(self.errors, self.crashes, self.interruptions, self.postponed_s),
            stored=frozenset(map(Stage, self.stored)),
        )


def _reason(failure: StageFailure) -> dict[str, object]:
    counted = Setbacks().plus(Blame(failure.blame))
    return {
        "error_type": failure.error_type,
        "error_message": failure.message,
        "errors": counted.errors,
        "crashes": counted.crashes,
        "interruptions": counted.interruptions,
    }
