"""Queues videos that were processed before, here or by an existing Heimdex, for another attempt from the beginning.

Scenes that are there stay, and stay searchable, until the attempt replaces them in its one transaction.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

from psycopg.rows import class_row

from cluster.store.database import Pool
from cluster.store.queue_signals import notify
from cluster.store.submissions import PRIORITY_STEP_S

_ENQUEUE = """
, waiting AS (
    UPDATE videos AS v
    SET status = 'PENDING', processing_stage = 'queued', error_message = NULL, queued_at = clock_timestamp(),
        processing_started_at = NULL, processing_finished_at = NULL, processing_duration_ms = NULL,
        updated_at = clock_timestamp()
    FROM chosen WHERE v.id = chosen.id
    RETURNING v.id, v.owner_id
), discarded AS (
    DELETE FROM video_stage_results AS r USING waiting WHERE r.video_id = waiting.id
)
INSERT INTO video_processing AS p (video_id, owner_id, language, due_at, available_at)
SELECT id, owner_id, %(language)s, clock_timestamp(), clock_timestamp() FROM waiting
ON CONFLICT (video_id) DO UPDATE
SET failures = 0, crashes = 0, interruptions = 0, error_type = NULL, cancelled_at = NULL,
    language = coalesce(excluded.language, p.language), available_at = clock_timestamp(),
    due_at = clock_timestamp() - make_interval(secs => p.priority * %(step_s)s)
RETURNING p.video_id AS id
"""

_REPROCESS = (
    """
-- A video that has ended, in any system, is processed again from the beginning: stored results are discarded.
WITH chosen AS MATERIALIZED (
    SELECT v.id FROM videos AS v LEFT JOIN video_processing AS p ON p.video_id = v.id
    WHERE v.id = ANY (%(ids)s) AND (%(owner)s::uuid IS NULL OR v.owner_id = %(owner)s)
      AND v.status IN ('READY', 'FAILED') AND p.forgotten_at IS NULL
    ORDER BY v.id FOR UPDATE OF v
)"""
    + _ENQUEUE
)

_TAKE_OVER = (
    """
-- What an existing Heimdex left waiting or FAILED, and this cluster has never known.
WITH chosen AS MATERIALIZED (
    SELECT v.id FROM videos AS v
    WHERE v.id = ANY (%(ids)s) AND v.status = ANY (%(statuses)s::video_status[])
      AND NOT EXISTS (SELECT FROM video_processing AS p WHERE p.video_id = v.id)
    ORDER BY v.id FOR UPDATE
)"""
    + _ENQUEUE
)

_LEFT = """
SELECT v.id, v.owner_id, v.storage_path AS path, v.status::text AS status FROM videos AS v
WHERE v.status = ANY (%(statuses)s::video_status[]) AND v.id > %(after)s
  AND NOT EXISTS (SELECT FROM video_processing AS p WHERE p.video_id = v.id)
ORDER BY v.id LIMIT %(limit)s
"""


@dataclass(frozen=True)
class LeftVideo:
    """A video that an existing Heimdex left PENDING or FAILED, with its storage path."""

    id: UUID
    owner_id: UUID
    path: str
    status: str


def reprocess(
    pool: Pool, ids: Sequence[UUID], *, owner_id: UUID | None = None, language: str | None = None
) -> list[UUID]:
    """Let videos that are READY, FAILED or CANCELLED be processed again; returns those that wait now.

    With ``owner_id``, only that owner's. ``language``: of the speech from now on; None: as before. Forgotten videos,
    and those that wait or are being processed, here or elsewhere, are left out.
    """
    values = {"ids": list(ids), "owner": owner_id, "language": language, "step_s": PRIORITY_STEP_S}
    with pool.connection() as connection:
        waiting = [row["id"] for row in connection.execute(_REPROCESS, values)]
        notify(connection)
    return waiting


def left_videos(pool: Pool, statuses: Sequence[str], after: UUID, limit: int) -> list[LeftVideo]:
    """The next videos by their ids that an existing Heimdex left in one of these states."""
    values = {"statuses": list(statuses), "after": after, "limit": limit}
    with pool.connection() as connection, connection.cursor(row_factory=class_row(LeftVideo)) as cursor:
        return cursor.execute(_LEFT, values).fetchall()


def take_over(pool: Pool, ids: Sequence[UUID], statuses: Sequence[str]) -> list[UUID]:
    """Queue those of the videos that are still as they were left; returns them."""
    values = {"ids": list(ids), "statuses": list(statuses), "language": None, "step_s": PRIORITY_STEP_S}
    with pool.connection() as connection:
        taken = [row["id"] for row in connection.execute(_TAKE_OVER, values)]
        notify(connection)
    return taken
