"""Searching scenes in real Postgres: by words, by picture, fused; only one's own; every search on record."""

from collections.abc import Sequence
from typing import Any
from uuid import UUID, uuid4

import numpy as np
import pytest
from api_client import ALICE, BOB, WordVectors, headers
from numpy.typing import NDArray
from pgvector import Vector
from starlette.testclient import TestClient

from cluster.search import LIST_DEPTH, SearchService, fuse
from cluster.store.database import Pool
from cluster.store.scenes import TEXT_CONFIGURATIONS
from cluster.store.search_index import NEAREST, PostgresSearchIndex, RankedScene

MODEL = WordVectors.key


@pytest.fixture
def index(pool: Pool) -> PostgresSearchIndex:
    return PostgresSearchIndex(pool)


def add_video(
    pool: Pool,
    owner_id: UUID,
    scenes: Sequence[tuple[str, str]],
    *,
    language: str | None = "en",
    model: str = MODEL,
) -> list[UUID]:
    """A video whose scenes say the first and show the second text; returns the scenes' ids."""
    pictures = WordVectors().encode_texts([shown for _, shown in scenes])
    video_id, ids = uuid4(), [uuid4() for _ in scenes]
    with pool.connection() as connection, connection.cursor() as cursor:
        cursor.execute(
            "INSERT INTO videos (id, owner_id, storage_path, filename, status) "
            "VALUES (%s, %s, 's3://bucket/a.mp4', 'a.mp4', 'READY')",
            (video_id, owner_id),
        )
        cursor.execute(
            "INSERT INTO video_transcripts (video_id, language, model, word_count, segments) "
            "VALUES (%s, %s, 'm', 0, '[]')",
            (video_id, language),
        )
        cursor.executemany(
            """
            INSERT INTO video_scenes (id, video_id, index, start_s, end_s, transcript_segment, tags,
                                      text_index)
            VALUES (%(id)s, %(video)s, %(index)s, %(index)s, %(index)s + 1, %(said)s, '{}',
                    to_tsvector('simple', %(said)s) || to_tsvector(%(configuration)s::regconfig, %(said)s))
            """,
            [
                {
                    "id": scene_id,
                    "video": video_id,
                    "index": number,
                    "said": said,
                    "configuration": TEXT_CONFIGURATIONS.get(language or "", "simple"),
                }
                for number, (scene_id, (said, _)) in enumerate(zip(ids, scenes, strict=True))
            ],
        )
        cursor.executemany(
            "INSERT INTO scene_embeddings (scene_id, model, embedding) VALUES (%s, %s, %s)",
            [(scene_id, model, Vector(row)) for scene_id, row in zip(ids, pictures, strict=True)],
        )
    return ids


def found(ranked: Sequence[RankedScene]) -> list[UUID]:
    return [scene.scene_id for scene in ranked]


def embedding(text: str) -> NDArray[np.float32]:
    row: NDArray[np.float32] = WordVectors().encode_texts([text])[0]
    return row


def test_words_are_found_as_typed_and_as_stemmed(pool: Pool, index: PostgresSearchIndex) -> None:
    fox, dog, _ = add_video(
        pool,
        ALICE,
        [("the foxes were running", "a"), ("a dog named Fox sleeps", "b"), ("nothing at all", "c")],
    )
    assert found(index.words("running", ALICE, 10)) == found(index.words("runs", ALICE, 10)) == [fox]
    assert set(found(index.words("fox", ALICE, 10))) == {fox, dog}
    assert set(found(index.words("the foxes", ALICE, 10))) == {fox, dog}
    assert found(index.words('"foxes were running"', ALICE, 10)) == [fox]
    assert found(index.words('"dog named"', ALICE, 10)) == [dog]
    assert found(index.words("fox -sleeps", ALICE, 10)) == [fox]
    assert set(found(index.words("running or sleeping", ALICE, 10))) == {fox, dog}
    assert index.words("elephant", ALICE, 10) == []
    assert len(index.words("fox", ALICE, 1)) == 1


def test_each_video_is_stemmed_in_its_own_language(pool: Pool, index: PostgresSearchIndex) -> None:
    (german,) = add_video(pool, ALICE, [("die Häuser brennen", "a")], language="de")
    (english,) = add_video(pool, ALICE, [("die hard", "b")], language="en")
    (korean,) = add_video(pool, ALICE, [("안녕하세요 세계", "c")], language="ko")
    (silent,) = add_video(pool, ALICE, [("circle", "d")], language=None)
    assert found(index.words("Haus", ALICE, 10)) == found(index.words("häuser", ALICE, 10)) == [german]
    # "die" is a stop word in German: it must not vanish from what is asked of an English video.
    assert found(index.words("die hard", ALICE, 10)) == [english]
    assert found(index.words("안녕하세요", ALICE, 10)) == [korean]
    assert found(index.words("circle", ALICE, 10)) == [silent]


def test_no_query_breaks_the_index(pool: Pool, index: PostgresSearchIndex) -> None:
    add_video(pool, ALICE, [("some words", "a")])
    for query in (
        "", "   ", "the", "&|!()", "'", '"', "\\", "a:*", "%(owner)s", "<->", "or", "-", "💥", "x" * 1000,
    ):  # fmt: skip
        assert index.words(query, ALICE, 10) == [], query


def test_pictures_are_ranked_by_cosine(pool: Pool, index: PostgresSearchIndex) -> None:
    near, nearer, far = add_video(pool, ALICE, [("", "red circle grass"), ("", "red circle"), ("", "blue square")])
    ranked = index.picture(embedding("red circle"), MODEL, ALICE, 10)
    assert found(ranked) == [nearer, near, far]
    assert ranked[0].score == pytest.approx(1.0, abs=1e-5)
    assert ranked[1].score == pytest.approx(float(embedding("red circle") @ embedding("red circle grass")), abs=1e-5)
    assert found(index.picture(embedding("red circle"), MODEL, ALICE, 2)) == [nearer, near]


def test_only_the_asked_models_embeddings_are_compared(pool: Pool, index: PostgresSearchIndex) -> None:
    add_video(pool, ALICE, [("", "red circle")], model="another@1")
    (ours,) = add_video(pool, ALICE, [("", "blue square")])
    assert found(index.picture(embedding("red circle"), MODEL, ALICE, 10)) == [ours]


def test_an_owner_with_few_scenes_among_many_finds_all_of_them(pool: Pool, index: PostgresSearchIndex) -> None:
    """The vector index alone would return other people's scenes first and then nothing of the owner's."""
    for _ in range(4):
        add_video(pool, BOB, [("red circle", f"red circle {number}") for number in range(400)])
    ours = add_video(pool, ALICE, [("blue square", f"blue square {number}") for number in range(30)])
    with pool.connection() as connection:
        connection.execute("ANALYZE")
    for limit in (10, 30, LIST_DEPTH):
        ranked = index.picture(embedding("red circle"), MODEL, ALICE, limit)
        assert set(found(ranked)) <= set(ours)
        assert len(ranked) == min(limit, len(ours))
        assert [s.score for s in ranked] == sorted((s.score for s in ranked), reverse=True)
    assert index.words("circle", ALICE, 10) == []
    mine = index.picture(embedding("red circle 7"), MODEL, BOB, 4)
    assert len(mine) == 4
    assert mine[0].score == pytest.approx(1.0, abs=1e-5)


def test_the_vector_index_is_used_for_an_owner_with_many_scenes(pool: Pool) -> None:
    add_video(pool, ALICE, [("", f"scene {number}") for number in range(1200)])
    parameters = {"embedding": Vector(embedding("scene 7")), "model": MODEL, "owner": ALICE, "limit": 10}
    with pool.connection() as connection:
        connection.execute("ANALYZE")
        plan = connection.execute(f"EXPLAIN {NEAREST}", parameters).fetchall()
    assert any("idx_scene_embeddings_cosine" in row["QUERY PLAN"] for row in plan), plan


def test_fusion_is_by_reciprocal_rank() -> None:
    a, b, c = (UUID(int=number) for number in (1, 2, 3))
    words = [RankedScene(c, 0.3), RankedScene(a, 0.1)]
    picture = [RankedScene(b, 0.3), RankedScene(a, 0.2), RankedScene(c, 0.1)]
    fused = fuse(words, picture)
    assert [scene.scene_id for scene in fused] == [c, a, b]
    assert [scene.score for scene in fused] == pytest.approx([1 / 61 + 1 / 63, 1 / 62 + 1 / 62, 1 / 61])
    assert [(scene.words_rank, scene.picture_rank) for scene in fused] == [(1, 3), (2, 2), (None, 1)]
    assert fused[2].picture_similarity == 0.3
    assert fuse([], []) == []


def test_at_equal_score_what_was_said_comes_first() -> None:
    said, seen = UUID(int=2), UUID(int=1)
    assert [s.scene_id for s in fuse([RankedScene(said, 1)], [RankedScene(seen, 1)])] == [said, seen]


def test_a_scene_that_says_it_precedes_scenes_that_are_merely_near(pool: Pool, api: TestClient) -> None:
    ids = add_video(pool, ALICE, [("", f"picture {number}") for number in range(20)])
    (says,) = add_video(pool, ALICE, [("ask not what your country can do", "far away")])
    answer = search(api, q="your country", limit=3)
    first, second, _ = answer["items"]
    assert (first["video_id"], first["words_rank"], first["scene_index"]) == (video_of(pool, says), 1, 0)
    assert first["transcript_segment"] == "ask not what your country can do"
    assert (second["video_id"], second["words_rank"]) == (video_of(pool, ids[0]), None)


def test_every_search_is_on_record_and_counted(pool: Pool, api: TestClient) -> None:
    add_video(pool, ALICE, [("red circle", "red circle"), ("", "blue square")])
    answer = search(api, q="red circle", limit=1)
    assert len(answer["items"]) == 1
    search(api, BOB, q="red circle")
    with pool.connection() as connection:
        rows = connection.execute(
            "SELECT user_id, query_text, results_count, latency_ms FROM search_queries ORDER BY created_at"
        ).fetchall()
    assert [(row["user_id"], row["query_text"], row["results_count"]) for row in rows] == [
        (ALICE, "red circle", 1),
        (BOB, "red circle", 0),
    ]
    assert rows[0]["latency_ms"] == answer["latency_ms"] >= 0


def test_a_hit_says_where_it_is_and_why(pool: Pool, api: TestClient) -> None:
    (scene,) = add_video(pool, ALICE, [("a red circle", "red circle")])
    assert search(api, q="red circle")["items"] == [
        {
            "video_id": video_of(pool, scene),
            "filename": "a.mp4",
            "uri": "s3://bucket/a.mp4",
            "scene_index": 0,
            "start_s": 0.0,
            "end_s": 1.0,
            "transcript_segment": "a red circle",
            "tags": [],
            "thumbnail_url": None,
            "words_rank": 1,
            "picture_rank": 1,
            "picture_similarity": pytest.approx(1.0, abs=1e-5),
            "score": pytest.approx(2 / 61),
        }
    ]
    assert search(api, BOB, q="red circle")["items"] == []


def test_a_bad_search_is_400(api: TestClient) -> None:
    bad: list[tuple[dict[str, str], str]] = [
        ({}, "q: Field required"),
        ({"q": ""}, "q: must contain words"),
        ({"q": "  "}, "q: must contain words"),
        ({"q": "a\x00b"}, "q: must contain words"),
        ({"q": "x" * 1001}, "q: String should have at most 1000 characters"),
        ({"q": "x", "limit": "0"}, "limit: Input should be greater than or equal to 1"),
        ({"q": "x", "limit": "101"}, "limit: Input should be less than or equal to 100"),
    ]
    for parameters, sentence in bad:
        response = api.get("/v1/search", params=parameters, headers=headers(ALICE))
        assert (response.status_code, response.json()) == (400, {"detail": sentence})


def test_a_query_is_encoded_once(pool: Pool) -> None:
    class Counting(WordVectors):
        asked = 0

        def encode_texts(self, texts: Sequence[str]) -> NDArray[np.float32]:
            self.asked += 1
            return super().encode_texts(texts)

    encoder = Counting()
    service = SearchService(PostgresSearchIndex(pool), encoder, pool)
    for _ in range(3):
        service.search(ALICE, "red circle", 5)
    assert encoder.asked == 1


def search(api: TestClient, user_id: UUID = ALICE, **parameters: Any) -> Any:
    response = api.get("/v1/search", params=parameters, headers=headers(user_id))
    assert response.status_code == 200, response.text
    return response.json()


def video_of(pool: Pool, scene_id: UUID) -> str:
    with pool.connection() as connection:
        row = connection.execute("SELECT video_id FROM video_scenes WHERE id = %s", (scene_id,)).fetchone()
    assert row is not None
    return str(row["video_id"])
