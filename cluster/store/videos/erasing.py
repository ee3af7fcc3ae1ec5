"""Erases an owner: rows of videos that are forgotten, the record of searches, and what else names the owner.

The content of videos goes first (``deletion``); here the rows themselves do, and with them what refers to them by a
foreign key. The audit log keeps its entries, which hold ids alone. The account and its profile are another system's.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import LiteralString
from uuid import UUID

from psycopg.rows import class_row

from cluster.contracts.audit import Action, ObjectKind
from cluster.store.postgres.audit_log import Trail
from cluster.store.postgres.bounded_texts import PATH
from cluster.store.postgres.connections import Pool
from cluster.store.postgres.refusals import refused_in_one_sentence

REMOVED_AT_ONCE = 10_000

_ELSEWHERE = """v.status IN ('PENDING', 'PROCESSING') AND p.available_at IS NULL
    AND NOT EXISTS (SELECT FROM video_leases AS l WHERE l.video_id = v.id)"""

_LEFT = f"""
SELECT (SELECT count(*) FROM videos WHERE owner_id = %(owner)s) AS videos,
       (SELECT count(*) FROM videos AS v LEFT JOIN video_processing AS p ON p.video_id = v.id
        WHERE v.owner_id = %(owner)s AND {_ELSEWHERE}) AS elsewhere,
       (SELECT count(*) FROM search_queries WHERE user_id = %(owner)s) AS searches
"""

_NEXT = f"""
-- The owner's next videos by their ids; those that another system works on are left to it.
WITH next AS MATERIALIZED (
    SELECT v.id, coalesce(p.uri, {PATH}) AS uri, coalesce(p.origin, 'adopted') AS origin
    FROM videos AS v LEFT JOIN video_processing AS p ON p.video_id = v.id
    WHERE v.owner_id = %(owner)s AND v.id > %(after)s AND NOT ({_ELSEWHERE})
    ORDER BY v.id LIMIT %(limit)s
), shared AS (
    SELECT DISTINCT n.id FROM next AS n
    JOIN (videos AS o LEFT JOIN video_processing AS q ON q.video_id = o.id) ON coalesce(q.uri, o.storage_path) = n.uri
    WHERE o.owner_id <> %(owner)s AND %(with_file)s
)
SELECT n.id, n.uri, n.origin, s.id IS NOT NULL AS shared FROM next AS n LEFT JOIN shared AS s USING (id) ORDER BY n.id
"""

_ERASE = """
-- What has ended. The outbox keeps what an index of the scenes has still to follow.
WITH erased AS (
    DELETE FROM videos AS v WHERE v.id = ANY (%(ids)s) AND v.owner_id = %(owner)s AND v.status IN ('READY', 'FAILED')
    RETURNING v.id
), requests AS (
    DELETE FROM owner_requests AS r USING erased AS e WHERE r.video_id = e.id
), changes AS (
    DELETE FROM search_changes AS c USING erased AS e
    WHERE c.video_id = e.id AND (c.version = c.indexed_version OR NOT EXISTS (SELECT FROM search_indexes))
)
SELECT id FROM erased
"""

_REST: tuple[LiteralString, ...] = (
    "DELETE FROM search_vocabulary WHERE owner_id = %(owner)s",
    "DELETE FROM owner_requests WHERE owner_id = %(owner)s",
    "DELETE FROM video_owners WHERE owner_id = %(owner)s",
    "DELETE FROM embedding_jobs WHERE requested_by = %(owner)s AND state NOT IN ('requested', 'running')",
)

_SEARCHES = """
DELETE FROM search_queries WHERE id IN (SELECT id FROM search_queries WHERE user_id = %(owner)s LIMIT %(most)s)
"""


@dataclass(frozen=True)
class OwnersData:
    """Counts of an owner's rows; ``elsewhere``: videos that another system has waiting or on their way."""

    videos: int
    elsewhere: int
    searches: int


@dataclass(frozen=True)
class OwnersVideo:
    """A video that can be erased, and where its file was submitted from.

    ``shared``: its file is that of another owner's video too.
    """

    id: UUID
    uri: str
    origin: str
    shared: bool


def count_data(pool: Pool, owner_id: UUID) -> OwnersData:
    """Count the owner's rows now."""
    with pool.connection() as connection, connection.cursor(row_factory=class_row(OwnersData)) as cursor:
        found = cursor.execute(_LEFT, {"owner": owner_id}).fetchone()
    assert found is not None
    return found


def next_videos(pool: Pool, owner_id: UUID, after: UUID, limit: int, *, with_file: bool) -> list[OwnersVideo]:
    """The owner's videos that come next by their ids, forgotten ones too; ``with_file``: whether files are shared."""
    values = {"owner": owner_id, "after": after, "limit": limit, "with_file": with_file}
    with pool.connection() as connection, connection.cursor(row_factory=class_row(OwnersVideo)) as cursor:
        return cursor.execute(_NEXT, values).fetchall()


def erase_videos(pool: Pool, owner_id: UUID, ids: Sequence[UUID]) -> int:
    """Delete the rows of the owner's videos that have ended; returns how many.

    Raises:
        RefusedByDatabase: a row of another system's table refers to one and forbids it; none is deleted then.
    """
    with refused_in_one_sentence("to erase them"), pool.connection() as connection:
        return connection.execute(_ERASE, {"ids": list(ids), "owner": owner_id}).rowcount


def erase_rest(pool: Pool, owner_id: UUID, trail: Trail, videos: int) -> int:
    """Delete the record of the owner's searches and what else names the owner; returns how many searches.

    ``videos``: how many were erased before, for the audit log.
    """
    searches = 0
    with refused_in_one_sentence("to erase the owner"):
        while True:
            with pool.connection() as connection:
                removed = connection.execute(_SEARCHES, {"owner": owner_id, "most": REMOVED_AT_ONCE}).rowcount
            searches += removed
            if removed < REMOVED_AT_ONCE:
                break
        with pool.connection() as connection:
            for statement in _REST:
                connection.execute(statement, {"owner": owner_id})
            counts = {"videos": videos, "searches": searches}
            trail.note(connection, Action.ERASE, ObjectKind.OWNER, [owner_id], counts)
    trail.log()
    return searches
