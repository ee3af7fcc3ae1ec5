"""Whether what Postgres finds scenes by is what their rows say: text indexes, vectors and vocabulary.

Vectors that are missing are made by ``heimdex reembed``: only models can.
"""

from collections.abc import Iterator
from typing import Any
from uuid import UUID

from psycopg import sql

from cluster.contracts.search import Retriever
from cluster.store.index.model_registry import SearchModels
from cluster.store.index.outbox import page_of_videos
from cluster.store.index.scene_text import SCENE_TEXT
from cluster.store.index.vector_tables import find_tables, rows_of
from cluster.store.index.vocabulary import Vocabulary, words_in
from cluster.store.opensearch.verify import Kind, Progress, Verdict
from cluster.store.postgres.connections import Pool, connect
from cluster.store.videos.scenes import TEXT_CONFIGURATIONS

SCENES_PER_PAGE = 2000
_INDEXES = """
-- Those of words and of all models' vectors.
SELECT c.relname AS name FROM pg_index AS i
JOIN pg_class AS c ON c.oid = i.indexrelid
JOIN pg_am AS a ON a.oid = c.relam
WHERE i.indrelid = 'video_scenes'::regclass AND c.relname = 'idx_video_scenes_text_index'
   OR a.amname = 'hnsw' AND i.indrelid IN (SELECT relation::regclass FROM scene_vector_tables)
"""

_INDEXED = f"""
-- What each scene's text index should be.
SELECT s.id, s.video_id, s.index, v.owner_id, {SCENE_TEXT} AS text, s.text_index AS stored,
       s.key_frame_url <> '' AS shown,
       heimdex_text_index({SCENE_TEXT}, coalesce(known.configuration, 'simple')::regconfig) AS wanted
FROM video_scenes AS s
JOIN videos AS v ON v.id = s.video_id
LEFT JOIN video_transcripts AS t ON t.video_id = s.video_id
LEFT JOIN unnest(%(languages)s::text[], %(configurations)s::text[]) AS known (language, configuration)
    ON known.language = t.language
WHERE s.video_id = ANY (%(videos)s)
"""

_CHECK = sql.SQL(f"""
SELECT i.video_id, i.index, i.owner_id, i.text,
       i.stored IS NULL AS missing, i.stored IS DISTINCT FROM i.wanted AS stale,
       %(vision)s::text IS NOT NULL AND i.shown AND NOT EXISTS (
           SELECT FROM {{pictures}} AS e WHERE e.scene_id = i.id
       ) OR %(text)s::text IS NOT NULL AND i.text <> '' AND NOT EXISTS (
           SELECT FROM {{meanings}} AS m WHERE m.scene_id = i.id
       ) AS unembedded
FROM ({_INDEXED}) AS i
ORDER BY i.video_id, i.index
""")

_REPAIR = f"""
UPDATE video_scenes AS s SET text_index = i.wanted FROM ({_INDEXED}) AS i
WHERE s.id = i.id AND i.stored IS DISTINCT FROM i.wanted
"""


class PostgresCheck:
    """Compares, repairs and rebuilds. ``url``: of the same database, for what takes longer than a pool allows."""

    def __init__(self, pool: Pool, url: str) -> None:
        self._pool = pool
        self._url = url
        self._vocabulary = Vocabulary(pool)

    def verify(self, progress: Progress = lambda _: None) -> Verdict:
        """Compare all scenes, and all owners' words."""
        verdict = Verdict()
        words: dict[UUID, set[str]] = {}
        keys = {by: model.key for by, model in SearchModels(self._pool).active().items()}
        models = {"vision": keys.get(Retriever.PICTURE), "text": keys.get(Retriever.MEANING)}
        for page in self._pages():
            with self._pool.connection() as connection:
                tables = find_tables(connection, keys)
                check = _CHECK.format(
                    pictures=rows_of(tables, Retriever.PICTURE), meanings=rows_of(tables, Retriever.MEANING)
                )
                rows = connection.execute(check, {**_values(page), **models}).fetchall()
            for row in rows:
                place = (row["video_id"], row["index"])
                if row["owner_id"] is not None:
                    words.setdefault(row["owner_id"], set()).update(words_in([row["text"]]))
                if row["missing"]:
                    verdict.note(place, Kind.MISSING)
                elif row["stale"]:
                    verdict.note(place, Kind.STALE_CONTENT)
                if row["unembedded"]:
                    verdict.note(place, Kind.STALE_MODEL)
            verdict.compared += len(rows)
            progress(verdict.compared)
        self._compare_words(words, verdict)
        return verdict

    def repair(self, progress: Progress = lambda _: None) -> None:
        """Repair text indexes and vocabulary where they differ."""
        words: dict[UUID, set[str]] = {}
        scenes = 0
        for page in self._pages():
            with self._pool.connection() as connection:
                connection.execute(_REPAIR, _values(page))
            for owner_id, text in self._texts(page):
                words.setdefault(owner_id, set()).update(words_in([text]))
                scenes += 1
            progress(scenes)
        for owner_id, known in self._vocabulary.all_words().items():
            wanted = words.pop(owner_id, set())
            self._vocabulary.repair(owner_id, missing=wanted - known, extra=known - wanted)
        for owner_id, wanted in words.items():
            self._vocabulary.repair(owner_id, missing=wanted, extra=set())

    def rebuild(self) -> None:
        """Repair what differs, and rebuild the indexes; searches are answered meanwhile."""
        self.repair()
        with connect(
            self._url, name="heimdex-index", autocommit=True, statement_timeout_s=0, needs_session=True
        ) as connection:
            for index in connection.execute(_INDEXES).fetchall():
                connection.execute(sql.SQL("REINDEX INDEX CONCURRENTLY {}").format(sql.Identifier(index["name"])))

    def _pages(self) -> Iterator[list[UUID]]:
        last: UUID | None = None
        while page := page_of_videos(self._pool, last, SCENES_PER_PAGE):
            yield page
            last = page[-1]

    def _texts(self, page: list[UUID]) -> Iterator[tuple[UUID, str]]:
        statement = (
            f"SELECT v.owner_id, {SCENE_TEXT} AS text FROM video_scenes AS s JOIN videos AS v ON v.id = s.video_id "
            "WHERE s.video_id = ANY (%s) AND v.owner_id IS NOT NULL"
        )
        with self._pool.connection() as connection:
            rows = connection.execute(statement, (page,)).fetchall()
        return ((row["owner_id"], row["text"]) for row in rows)

    def _compare_words(self, wanted: dict[UUID, set[str]], verdict: Verdict) -> None:
        known = self._vocabulary.all_words()
        for owner_id in wanted.keys() | known.keys():
            for kind, words in (
                (Kind.MISSING, wanted.get(owner_id, set()) - known.get(owner_id, set())),
                (Kind.EXTRA, known.get(owner_id, set()) - wanted.get(owner_id, set())),
            ):
                verdict.note_words(owner_id, kind, words)


def _values(videos: list[UUID]) -> dict[str, Any]:
    return {
        "videos": videos,
        "languages": list(TEXT_CONFIGURATIONS),
        "configurations": list(TEXT_CONFIGURATIONS.values()),
    }
