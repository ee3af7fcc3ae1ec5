"""Transcripts of an existing database are served where this cluster has made none, and say whose they are."""

import pytest
from psycopg.types.json import Jsonb

from cluster.contracts.results import TranscriptSource
from cluster.store.postgres.connections import connect, open_pool
from cluster.store.postgres.migrations import apply_migrations
from cluster.store.videos.transcripts import read_transcript
from tests.support.existing_database import BEN, CARA, clip


@pytest.mark.parametrize("segments", [True, False])
def test_existing_transcript_is_read(existing_url: str, segments: bool) -> None:
    apply_migrations(existing_url)
    with connect(existing_url) as connection:
        if not segments:
            connection.execute("UPDATE videos SET transcript_segments = NULL")
    with open_pool(existing_url, max_size=1, name="tests") as pool:
        video = read_transcript(pool, CARA, clip(10))
        others = read_transcript(pool, BEN, clip(10))
    assert others is None
    assert video is not None
    assert video.transcript is not None
    said = "the harbour at dawn" if segments else "the harbour at dawn 10"
    assert (video.transcript.segments[0].text, video.transcript.language) == (said, "en")
    assert video.source == TranscriptSource(existing=True, timed=segments)


def test_own_transcript_goes_before_the_existing_one(existing_url: str) -> None:
    apply_migrations(existing_url)
    with connect(existing_url) as connection:
        connection.execute(
            "INSERT INTO video_transcripts (video_id, language, model, word_count, segments) "
            "VALUES (%s, 'en', 'm', 0, %s)",
            (clip(10), Jsonb([])),
        )
    with open_pool(existing_url, max_size=1, name="tests") as pool:
        video = read_transcript(pool, CARA, clip(10))
    assert video is not None
    assert video.transcript is not None
    assert (video.transcript.model, video.source) == ("m", TranscriptSource())


def test_waiting_video_has_no_transcript(existing_url: str) -> None:
    apply_migrations(existing_url)
    with open_pool(existing_url, max_size=1, name="tests") as pool:
        video = read_transcript(pool, CARA, clip(2))
        with pool.connection() as connection:
            rows = connection.execute("SELECT owner_id FROM videos WHERE id = %s", (clip(4),)).fetchall()
        waiting = read_transcript(pool, rows[0]["owner_id"], clip(4))
    assert video is not None
    assert waiting is not None
    assert waiting.transcript is None
