"""Forgets videos: all records of what was said and shown is deleted, what was counted stays, times included.

Searches stay counted too, without their text where they were for the video or name it.

That includes what an existing Heimdex wrote of them: the content columns of ``videos``, which a function of the
database clears (migration 048), and with the scenes all that refers to these. Where a video's file is stays known,
unless the caller has removed the file.

Pictures are stored elsewhere: here is only whose are still to be removed.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import LiteralString
from uuid import UUID

from psycopg import Connection, errors, sql
from psycopg.rows import DictRow, class_row

from cluster.contracts.audit import Action, Actor, ObjectKind, command_line
from cluster.contracts.errors import ConfigurationError
from cluster.contracts.uris import video_name
from cluster.store.index.outbox import NEXT_VERSION
from cluster.store.index.scene_text import SCENE_TEXT
from cluster.store.index.vocabulary import Vocabulary, words_in
from cluster.store.postgres.audit_log import Trail
from cluster.store.postgres.bounded_texts import FILENAME, PATH, PLACE
from cluster.store.postgres.connections import Pool
from cluster.store.postgres.refusals import refused_in_one_sentence
from cluster.store.postgres.update_triggers import hold_if_triggered
from cluster.store.queue.submissions import cancel

REMOVALS = 2
"""At once, and again when no worker can still be writing."""
AGAIN_AFTER = timedelta(minutes=30)
MAX_LETTERS = 20_000_000
"""Of a video, in which words are looked for; 12 hours of speech have some 650,000."""

TELLING_OF_SEARCHES = ("search_metadata",)
"""Of an existing Heimdex: the same of its searches."""

_COLUMNS = """
SELECT attname AS name FROM pg_catalog.pg_attribute
WHERE attrelid = %s::regclass AND attnum > 0 AND NOT attisdropped AND attname = ANY (%s) ORDER BY attnum
"""

_NAMED = f"""
SELECT v.id, {FILENAME} AS filename, coalesce({PLACE}, '') AS uri,
       v.status IN ('READY', 'FAILED') AND p.forgotten_at IS NULL AS to_forget
FROM videos AS v LEFT JOIN video_processing AS p ON p.video_id = v.id
WHERE v.id = ANY (%(ids)s) AND (%(owner)s::uuid IS NULL OR v.owner_id = %(owner)s)
"""

_ROWS_MAY_BE_HIDDEN = "SELECT row_security_active('public.videos') AS hidden"

_FORGET: LiteralString = f"""
-- What has ended, all in one: no reader sees a video half forgotten, and no worker that lost its lease can still write.
WITH chosen AS MATERIALIZED (
    SELECT v.id, v.owner_id FROM videos AS v
    WHERE v.id = ANY (%(ids)s) AND (%(owner)s::uuid IS NULL OR v.owner_id = %(owner)s)
      AND v.status IN ('READY', 'FAILED')
    ORDER BY v.id FOR UPDATE
), marked AS (
    INSERT INTO video_processing AS p (video_id, owner_id, forgotten_at)
    SELECT id, owner_id, clock_timestamp() FROM chosen
    ON CONFLICT (video_id) DO UPDATE
    SET forgotten_at = excluded.forgotten_at, warnings = '[]', batch = NULL, metadata = NULL, content_mark = NULL,
        uri = CASE WHEN p.video_id = ANY (%(without_file)s) THEN '' ELSE p.uri END
    WHERE p.forgotten_at IS NULL
    RETURNING video_id
), forgotten AS (
    SELECT c.id, c.owner_id FROM chosen AS c JOIN marked AS m ON m.video_id = c.id
), named AS (
    -- Searches in the video, and the owner's for its name or id. The counts of searches stay.
    SELECT q.id FROM search_queries AS q JOIN marked AS m ON m.video_id = q.video_id
    UNION
    SELECT q.id FROM forgotten AS f
    JOIN unnest(%(named)s::uuid[], %(names)s::text[]) AS shown (video_id, name) ON shown.video_id = f.id
    JOIN search_queries AS q ON q.user_id = f.owner_id
    WHERE position(f.id::text IN lower(q.query_text)) > 0
       OR length(shown.name) >= 4 AND position(lower(shown.name) IN lower(q.query_text)) > 0
       OR lower(trim(q.query_text)) = lower(regexp_replace(shown.name, '[.][^.]*$', ''))
), searches AS (
    UPDATE search_queries AS q SET query_text = 'forgotten', video_id = NULL{{cleared}}
    FROM named WHERE q.id = named.id
), scenes AS (
    DELETE FROM video_scenes AS s USING forgotten AS f WHERE s.video_id = f.id
    RETURNING s.id, s.video_id, {SCENE_TEXT} AS text
), transcripts AS (
    DELETE FROM video_transcripts AS t USING forgotten AS f WHERE t.video_id = f.id
), results AS (
    DELETE FROM video_stage_results AS r USING forgotten AS f WHERE r.video_id = f.id
), runs AS (
    UPDATE video_stage_runs AS r SET error_message = NULL FROM forgotten AS f
    WHERE r.video_id = f.id AND r.error_message IS NOT NULL
), found AS (
    SELECT c.video_id FROM search_changes AS c JOIN forgotten AS f ON f.id = c.video_id
    ORDER BY c.video_id FOR UPDATE OF c
), changes AS (
    UPDATE search_changes AS c
    SET {NEXT_VERSION}
    FROM found WHERE c.video_id = found.video_id
), pictures AS (
    INSERT INTO forgotten_pictures (video_id) SELECT id FROM forgotten ON CONFLICT (video_id) DO NOTHING
)
SELECT f.id, f.owner_id,
       ARRAY(
           SELECT left(s.text, {MAX_LETTERS} - s.before::integer)
           FROM (SELECT text, coalesce(sum(length(text)) OVER (ORDER BY id ROWS BETWEEN UNBOUNDED PRECEDING
                                                               AND 1 PRECEDING), 0) AS before
                 FROM scenes WHERE video_id = f.id) AS s
           WHERE s.before < {MAX_LETTERS}
       ) AS texts
FROM forgotten AS f
"""

_CLEAR = "SELECT heimdex_clear_forgotten(%(ids)s, %(without_file)s)"

_OWN = f"""
WITH chosen AS MATERIALIZED (
    SELECT v.id, coalesce(p.uri, {PATH}) AS uri, coalesce(p.origin, 'adopted') AS origin, v.status,
           p.available_at
    FROM videos AS v LEFT JOIN video_processing AS p ON p.video_id = v.id
    WHERE v.owner_id = %(owner)s AND (v.id = ANY (%(ids)s) OR coalesce(p.uri, v.storage_path) = ANY (%(uris)s))
      AND p.forgotten_at IS NULL
)
SELECT c.id, c.uri, c.origin,
       c.status IN ('PENDING', 'PROCESSING') AND c.available_at IS NULL AND l.video_id IS NULL AS elsewhere,
       EXISTS (SELECT FROM videos AS o LEFT JOIN video_processing AS p ON p.video_id = o.id
               WHERE c.uri IN (o.storage_path, p.uri) AND p.forgotten_at IS NULL
                 AND o.id NOT IN (SELECT id FROM chosen)) AS shared
FROM chosen AS c LEFT JOIN video_leases AS l ON l.video_id = c.id
ORDER BY c.id
"""

_DUE = "SELECT video_id FROM forgotten_pictures WHERE due_at <= clock_timestamp() ORDER BY due_at LIMIT 100"

_REMOVED = """
WITH removed AS (
    UPDATE forgotten_pictures SET removals = removals + 1, due_at = clock_timestamp() + %(again_after)s
    WHERE video_id = %(video)s AND removals + 1 < %(removals)s RETURNING video_id
)
DELETE FROM forgotten_pictures WHERE video_id = %(video)s AND NOT EXISTS (SELECT FROM removed)
"""


@dataclass(frozen=True)
class OwnVideo:
    """A video that may be forgotten, and where its file was submitted from.

    ``elsewhere``: another system has it waiting or on its way. ``shared``: its file is that of other videos too.
    """

    id: UUID
    uri: str
    origin: str
    elsewhere: bool
    shared: bool


def forget(
    pool: Pool,
    ids: Sequence[UUID],
    owner_id: UUID | None = None,
    *,
    without_file: Collection[UUID] = (),
    by: Actor | None = None,
) -> list[UUID]:
    """Forget videos; those that wait or are on their way are cancelled first. With ``owner_id``, only that owner's.

    Of those whose file is gone, ``without_file``, it is forgotten too where it was. Returns those that are forgotten
    now, and were not before; what another system works on is left to it. Their pictures are still to be removed.
    ``by``: who has them forgotten; None: the command line.

    Raises:
        ConfigurationError: the session's role may forget no videos.
        RefusedByDatabase: a rule of the database forbids it; none is forgotten then.
    """
    trail = Trail(by or command_line())
    cancel(pool, ids, owner_id, trail.actor)
    with refused_in_one_sentence("to forget them"):
        rows = _forget(pool, {"ids": list(ids), "owner": owner_id, "without_file": list(without_file)}, trail)
    vocabulary = Vocabulary(pool)
    for row in rows:
        vocabulary.drop_unused(row["owner_id"], words_in(row["texts"]))
    return [row["id"] for row in rows]


def _forget(pool: Pool, parameters: Mapping[str, object], trail: Trail) -> list[DictRow]:
    with pool.connection() as connection:  # the table is not taken from its writers where nothing is to be done
        named = connection.execute(_NAMED, parameters).fetchall()
        hidden = connection.execute(_ROWS_MAY_BE_HIDDEN).fetchall()[0]["hidden"]
    if not hidden and not any(row["to_forget"] for row in named):
        return []
    names = [video_name(row["filename"], row["uri"], row["id"]) for row in named]
    parameters = {**parameters, "named": [row["id"] for row in named], "names": names}
    try:
        with pool.connection() as connection:
            hold_if_triggered(connection)
            cleared = _cleared(connection, "public.search_queries", TELLING_OF_SEARCHES)
            rows = connection.execute(sql.SQL(_FORGET).format(cleared=cleared), parameters).fetchall()
            connection.execute(_CLEAR, {**parameters, "ids": [row["id"] for row in rows]})
            trail.note(connection, Action.FORGET, ObjectKind.VIDEO, [row["id"] for row in rows])
    except errors.InsufficientPrivilege as error:
        raise ConfigurationError(
            f"this database role may forget no videos: {error.diag.message_primary}; `heimdex doctor` names the roles"
        ) from error
    trail.log()
    return rows


def _cleared(connection: Connection[DictRow], table: str, columns: Sequence[str]) -> sql.Composed:
    """Sets those of the columns that the table has to their defaults."""
    there = [row["name"] for row in connection.execute(_COLUMNS, (table, list(columns)))]
    return sql.SQL("").join(sql.SQL(", {} = DEFAULT").format(sql.Identifier(name)) for name in there)


def find_own(pool: Pool, owner_id: UUID, ids: Sequence[UUID], uris: Sequence[str]) -> list[OwnVideo]:
    """All of the owner's videos of these ids or URIs that are not forgotten yet."""
    with pool.connection() as connection, connection.cursor(row_factory=class_row(OwnVideo)) as cursor:
        return cursor.execute(_OWN, {"owner": owner_id, "ids": list(ids), "uris": list(uris)}).fetchall()


class ForgottenPictures:
    """Which forgotten videos' pictures are to be removed now."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    def due(self) -> list[UUID]:
        """Videos whose pictures are due, the longest due first."""
        with self._pool.connection() as connection:
            return [row["video_id"] for row in connection.execute(_DUE)]

    def note_removed(self, video_id: UUID) -> None:
        """They are gone: once more later, or for good."""
        parameters = {"video": video_id, "again_after": AGAIN_AFTER, "removals": REMOVALS}
        with self._pool.connection() as connection:
            connection.execute(_REMOVED, parameters)
