"""Search engines as the benchmarks see them: filled with scenes, asked through the product, asked without it."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Protocol

from pgvector import Vector
from psycopg import Connection, sql
from psycopg.rows import DictRow

from cluster.contracts.search import QueryVector, Retriever, Scope, WordsQuery
from cluster.search.service import LIST_DEPTH
from cluster.store.index.vector_tables import make_table
from cluster.store.index.vocabulary import trigrams
from cluster.store.postgres.connections import EmbeddedPostgres, Pool, connect
from cluster.store.search.postgres_index import (
    ITERATIVE_SCAN,
    PLAN_WORDS,
    PostgresSearchIndex,
    SearchIndex,
    build_tsqueries,
    candidates,
    scenes_that_fit,
    walk_along_index,
)
from tests.benchmarks.made_scenes import (
    HUNDREDTH,
    MOST,
    SCENES_PER_VIDEO,
    TENTH,
    MadeScenes,
    Scenery,
    vector_spaces,
)

_BUILD_MEMORY = "4GB"
"""For a million pictures in one go: 2 KiB each and their neighbours."""
_ALL = 2**31 - 1


@dataclass(frozen=True)
class Asked:
    """A query as the engines get it."""

    words: WordsQuery
    vectors: Mapping[Retriever, QueryVector]
    scope: Scope


@dataclass
class Filled:
    """Seconds that storing the scenes took, and for each index what it took and its size."""

    stored_s: float = 0.0
    indexes: dict[str, tuple[float, int]] = field(default_factory=dict)


class SearchEngine(Protocol):
    """One of them."""

    name: str
    index: SearchIndex

    def fill(self, scenery: Scenery, say: Callable[[str], None]) -> Filled:
        """Hold these scenes and no others."""
        ...

    def bare(self, by: Retriever, asked: Asked, limit: int) -> Callable[[], int]:
        """Asks for one list with what the product sends, all made ready, and says how many were found."""
        ...

    def count(self, asked: Asked) -> int:
        """Number of scenes that have the words."""
        ...


class PostgresEngine:
    """Full text and pgvector on a server with its defaults."""

    name = "Postgres"

    def __init__(self, server: EmbeddedPostgres, pool: Pool, models: Mapping[Retriever, str]) -> None:
        self.index: SearchIndex = PostgresSearchIndex(pool)
        with pool.connection() as connection:
            spaces = vector_spaces()
            self._tables = {by: make_table(connection, by, key, spaces[by].width) for by, key in models.items()}
        self._filled = ["video_scenes", *(table.relation for table in self._tables.values())]
        self._connection = connect(server.url, name="bare", autocommit=True, statement_timeout_s=0)
        self._for_words = connect(server.url, name="bare", autocommit=True, statement_timeout_s=0)
        self._for_words.execute(PLAN_WORDS, {"locally": False})
        self._connection.execute(
            "SELECT set_config('hnsw.iterative_scan', %s, false), set_config('hnsw.ef_search', %s, false), "
            "set_config('enable_sort', 'off', false)",
            (ITERATIVE_SCAN, str(candidates(LIST_DEPTH))),
        )

    def close(self) -> None:
        """End the sessions that ask without the product."""
        self._for_words.close()
        self._connection.close()

    def fill(self, scenery: Scenery, say: Callable[[str], None]) -> Filled:
        """See :class:`SearchEngine`. Indexes that grow slowly are built when all rows are there."""
        connection = self._connection
        indexes = connection.execute(_SLOW_INDEXES, (self._filled,)).fetchall()
        filled = self.store(scenery, say)
        connection.execute(f"SET maintenance_work_mem = '{_BUILD_MEMORY}'")
        for index in indexes:
            began_s = time.monotonic()
            connection.execute(index["definition"])
            spent_s = time.monotonic() - began_s
            size = connection.execute("SELECT pg_relation_size(%s::regclass) AS size", (index["name"],)).fetchone()
            assert size is not None
            filled.indexes[index["name"]] = (spent_s, size["size"])
            say(f"{index['name']}: {spent_s:.0f} s, {size['size'] >> 20} MiB")
        connection.execute("CHECKPOINT")
        return filled

    def store(self, scenery: Scenery, say: Callable[[str], None]) -> Filled:
        """Hold these scenes, without an index of vectors or words: for an engine that has its own."""
        connection = self._connection
        connection.execute("TRUNCATE videos CASCADE")
        for index in connection.execute(_SLOW_INDEXES, (self._filled,)).fetchall():
            connection.execute(sql.SQL("DROP INDEX {}").format(sql.Identifier(index["name"])))
        began_s = time.monotonic()
        self._store(scenery, say)
        stored_s = time.monotonic() - began_s
        connection.execute("VACUUM ANALYZE")
        return Filled(stored_s)

    def bare(self, by: Retriever, asked: Asked, limit: int) -> Callable[[], int]:
        """See :class:`SearchEngine`."""
        scope = {"owner": asked.scope.owner_id, "limit": limit}
        if by is Retriever.WORDS:
            question, words = build_tsqueries(asked.words)
            return partial(self._fitting, question.as_bytes(), words, scenes_that_fit(asked.scope).as_bytes(), scope)
        vector = asked.vectors[by]
        near = {
            **scope,
            "embedding": Vector(vector.embedding),
        }
        return partial(self._near, walk_along_index(self._tables[by], asked.scope).as_bytes(), near)

    def count(self, asked: Asked) -> int:
        """See :class:`SearchEngine`."""
        return self.bare(Retriever.WORDS, asked, _ALL)()

    def _fitting(self, question: bytes, words: dict[str, Any], statement: bytes, scope: dict[str, Any]) -> int:
        asked = self._for_words.execute(question, words).fetchone()
        assert asked is not None
        return len(self._for_words.execute(statement, {**scope, **asked}, prepare=False).fetchall())

    def _near(self, statement: bytes, parameters: dict[str, Any]) -> int:
        return len(self._connection.execute(statement, parameters, prepare=False).fetchall())

    def _store(self, scenery: Scenery, say: Callable[[str], None]) -> None:
        for table in _STAGED:
            self._connection.execute(table)
        _copy(
            self._connection,
            "COPY search_vocabulary (owner_id, word, trigrams) FROM STDIN",
            [(owner, word, trigrams(word)) for owner in (MOST, TENTH, HUNDREDTH) for word in scenery.words],
        )
        stored = 0
        for made in scenery:
            with self._connection.transaction():
                self._store_some(made)
            stored += len(made.scenes)
            if stored % 100_000 == 0:
                say(f"{stored:,} scenes are stored")

    def _store_some(self, made: MadeScenes) -> None:
        connection = self._connection
        # What refers to what is right by construction.
        connection.execute("SET LOCAL session_replication_role = replica")
        videos = list(zip(made.videos, made.owners, strict=True))
        _copy(
            connection,
            _COPY_VIDEOS,
            [(video, owner, f"s3://bucket/{video}.mp4", "a.mp4", "READY") for video, owner in videos],
        )
        _copy(connection, _COPY_TRANSCRIPTS, [(video, "en", "made", 0, "[]") for video in made.videos])
        places = [divmod(number, SCENES_PER_VIDEO) for number in range(len(made.scenes))]
        rows = zip(made.scenes, places, made.texts, strict=True)
        connection.execute("TRUNCATE staged")
        _copy(connection, "COPY staged FROM STDIN", [(scene, made.videos[v], n, text) for scene, (v, n), text in rows])
        connection.execute(_UNSTAGE)
        for by, vectors in made.vectors.items():
            table = self._tables[by]
            connection.execute("TRUNCATE staged_vectors")
            _copy(
                connection,
                "COPY staged_vectors FROM STDIN (FORMAT BINARY)",
                list(zip(made.scenes, vectors, strict=True)),
                ["uuid", "vector"],
            )
            source = sql.SQL("FROM staged_vectors")
            connection.execute(table.insert(sql.SQL("scene_id"), sql.SQL("embedding"), source), {})


_SLOW_INDEXES = """
-- Those of vectors and of words.
SELECT indexname AS name, indexdef AS definition FROM pg_indexes
WHERE tablename = ANY (%s) AND indexdef ~ 'USING (hnsw|gin)' ORDER BY name
"""
_STAGED = (
    "CREATE TEMPORARY TABLE IF NOT EXISTS staged (id uuid, video_id uuid, index int, said text)",
    "CREATE TEMPORARY TABLE IF NOT EXISTS staged_vectors (scene_id uuid, embedding vector)",
)
_UNSTAGE = """
INSERT INTO video_scenes (id, video_id, index, start_s, end_s, transcript_segment, combined_text, text_index)
SELECT id, video_id, index, index, index + 1, said, said, to_tsvector('simple', said) || to_tsvector('english', said)
FROM staged
"""
_COPY_VIDEOS = "COPY videos (id, owner_id, storage_path, filename, status) FROM STDIN"
_COPY_TRANSCRIPTS = "COPY video_transcripts (video_id, language, model, word_count, segments) FROM STDIN"


def _copy(
    connection: Connection[DictRow], copy: Any, rows: Sequence[tuple[Any, ...]], types: Sequence[str] | None = None
) -> None:
    with connection.cursor() as cursor, cursor.copy(copy) as into:
        if types is not None:
            into.set_types(types)
        for row in rows:
            into.write_row(row)
