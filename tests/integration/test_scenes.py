"""Scenes on a real Postgres: written whole or not at all, replaced by a repeat, found as spoken and stemmed."""

from typing import Any
from uuid import UUID

import numpy as np
import pytest

from cluster.contracts.errors import LeaseLost
from cluster.contracts.media import MediaWarning
from cluster.contracts.videos import ClaimedVideo
from cluster.store.postgres.connections import Pool
from cluster.store.queue.video_queue import VideoQueue
from cluster.store.videos.scenes import TEXT_CONFIGURATIONS, SceneStore
from tests.support.queued_videos import claim_one, everything, expire, only, recovery, row, scenes, transcript, unit


@pytest.fixture
def video(pool: Pool) -> ClaimedVideo:
    return claim_one(pool, VideoQueue(pool, "first", 60.0))


@pytest.fixture
def store(pool: Pool) -> SceneStore:
    return SceneStore(pool)


def stored_scenes(pool: Pool, video_id: UUID) -> list[dict[str, Any]]:
    with pool.connection() as connection:
        return connection.execute(
            "SELECT s.*, e.model, e.embedding FROM video_scenes AS s JOIN scene_embeddings AS e ON e.scene_id = s.id "
            "WHERE video_id = %s ORDER BY index",
            (video_id,),
        ).fetchall()


def finds(pool: Pool, configuration: str, query: str) -> bool:
    found = only(
        pool,
        "SELECT count(*) AS n FROM video_scenes WHERE text_index @@ plainto_tsquery(%s::regconfig, %s)",
        configuration,
        query,
    )
    return bool(found["n"])


def test_scenes_embeddings_and_transcript_are_written(pool: Pool, video: ClaimedVideo, store: SceneStore) -> None:
    spoken = transcript("hello there again")
    written = scenes(video.id, "hello there", "again", tags=("a red star",))
    store.replace(video.id, video.lease_token, spoken, written, 2.0)
    rows = stored_scenes(pool, video.id)
    assert [(scene["index"], scene["start_s"], scene["end_s"]) for scene in rows] == [(0, 0.0, 1.0), (1, 1.0, 2.0)]
    assert [scene["id"] for scene in rows] == [scene.id for scene in written]
    first = rows[0]
    assert (first["transcript_segment"], first["visual_summary"]) == ("hello there", "a red star")
    assert (first["tags"], first["combined_text"]) == (["a red star"], "hello there\na red star")
    assert (first["thumbnail_url"], first["key_frame_url"]) == ("file:///scenes/0.jpg", "file:///scenes/0-key.jpg")
    assert (first["key_frame_s"], first["speech_model"], first["model"]) == (0.5, "tiny.en", "bundled@1")
    for index, scene in enumerate(rows):
        np.testing.assert_array_equal(scene["embedding"].to_numpy(), unit(index))
    stored = only(pool, "SELECT * FROM video_transcripts WHERE video_id = %s", video.id)
    assert (stored["language"], stored["model"], stored["word_count"]) == ("en", "tiny.en", 3)
    assert stored["segments"][0]["words"][1] == {"start_s": 1, "end_s": 1.5, "text": " there", "probability": 0.9}


def test_a_repeat_replaces_what_was_there(pool: Pool, video: ClaimedVideo, store: SceneStore) -> None:
    store.replace(video.id, video.lease_token, transcript("a b c d"), scenes(video.id, "one", "two", "three"), 3.0)
    store.replace(video.id, video.lease_token, transcript("a b"), scenes(video.id, "uno", "due"), 2.0)
    rows = stored_scenes(pool, video.id)
    assert [scene["transcript_segment"] for scene in rows] == ["uno", "due"]
    assert only(pool, "SELECT count(*) AS n FROM scene_embeddings")["n"] == 2
    assert only(pool, "SELECT word_count FROM video_transcripts")["word_count"] == 2
    before = [{k: v for k, v in scene.items() if k not in {"embedding", "created_at"}} for scene in rows]
    store.replace(video.id, video.lease_token, transcript("a b"), scenes(video.id, "uno", "due"), 2.0)
    again = stored_scenes(pool, video.id)
    assert [{k: v for k, v in scene.items() if k not in {"embedding", "created_at"}} for scene in again] == before


def test_a_video_without_scenes_or_words_has_an_empty_transcript(
    pool: Pool, video: ClaimedVideo, store: SceneStore
) -> None:
    store.replace(video.id, video.lease_token, transcript("", None), [], 0.0)
    stored = only(pool, "SELECT language, word_count, segments FROM video_transcripts")
    assert stored == {"language": None, "word_count": 0, "segments": []}
    assert stored_scenes(pool, video.id) == []


def test_without_the_lease_nothing_is_written(pool: Pool, video: ClaimedVideo, store: SceneStore) -> None:
    store.replace(video.id, video.lease_token, transcript("a"), scenes(video.id, "one"), 1.0)
    queue = VideoQueue(pool, "second", 60.0)
    expire(pool, video)
    recovery(pool, "second").reap()
    queue.claim(1)
    before = everything(pool)
    with pytest.raises(LeaseLost):
        store.replace(video.id, video.lease_token, transcript("b"), scenes(video.id, "late", "later"), 2.0)
    assert everything(pool) == before


def test_a_scene_that_cannot_be_written_leaves_all_as_it_was(
    pool: Pool, video: ClaimedVideo, store: SceneStore
) -> None:
    store.replace(video.id, video.lease_token, transcript("a"), scenes(video.id, "one"), 1.0)
    before = everything(pool)
    twice = scenes(video.id, "two")
    with pytest.raises(Exception, match="duplicate key"):
        store.replace(video.id, video.lease_token, transcript("b"), twice + twice, 1.0)
    assert everything(pool) == before


def test_duration_becomes_what_was_read(pool: Pool, video: ClaimedVideo, store: SceneStore) -> None:
    store.replace(video.id, video.lease_token, transcript(""), [], 7.5)
    assert row(pool, video.id)["duration_s"] == 7.5
    store.replace(video.id, video.lease_token, transcript(""), [], 9.5)
    assert row(pool, video.id)["duration_s"] == 9.5


@pytest.mark.parametrize(
    ("language", "spoken", "stemmed"),
    [
        ("en", "the dogs were running", "dog run"),
        ("de", "die Häuser standen", "Haus"),
        ("fr", "les chevaux couraient", "cheval"),
    ],
)
def test_words_are_found_as_spoken_and_stemmed(
    pool: Pool, video: ClaimedVideo, store: SceneStore, language: str, spoken: str, stemmed: str
) -> None:
    store.replace(video.id, video.lease_token, transcript(spoken, language), scenes(video.id, spoken), 1.0)
    configuration = TEXT_CONFIGURATIONS[language]
    assert finds(pool, "simple", spoken)
    assert finds(pool, configuration, spoken)
    assert finds(pool, configuration, stemmed)
    assert not finds(pool, "simple", "elephant")


@pytest.mark.parametrize("language", ["ja", "xx", None])
def test_a_language_that_cannot_be_stemmed_is_found_as_spoken(
    pool: Pool, video: ClaimedVideo, store: SceneStore, language: str | None
) -> None:
    store.replace(video.id, video.lease_token, transcript("konnichiwa", language), scenes(video.id, "konnichiwa"), 1.0)
    assert finds(pool, "simple", "konnichiwa")


def test_the_server_knows_every_configuration_that_is_named(pool: Pool) -> None:
    with pool.connection() as connection:
        known = {row["cfgname"] for row in connection.execute("SELECT cfgname FROM pg_ts_config")}
    assert set(TEXT_CONFIGURATIONS.values()) <= known


def test_warnings_are_added_once_and_only_under_the_lease(pool: Pool, video: ClaimedVideo, store: SceneStore) -> None:
    first, second = MediaWarning("a", "one"), MediaWarning("b", "two")
    store.warn(video.id, video.lease_token, [first])
    store.warn(video.id, video.lease_token, [first, second])
    store.warn(video.id, video.lease_token + 1, [MediaWarning("c", "of another attempt")])
    with pool.connection() as connection:
        (found,) = connection.execute("SELECT warnings FROM video_processing WHERE video_id = %s", (video.id,))
    assert found["warnings"] == [{"code": "a", "message": "one"}, {"code": "b", "message": "two"}]
