"""Finds scenes in Postgres, by words and by picture, and keeps the record of every search.

``SearchIndex`` is what any search engine offers; each list is ranked by its own measure. Fusing the lists and
asking the vision model is ``cluster.search``'s; writing scenes is ``scenes``'.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol
from uuid import UUID

import numpy as np
from numpy.typing import NDArray
from pgvector import Vector
from psycopg import Connection
from psycopg.rows import DictRow, class_row

from cluster.store.database import Pool
from cluster.store.scenes import TEXT_CONFIGURATIONS


@dataclass(frozen=True)
class RankedScene:
    """A scene in a ranked list; ``score`` is the list's own measure, higher is better."""

    scene_id: UUID
    score: float


class SearchIndex(Protocol):
    """Two ranked lists of one owner's scenes, best first, at most ``limit`` long."""

    def words(self, query: str, owner_id: UUID, limit: int) -> list[RankedScene]:
        """Scenes in which the words of ``query`` were said or seen; none when nothing fits."""
        ...

    def picture(self, embedding: NDArray[np.float32], model: str, owner_id: UUID, limit: int) -> list[RankedScene]:
        """The scenes whose picture, as ``model`` embeds it, is nearest: ``score`` is the cosine.

        There is always a nearest one, however far: as many as the owner has, up to ``limit``.
        """
        ...


_WORDS = """
-- Scenes with all words of a web search ("quoted", or, -without), typed or stemmed in the video's language.
-- The union of all languages' queries goes through the index; each scene is then held to its own language's.
WITH stemmed AS MATERIALIZED (
    SELECT language, websearch_to_tsquery(configuration::regconfig, %(query)s) AS query
    FROM unnest(%(languages)s::text[], %(configurations)s::text[]) AS known (language, configuration)
), typed AS MATERIALIZED (
    SELECT websearch_to_tsquery('simple', %(query)s) AS query
), united AS MATERIALIZED (
    SELECT string_agg('(' || query::text || ')', ' | ')::tsquery AS query
    FROM (SELECT query FROM stemmed UNION SELECT query FROM typed) AS every (query) WHERE numnode(query) > 0
)
SELECT s.id AS scene_id, ts_rank_cd(s.text_index, asked.query, 1)::float8 AS score
FROM video_scenes AS s
JOIN videos AS v ON v.id = s.video_id
LEFT JOIN video_transcripts AS t ON t.video_id = s.video_id
CROSS JOIN typed
LEFT JOIN stemmed ON stemmed.language = t.language
CROSS JOIN LATERAL (SELECT typed.query || coalesce(stemmed.query, typed.query) AS query) AS asked
WHERE v.owner_id = %(owner)s
  AND s.text_index @@ (SELECT query FROM united) AND s.text_index @@ asked.query
ORDER BY score DESC, s.video_id, s.index
LIMIT %(limit)s
"""

NEAREST = """
-- Along the vector index, which is walked on until enough scenes pass the filter.
SELECT e.scene_id, (1 - (e.embedding <=> %(embedding)s))::float8 AS score
FROM scene_embeddings AS e
JOIN video_scenes AS s ON s.id = e.scene_id
JOIN videos AS v ON v.id = s.video_id
WHERE e.model = %(model)s AND v.owner_id = %(owner)s
ORDER BY e.embedding <=> %(embedding)s
LIMIT %(limit)s
"""

NEAREST_EXACTLY = """
-- Every scene of the owner, without the vector index.
WITH own AS MATERIALIZED (
    SELECT e.scene_id, (1 - (e.embedding <=> %(embedding)s))::float8 AS score
    FROM scene_embeddings AS e
    JOIN video_scenes AS s ON s.id = e.scene_id
    JOIN videos AS v ON v.id = s.video_id
    WHERE e.model = %(model)s AND v.owner_id = %(owner)s
)
SELECT scene_id, score FROM own ORDER BY score DESC, scene_id LIMIT %(limit)s
"""

_WALK_ON = """
-- pgvector 0.8 and newer can walk on past the first ef_search candidates, which a filter may all throw away.
SELECT set_config('hnsw.ef_search', %(candidates)s, true),
       (SELECT set_config('hnsw.iterative_scan', 'strict_order', true) FROM pg_extension
        WHERE extname = 'vector' AND string_to_array(extversion, '.')::int[] >= '{0,8}')
"""


class PostgresSearchIndex:
    """Full text and pgvector, in the tables that hold the scenes: there is nothing to keep in step."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    def words(self, query: str, owner_id: UUID, limit: int) -> list[RankedScene]:
        """See :class:`SearchIndex`."""
        parameters = {
            "query": query,
            "owner": owner_id,
            "limit": limit,
            "languages": list(TEXT_CONFIGURATIONS),
            "configurations": list(TEXT_CONFIGURATIONS.values()),
        }
        with self._pool.connection() as connection:
            return _ranked(connection, _WORDS, parameters)

    def picture(self, embedding: NDArray[np.float32], model: str, owner_id: UUID, limit: int) -> list[RankedScene]:
        """See :class:`SearchIndex`.

        Approximate (HNSW) where there are plenty of scenes. A walk along the index ends early when nearly all
        it meets are other owners' scenes or another model's: what it then misses is looked for exactly.
        """
        parameters = {"embedding": Vector(embedding), "model": model, "owner": owner_id, "limit": limit}
        with self._pool.connection() as connection:
            connection.execute(_WALK_ON, {"candidates": str(min(1000, max(100, 2 * limit)))})
            found = _ranked(connection, NEAREST, parameters)
            return found if len(found) == limit else _ranked(connection, NEAREST_EXACTLY, parameters)


def _ranked(connection: Connection[DictRow], statement: str, parameters: dict[str, object]) -> list[RankedScene]:
    with connection.cursor(row_factory=class_row(RankedScene)) as cursor:
        return cursor.execute(statement, parameters).fetchall()


@dataclass(frozen=True)
class SceneRow:
    """What a person wants to see of a scene that was found."""

    scene_id: UUID
    video_id: UUID
    filename: str
    uri: str
    index: int
    start_s: float
    end_s: float
    transcript_segment: str | None
    tags: list[str]
    thumbnail_url: str | None


def read_scenes(pool: Pool, scene_ids: Sequence[UUID]) -> dict[UUID, SceneRow]:
    """The scenes of these ids; one that is gone by now is left out."""
    with pool.connection() as connection, connection.cursor(row_factory=class_row(SceneRow)) as cursor:
        cursor.execute(
            """
            SELECT s.id AS scene_id, s.video_id, v.filename, v.storage_path AS uri, s.index, s.start_s,
                   s.end_s, s.transcript_segment, coalesce(s.tags, '{}') AS tags, s.thumbnail_url
            FROM video_scenes AS s JOIN videos AS v ON v.id = s.video_id WHERE s.id = ANY (%s)
            """,
            (list(scene_ids),),
        )
        return {row.scene_id: row for row in cursor}


def record_search(pool: Pool, user_id: UUID, query: str, results_count: int, latency_ms: int) -> None:
    """Keep the record of a search that was answered; the search metrics read it."""
    with pool.connection() as connection:
        connection.execute(
            "INSERT INTO search_queries (user_id, query_text, results_count, latency_ms) VALUES (%s, %s, %s, %s)",
            (user_id, query, results_count, latency_ms),
        )
