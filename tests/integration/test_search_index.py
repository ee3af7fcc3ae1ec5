"""The promises of every search engine, tested on each: words with their operators, nearest vectors, and the scope."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from pgvector import Vector

from cluster.contracts.search import Retriever, Scope, parse_words
from cluster.search.service import LIST_DEPTH
from cluster.store.index.vector_tables import find_tables
from cluster.store.postgres.connections import Pool
from cluster.store.search.postgres_index import PostgresSearchIndex, SearchIndex, prepare_walk, walk_along_index
from tests.support.api_client import ALICE, BOB
from tests.support.followed_opensearch import followed_opensearch
from tests.support.searchable import TEXT, VISION, Scene, add_video, found, meant, seen
from tests.support.vector_lengths import EMBEDDING_DIM, MEANING_DIM

ALICES = Scope(ALICE)


@pytest.fixture(params=[(EMBEDDING_DIM, MEANING_DIM), (1152, 1024)], ids=["short", "long"])
def lengths(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Vector lengths of the scenes' models."""
    of_pictures, of_meanings = request.param
    monkeypatch.setattr(VISION, "dimensions", of_pictures)
    monkeypatch.setattr(TEXT, "dimensions", of_meanings)


@pytest.fixture(params=["postgres", "opensearch"])
def index(request: pytest.FixtureRequest, lengths: None, pool: Pool, database_url: str) -> Iterator[SearchIndex]:
    if request.param == "postgres":
        yield PostgresSearchIndex(pool)
        return
    with followed_opensearch(pool, database_url, request.getfixturevalue("opensearch_url")) as followed:
        yield followed


def words(index: SearchIndex, query: str, scope: Scope = ALICES, limit: int = 10) -> list[UUID]:
    return found(index.words(parse_words(query), scope, limit))


def test_words_are_found_as_typed_and_as_stemmed(pool: Pool, index: SearchIndex) -> None:
    fox, dog, _ = add_video(
        pool, ALICE, [Scene("the foxes were running"), Scene("a dog named Fox sleeps"), Scene("nothing at all")]
    )
    assert words(index, "running") == words(index, "runs") == [fox]
    assert set(words(index, "fox")) == {fox, dog}
    assert set(words(index, "the foxes")) == {fox, dog}
    assert words(index, "elephant") == []
    assert len(words(index, "fox", limit=1)) == 1


def test_words_are_put_together_by_operators(pool: Pool, index: SearchIndex) -> None:
    low, high, moon = add_video(
        pool, ALICE, [Scene("low tide at noon"), Scene("the tide is high, the water low"), Scene("moonlight")]
    )
    assert set(words(index, "low tide")) == {low, high}
    assert words(index, '"low tide"') == [low]
    assert words(index, "tide -noon") == [high]
    assert set(words(index, "noon or moonlight")) == {low, moon}
    assert words(index, "moon*") == [moon]
    assert words(index, "moonlight*") == [moon]
    assert set(words(index, '"low tide" or moon*')) == {low, moon}
    assert words(index, 'tide -"low tide"') == [high]
    assert words(index, "tide -hig*") == [low]
    assert words(index, "-tide") == []


def test_tags_are_words_too(pool: Pool, index: SearchIndex) -> None:
    (scene,) = add_video(pool, ALICE, [Scene("hello", tags=("a red circle",))])
    assert words(index, "circle") == words(index, "hello circle") == [scene]


def test_what_fits_better_comes_first(pool: Pool, index: SearchIndex) -> None:
    once, twice = add_video(pool, ALICE, [Scene("the tide and then much else was said"), Scene("tide, tide")])
    assert words(index, "tide") == [twice, once]


def test_each_video_is_stemmed_in_its_own_language(pool: Pool, index: SearchIndex) -> None:
    (german,) = add_video(pool, ALICE, [Scene("die Häuser brennen")], language="de")
    (english,) = add_video(pool, ALICE, [Scene("die hard")], language="en")
    (korean,) = add_video(pool, ALICE, [Scene("안녕하세요 세계")], language="ko")
    (silent,) = add_video(pool, ALICE, [Scene("", tags=("circle",))], language=None)
    assert words(index, "Haus") == words(index, "häuser") == [german]
    # "die" is a stop word in German: it must not vanish from what is asked of an English video.
    assert words(index, "die hard") == [english]
    assert words(index, "안녕하세요") == [korean]
    assert words(index, "circle") == [silent]


def test_no_query_breaks_the_index(pool: Pool, index: SearchIndex) -> None:
    add_video(pool, ALICE, [Scene("some words")])
    for query in (
        "", "   ", "the", "&|!()", "'", '"', '""', "\\", "a:*", "a*", "**", "%(owner)s", "%s%", "{}", "<->", "or",
        "or or", "-", "--", '-"', "💥", "x" * 1000, "x*" * 500, " or ".join(["x"] * 300), "ﬁ*", "é* or 'é'*",
    ):  # fmt: skip
        assert words(index, query) == [], query


@pytest.mark.parametrize("length", [2000, 2001, 4000, 4001])
def test_vectors_of_several_thousand_numbers_are_found(
    pool: Pool, database_url: str, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, length: int
) -> None:
    """On both engines; Postgres has an index of up to 4,000 numbers, above 2,000 in half precision."""
    monkeypatch.setattr(VISION, "dimensions", length)
    engines: list[Any] = [PostgresSearchIndex(pool)]
    with followed_opensearch(pool, database_url, request.getfixturevalue("opensearch_url")) as opensearch:
        near, nearer, far = add_video(
            pool, ALICE, [Scene("", text) for text in ("red circle grass", "red circle", "blue square")]
        )
        for engine in [*engines, opensearch]:
            ranked = engine.nearest(Retriever.PICTURE, seen("red circle"), ALICES, 10)
            assert found(ranked) == [nearer, near, far]
            assert ranked[0].score == pytest.approx(1.0, abs=1e-3)
    with pool.connection() as connection:
        (table,) = find_tables(connection, {Retriever.PICTURE: VISION.key}).values()
        made = connection.execute(
            "SELECT format_type(atttypid, atttypmod) AS type, "
            "(SELECT count(*) FROM pg_indexes WHERE tablename = %(t)s AND indexdef LIKE '%% USING hnsw %%') AS indexes "
            "FROM pg_attribute WHERE attrelid = %(t)s::regclass AND attname = 'embedding'",
            {"t": table.relation},
        ).fetchone()
    assert made == {
        "type": f"vector({length})" if length <= 2000 else f"halfvec({length})",
        "indexes": 1 if length <= 4000 else 0,
    }


@pytest.mark.parametrize("by", [Retriever.PICTURE, Retriever.MEANING])
def test_the_nearest_come_first(pool: Pool, index: SearchIndex, by: Retriever) -> None:
    texts = ["red circle grass", "red circle", "blue square"]
    near, nearer, far = add_video(pool, ALICE, [Scene(text, text) for text in texts])
    asked = {Retriever.PICTURE: seen, Retriever.MEANING: meant}[by]
    ranked = index.nearest(by, asked("red circle"), ALICES, 10)
    assert found(ranked) == [nearer, near, far]
    assert ranked[0].score == pytest.approx(1.0, abs=1e-5)
    cosine = float(asked("red circle").embedding @ asked("red circle grass").embedding)
    assert ranked[1].score == pytest.approx(cosine, abs=1e-5)
    assert found(index.nearest(by, asked("red circle"), ALICES, 2)) == [nearer, near]


def test_what_means_the_same_is_near(pool: Pool, index: SearchIndex) -> None:
    boat, _ = add_video(pool, ALICE, [Scene("boat sea"), Scene("a fox sleeps")])
    assert found(index.nearest(Retriever.MEANING, meant("vessel ocean"), ALICES, 1)) == [boat]


def test_a_scene_without_words_and_tags_means_nothing(pool: Pool, index: SearchIndex) -> None:
    add_video(pool, ALICE, [Scene("")])
    assert index.nearest(Retriever.MEANING, meant("anything"), ALICES, 10) == []
    assert len(index.nearest(Retriever.PICTURE, seen("anything"), ALICES, 10)) == 1


def test_only_the_asked_models_vectors_are_compared(pool: Pool, index: SearchIndex) -> None:
    add_video(pool, ALICE, [Scene("", "red circle")], vision="another@1")
    (ours,) = add_video(pool, ALICE, [Scene("", "blue square")])
    assert found(index.nearest(Retriever.PICTURE, seen("red circle"), ALICES, 10)) == [ours]


def test_only_the_scope_is_searched(pool: Pool, index: SearchIndex) -> None:
    mine = add_video(pool, ALICE, [Scene("low tide", "tide", ("sea", "sky")), Scene("high tide", "tide", ("sea",))])
    theirs = add_video(pool, BOB, [Scene("spring tide", "tide", ("sea", "sky"))])
    now = datetime.now(UTC)
    with pool.connection() as connection:
        connection.execute("UPDATE videos SET created_at = now() - interval '3 days' WHERE owner_id = %s", (BOB,))
        connection.execute("UPDATE search_changes SET version = nextval('search_versions')")  # changed by no other test
    scopes: list[tuple[Scope, set[UUID]]] = [
        (Scope(ALICE), set(mine)),
        (Scope(BOB), set(theirs)),
        (Scope(UUID(int=9)), set()),
        (Scope(ALICE, tags=("sea",)), set(mine)),
        (Scope(ALICE, tags=("sea", "sky")), {mine[0]}),
        (Scope(ALICE, tags=("land",)), set()),
        (Scope(ALICE, tags=("SE", "s")), set(mine)),
        (Scope(ALICE, tags=("sk",)), {mine[0]}),
        (Scope(ALICE, tags=("ea",)), set()),
        (Scope(ALICE, tags=("s*",)), set()),
        (Scope(BOB, since=now - timedelta(days=4)), set(theirs)),
        (Scope(BOB, since=now - timedelta(days=2)), set()),
        (Scope(ALICE, since=now - timedelta(days=2), tags=("sky",)), {mine[0]}),
    ]
    for scope, expected in scopes:
        for limit in (1, 10):
            lists: list[Any] = [
                words(index, "tide", scope, limit),
                found(index.nearest(Retriever.PICTURE, seen("tide"), scope, limit)),
                found(index.nearest(Retriever.MEANING, meant("tide"), scope, limit)),
            ]
            for ids in lists:
                assert len(ids) == len(set(ids)) == min(limit, len(expected)), scope
                assert set(ids) <= expected, scope


def test_an_owner_with_few_scenes_among_many_finds_all_of_them(pool: Pool, index: SearchIndex) -> None:
    """A vector index alone would return other people's scenes first and then nothing of the owner's."""
    for _ in range(4):
        add_video(pool, BOB, [Scene("red circle", f"red circle {number}") for number in range(400)])
    ours = add_video(pool, ALICE, [Scene("blue square", f"blue square {number}") for number in range(30)])
    with pool.connection() as connection:
        connection.execute("ANALYZE")
    for by, asked in ((Retriever.PICTURE, seen("red circle")), (Retriever.MEANING, meant("red circle"))):
        for limit in (10, 30, LIST_DEPTH):
            ranked = index.nearest(by, asked, ALICES, limit)
            assert set(found(ranked)) <= set(ours)
            assert len(ranked) == min(limit, len(ours))
            assert [s.score for s in ranked] == sorted((s.score for s in ranked), reverse=True)
    assert words(index, "circle") == []
    # Bob has so many that the vector index is walked along, past Alice's, which are nearer.
    assert set(found(index.nearest(Retriever.PICTURE, seen("blue square"), Scope(BOB), 4))).isdisjoint(ours)
    mine = index.nearest(Retriever.PICTURE, seen("red circle 7"), Scope(BOB), 4)
    assert len(mine) == 4
    assert mine[0].score == pytest.approx(1.0, abs=1e-5)


@pytest.mark.parametrize("by", [Retriever.PICTURE, Retriever.MEANING])
@pytest.mark.parametrize(("length", "scenes"), [(None, 3000), (768, 500), (2500, 200)])
def test_postgres_walks_the_vector_index_and_sorts_the_result(
    pool: Pool, monkeypatch: pytest.MonkeyPatch, by: Retriever, length: int | None, scenes: int
) -> None:
    if length is not None:
        monkeypatch.setattr({Retriever.PICTURE: VISION, Retriever.MEANING: TEXT}[by], "dimensions", length)
    add_video(pool, ALICE, [Scene(f"scene {number}", f"scene {number}") for number in range(scenes)])
    asked = {Retriever.PICTURE: seen, Retriever.MEANING: meant}[by]("scene 7")
    parameters = {"embedding": Vector(asked.embedding), "owner": ALICE, "limit": 10}
    with pool.connection() as connection:
        connection.execute("ANALYZE")
        prepare_walk(connection, 10)
        table = find_tables(connection, {by: asked.model})[by]
        plan = connection.execute("EXPLAIN " + walk_along_index(table, ALICES).as_string(), parameters).fetchall()
    lines = [row["QUERY PLAN"] for row in plan]
    assert any(f"idx_{table.relation}_cosine" in line for line in lines), lines
    # What is found late may be nearer, but the planner takes a walk for sorted.
    assert any(line.strip().startswith("Sort Key: ((near.distance") for line in lines), lines
