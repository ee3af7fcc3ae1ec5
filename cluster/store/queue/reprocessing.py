"""Queues videos that ended, here or in an existing Heimdex: tried again, or processed from the beginning.

Scenes that are there stay, and stay searchable, until the attempt replaces them in its one transaction.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import LiteralString
from uuid import UUID

from psycopg import Connection
from psycopg.rows import DictRow, class_row

from cluster.contracts.audit import Action, Actor, ObjectKind, command_line
from cluster.contracts.videos import PRIORITY_STEP_S
from cluster.store.postgres.audit_log import Trail
from cluster.store.postgres.bounded_texts import PATH
from cluster.store.postgres.connections import Pool
from cluster.store.postgres.refusals import refused_in_one_sentence
from cluster.store.queue.failures import ANY_FAILURE, RETRIED, FailureFilter, filter_values
from cluster.store.queue.notify import notify
from cluster.store.queue.owner_requests import check_again, lock_owner, note_again

_LOCK = """
-- The next statement of the transaction sees what others did to these videos, in other tables too.
SELECT v.id FROM videos AS v
WHERE v.id = ANY (%(ids)s) AND v.status = ANY (%(statuses)s::video_status[])
  AND (%(owner)s::uuid IS NULL OR v.owner_id = %(owner)s)
ORDER BY v.id FOR UPDATE
"""

_LOCK_FAILED = f"""
SELECT v.id FROM videos AS v JOIN video_processing AS p ON p.video_id = v.id
WHERE {RETRIED}
ORDER BY v.id FOR UPDATE OF v
"""

_ENQUEUE: LiteralString = f"""
, waiting AS (
    UPDATE videos AS v
    SET status = 'PENDING', processing_stage = 'queued', error_message = NULL, queued_at = clock_timestamp(),
        processing_started_at = NULL, processing_finished_at = NULL, processing_duration_ms = NULL,
        updated_at = clock_timestamp()
    FROM chosen WHERE v.id = chosen.id
    RETURNING v.id, v.owner_id, {PATH} AS storage_path
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

_LEFT = f"""
SELECT v.id, v.owner_id, {PATH} AS path, v.status::text AS status FROM videos AS v
WHERE v.status = ANY (%(statuses)s::video_status[]) AND v.id > %(after)s
  AND NOT EXISTS (SELECT FROM video_processing AS p WHERE p.video_id = v.id)
ORDER BY v.id LIMIT %(limit)s
"""


@dataclass(frozen=True)
class _Kind:
    """A way of queueing videos once more, what it is called in the audit log, and what it counts as."""

    statement: LiteralString
    action: Action
    request: str


@dataclass(frozen=True)
class _Chosen:
    """Videos in one of these states, by their ids (None: ``failures`` here), of one owner (None: of any).

    ``paths``: the storage paths that videos must still have.
    """

    statuses: Sequence[str]
    ids: Sequence[UUID] | None
    owner_id: UUID | None = None
    paths: Mapping[UUID, str] = field(default_factory=dict)
    failures: FailureFilter = ANY_FAILURE


@dataclass(frozen=True)
class LeftVideo:
    """A video that an existing Heimdex left PENDING or FAILED, with its storage path."""

    id: UUID
    owner_id: UUID
    path: str
    status: str


_RETRIES = _Kind(_RETRY, Action.RETRY, "retry")
_REPROCESSING = _Kind(_REPROCESS, Action.REPROCESS, "reprocessing")
_TAKING_OVER = _Kind(_TAKE_OVER, Action.TAKE_OVER, "retry")


def retry(
    pool: Pool,
    ids: Sequence[UUID] | None = None,
    *,
    owner_id: UUID | None = None,
    failures: FailureFilter = ANY_FAILURE,
    by: Actor | None = None,
) -> list[UUID]:
    """Let videos be tried again: those of ``ids`` that are FAILED or CANCELLED, or, without ids, all ``failures``.

    With ids, what an existing Heimdex left FAILED is tried here too, and of ``failures`` only the stage counts. Without
    ids, what can never succeed is left out unless its type of error is named. ``owner_id``: only this owner's. Returns
    those that wait now. ``by``: who asks for it; None: the command line. It counts as a submission of the owner where
    that actor has limits.

    Raises:
        RefusedByDatabase: a rule of the database forbids it; none waits then.
        TooManySubmissions: the owner may not ask for it now; none waits then.
    """
    chosen = _Chosen(["FAILED"], ids, owner_id, failures=failures)
    return _again(pool, _RETRIES, chosen, by, from_the_beginning=False, language=None, stage=failures.stage)


def reprocess(
    pool: Pool,
    ids: Sequence[UUID],
    *,
    owner_id: UUID | None = None,
    language: str | None = None,
    by: Actor | None = None,
) -> list[UUID]:
    """Let videos that are READY, FAILED or CANCELLED be processed again; returns those that wait now.

    With ``owner_id``, only that owner's. ``language``: of the speech from now on; None: as before. Forgotten videos,
    and those that wait or are being processed, here or elsewhere, are left out. ``by`` and errors as of :func:`retry`.
    """
    chosen = _Chosen(["READY", "FAILED"], ids, owner_id)
    return _again(pool, _REPROCESSING, chosen, by, from_the_beginning=True, language=language)


def left_videos(pool: Pool, statuses: Sequence[str], after: UUID, limit: int) -> list[LeftVideo]:
    """The next videos by their ids that an existing Heimdex left in one of these states."""
    values = {"statuses": list(statuses), "after": after, "limit": limit}
    with pool.connection() as connection, connection.cursor(row_factory=class_row(LeftVideo)) as cursor:
        return cursor.execute(_LEFT, values).fetchall()


def take_over(pool: Pool, videos: Sequence[LeftVideo], statuses: Sequence[str], by: Actor | None = None) -> list[UUID]:
    """Queue those of the videos that are still as they were left, path included; returns them.

    Raises as :func:`retry`.
    """
    paths = {video.id: video.path for video in videos}
    chosen = _Chosen(statuses, list(paths), paths=paths)
    return _again(pool, _TAKING_OVER, chosen, by, from_the_beginning=True, language=None)


def _again(pool: Pool, kind: _Kind, chosen: _Chosen, by: Actor | None, **values: object) -> list[UUID]:
    """Queue videos once more, counted and written down as what the actor asked for, all in one transaction."""
    trail = Trail(by or command_line())
    limits = trail.actor.limits
    with pool.connection() as connection:
        if limits is not None and chosen.owner_id is not None:
            lock_owner(connection, chosen.owner_id)
        locked = _lock(connection, chosen)
        if limits is not None and chosen.owner_id is not None:
            check_again(connection, chosen.owner_id, limits, locked)
        paths = [chosen.paths.get(video_id) for video_id in locked]
        parameters = {"ids": locked, "paths": paths, "step_s": PRIORITY_STEP_S, **values}
        with refused_in_one_sentence("that videos wait again"):
            waiting = [row["id"] for row in connection.execute(kind.statement, parameters)]
        note_again(connection, waiting, kind.request, exempt=limits is None)
        trail.note(connection, kind.action, ObjectKind.VIDEO, waiting)
        notify(connection)
    trail.log()
    return waiting


def _lock(connection: Connection[DictRow], chosen: _Chosen) -> list[UUID]:
    """Lock these videos' rows in one of the statuses until the transaction ends. Without ids, the chosen failures. A
    claim passes over locked rows, so none is locked that stays as it is.

    They cannot be forgotten until then; the next statement of the transaction sees those that were.
    """
    if chosen.ids is None:
        locked = connection.execute(_LOCK_FAILED, filter_values(chosen.failures, chosen.owner_id))
    else:
        parameters = {"ids": list(chosen.ids), "statuses": list(chosen.statuses), "owner": chosen.owner_id}
        locked = connection.execute(_LOCK, parameters)
    return [row["id"] for row in locked]
