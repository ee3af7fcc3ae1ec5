"""What owners do with their videos: submit them, cancel them, let them be tried again.

What a scheduler does with them is ``video_queue``'s.
"""

import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from psycopg.rows import DictRow, class_row

from cluster.contracts.errors import SubmissionChanged, TooManySubmissions
from cluster.contracts.stages import Stage
from cluster.contracts.videos import Submission
from cluster.store.database import Pool
from cluster.store.queue_signals import notify
from cluster.video_uris import filename_of

PRIORITY_STEP_S = 600
"""What one step of priority is worth in seconds of waiting."""
_CANCEL_ROUNDS = 5

_SUBMIT = """
-- Enqueue videos; a microsecond between them keeps the order in which they were given. Ids that are there already stay.
INSERT INTO videos (id, owner_id, storage_path, filename, language, priority, status, processing_stage, queued_at,
                    due_at, available_at)
SELECT id, %(owner)s, uri, filename, language, priority, 'PENDING', 'queued',
       moment + position * interval '1 microsecond',
       moment + position * interval '1 microsecond' - make_interval(secs => priority * %(step_s)s), moment
FROM (SELECT clock_timestamp() AS moment) AS clock,
     unnest(%(ids)s::uuid[], %(uris)s::text[], %(filenames)s::text[], %(languages)s::text[], %(priorities)s::int[])
         WITH ORDINALITY AS row (id, uri, filename, language, priority, position)
ORDER BY position
ON CONFLICT (id) DO NOTHING
"""

_STANDING = """
-- How many of the videos are new, whether one of the others is not what it was, and what the owner submitted lately.
SELECT count(*) FILTER (WHERE v.id IS NULL) AS new,
       coalesce(bool_or((v.storage_path, v.language, v.priority) IS DISTINCT FROM (uri, row.language, row.priority))
                FILTER (WHERE v.id IS NOT NULL), false) AS changed,
       (SELECT count(*) FROM videos
        WHERE owner_id = %(owner)s AND created_at > clock_timestamp() - interval '1 minute') AS lately
FROM unnest(%(ids)s::uuid[], %(uris)s::text[], %(languages)s::text[], %(priorities)s::int[])
         AS row (id, uri, language, priority)
LEFT JOIN videos AS v ON v.id = row.id
"""

_CANCEL_WAITING = """
-- What waits is cancelled unless a scheduler claims it first: then its status has changed when this comes to it.
WITH cancelled AS (
    UPDATE videos
    SET status = 'CANCELLED', available_at = NULL, error_type = 'Cancelled', error_message = 'cancelled by its owner',
        updated_at = clock_timestamp()
    WHERE id = ANY (%(ids)s) AND status = 'PENDING' AND available_at IS NOT NULL
    RETURNING id
), forgotten AS (
    DELETE FROM video_stage_results AS s USING cancelled AS c WHERE s.video_id = c.id
)
SELECT id FROM cancelled
"""

_LOCK_CLAIMED = """
-- By itself: only a statement that begins afterwards sees every stage run that was opened under these leases.
SELECT lease_token FROM video_leases WHERE video_id = ANY (%(ids)s) ORDER BY lease_token FOR UPDATE
"""

_CANCEL_CLAIMED = """
-- What is on its way loses its lease: whoever works on it may write nothing more.
WITH released AS (
    DELETE FROM video_leases WHERE lease_token = ANY (%(tokens)s) RETURNING video_id
), left_open AS (
    UPDATE video_stage_runs AS r
    SET outcome = 'lost', finished_at = greatest(clock_timestamp(), r.ready_at),
        wait_ms = extract(epoch FROM greatest(clock_timestamp(), r.ready_at) - r.ready_at) * 1000, run_ms = 0,
        error_type = 'Cancelled', error_message = 'the video was cancelled while this stage was open'
    FROM released WHERE r.video_id = released.video_id AND r.outcome = 'running'
), forgotten AS (
    DELETE FROM video_stage_results AS s USING released WHERE s.video_id = released.video_id
)
UPDATE videos AS v
SET status = 'CANCELLED', available_at = NULL, error_type = 'Cancelled', error_message = 'cancelled by its owner',
    updated_at = clock_timestamp()
FROM released WHERE v.id = released.video_id
RETURNING v.id
"""

_RETRY = """
-- Let videos that are FAILED or CANCELLED wait again, with all their attempts before them; stored results stay.
UPDATE videos
SET status = 'PENDING', processing_stage = 'queued', failures = 0, crashes = 0, interruptions = 0,
    error_type = NULL, error_message = NULL, queued_at = clock_timestamp(), available_at = clock_timestamp(),
    due_at = clock_timestamp() - make_interval(secs => priority * %(step_s)s),
    processing_started_at = NULL, processing_finished_at = NULL, processing_duration_ms = NULL,
    updated_at = clock_timestamp()
WHERE status IN ('FAILED', 'CANCELLED') AND due_at IS NOT NULL AND forgotten_at IS NULL
  AND (%(ids)s::uuid[] IS NULL OR id = ANY (%(ids)s)) AND (%(owner)s::uuid IS NULL OR owner_id = %(owner)s)
  AND (%(stage)s::text IS NULL OR processing_stage = %(stage)s) AND (%(ids)s IS NOT NULL OR status = 'FAILED')
RETURNING id
"""


def submit(
    pool: Pool,
    owner_id: UUID,
    submissions: Sequence[Submission],
    ids: Sequence[UUID] | None = None,
    *,
    most_per_minute: int | None = None,
) -> list[UUID]:
    """Enqueue videos, all or none; returns their ids in the order given. The owner gets a profile when it has none.

    Whoever cannot tell whether a submission arrived repeats it with the same ``ids``: it changes nothing then, and
    counts for nothing.

    Raises:
        SubmissionChanged: what the ``ids`` stand for differs.
        TooManySubmissions: the owner would have submitted more than ``most_per_minute`` within a minute.
    """
    chosen = list(ids) if ids is not None else [uuid.uuid4() for _ in submissions]
    parameters = {
        "owner": owner_id,
        "ids": chosen,
        "uris": [submission.uri for submission in submissions],
        "filenames": [filename_of(submission.uri) for submission in submissions],
        "languages": [submission.language for submission in submissions],
        "priorities": [submission.priority for submission in submissions],
        "step_s": PRIORITY_STEP_S,
    }
    with pool.connection() as connection:
        connection.execute(
            "INSERT INTO user_profiles (user_id) VALUES (%s) ON CONFLICT (user_id) DO NOTHING", (owner_id,)
        )
        if ids is not None or most_per_minute is not None:
            # One submission of an owner at a time: what is counted next is all that there is.
            connection.execute("SELECT FROM user_profiles WHERE user_id = %s FOR NO KEY UPDATE", (owner_id,))
            _check(connection.execute(_STANDING, parameters).fetchone(), most_per_minute)
        connection.execute(_SUBMIT, parameters)
        notify(connection)
    return chosen


def _check(standing: DictRow | None, most_per_minute: int | None) -> None:
    assert standing is not None
    if standing["changed"]:
        raise SubmissionChanged("these ids stand for other videos already")
    if most_per_minute is not None and standing["new"] and standing["lately"] + standing["new"] > most_per_minute:
        raise TooManySubmissions(f"no more than {most_per_minute} videos may be submitted within a minute")


def cancel(pool: Pool, ids: Sequence[UUID], owner_id: UUID | None = None) -> list[UUID]:
    """Cancel videos that wait or are on their way; returns those that were. With ``owner_id``, only that owner's.

    A video may pass from waiting to being worked on and back meanwhile; so this looks again until none is left.
    """
    cancelled: list[UUID] = []
    for _ in range(_CANCEL_ROUNDS):
        with pool.connection() as connection:
            left = connection.execute(
                "SELECT id FROM videos WHERE id = ANY (%s) AND (%s::uuid IS NULL OR owner_id = %s) "
                "AND (status = 'PROCESSING' OR status = 'PENDING' AND available_at IS NOT NULL)",
                (list(ids), owner_id, owner_id),
            ).fetchall()
        if not left:
            break
        chosen = {"ids": [row["id"] for row in left]}
        with pool.connection() as connection:
            cancelled += [row["id"] for row in connection.execute(_CANCEL_WAITING, chosen)]
            notify(connection)
        with pool.connection() as connection:
            tokens = [row["lease_token"] for row in connection.execute(_LOCK_CLAIMED, chosen)]
            cancelled += [row["id"] for row in connection.execute(_CANCEL_CLAIMED, {"tokens": tokens})]
            notify(connection)
    return cancelled


def retry(
    pool: Pool, ids: Sequence[UUID] | None = None, *, owner_id: UUID | None = None, stage: Stage | None = None
) -> list[UUID]:
    """Let videos be tried again: those of ``ids`` that are FAILED or CANCELLED, or, without ids, all that are FAILED.

    ``owner_id`` and ``stage`` (where they failed) restrict them further. Returns those that wait now.
    """
    parameters = {
        "ids": list(ids) if ids is not None else None,
        "owner": owner_id,
        "stage": stage,
        "step_s": PRIORITY_STEP_S,
    }
    with pool.connection() as connection:
        retried = [row["id"] for row in connection.execute(_RETRY, parameters)]
        notify(connection)
    return retried


@dataclass(frozen=True)
class QuarantinedVideo:
    """A video that failed for good, and why. Times are aware and in UTC."""

    id: UUID
    owner_id: UUID
    filename: str
    uri: str
    stage: str | None
    error_type: str | None
    error_message: str | None
    attempts: int
    crashes: int
    failed_at: datetime


def quarantine(
    pool: Pool, limit: int, offset: int = 0, *, owner_id: UUID | None = None, stage: Stage | None = None
) -> tuple[list[QuarantinedVideo], int]:
    """A stretch of the videos that are FAILED, latest first, and how many there are in all."""
    chosen = (
        "status = 'FAILED' AND forgotten_at IS NULL AND (%(owner)s::uuid IS NULL OR owner_id = %(owner)s) "
        "AND (%(stage)s::text IS NULL OR processing_stage = %(stage)s)"
    )
    parameters = {"owner": owner_id, "stage": stage, "limit": limit, "offset": offset}
    with pool.connection() as connection, connection.cursor(row_factory=class_row(QuarantinedVideo)) as cursor:
        items = cursor.execute(
            f"""
            SELECT id, owner_id, filename, storage_path AS uri, processing_stage AS stage, error_type, error_message,
                   attempt AS attempts, crashes,
                   coalesce(processing_finished_at, updated_at) AS failed_at
            FROM videos WHERE {chosen}
            ORDER BY coalesce(processing_finished_at, updated_at) DESC, id LIMIT %(limit)s OFFSET %(offset)s
            """,
            parameters,
        ).fetchall()
        total = connection.execute(f"SELECT count(*) AS n FROM videos WHERE {chosen}", parameters).fetchone()
    assert total is not None
    return items, total["n"]
