"""Forgets videos: whatever tells what was said and shown is deleted, what was counted stays.

Pictures lie elsewhere: here is only whose are still to be removed.
"""

from collections.abc import Sequence
from datetime import timedelta
from uuid import UUID

from cluster.store.database import Pool
from cluster.store.submissions import cancel
from cluster.store.vocabulary import Vocabulary, words_in

REMOVALS = 2
"""At once, and again when no worker can still be writing."""
AGAIN_AFTER = timedelta(minutes=30)

_FORGET = """
-- What has ended, all in one: nobody sees a video half forgotten, and nobody who lost its lease can write any more.
WITH chosen AS MATERIALIZED (
    SELECT v.id FROM videos AS v
    WHERE v.id = ANY (%(ids)s) AND (%(owner)s::uuid IS NULL OR v.owner_id = %(owner)s)
      AND v.status IN ('READY', 'FAILED')
    ORDER BY v.id FOR UPDATE
), marked AS (
    INSERT INTO video_processing AS p (video_id, owner_id, forgotten_at)
    SELECT v.id, v.owner_id, clock_timestamp() FROM chosen JOIN videos AS v USING (id)
    ON CONFLICT (video_id) DO UPDATE SET forgotten_at = excluded.forgotten_at WHERE p.forgotten_at IS NULL
    RETURNING video_id
), forgotten AS (
    UPDATE videos AS v SET storage_path = '', filename = 'forgotten', error_message = NULL
    FROM marked AS m WHERE v.id = m.video_id
    RETURNING v.id, v.owner_id
), scenes AS (
    DELETE FROM video_scenes AS s USING forgotten AS f WHERE s.video_id = f.id
    RETURNING s.video_id, s.combined_text
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
    SET version = nextval('search_versions'), changed_at = clock_timestamp(), due_at = clock_timestamp(), refused = NULL
    FROM found WHERE c.video_id = found.video_id
), pictures AS (
    INSERT INTO forgotten_pictures (video_id) SELECT id FROM forgotten ON CONFLICT (video_id) DO NOTHING
)
SELECT f.id, f.owner_id,
       ARRAY(SELECT s.combined_text FROM scenes AS s WHERE s.video_id = f.id AND s.combined_text IS NOT NULL) AS texts
FROM forgotten AS f
"""

_DUE = "SELECT video_id FROM forgotten_pictures WHERE due_at <= clock_timestamp() ORDER BY due_at LIMIT 100"

_REMOVED = """
WITH removed AS (
    UPDATE forgotten_pictures SET removals = removals + 1, due_at = clock_timestamp() + %(again_after)s
    WHERE video_id = %(video)s AND removals + 1 < %(removals)s RETURNING video_id
)
DELETE FROM forgotten_pictures WHERE video_id = %(video)s AND NOT EXISTS (SELECT FROM removed)
"""


def forget(pool: Pool, ids: Sequence[UUID], owner_id: UUID | None = None) -> list[UUID]:
    """Forget videos; those that wait or are on their way are cancelled first. With ``owner_id``, only that owner's.

    Returns those that are forgotten now, and were not before. Their pictures are still to be removed.
    """
    cancel(pool, ids, owner_id)
    with pool.connection() as connection:
        rows = connection.execute(_FORGET, {"ids": list(ids), "owner": owner_id}).fetchall()
    vocabulary = Vocabulary(pool)
    for row in rows:
        vocabulary.drop_unused(row["owner_id"], words_in(row["texts"]))
    return [row["id"] for row in rows]


def find_own(pool: Pool, owner_id: UUID, ids: Sequence[UUID], uris: Sequence[str]) -> list[UUID]:
    """All of the owner's videos of these ids or URIs that are not forgotten yet."""
    with pool.connection() as connection:
        rows = connection.execute(
            "SELECT v.id FROM videos AS v LEFT JOIN video_processing AS p ON p.video_id = v.id "
            "WHERE v.owner_id = %s AND (v.id = ANY (%s) OR v.storage_path = ANY (%s)) AND p.forgotten_at IS NULL",
            (owner_id, list(ids), list(uris)),
        ).fetchall()
    return [row["id"] for row in rows]


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
