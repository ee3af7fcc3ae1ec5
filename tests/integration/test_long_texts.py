"""Texts of any length that users of an existing database may write: no process that serves all owners holds them."""

from collections.abc import Callable, Iterator
from typing import Any
from uuid import UUID

import pytest

from cluster.contracts.errors import InvalidVideo
from cluster.contracts.search import WordsQuery
from cluster.contracts.videos import MAX_URI, Origin
from cluster.files.origins import limits_for
from cluster.files.storage import FetchLimits
from cluster.store.index.scene_text import MAX_LETTERS, MAX_TAGS
from cluster.store.postgres.connections import Pool, open_pool
from cluster.store.postgres.migrations import apply_migrations
from cluster.store.queue.reprocessing import left_videos, retry
from cluster.store.queue.submissions import quarantine
from cluster.store.queue.video_queue import VideoQueue
from cluster.store.search.hits import read_scenes
from cluster.store.videos.deletion import find_own, forget
from cluster.store.videos.erasing import next_videos
from cluster.store.videos.progress import read_results, read_standings
from cluster.store.videos.transcripts import read_transcript
from cluster.store.videos.videos import list_videos, read_video
from tests.support.existing_database import CARA, clip

LETTERS = 5_000_000
"""Of each text: one of PostgreSQL's may have a gigabyte."""
HELD = 50_000
"""Letters of a video that a process may hold."""
VIDEO, NONE = clip(10), UUID(int=0)
COLUMNS = ("filename", "storage_path", "error_message", "full_transcript", "thumbnail_url", "video_summary")


@pytest.fixture
def long(existing_url: str) -> Iterator[Pool]:
    """Cara's video FAILED in the existing system, and each of its texts is long."""
    apply_migrations(existing_url)
    text = f"repeat('long ', {LETTERS // 5})"
    texts = ", ".join(f"{column} = {text}" for column in COLUMNS)
    segments = f"jsonb_build_array(jsonb_build_object('text', {text}))"
    long_video = f"UPDATE videos SET status = 'FAILED', {texts}, transcript_segments = {segments} WHERE id = %s"
    long_scene = f"""
        UPDATE video_scenes SET transcript_segment = {text}, tags = array_fill('long'::text, ARRAY[100000])
        WHERE video_id = %s AND index = 1
    """
    with open_pool(existing_url, max_size=4, name="tests") as pool:
        with pool.connection() as connection:
            for statement in (long_video, long_scene):
                connection.execute(statement.encode(), (VIDEO,))
        yield pool


def first_scene(pool: Pool) -> UUID:
    with pool.connection() as connection:
        rows = connection.execute("SELECT id FROM video_scenes WHERE video_id = %s AND index = 0", (VIDEO,))
        return UUID(str(rows.fetchall()[0]["id"]))


READERS: dict[str, Callable[[Pool], Any]] = {
    "status": lambda pool: read_standings(pool, [VIDEO]),
    "results": lambda pool: read_results(pool, [VIDEO]),
    "list": lambda pool: list_videos(pool, CARA, None, 9, 0),
    "video": lambda pool: {**(read_video(pool, CARA, VIDEO) or {}), "scenes": None},
    "found scenes": lambda pool: read_scenes(pool, CARA, [first_scene(pool)], WordsQuery(())),
    "quarantine": lambda pool: quarantine(pool, 9),
    "own videos": lambda pool: find_own(pool, CARA, [VIDEO], []),
    "videos to be erased": lambda pool: next_videos(pool, CARA, NONE, 99, with_file=True),
    "videos to be taken over": lambda pool: left_videos(pool, ["FAILED"], NONE, 99),
}


@pytest.mark.parametrize("reader", READERS)
def test_reader_of_a_long_text_holds_its_beginning(long: Pool, reader: str) -> None:
    read = repr(READERS[reader](long))
    assert "long" in read
    assert len(read) < HELD


def test_claim_of_a_long_text_holds_its_beginning(long: Pool) -> None:
    assert retry(long, [VIDEO]) == [VIDEO]
    (claimed,) = (video for video in VideoQueue(long, "first", 60.0).claim(99) if video.id == VIDEO)
    assert len(repr(claimed)) < HELD
    assert len(claimed.uri) == MAX_URI + 1
    with pytest.raises(InvalidVideo, match="more than 4096 characters"):
        limits_for(claimed.uri, Origin.ADOPTED, CARA, FetchLimits(10**6, 1.0))


def test_no_half_of_a_password_is_shown_of_a_long_uri() -> None:
    uri = f"ftp://user:{'S' * 95}@host/" + "a" * MAX_URI
    with pytest.raises(InvalidVideo, match="more than 4096 characters") as caught:
        limits_for(uri, Origin.COMMAND, CARA, FetchLimits(10**6, 1.0))
    assert "SSS" not in str(caught.value)


def test_transcript_of_a_long_text_is_its_beginning(long: Pool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cluster.store.videos.transcripts.MAX_LETTERS", 1000)
    read = read_transcript(long, CARA, VIDEO)
    assert read is not None
    assert len(repr(read)) < HELD
    assert read.transcript is not None
    assert read.transcript.segments[0].text.startswith("long long")


def test_scenes_of_a_long_text_hold_its_beginning(long: Pool) -> None:
    video = read_video(long, CARA, VIDEO)
    assert video is not None
    assert [len(scene["tags"]) for scene in video["scenes"] if scene["index"] == 1] == [MAX_TAGS]
    assert MAX_LETTERS < len(repr(video["scenes"])) < MAX_LETTERS + HELD


def test_video_of_long_texts_is_forgotten(long: Pool) -> None:
    assert forget(long, [VIDEO], CARA) == [VIDEO]
