"""The search as users have it, on real Postgres: fused, corrected, in pages, by picture; every search on record."""

import io
import itertools
import threading
from collections.abc import Sequence
from typing import Any
from uuid import UUID

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from starlette.testclient import TestClient

from cluster.contracts.errors import ConfigurationError
from cluster.contracts.search import QueryVector, RankedScene, Retriever, Scope, WordsQuery
from cluster.search.fusion import EQUAL, FAINT, fuse
from cluster.search.service import LIST_DEPTH, MAX_DEPTH, SearchRequest, SearchService
from cluster.store.postgres.connections import Pool
from cluster.store.search.engines import index_opener
from cluster.store.search.postgres_index import PostgresSearchIndex
from tests.support.api_client import ALICE, BOB, WordVectors, headers, make_picture, query_models
from tests.support.searchable import Scene, add_video

ALICES = Scope(ALICE)


def service(pool: Pool, vision: Any = None, weights: dict[Retriever, float] | None = None) -> SearchService:
    return SearchService(index_opener(pool), query_models(pool, vision), pool, {**EQUAL, **(weights or {})})


# Fusion


def test_fusion_is_by_weighted_reciprocal_rank() -> None:
    a, b, c = (UUID(int=number) for number in (1, 2, 3))
    lists = {
        Retriever.WORDS: [RankedScene(c, 0.3), RankedScene(a, 0.1)],
        Retriever.PICTURE: [RankedScene(b, 0.3), RankedScene(a, 0.2), RankedScene(c, 0.1)],
    }
    fused = fuse(lists)
    assert [scene.scene_id for scene in fused] == [c, a, b]
    assert [scene.score for scene in fused] == pytest.approx([1 / 61 + FAINT / 63, 1 / 62 + FAINT / 62, FAINT / 61])
    assert [dict(scene.ranks) for scene in fused] == [
        {Retriever.WORDS: 1, Retriever.PICTURE: 3}, {Retriever.WORDS: 2, Retriever.PICTURE: 2}, {Retriever.PICTURE: 1}
    ]  # fmt: skip
    assert [dict(scene.similarities) for scene in fused] == [
        {Retriever.PICTURE: 0.1},
        {Retriever.PICTURE: 0.2},
        {Retriever.PICTURE: 0.3},
    ]
    weighted = fuse(lists, {Retriever.WORDS: 0.0001, Retriever.MEANING: 1, Retriever.PICTURE: 1})
    assert [scene.scene_id for scene in weighted] == [b, a, c]
    assert weighted[1].score == pytest.approx(0.0001 / 62 + FAINT / 62)
    assert fuse({Retriever.WORDS: [], Retriever.PICTURE: []}) == fuse({}) == []


def test_outstanding_hit_precedes_the_nearest_of_another_list() -> None:
    """There is always a nearest picture, also to words that no picture shows."""
    ids = [UUID(int=number) for number in range(20)]
    flat = [RankedScene(scene, 0.3 - 0.001 * place) for place, scene in enumerate(ids)]
    peak = [RankedScene(scene, 0.9 if place == 0 else 0.3 - 0.001 * place) for place, scene in enumerate(ids[::-1])]
    fused = fuse({Retriever.PICTURE: flat, Retriever.MEANING: peak})
    assert fused[0].scene_id == ids[-1]
    assert fused[0].score == pytest.approx(1 / 61 + FAINT / 80)
    assert fused[1].score == pytest.approx(FAINT / 61 + FAINT / 80)


def test_at_equal_score_what_was_said_comes_first() -> None:
    said, seen = UUID(int=2), UUID(int=1)
    lists = {Retriever.PICTURE: [RankedScene(seen, 1)], Retriever.WORDS: [RankedScene(said, 1)]}
    assert [scene.scene_id for scene in fuse(lists)] == [said, seen]


# By text


def test_a_hit_says_where_it_is_and_why(pool: Pool, api: TestClient) -> None:
    (scene,) = add_video(pool, ALICE, [Scene("a red circle", "red circle", ("round",))])
    video = video_of(pool, scene)
    (hit,) = search(api, q="red circle")["items"]
    assert hit == {
        "scene_id": str(scene),
        "video_id": video,
        "filename": "a.mp4",
        "uri": "s3://bucket/a.mp4",
        "scene_index": 0,
        "start_s": 0.0,
        "end_s": 1.0,
        "transcript_segment": "a red circle",
        "marks": [{"start": 2, "end": 5}, {"start": 6, "end": 12}],
        "tags": ["round"],
        "thumbnail_url": f"file:///scenes/{video}/00000.jpg",
        "words_rank": 1,
        "meaning_rank": 1,
        "picture_rank": 1,
        "meaning_similarity": pytest.approx(hit["meaning_similarity"]),
        "picture_similarity": pytest.approx(1.0, abs=1e-5),
        "score": pytest.approx((1 + 2 * FAINT) / 61),
        "stands_out": True,
    }
    assert 0.5 < hit["meaning_similarity"] < 1
    assert search(api, BOB, q="red circle")["items"] == []


def test_what_fits_is_marked_as_it_was_found(pool: Pool, api: TestClient) -> None:
    def marked(query: str) -> list[str]:
        (hit,) = search(api, q=query)["items"]
        text = hit["transcript_segment"]
        return [text[mark["start"] : mark["end"]] for mark in hit["marks"]]

    add_video(pool, ALICE, [Scene("Foxes & 1 < 2 were Running, running: a fox ran 💥 home")])
    assert marked("run") == ["Running", "running"]
    assert marked("fox") == ["Foxes", "fox"]
    assert marked('"fox ran"') == ["Foxes", "fox", "ran"]
    assert marked("hom*") == ["home"]
    assert marked("elephants") == []


def test_what_means_it_is_found_without_any_of_its_words(pool: Pool, api: TestClient) -> None:
    boat, _ = add_video(pool, ALICE, [Scene("boat sea"), Scene("a fox sleeps")])
    first = search(api, q="vessel ocean", by="words,meaning")["items"][0]
    assert (first["scene_id"], first["words_rank"], first["meaning_rank"]) == (str(boat), None, 1)
    assert first["picture_rank"] is None


def test_scene_that_says_it_precedes_scenes_that_are_near(pool: Pool, api: TestClient) -> None:
    ids = add_video(pool, ALICE, [Scene("", f"picture {number}") for number in range(20)])
    (says,) = add_video(pool, ALICE, [Scene("ask not what your country can do", "far away")])
    first, second, _ = search(api, q="your country", limit=3)["items"]
    assert (first["video_id"], first["words_rank"], first["scene_index"]) == (video_of(pool, says), 1, 0)
    assert (second["video_id"], second["words_rank"]) == (video_of(pool, ids[0]), None)


def test_only_the_lists_that_are_asked_for_count(pool: Pool, api: TestClient) -> None:
    says, shows = add_video(pool, ALICE, [Scene("red circle", "blue square"), Scene("blue square", "red circle")])
    assert ids_of(search(api, q="red circle", by="words")) == [str(says)]
    assert ids_of(search(api, q="red circle", by="picture")) == [str(shows), str(says)]
    assert ids_of(search(api, q="red circle", by="meaning")) == [str(says), str(shows)]


def test_a_list_without_weight_is_not_even_asked(pool: Pool) -> None:
    says, shows = add_video(pool, ALICE, [Scene("red circle", "blue square"), Scene("blue square", "red circle")])
    request = SearchRequest(ALICES, "red circle")
    only_words = service(pool, weights={Retriever.PICTURE: 0, Retriever.MEANING: 0}).search(request)
    assert [hit.scene.scene_id for hit in only_words.hits] == [says]
    heavy_pictures = service(pool, weights={Retriever.PICTURE: 1000}).search(request)
    assert [hit.scene.scene_id for hit in heavy_pictures.hits] == [shows, says]


def test_a_misspelling_finds_what_was_meant(pool: Pool, api: TestClient) -> None:
    lighthouse, _ = add_video(pool, ALICE, [Scene("the lighthouse keeper"), Scene("sunlight on the sea")])
    add_video(pool, BOB, [Scene("lighthoose")])
    answer = search(api, q="lihgthouse keper", by="words")
    assert (answer["query"], answer["corrected"]) == ("lihgthouse keper", "lighthouse keeper")
    assert ids_of(answer) == [str(lighthouse)]
    assert [(mark["start"], mark["end"]) for mark in answer["items"][0]["marks"]] == [(4, 14), (15, 21)]
    assert search(api, q="lighthouse", by="words")["corrected"] is None
    # What another owner's videos say is not shown to this one.
    assert search(api, q="lighthoose", by="words")["corrected"] == "lighthouse"
    unlike = search(api, q="xylophone", by="words")
    assert (unlike["corrected"], unlike["items"]) == (None, [])


def test_scope_is_a_matter_of_parameters(pool: Pool, api: TestClient) -> None:
    sea, _ = add_video(pool, ALICE, [Scene("low tide", tags=("sea", "sky")), Scene("high tide", tags=("sky",))])
    assert ids_of(search(api, q="tide", tag=["sea", "sky"])) == [str(sea)]
    assert len(ids_of(search(api, q="tide", since="2020-01-01T00:00:00Z"))) == 2
    assert ids_of(search(api, q="tide", since="2120-01-01")) == []


def test_a_query_is_encoded_once(pool: Pool) -> None:
    class Counting(WordVectors):
        asked = 0

        def encode_texts(self, texts: Sequence[str]) -> NDArray[np.float32]:
            self.asked += 1
            return super().encode_texts(texts)

    encoder = Counting()
    searching = service(pool, encoder)
    for _ in range(3):
        searching.search(SearchRequest(ALICES, "red circle"))
    assert encoder.asked == 1


def test_all_lists_are_asked_for_at_once(pool: Pool) -> None:
    everybody = threading.Barrier(len(Retriever), timeout=30)

    class Meeting(PostgresSearchIndex):
        def words(self, query: WordsQuery, scope: Scope, limit: int) -> list[RankedScene]:
            everybody.wait()
            return super().words(query, scope, limit)

        def nearest(self, by: Retriever, vector: QueryVector, scope: Scope, limit: int) -> list[RankedScene]:
            everybody.wait()
            return super().nearest(by, vector, scope, limit)

    (scene,) = add_video(pool, ALICE, [Scene("red circle")])
    meeting = Meeting(pool)
    searching = SearchService(lambda _: meeting, query_models(pool), pool)
    (hit,) = searching.search(SearchRequest(ALICES, "red circle")).hits
    assert (hit.scene.scene_id, set(hit.match.ranks)) == (scene, set(Retriever))


def test_search_says_whether_anything_stands_out(pool: Pool, api: TestClient) -> None:
    add_video(pool, ALICE, [Scene("red circle"), *[Scene(f"boat {number}") for number in range(20)]])
    found = search(api, q="circle", limit=3)
    assert (found["stands_out"], [hit["stands_out"] for hit in found["items"]]) == (True, [True, False, False])
    assert found["items"][0]["words_rank"] == 1
    second = search(api, q="circle", limit=3, cursor=found["next_cursor"])
    assert (second["stands_out"], {hit["stands_out"] for hit in second["items"]}) == (True, {False})
    nearest = search(api, q="xylophone", limit=3)
    assert (nearest["stands_out"], [hit["stands_out"] for hit in nearest["items"]]) == (False, [False] * 3)
    assert search(api, q="xylophone", by="words") | {"latency_ms": 0} == {
        "query": "xylophone", "corrected": None, "latency_ms": 0, "stands_out": False, "items": [], "next_cursor": None
    }  # fmt: skip


# Pages


def test_pages_lead_through_all_that_is_found_once(pool: Pool, api: TestClient) -> None:
    add_video(pool, ALICE, [Scene(f"tide {number}", f"tide {number}") for number in range(25)])
    whole = ids_of(search(api, q="tide", limit=25))
    parts, cursor = [], None
    while True:
        answer = search(api, q="tide", limit=10, **({"cursor": cursor} if cursor else {}))
        parts.append(ids_of(answer))
        cursor = answer["next_cursor"]
        if cursor is None:
            break
    assert [len(part) for part in parts] == [10, 10, 5]
    assert list(itertools.chain(*parts)) == whole
    assert len(set(whole)) == 25


def test_pages_end(pool: Pool) -> None:
    add_video(pool, ALICE, [Scene("tide", "tide") for _ in range(MAX_DEPTH + 10)])
    last = service(pool).search(SearchRequest(ALICES, "tide", limit=100, offset=MAX_DEPTH - 100))
    assert (len(last.hits), last.more) == (100, False)


def test_deep_pages_continue_after_the_first_hundred(pool: Pool, api: TestClient) -> None:
    add_video(pool, ALICE, [Scene(f"tide {number}", f"tide {number % 7}") for number in range(2 * LIST_DEPTH + 50)])
    parts: list[str] = []
    asked: dict[str, Any] = {}
    while True:
        answer = search(api, q="tide 3", limit=40, **asked)
        parts += ids_of(answer)
        asked = {"cursor": answer["next_cursor"]}
        if answer["next_cursor"] is None:
            break
    assert len(parts) == len(set(parts)) == 2 * LIST_DEPTH + 50


def test_a_cursor_belongs_to_its_search(pool: Pool, api: TestClient) -> None:
    add_video(pool, ALICE, [Scene(f"tide {number}") for number in range(5)])
    cursor = search(api, q="tide", limit=2)["next_cursor"]
    assert len(search(api, q="tide", limit=3, cursor=cursor)["items"]) == 3
    for asked in ({"q": "moon"}, {"q": "tide", "by": "words"}, {"q": "tide", "tag": "x"}):
        answer = api.get("/v1/search", params={"cursor": cursor, **asked}, headers=headers(ALICE))
        assert (answer.status_code, answer.json()) == (404, {"detail": "cursor: is not one that this search gave out"})
    for broken in ("x", "", "%", "LTEuYWJj", cursor[:-3], "A" * 99):
        assert refused(api, q="tide", cursor=broken) == "cursor: is not one that this search gave out"


# By picture


def test_a_picture_finds_scenes_that_look_like_it(pool: Pool, api: TestClient) -> None:
    red, _ = add_video(pool, ALICE, [Scene("says nothing of it", "red"), Scene("red", "blue")])
    for kind in ("JPEG", "PNG", "WEBP"):
        answer = by_picture(api, make_picture((250, 10, 10), kind), limit=1)
        (hit,) = answer["items"]
        assert (hit["scene_id"], hit["picture_rank"], hit["words_rank"]) == (str(red), 1, None)
        assert by_picture(api, make_picture((250, 10, 10), kind), cursor=answer["next_cursor"])["items"]
    assert by_picture(api, make_picture((250, 10, 10), "PNG"), user_id=BOB)["items"] == []


def test_words_beside_a_picture_count(pool: Pool, api: TestClient) -> None:
    red, says = add_video(pool, ALICE, [Scene("nothing of it", "red"), Scene("low tide", "blue")])
    picture = make_picture((250, 10, 10), "PNG")
    assert ids_of(by_picture(api, picture)) == [str(red), str(says)]
    answer = by_picture(api, picture, q="low tide", limit=1)
    (hit,) = answer["items"]
    assert (answer["query"], hit["scene_id"], hit["words_rank"], hit["picture_rank"]) == ("low tide", str(says), 1, 2)
    assert ids_of(by_picture(api, picture, q="low tide", limit=1, cursor=answer["next_cursor"])) == [str(red)]
    assert ids_of(by_picture(api, picture, q="low tide", by="words")) == [str(says)]
    sent = {**headers(ALICE), "Content-Type": "image/png"}
    other = api.post("/v1/search/image", content=picture, params={"cursor": answer["next_cursor"]}, headers=sent)
    assert other.status_code == 404
    blank = api.post("/v1/search/image", content=picture, params={"q": " "}, headers=sent)
    assert (blank.status_code, blank.json()) == (400, {"detail": "q: must contain words"})


def test_what_is_no_picture_is_refused_in_a_sentence(api: TestClient) -> None:
    def status(body: bytes, kind: str = "image/png") -> tuple[int, str]:
        sent = {**headers(ALICE), "Content-Type": kind}
        response = api.post("/v1/search/image", content=body, headers=sent)
        return response.status_code, response.json()["detail"]

    whole = make_picture((1, 2, 3), "PNG")
    assert status(b"no picture") == (400, "The body is no picture that can be read: it is none of JPEG, PNG, WEBP.")
    assert status(whole[: len(whole) // 2])[0] == 400
    assert status(make_picture((1, 2, 3), "GIF"))[0] == 400
    assert status(b"")[0] == 400
    assert status(b"{}", "application/json")[0] in (400, 415)
    bomb = io.BytesIO()
    Image.new("1", (20_000, 20_000)).save(bomb, "PNG")
    assert status(bomb.getvalue()) == (
        400, "The body is no picture that can be read: it has more than 8,388,608 pixels (20000 x 20000)."
    )  # fmt: skip
    assert status(bytes(50 * 2**20))[0] == 413


def test_scenes_like_a_scene_are_the_nearest_others_of_ones_own(pool: Pool, api: TestClient) -> None:
    circle, near, far = add_video(
        pool, ALICE, [Scene("", "red circle"), Scene("", "red circle grass"), Scene("", "blue square")]
    )
    add_video(pool, BOB, [Scene("", "red circle")])
    answer = api.get(f"/v1/scenes/{circle}/similar", headers=headers(ALICE))
    assert [hit["scene_id"] for hit in answer.json()["items"]] == [str(near), str(far)]
    assert len(api.get(f"/v1/scenes/{circle}/similar?limit=1", headers=headers(ALICE)).json()["items"]) == 1
    assert api.get(f"/v1/scenes/{circle}/similar", headers=headers(BOB)).status_code == 404
    assert api.get(f"/v1/scenes/{UUID(int=7)}/similar", headers=headers(ALICE)).status_code == 404


# Records, refusals, models


def test_every_search_is_on_record_and_counted(pool: Pool, api: TestClient) -> None:
    add_video(pool, ALICE, [Scene("red circle", "red circle"), Scene("", "blue square")])
    answer = search(api, q="red circle", limit=1)
    assert len(answer["items"]) == 1
    search(api, BOB, q="red circle")
    by_picture(api, make_picture((255, 0, 0), "PNG"))
    with pool.connection() as connection:
        rows = connection.execute(
            "SELECT user_id, query_text, results_count, latency_ms FROM search_queries ORDER BY created_at"
        ).fetchall()
    assert [(row["user_id"], row["query_text"], row["results_count"]) for row in rows] == [
        (ALICE, "red circle", 1),
        (BOB, "red circle", 0),
        (ALICE, "(picture)", 2),
    ]
    assert rows[0]["latency_ms"] == answer["latency_ms"] >= 0


def test_a_bad_search_is_400(api: TestClient) -> None:
    bad: list[tuple[dict[str, Any], str]] = [
        ({}, "q: Field required"),
        ({"q": ""}, "q: must contain words"),
        ({"q": "  "}, "q: must contain words"),
        ({"q": "a\x00b"}, "q: must contain words"),
        ({"q": "x" * 1001}, "q: String should have at most 1000 characters"),
        ({"q": "x", "limit": "0"}, "limit: Input should be greater than or equal to 1"),
        ({"q": "x", "limit": "101"}, "limit: Input should be less than or equal to 100"),
        ({"q": "x", "by": "sound"}, "by: takes words, meaning, picture, separated by commas"),
        ({"q": "x", "by": ""}, "by: takes words, meaning, picture, separated by commas"),
        ({"q": "x", "tag": "a\x00"}, "tag: must be text"),
        ({"q": "x", "tag": ["a"] * 17}, "tag: List should have at most 16 items after validation, not 17"),
    ]
    for parameters, sentence in bad:
        assert refused(api, **parameters) == sentence
    assert refused(api, q="x", since="yesterday").startswith("since: Input should be a valid datetime")


def test_vectors_of_another_model_are_an_error_at_the_start(pool: Pool) -> None:
    class Another(WordVectors):
        key = "another@1"

    add_video(pool, ALICE, [Scene("tide", "tide")])
    sentence = "all scenes are indexed by picture with word-vectors@1, not with another@1: set HEIMDEX_CLIP_MODEL"
    with pytest.raises(ConfigurationError, match=sentence):
        service(pool, Another())
    service(pool)
    with pytest.raises(ConfigurationError, match=sentence):
        service(pool, Another())


def search(api: TestClient, user_id: UUID = ALICE, **parameters: Any) -> Any:
    response = api.get("/v1/search", params=parameters, headers=headers(user_id))
    assert response.status_code == 200, response.text
    return response.json()


def refused(api: TestClient, **parameters: Any) -> str:
    response = api.get("/v1/search", params=parameters, headers=headers(ALICE))
    assert (response.status_code, list(response.json())) == (400, ["detail"]), response.text
    sentence: str = response.json()["detail"]
    return sentence


def by_picture(api: TestClient, picture: bytes, user_id: UUID = ALICE, **parameters: Any) -> Any:
    sent = {**headers(user_id), "Content-Type": "image/jpeg"}
    response = api.post("/v1/search/image", content=picture, params=parameters, headers=sent)
    assert response.status_code == 200, response.text
    return response.json()


def ids_of(answer: Any) -> list[str]:
    return [item["scene_id"] for item in answer["items"]]


def video_of(pool: Pool, scene_id: UUID) -> str:
    with pool.connection() as connection:
        row = connection.execute("SELECT video_id FROM video_scenes WHERE id = %s", (scene_id,)).fetchone()
    assert row is not None
    return str(row["video_id"])
