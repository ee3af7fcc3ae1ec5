"""Contents of a database that an existing Heimdex filled, and what this cluster can add to it.

Owns the counts, key frames for scenes that have none, and the outbox's rows for scenes that others wrote. The text
index is ``postgres_check``'s, vectors are ``index.embeddings``', taking waiting videos over is ``reprocessing``'s.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

from psycopg import errors
from psycopg.rows import class_row

from cluster.contracts.errors import ConfigurationError
from cluster.contracts.videos import MAX_URI
from cluster.store.index.outbox import NUMBERED
from cluster.store.index.scene_text import SCENE_TEXT
from cluster.store.postgres.bounded_texts import PATH
from cluster.store.postgres.connections import Pool

_INVENTORY = f"""
-- Tables and columns that any Heimdex has: nothing need be migrated.
SELECT (SELECT count(DISTINCT owner_id) FROM videos) AS owners,
       (SELECT count(*) FROM videos WHERE status::text = 'READY') AS ready,
       (SELECT count(*) FROM videos WHERE status::text = 'FAILED') AS failed,
       (SELECT count(*) FROM videos WHERE status::text = 'PENDING') AS pending,
       (SELECT count(*) FROM videos WHERE status::text = 'PROCESSING') AS processing,
       (SELECT count(*) FROM video_scenes) AS scenes,
       (SELECT count(*) FROM video_scenes AS s WHERE {SCENE_TEXT} = '') AS scenes_without_text,
       (SELECT count(*) FROM video_scenes WHERE coalesce(thumbnail_url, '') = '') AS scenes_without_picture,
       (SELECT count(*) - count(DISTINCT (s.video_id, s.index)) FILTER (WHERE {NUMBERED})
        FROM video_scenes AS s) AS scenes_unnumbered
"""

_UNSHOWN = f"""
SELECT s.id, s.video_id, left(s.thumbnail_url, {MAX_URI + 1}) AS url, v.owner_id
FROM video_scenes AS s JOIN videos AS v ON v.id = s.video_id
WHERE coalesce(s.key_frame_url, '') = '' AND s.thumbnail_url <> '' AND s.id > %(after)s
ORDER BY s.id LIMIT %(limit)s
"""

_SET_KEY_FRAMES = """
UPDATE video_scenes AS s SET key_frame_url = made.url
FROM unnest(%(ids)s::uuid[], %(urls)s::text[]) AS made (id, url)
WHERE s.id = made.id AND coalesce(s.key_frame_url, '') = ''
"""

_ADD_TO_OUTBOX = f"""
INSERT INTO search_changes (video_id, version, most_scenes)
SELECT s.video_id, nextval('search_versions'), coalesce(max(s.index) FILTER (WHERE {NUMBERED}) + 1, 0)
FROM video_scenes AS s
WHERE NOT EXISTS (SELECT FROM search_changes AS c WHERE c.video_id = s.video_id)
GROUP BY s.video_id ORDER BY s.video_id
ON CONFLICT (video_id) DO NOTHING
"""

_NOT_EMBEDDABLE = f"""
SELECT count(*) FILTER (WHERE coalesce(s.key_frame_url, '') = '') AS pictures,
       count(*) FILTER (WHERE {SCENE_TEXT} = '') AS texts
FROM video_scenes AS s
"""

_STORED_PATHS = f"""
SELECT {PATH} AS path FROM videos AS v LEFT JOIN video_processing AS p ON p.video_id = v.id
WHERE p.forgotten_at IS NULL AND v.storage_path !~ '^/' AND v.storage_path NOT LIKE '%%://%%'
ORDER BY v.status = 'PENDING' DESC, v.created_at DESC, v.id LIMIT %(limit)s
"""


@dataclass(frozen=True)
class Inventory:
    """What is there: people, videos by status, scenes, and scenes that have nothing to be embedded."""

    owners: int
    ready: int
    failed: int
    pending: int
    processing: int
    scenes: int
    scenes_without_text: int
    scenes_without_picture: int
    scenes_unnumbered: int
    """Those that OpenSearch does not find: with an index out of bounds, or that of another scene of the video."""


@dataclass(frozen=True)
class UnshownScene:
    """A scene without a key frame, and the address of its thumbnail."""

    id: UUID
    video_id: UUID
    url: str
    owner_id: UUID


class Adoption:
    """The database of an existing Heimdex, migrated or not."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    def inventory(self) -> Inventory:
        """Count what is there. Raises ConfigurationError where there is no Heimdex."""
        try:
            with self._pool.connection() as connection, connection.cursor(row_factory=class_row(Inventory)) as cursor:
                found = cursor.execute(_INVENTORY).fetchone()
        except (errors.UndefinedTable, errors.UndefinedColumn) as error:
            raise ConfigurationError(f"this is no database of a Heimdex: {error.diag.message_primary}") from error
        assert found is not None
        return found

    def unshown(self, after: UUID, limit: int) -> list[UnshownScene]:
        """The next scenes by their ids that have a thumbnail and no key frame."""
        values = {"after": after, "limit": limit}
        with self._pool.connection() as connection, connection.cursor(row_factory=class_row(UnshownScene)) as cursor:
            return cursor.execute(_UNSHOWN, values).fetchall()

    def set_key_frames(self, urls: Sequence[tuple[UUID, str]]) -> int:
        """Write where the key frames of these scenes are; returns of how many that is new."""
        values = {"ids": [scene_id for scene_id, _ in urls], "urls": [url for _, url in urls]}
        with self._pool.connection() as connection:
            return max(0, connection.execute(_SET_KEY_FRAMES, values).rowcount)

    def add_to_outbox(self) -> int:
        """Have an engine beside Postgres follow videos that it does not know; returns how many they are."""
        with self._pool.connection() as connection:
            return max(0, connection.execute(_ADD_TO_OUTBOX).rowcount)

    def stored_paths(self, limit: int) -> list[str]:
        """Relative storage paths: of videos that wait, then of the newest."""
        with self._pool.connection() as connection:
            rows = connection.execute(_STORED_PATHS, {"limit": limit}).fetchall()
        return [row["path"] for row in rows]

    def not_embeddable(self) -> tuple[int, int]:
        """Number of scenes without a key frame, and without text: nothing of them can be embedded."""
        with self._pool.connection() as connection:
            row = connection.execute(_NOT_EMBEDDABLE).fetchone()
        assert row is not None
        return int(row["pictures"]), int(row["texts"])
