"""The bundled models on the bundled clips, through the whole cluster, held against the clips' known truth."""

import itertools
import re
from typing import Any
from uuid import UUID

import httpx
import jiwer

from cluster.demo import clips, queries, truth
from cluster.store.postgres.connections import Pool

HARD_CUT_TOLERANCE_FRAMES = 2
DISSOLVE_TOLERANCE_S = 0.5


def test_every_clip_is_ready_with_its_scenes_and_words(demo_results: list[dict[str, Any]]) -> None:
    assert [result["status"] for result in demo_results] == ["READY"] * len(clips())
    assert [result["filename"] for result in demo_results] == [clip.name for clip in clips()]
    for result in demo_results:
        assert result["scenes"] >= 3
        assert result["words"] >= 20
        assert result["processing_stage"] == "completed"
        assert result["rtf"] > 0
        assert result["queue_ms"] >= 0


def test_words_are_those_that_were_spoken(demo_results: list[dict[str, Any]], cluster_pool: Pool) -> None:
    spoken, heard = [], []
    for result, clip in zip(demo_results, clips(), strict=True):
        spoken.append(_plain(truth(clip).words))
        heard.append(_plain(_transcript(cluster_pool, result["id"])))
    assert jiwer.wer(spoken, heard) <= 0.05


def test_cuts_are_where_they_were_made(demo_results: list[dict[str, Any]], cluster_pool: Pool) -> None:
    right = found = expected = 0
    for result, clip in zip(demo_results, clips(), strict=True):
        known = truth(clip)
        tolerance_s = HARD_CUT_TOLERANCE_FRAMES / known.fps
        spans = [(cut - tolerance_s, cut + tolerance_s) for cut in known.cuts_s]
        spans += [(d.start_s - DISSOLVE_TOLERANCE_S, d.end_s + DISSOLVE_TOLERANCE_S) for d in known.dissolves]
        detected = [row["start_s"] for row in _scenes(cluster_pool, result["id"])][1:]
        right += sum(any(begin <= cut <= end for cut in detected) for begin, end in spans)
        found += len(detected)
        expected += len(spans)
    assert 2 * right / (found + expected) >= 0.95


def test_scenes_tile_the_video_and_hold_the_words_spoken_in_them(
    demo_results: list[dict[str, Any]], cluster_pool: Pool
) -> None:
    for result in demo_results:
        scenes = _scenes(cluster_pool, result["id"])
        assert [scene["index"] for scene in scenes] == list(range(len(scenes)))
        assert scenes[0]["start_s"] == 0
        assert all(a["end_s"] == b["start_s"] for a, b in itertools.pairwise(scenes))
        assert abs(scenes[-1]["end_s"] - result["duration_s"]) < 0.2
        said = " ".join(scene["transcript_segment"] for scene in scenes)
        assert _plain(said) == _plain(_transcript(cluster_pool, result["id"]))


def test_the_right_scene_comes_first_for_visual_queries(demo_results: list[dict[str, Any]], http: httpx.Client) -> None:
    assert _first_hit_share(demo_results, http, "visual") >= 0.95


def test_the_right_scene_comes_first_for_spoken_queries(demo_results: list[dict[str, Any]], http: httpx.Client) -> None:
    assert _first_hit_share(demo_results, http, "spoken") >= 0.95


def test_every_search_is_on_record(demo_results: list[dict[str, Any]], http: httpx.Client, cluster_pool: Pool) -> None:
    assert demo_results
    http.get("/v1/search", params={"q": "a search on record"}).raise_for_status()
    with cluster_pool.connection() as connection:
        row = connection.execute(
            "SELECT results_count, latency_ms FROM search_queries WHERE query_text = 'a search on record'"
        ).fetchone()
    assert row is not None
    assert row["results_count"] > 0
    assert row["latency_ms"] >= 0


def _first_hit_share(results: list[dict[str, Any]], http: httpx.Client, kind: str) -> float:
    asked = [query for query in queries() if query.kind == kind]
    assert len(asked) >= 10
    assert results
    names = {clip.name for clip in clips()}
    right = 0  # by name: other tests may have processed the same clip once more, or a copy of it by another name
    for query in asked:
        found = http.get("/v1/search", params={"q": query.text, "limit": 20}).raise_for_status().json()["items"]
        first = next(item for item in found if item["filename"] in names)
        right += (first["filename"], first["scene_index"]) == (query.clip.name, query.scene)
    return right / len(asked)


def _transcript(pool: Pool, video_id: str) -> str:
    with pool.connection() as connection:
        row = connection.execute(
            "SELECT segments FROM video_transcripts WHERE video_id = %s", (UUID(video_id),)
        ).fetchone()
    assert row is not None
    return " ".join(segment["text"] for segment in row["segments"])


def _scenes(pool: Pool, video_id: str) -> list[dict[str, Any]]:
    with pool.connection() as connection:
        return connection.execute(
            "SELECT index, start_s, end_s, transcript_segment FROM video_scenes WHERE video_id = %s ORDER BY index",
            (UUID(video_id),),
        ).fetchall()


def _plain(text: str) -> str:
    """Lower case, no punctuation: what word error rates are counted on."""
    return " ".join(re.sub(r"[^a-z0-9' ]+", " ", text.lower()).split())
