"""Owners' operations on their videos: submit them, cancel them, see which of them failed.

What lets them be tried again is ``reprocessing``'s, what a scheduler does with them ``video_queue``'s.
"""

import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, LiteralString
from uuid import UUID

from psycopg import Connection, errors
from psycopg.rows import DictRow, class_row
from psycopg.types.json import Jsonb

from cluster.contracts.audit import Action, Actor, ObjectKind, command_line
from cluster.contracts.errors import RefusedByDatabase, SubmissionChanged
from cluster.contracts.quotas import NO_LIMITS, SubmissionLimits
from cluster.contracts.stages import Stage
from cluster.contracts.uris import filename_of, shown, video_name
from cluster.contracts.videos import PRIORITY_STEP_S, DetailedSubmission, Origin, Submission
from cluster.security.redaction import redacted_beginning
from cluster.store.postgres.audit_log import Trail
from cluster.store.postgres.bounded_texts import ERROR_MESSAGE, FILENAME, PLACE, STAGE
from cluster.store.postgres.connections import Pool, connect
from cluster.store.postgres.plausible_times import plausible
from cluster.store.postgres.refusals import refused_in_one_sentence
from cluster.store.queue.notify import notify, notify_ended_leases
from cluster.store.queue.owner_requests import check_new, lock_owner
from cluster.store.queue.stage_runs import LOST_RUN

_CANCEL_ROUNDS = 5

_SUBMIT = """
-- Enqueue videos; a microsecond between them keeps the order in which they were given. Ids that are there already stay.
WITH submitted AS MATERIALIZED (
    SELECT row.*, moment, moment + position * interval '1 microsecond' AS queued_at
    FROM (SELECT clock_timestamp() AS moment) AS clock,
         unnest(%(ids)s::uuid[], %(uris)s::text[], %(filenames)s::text[], %(languages)s::text[], %(priorities)s::int[],
                %(metadata)s::jsonb[], %(content_marks)s::text[])
             WITH ORDINALITY AS row (id, uri, filename, language, priority, metadata, content_mark, position)
), added AS (
    INSERT INTO videos (id, owner_id, storage_path, filename, status, processing_stage, queued_at)
    SELECT id, %(owner)s, uri, filename, 'PENDING', 'queued', queued_at FROM submitted ORDER BY position
    ON CONFLICT (id) DO NOTHING
    RETURNING id
), counted AS (
    INSERT INTO owner_requests (owner_id, video_id, kind) SELECT %(owner)s, id, 'submission' FROM added
)
INSERT INTO video_processing
    (video_id, owner_id, uri, origin, batch, language, priority, metadata, content_mark, due_at, available_at)
SELECT id, %(owner)s, uri, %(origin)s, %(batch)s, language, priority, metadata, content_mark,
       queued_at - make_interval(secs => priority * %(step_s)s), moment
FROM submitted JOIN added USING (id)
"""

_STANDING = """
-- How many of the videos are new, and whether one of the others is not what it was.
SELECT count(*) FILTER (WHERE v.id IS NULL) AS new,
       coalesce(bool_or((v.owner_id, coalesce(p.uri, v.storage_path), p.language, p.priority)
                        IS DISTINCT FROM (%(owner)s, row.uri, row.language, row.priority))
                FILTER (WHERE v.id IS NOT NULL), false) AS changed
FROM unnest(%(ids)s::uuid[], %(uris)s::text[], %(languages)s::text[], %(priorities)s::int[])
         AS row (id, uri, language, priority)
LEFT JOIN videos AS v ON v.id = row.id
LEFT JOIN video_processing AS p ON p.video_id = row.id
"""

_CANCELLED = """, written AS (
    -- FAILED to other systems; without a duration, since nothing was measured to its end.
    UPDATE videos AS v
    SET status = 'FAILED', error_message = 'cancelled ' || %(by)s, processing_finished_at = clock_timestamp(),
        processing_duration_ms = NULL, updated_at = clock_timestamp()
    FROM chosen WHERE v.id = chosen.id
    RETURNING v.id, v.status
), cancelled AS (
    -- One that a trigger of videos left as it was goes on.
    SELECT id FROM written WHERE status = 'FAILED'
), forgotten AS (
    DELETE FROM video_stage_results AS s USING cancelled AS c WHERE s.video_id = c.id
)"""

_WAITS_NO_MORE = """
UPDATE video_processing AS p
SET cancelled_at = clock_timestamp(), available_at = NULL, error_type = 'Cancelled'
FROM cancelled AS c WHERE p.video_id = c.id
RETURNING p.video_id AS id
"""

_CANCEL_WAITING = (
    """
-- What waits is cancelled unless a scheduler claims it first: then it waits no more when this comes to it.
WITH chosen AS MATERIALIZED (
    SELECT v.id FROM videos AS v JOIN video_processing AS p ON p.video_id = v.id
    WHERE v.id = ANY (%(ids)s) AND v.status = 'PENDING' AND p.available_at IS NOT NULL
    ORDER BY v.id FOR UPDATE
)"""
    + _CANCELLED
    + _WAITS_NO_MORE
)

_LOCK_CLAIMED = """
-- A separate statement: only one that begins afterwards sees every stage run that was opened under these leases.
SELECT lease_token FROM video_leases WHERE video_id = ANY (%(ids)s) ORDER BY lease_token FOR UPDATE
"""

_CANCEL_CLAIMED = (
    """
-- What is on its way loses its lease: its scheduler and worker may write nothing more.
WITH chosen AS MATERIALIZED (
    SELECT video_id AS id FROM video_leases WHERE lease_token = ANY (%(tokens)s)
)"""
    + _CANCELLED
    + """, lease AS (
    DELETE FROM video_leases AS l USING cancelled AS c WHERE l.video_id = c.id
), left_open AS (
    UPDATE video_stage_runs AS r
    SET """
    + LOST_RUN
    + """, error_type = 'Cancelled', error_message = 'the video was cancelled while this stage was open'
    FROM cancelled AS c WHERE r.video_id = c.id AND r.outcome = 'running'
)"""
    + _WAITS_NO_MORE
)


def submit(
    pool: Pool,
    owner_id: UUID,
    submissions: Sequence[Submission],
    ids: Sequence[UUID] | None = None,
    *,
    limits: SubmissionLimits = NO_LIMITS,
    origin: Origin = Origin.COMMAND,
    batch: str | None = None,
) -> list[UUID]:
    """Enqueue videos, all or none; returns their ids in the order given. ``origin``: what may be fetched for them.
    ``batch``: the name of the batch that they belong to.

    A caller that does not know whether a submission arrived repeats it with the same ``ids``: it changes nothing
    then, and counts for nothing.

    Raises:
        SubmissionChanged: the ``ids`` belong to other videos already.
        RefusedByDatabase: the database may hold no such videos, of an owner that it does not know, say.
        TooManySubmissions: the owner would have submitted more than the ``limits`` allow.
    """
    chosen = list(ids) if ids is not None else [uuid.uuid4() for _ in submissions]
    parameters = {**_parameters(owner_id, submissions, chosen), "origin": origin, "batch": batch}
    with _one_sentence(owner_id), pool.connection() as connection:
        if ids is not None and not _count_new(connection, parameters):
            return chosen  # sent again: nothing waits, is counted or written
        if ids is not None or limits != NO_LIMITS:
            lock_owner(connection, owner_id)
            check_new(connection, owner_id, limits, _count_new(connection, parameters))
        _enqueue(connection, parameters)
        notify(connection)
    return chosen


def check_owner(url: str, owner_id: UUID) -> None:
    """See whether a video of this owner may be written, and leave nothing behind. Raises RefusedByDatabase."""
    with connect(url, name="heimdex-doctor") as connection:
        with _one_sentence(owner_id):
            _enqueue(connection, _parameters(owner_id, [Submission(uri="doctor.mp4")], [uuid.uuid4()]))
            connection.execute("SET CONSTRAINTS ALL IMMEDIATE")
        connection.rollback()


def _enqueue(connection: Connection[DictRow], parameters: dict[str, Any]) -> None:
    """Raises RefusedByDatabase where a trigger leaves a row out: that is no error to Postgres."""
    ids = parameters["ids"]
    if connection.execute(_SUBMIT, parameters).rowcount < len(ids):
        rows = connection.execute("SELECT count(*) AS n FROM videos WHERE id = ANY (%s)", (ids,)).fetchall()
        if rows[0]["n"] < len(ids):
            raise RefusedByDatabase(
                f"a trigger of the database drops new videos of {parameters['owner']}: allow them in the table videos"
            )


def _parameters(owner_id: UUID, submissions: Sequence[Submission], ids: list[UUID]) -> dict[str, Any]:
    details = [submission if isinstance(submission, DetailedSubmission) else None for submission in submissions]
    return {
        "owner": owner_id,
        "origin": Origin.COMMAND,
        "batch": None,
        "ids": ids,
        "uris": [submission.uri for submission in submissions],
        "filenames": [filename_of(submission.uri) for submission in submissions],
        "languages": [submission.language for submission in submissions],
        "metadata": [Jsonb(detail.metadata) if detail and detail.metadata else None for detail in details],
        "content_marks": [detail.content_mark if detail else None for detail in details],
        "priorities": [submission.priority for submission in submissions],
        "step_s": PRIORITY_STEP_S,
    }


@contextmanager
def _one_sentence(owner_id: UUID) -> Iterator[None]:
    with refused_in_one_sentence(f"videos of {owner_id}"):
        try:
            yield
        except errors.ForeignKeyViolation as error:
            raise RefusedByDatabase(
                f"the database knows no owner {owner_id} ({error.diag.constraint_name}): "
                "sign up with that id first, or submit for another owner (HEIMDEX_OWNER_ID)"
            ) from error


def _count_new(connection: Connection[DictRow], parameters: dict[str, Any]) -> int:
    """Number of the videos that are not there yet. Raises SubmissionChanged."""
    standing = connection.execute(_STANDING, parameters).fetchone()
    assert standing is not None
    if standing["changed"]:
        raise SubmissionChanged("these ids belong to other videos already")
    new: int = standing["new"]
    return new


def cancel(pool: Pool, ids: Sequence[UUID], owner_id: UUID | None = None, by: Actor | None = None) -> list[UUID]:
    """Cancel videos that wait or are on their way; returns those that were. With ``owner_id``, only that owner's.

    A video may pass from waiting to being worked on and back meanwhile; so this looks again until none is left.
    ``by``: who cancels them, as the videos say then; None: the command line.

    Raises:
        RefusedByDatabase: a rule of the database forbids it.
    """
    trail = Trail(by or command_line())
    with refused_in_one_sentence("to cancel them"):
        return _cancel(pool, ids, owner_id, trail)


def _cancel(pool: Pool, ids: Sequence[UUID], owner_id: UUID | None, trail: Trail) -> list[UUID]:
    cancelled: list[UUID] = []
    for _ in range(_CANCEL_ROUNDS):
        with pool.connection() as connection:
            left = connection.execute(
                "SELECT v.id FROM videos AS v JOIN video_processing AS p ON p.video_id = v.id "
                "LEFT JOIN video_leases AS l ON l.video_id = v.id "
                "WHERE v.id = ANY (%s) AND (%s::uuid IS NULL OR v.owner_id = %s) "
                "AND (l.video_id IS NOT NULL OR v.status = 'PENDING' AND p.available_at IS NOT NULL)",
                (list(ids), owner_id, owner_id),
            ).fetchall()
        if not left:
            break
        chosen = {"ids": [row["id"] for row in left], "by": trail.actor.in_words}
        with pool.connection() as connection:
            cancelled += _cancel_by(connection, _CANCEL_WAITING, chosen, trail)
        trail.log()
        with pool.connection() as connection:
            tokens = [row["lease_token"] for row in connection.execute(_LOCK_CLAIMED, chosen)]
            cancelled += _cancel_by(connection, _CANCEL_CLAIMED, {**chosen, "tokens": tokens}, trail)
            notify_ended_leases(connection, tokens)
        trail.log()
    return cancelled


def _cancel_by(
    connection: Connection[DictRow], statement: LiteralString, chosen: dict[str, Any], trail: Trail
) -> list[UUID]:
    cancelled = [row["id"] for row in connection.execute(statement, chosen)]
    trail.note(connection, Action.CANCEL, ObjectKind.VIDEO, cancelled)
    return cancelled


@dataclass(frozen=True)
class QuarantinedVideo:
    """A video that failed for good, and why; ``uri`` as people may see it. Times are aware and in UTC."""

    id: UUID
    owner_id: UUID
    filename: str | None
    uri: str
    stage: str | None
    error_type: str | None
    error_message: str | None
    attempts: int
    crashes: int
    failed_at: datetime

    @property
    def name(self) -> str:
        """What people call it."""
        return video_name(self.filename, self.uri, self.id)


def quarantine(
    pool: Pool, limit: int, offset: int = 0, *, owner_id: UUID | None = None, stage: Stage | None = None
) -> tuple[list[QuarantinedVideo], int]:
    """A stretch of the videos that are FAILED, latest first, and how many there are in all."""
    videos = "videos AS v LEFT JOIN video_processing AS p ON p.video_id = v.id"
    chosen = (
        "v.status = 'FAILED' AND p.cancelled_at IS NULL AND p.forgotten_at IS NULL "
        "AND (%(owner)s::uuid IS NULL OR v.owner_id = %(owner)s) "
        "AND (%(stage)s::text IS NULL OR v.processing_stage = %(stage)s)"
    )
    parameters = {"owner": owner_id, "stage": stage, "limit": limit, "offset": offset}
    with pool.connection() as connection, connection.cursor(row_factory=class_row(QuarantinedVideo)) as cursor:
        items = cursor.execute(
            f"""
            SELECT v.id, v.owner_id, {FILENAME} AS filename, {PLACE} AS uri, p.error_type,
                   {STAGE} AS stage, {ERROR_MESSAGE} AS error_message,
                   coalesce(p.attempt, 0) AS attempts, coalesce(p.crashes, 0) AS crashes,
                   coalesce({plausible("v.processing_finished_at")}, v.updated_at) AS failed_at
            FROM {videos} WHERE {chosen} ORDER BY failed_at DESC, v.id LIMIT %(limit)s OFFSET %(offset)s
            """,
            parameters,
        ).fetchall()
        total = connection.execute(f"SELECT count(*) AS n FROM {videos} WHERE {chosen}", parameters).fetchone()
    assert total is not None
    seen = [replace(each, uri=shown(each.uri), error_message=redacted_beginning(each.error_message)) for each in items]
    return seen, total["n"]
