"""Finds scenes: what any search engine offers, and PostgreSQL's way of doing it.

Each list is ranked by its own measure. Fusing the lists and asking the models is ``cluster.search.service``'s; what
people see of a scene is ``hits``', writing scenes ``scenes``'.
"""

from collections.abc import Mapping
from typing import Any, LiteralString, Protocol
from uuid import UUID

from pgvector import Vector
from psycopg import Connection, sql
from psycopg.errors import UndefinedTable
from psycopg.rows import DictRow, class_row

from cluster.contracts.search import QueryVector, RankedScene, Retriever, Scope, WordsQuery
from cluster.store.index.scene_text import ONE_TAG_FITS
from cluster.store.index.vector_tables import VectorTable, find_tables, rows_of
from cluster.store.postgres.connections import Pool
from cluster.store.search.tsquery import TsQuery
from cluster.store.videos.scenes import TEXT_CONFIGURATIONS


class SearchIndex(Protocol):
    """Ranked lists of the scenes of a scope, best first, at most ``limit`` long."""

    def words(self, query: WordsQuery, scope: Scope, limit: int) -> list[RankedScene]:
        """Scenes in which the words of ``query`` were said or seen; none when nothing fits."""
        ...

    def nearest(self, by: Retriever, vector: QueryVector, scope: Scope, limit: int) -> list[RankedScene]:
        """The scenes whose meaning or picture, as the vector's model embeds it, is nearest: ``score`` is the cosine.

        There is always a nearest one, however far: as many as there are in the scope, up to ``limit``.
        """
        ...


_ASKED = sql.SQL(
    """
-- The query as each language stems it where that makes a difference, as typed for the others, and all of them united.
WITH asked AS (
    SELECT known.language, typed.query || typed.query AS typed, typed.query || ({stemmed}) AS query
    FROM unnest(%(languages)s::text[], %(configurations)s::text[]) AS known (language, configuration)
    CROSS JOIN (SELECT {typed} AS query) AS typed
)
SELECT min(typed::text) AS typed,
       coalesce(array_agg(language) FILTER (WHERE query <> typed), '{{}}') AS languages,
       coalesce(array_agg(query::text) FILTER (WHERE query <> typed), '{{}}') AS queries,
       string_agg(DISTINCT '(' || query::text || ')', ' | ') FILTER (WHERE numnode(query) > 0) AS united
FROM asked
"""
)

PLAN_WORDS = """
-- What a search reads is mostly in memory, and concurrent searches need a CPU too.
SELECT set_config('random_page_cost', '1.1', %(locally)s),
       set_config('max_parallel_workers_per_gather', '0', %(locally)s)
"""

_WORDS = sql.SQL(
    """
-- Scenes whose words fit, typed or stemmed in the video's language.
-- The union of all languages' queries goes through the index; each scene is then held to its own language's, in a CASE
-- since the planner would take that for a rare thing and fetch video by video.
SELECT s.id AS scene_id, ts_rank_cd(s.text_index, asked.query, 1)::float8 AS score
FROM video_scenes AS s
JOIN videos AS v ON v.id = s.video_id
LEFT JOIN video_transcripts AS t ON t.video_id = s.video_id
CROSS JOIN LATERAL (
    SELECT coalesce(
        (%(queries)s::text[]::tsquery[])[array_position(%(languages)s::text[], t.language)], %(typed)s::tsquery
    ) AS query
) AS asked
WHERE {scope}
  AND s.text_index @@ %(united)s::tsquery AND CASE WHEN s.text_index @@ asked.query THEN true END
ORDER BY score DESC, s.video_id, s.index
LIMIT %(limit)s
"""
)

_NEAREST = sql.SQL(
    """
-- Along the vector index, which is walked on until enough scenes pass the filter. What a walk comes upon late may be
-- nearer than what it has found: it is put in order at the end, and a few scenes are looked for as if they were many.
WITH near AS MATERIALIZED (
    SELECT e.scene_id, e.embedding <=> %(embedding)s::{kind} AS distance
    FROM {embeddings} AS e
    JOIN video_scenes AS s ON s.id = e.scene_id
    JOIN videos AS v ON v.id = s.video_id
    WHERE {scope}
    ORDER BY e.embedding <=> %(embedding)s::{kind}
    LIMIT greatest(%(limit)s, {least})
)
SELECT scene_id, (1 - distance)::float8 AS score
FROM near
ORDER BY distance + 0, scene_id  -- + 0, or else the planner takes the walk's order for sorted
LIMIT %(limit)s
"""
)

_NEAREST_EXACTLY = sql.SQL(
    """
-- Every scene of the scope, without the vector index.
WITH own AS MATERIALIZED (
    SELECT e.scene_id, (1 - (e.embedding <=> %(embedding)s::{kind}))::float8 AS score
    FROM {embeddings} AS e
    JOIN video_scenes AS s ON s.id = e.scene_id
    JOIN videos AS v ON v.id = s.video_id
    WHERE {scope}
)
SELECT scene_id, score FROM own ORDER BY score DESC, scene_id LIMIT %(limit)s
"""
)

ITERATIVE_SCAN = "relaxed_order"
"""pgvector's mode of iterative scans."""
_SET_ITERATIVE_SCAN = """
-- pgvector 0.8 and newer can walk on past the first ef_search candidates, which a filter may all throw away. Long
-- vectors are stored out of line: reading and sorting them all looks cheap to the planner, so sorting is made dear.
SELECT set_config('enable_sort', 'off', true),
       (SELECT reltuples FROM pg_class WHERE oid = 'video_scenes'::regclass) AS scenes,
       set_config('hnsw.ef_search', %(candidates)s, true),
       (SELECT set_config('hnsw.iterative_scan', %(walking_on)s, true) FROM pg_extension
        WHERE extname = 'vector' AND string_to_array(extversion, '.')::int[] >= '{0,8}')
"""

_IN_SCOPE = sql.SQL(
    """
-- About how many scenes a scope has: what the planner knows is there at once, counting takes longer than searching.
EXPLAIN (FORMAT JSON) SELECT FROM video_scenes AS s JOIN videos AS v ON v.id = s.video_id WHERE {scope}
"""
)

LEAST_WALKED = 100
"""A walk looks for so many scenes, even where fewer are wanted."""
COST_OF_A_STEP = 2
"""Cost of a step of a walk, where comparing one scene after the other costs 1."""


class PostgresSearchIndex:
    """Full text and pgvector, in the tables that hold the scenes: there is nothing to keep in step."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    def words(self, query: WordsQuery, scope: Scope, limit: int) -> list[RankedScene]:
        """See :class:`SearchIndex`."""
        if not query:
            return []
        with self._pool.connection() as connection:
            connection.execute(PLAN_WORDS, {"locally": True})
            asked = connection.execute(*build_tsqueries(query)).fetchone()
            if asked is None or asked["united"] is None:
                return []
            return _ranked(connection, scenes_that_fit(scope), {**_values(scope, limit), **asked})

    def nearest(self, by: Retriever, vector: QueryVector, scope: Scope, limit: int) -> list[RankedScene]:
        """See :class:`SearchIndex`.

        Approximate (HNSW) where the scope has plenty of scenes. A walk along the index meets those of all others too:
        where it would take more than comparing all of the scope's, these are compared. So they are where a walk has
        ended early, since nearly all it met was outside the scope, and where vectors are too long for an index. Of a
        model whose vectors were dropped nothing is found.
        """
        try:
            with self._pool.connection() as connection:
                table = find_tables(connection, {by: vector.model}).get(by)
                return [] if table is None else _nearest(connection, table, vector, scope, limit)
        except UndefinedTable:  # dropped since it was looked up
            return []


def _nearest(
    connection: Connection[DictRow], table: VectorTable, vector: QueryVector, scope: Scope, limit: int
) -> list[RankedScene]:
    values = {**_values(scope, limit), "embedding": Vector(vector.embedding)}
    if table.indexed and _is_worth_a_walk(connection, scope, limit):
        found = _ranked(connection, walk_along_index(table, scope), values)
        if len(found) == limit:
            return found
    exactly = _NEAREST_EXACTLY.format(embeddings=table.rows, kind=table.kind, scope=_filter(scope))
    return _ranked(connection, exactly, values)


def _is_worth_a_walk(connection: Connection[DictRow], scope: Scope, limit: int) -> bool:
    """Whether the vector index leads to the nearest scenes sooner than all of the scope; prepares for the walk."""
    scenes = prepare_walk(connection, limit)
    plan = connection.execute(_IN_SCOPE.format(scope=_filter(scope)), _values(scope, limit), prepare=False).fetchone()
    assert plan is not None
    own = plan["QUERY PLAN"][0]["Plan"]["Plan Rows"]
    # A walk of so many scenes of the scope meets scenes / own times as many; multiplied out, since own may be 0.
    return bool(own * own > COST_OF_A_STEP * max(limit, LEAST_WALKED) * scenes)


def prepare_walk(connection: Connection[DictRow], limit: int) -> float:
    """Set the transaction up for a walk along the vector index; returns about how many scenes there are in all."""
    known = connection.execute(
        _SET_ITERATIVE_SCAN, {"candidates": str(candidates(limit)), "walking_on": ITERATIVE_SCAN}
    ).fetchone()
    assert known is not None
    return float(known["scenes"])


def candidates(limit: int) -> int:
    """Number of scenes that a walk along the vector index holds at once: the more, the more of the nearest it finds."""
    return min(1000, max(100, 2 * limit))


def build_tsqueries(query: WordsQuery) -> tuple[sql.Composed, dict[str, Any]]:
    """The statement that makes of a query the parameters of :func:`scenes_that_fit`, and its own parameters.

    They are constants there: how many scenes have the words decides how these are best looked for.
    """
    asked = TsQuery(query)
    statement = _ASKED.format(
        stemmed=asked.within(sql.SQL("configuration::regconfig")), typed=asked.within(sql.SQL("'simple'::regconfig"))
    )
    languages = {"languages": list(TEXT_CONFIGURATIONS), "configurations": list(TEXT_CONFIGURATIONS.values())}
    return statement, {**asked.parameters, **languages}


def scenes_that_fit(scope: Scope) -> sql.Composed:
    """The statement that finds a scope's scenes by words."""
    return _WORDS.format(scope=_filter(scope))


def walk_along_index(table: VectorTable, scope: Scope) -> sql.Composed:
    """The statement that finds a scope's nearest scenes along the vector index."""
    return _NEAREST.format(embeddings=table.rows, kind=table.kind, scope=_filter(scope), least=LEAST_WALKED)


_HAS_TAGS: LiteralString = (
    "NOT EXISTS (SELECT FROM unnest(%(tags)s::text[]) AS wanted "
    f"WHERE NOT ({ONE_TAG_FITS.replace('{wanted}', 'wanted')}))"
)
"""A scene has for each of the tags one that fits it."""


def _filter(scope: Scope) -> sql.Composable:
    conditions = ["v.owner_id = %(owner)s"]
    if scope.since is not None:
        conditions.append("v.created_at >= %(since)s")
    if scope.tags:
        conditions.append(_HAS_TAGS)
    return sql.SQL(" AND ".join(conditions))


def _values(scope: Scope, limit: int) -> dict[str, Any]:
    return {"owner": scope.owner_id, "since": scope.since, "tags": list(scope.tags), "limit": limit}


def _ranked(
    connection: Connection[DictRow], statement: sql.Composed, parameters: Mapping[str, Any]
) -> list[RankedScene]:
    with connection.cursor(row_factory=class_row(RankedScene)) as cursor:
        # Planned each time: how many scenes an owner or a word has differs too much for one plan.
        return cursor.execute(statement, parameters, prepare=False).fetchall()


def vector_of(pool: Pool, scene_id: UUID, owner_id: UUID, by: Retriever, model: str) -> QueryVector | None:
    """The stored vector of one of the owner's scenes; None where there is no such scene, or it has none."""
    statement = sql.SQL(
        "SELECT e.embedding::vector AS embedding FROM {} AS e JOIN video_scenes AS s ON s.id = e.scene_id "
        "JOIN videos AS v ON v.id = s.video_id WHERE e.scene_id = %s AND v.owner_id = %s"
    )
    with pool.connection() as connection:
        rows = rows_of(find_tables(connection, {by: model}), by)
        row = connection.execute(statement.format(rows), (scene_id, owner_id)).fetchone()
    return None if row is None else QueryVector(model, row["embedding"].to_numpy())
