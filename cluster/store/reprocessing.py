"""Queues videos that ended, here or in an existing Heimdex: tried again, or processed from the beginning.

Scenes that are there stay, and stay searchable, until the attempt replaces them in its one transaction.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import LiteralString
from uuid import UUID

from psycopg import Connection
from psycopg.rows import DictRow, class_row

from cluster.contracts.stages import Stage
from cluster.contracts.videos import PRIORITY_STEP_S
from cluster.store.database import Pool
from cluster.store.queue_signals import notify
from cluster.store.refusals import refused_in_one_sentence

_LOCK = """
-- The next statement of the transaction sees what others did to these videos, in other tables too.
SELECT v.id FROM videos AS v
WHERE v.id = ANY (%(ids)s) AND v.status = ANY (%(statuses)s::video_status[])
  AND (%(owner)s::uuid IS NULL OR v.owner_id = %(owner)s)
ORDER BY v.id FOR UPDATE
"""

_LOCK_FAILED = """
SELECT v.id FROM videos AS v JOIN video_processing AS p ON p.video_id = v.id
WHERE v.status = 'FAILED' AND p.forgotten_at IS NULL AND p.cancelled_at IS NULL
  AND (%(owner)s::uuid IS NULL OR v.owner_id = %(owner)s)
ORDER BY v.id FOR UPDATE OF v
"""

_ENQUEUE = """
, waiting AS (
    UPDATE videos AS v
    SET status = 'PENDING', processing_stage = 'queued', error_message = NULL, queued_at = clock_timestamp(),
        processing_started_at = NULL, processing_finished_at = NULL, processing_duration_ms = NULL,
        updated_at = clock_timestamp()
    FROM chosen WHERE v.id = chosen.id
    RETURNING v.id, v.owner_id, v.storage_path
), discarded AS (
    DELETE FROM video_stage_results AS r USING waiting WHERE r.video_id = waiting.id AND %(from_the_beginning)s
)
-- A row that this cluster did not submit is fetched from where it says now; one that it did, from where it did then.
INSERT INTO video_processing AS p (video_id, owner_id, uri, origin, language, due_at, available_at)
SELECT id, owner_id, storage_path, 'adopted', %(language)s, clock_timestamp(), clock_timestamp() FROM waiting
ON CONFLICT (video_id) DO UPDATE
SET uri = CASE WHEN p.origin = 'adopted' THEN excluded.uri ELSE coalesce(p.uri, excluded.uri) END,
    failures = 0, crashes = 0, interruptions = 0, postponed_s = 0, error_type = NULL, cancelled_at = NULL,
    language = coalesce(excluded.language, p.language), available_at = clock_timestamp(),
    due_at = clock_timestamp() - make_interval(secs => p.priority * %(step_s)s)
RETURNING p.video_id AS id
"""

_RETRY = (
    """
-- What FAILED or was cancelled is tried again; what its stages have stored stays.
WITH chosen AS MATERIALIZED (
    SELECT v.id FROM videos AS v LEFT JOIN video_processing AS p ON p.video_id = v.id
    WHERE v.id = ANY (%(ids)s) AND p.forgotten_at IS NULL
      AND (%(stage)s::text IS NULL OR v.processing_stage = %(stage)s)
)"""
    + _ENQUEUE
)

_REPROCESS = (
    """
-- A video that has ended, in any system, is processed again from the beginning: stored results are discarded.
WITH chosen AS MATERIALIZED (
    SELECT v.id FROM videos AS v LEFT JOIN video_processing AS p ON p.video_id = v.id
    WHERE v.id = ANY (%(ids)s) AND p.forgotten_at IS NULL
)"""
    + _ENQUEUE
)

_TAKE_OVER = (
    """
-- What an existing Heimdex left waiting or FAILED, and this cluster has never known.
WITH chosen AS MATERIALIZED (
    SELECT v.id FROM videos AS v JOIN unnest(%(ids)s::uuid[], %(paths)s::text[]) AS looked_at (id, path) USING (id)
    WHERE v.storage_path = path
      AND NOT EXISTS (SELECT FROM video_processing AS p WHERE p.video_id = v.id)
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


def retry(
    pool: Pool, ids: Sequence[UUID] | None = None, *, owner_id: UUID | None = None, stage: Stage | None = None
) -> list[UUID]:
    """Let videos be tried again: those of ``ids`` that are FAILED or CANCELLED, or, without ids, all that are FAILED.

    With ids, what an existing Heimdex left FAILED is tried here too. ``owner_id`` and ``stage`` (where they failed)
    restrict them further. Returns those that wait now.

    Raises:
        RefusedByDatabase: a rule of the database forbids it; none waits then.
    """
    with pool.connection() as connection:
        locked = _lock(connection, ids, ["FAILED"], owner_id)
        return _enqueue(connection, _RETRY, locked, from_the_beginning=False, stage=stage)


def reprocess(
    pool: Pool, ids: Sequence[UUID], *, owner_id: UUID | None = None, language: str | None = None
) -> list[UUID]:
    """Let videos that are READY, FAILED or CANCELLED be processed again; returns those that wait now.

    With ``owner_id``, only that owner's. ``language``: of the speech from now on; None: as before. Forgotten videos,
    and those that wait or are being processed, here or elsewhere, are left out. Raises as :func:`retry`.
    """
    with pool.connection() as connection:
        locked = _lock(connection, ids, ["READY", "FAILED"], owner_id)
        return _enqueue(connection, _REPROCESS, locked, language=language)


def left_videos(pool: Pool, statuses: Sequence[str], after: UUID, limit: int) -> list[LeftVideo]:
    """The next videos by their ids that an existing Heimdex left in one of these states."""
    values = {"statuses": list(statuses), "after": after, "limit": limit}
    with pool.connection() as connection, connection.cursor(row_factory=class_row(LeftVideo)) as cursor:
        return cursor.execute(_LEFT, values).fetchall()


def take_over(pool: Pool, videos: Sequence[LeftVideo], statuses: Sequence[str]) -> list[UUID]:
    """Queue those of the videos that are still as they were left, path included; returns them.

    Raises as :func:`retry`.
    """
    paths = {video.id: video.path for video in videos}
    with pool.connection() as connection:
        locked = _lock(connection, list(paths), statuses)
        return _enqueue(connection, _TAKE_OVER, locked, paths=[paths[video_id] for video_id in locked])


def _lock(
    connection: Connection[DictRow], ids: Sequence[UUID] | None, statuses: Sequence[str], owner_id: UUID | None = None
) -> list[UUID]:
    """Lock the rows of these videos in one of the ``statuses``, or, without ids, of all that FAILED here, until the
    transaction ends. A claim passes over locked rows, so none is locked that stays as it is.

    They cannot be forgotten until then; the next statement of the transaction sees those that were.
    """
    parameters = {"ids": None if ids is None else list(ids), "statuses": list(statuses), "owner": owner_id}
    return [row["id"] for row in connection.execute(_LOCK_FAILED if ids is None else _LOCK, parameters)]


def _enqueue(
    connection: Connection[DictRow],
    statement: LiteralString,
    locked: list[UUID],
    *,
    from_the_beginning: bool = True,
    language: str | None = None,
    **chosen: object,
) -> list[UUID]:
    values = {
        "ids": locked,
        "from_the_beginning": from_the_beginning,
        "language": language,
        "step_s": PRIORITY_STEP_S,
        **chosen,
    }
    with refused_in_one_sentence("that videos wait again"):
        waiting = [row["id"] for row in connection.execute(statement, values)]
    notify(connection)
    return waiting
