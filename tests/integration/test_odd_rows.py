"""Rows that no rule of an existing database forbids and no program expects: shown, indexed and left as they are."""

from collections.abc import Iterator
from typing import Any
from uuid import UUID

import pytest

from cluster.contracts.search import Scope, parse_words
from cluster.store.metrics import figures as metrics
from cluster.store.postgres.connections import Pool, connect, open_pool
from cluster.store.postgres.migrations import apply_migrations
from cluster.store.queue.video_queue import VideoQueue
from cluster.store.search.hits import read_scenes
from cluster.store.search.postgres_check import PostgresCheck
from cluster.store.search.postgres_index import PostgresSearchIndex
from cluster.store.videos.scenes import SceneStore
from cluster.store.videos.transcripts import read_transcript
from tests.support.api_client import ApiMaker, headers
from tests.support.existing_database import CARA, clip
from tests.support.queued_videos import claim_one, scenes, transcript

READY = clip(10)
MORE_WORDS_THAN_AN_INDEX_HOLDS = "harbour " + " ".join(f"w{number:08d}" for number in range(100_000))


@pytest.fixture
def odd(existing_url: str) -> Iterator[Pool]:
    apply_migrations(existing_url)
    with open_pool(existing_url, max_size=4, name="tests") as pool:
        yield pool


def write(pool: Pool, statement: str, *values: object) -> None:
    with pool.connection() as connection:
        connection.execute(statement.encode(), values)


def test_text_longer_than_an_index_is_indexed_from_its_beginning(existing_url: str, odd: Pool) -> None:
    write(
        odd,
        "UPDATE video_scenes SET combined_text = %s WHERE video_id = %s AND index = 2",
        MORE_WORDS_THAN_AN_INDEX_HOLDS,
        READY,
    )
    check = PostgresCheck(odd, existing_url)
    assert check.verify().compared == 36
    check.repair()
    assert check.verify().differences == 0
    index = PostgresSearchIndex(odd)
    assert len(index.words(parse_words("w00000042"), Scope(CARA), 9)) == 1
    with connect(existing_url) as connection:
        (row,) = connection.execute("SELECT max(length(text_index)) AS words FROM video_scenes").fetchall()
    assert row["words"] > 25_000


def test_scene_with_text_longer_than_an_index_is_written(pool: Pool) -> None:
    video = claim_one(pool, VideoQueue(pool, "first", 60.0))
    written = scenes(video.id, MORE_WORDS_THAN_AN_INDEX_HOLDS)
    SceneStore(pool).replace(video.id, video.lease_token, transcript("harbour"), written, 1.0)
    assert len(PostgresSearchIndex(pool).words(parse_words("harbour"), Scope(video.owner_id), 9)) == 1


def test_tags_with_nulls_are_shown_without_them(make_api: ApiMaker, odd: Pool) -> None:
    write(odd, "UPDATE video_scenes SET tags = ARRAY[NULL, 'sea']::text[] WHERE video_id = %s", READY)
    api = make_api(pool=odd)
    shown = api.get(f"/v1/videos/{READY}", headers=headers(CARA))
    assert [scene["tags"] for scene in shown.json()["scenes"]] == [["sea"]] * 3


@pytest.mark.parametrize(
    ("stored", "start_s"),
    [
        ("""'[{"start": 1e400, "end": 2, "text": "said"}]'""", 0.0),
        ("""'[{"start": 1' || repeat('0', 5000) || ', "end": 2, "text": "said"}]'""", 0.0),
        ("""'[{"start": 12345678901234567890, "end": 2, "text": "said"}]'""", 12345678901234567890.0),
        ("""to_jsonb('[{"start_s": "1.5", "text": "said"}]'::text)::text""", 1.5),
        ("repeat('[', 3000) || repeat(']', 3000)", None),
        ("""to_jsonb('[{"start": 1'::text)::text""", None),
    ],
)
def test_stored_transcript_of_any_json_is_read(odd: Pool, stored: str, start_s: float | None) -> None:
    write(
        odd,
        f"UPDATE videos SET transcript_segments = ({stored})::jsonb, full_transcript = 'whole' WHERE id = %s",
        READY,
    )
    assert said(odd, READY) == ("whole" if start_s is None else "said", start_s or 0.0)


def test_scene_without_an_index_is_left_out_where_it_is_shown(make_api: ApiMaker, odd: Pool) -> None:
    write(odd, "ALTER TABLE video_scenes ALTER COLUMN index DROP NOT NULL")
    write(odd, "UPDATE video_scenes SET index = NULL WHERE video_id = %s AND index = 1", READY)
    shown = make_api(pool=odd).get(f"/v1/videos/{READY}", headers=headers(CARA))
    assert (shown.status_code, [scene["index"] for scene in shown.json()["scenes"]]) == (200, [0, 2])
    with odd.connection() as connection:
        rows = connection.execute("SELECT id, index FROM video_scenes WHERE video_id = %s", (READY,)).fetchall()
    found = read_scenes(odd, CARA, [row["id"] for row in rows], parse_words("quay"))
    assert {scene.index for scene in found.values()} == {0, 2}


def said(pool: Pool, video_id: UUID) -> Any:
    found = read_transcript(pool, CARA, video_id)
    assert found is not None
    assert found.transcript is not None
    (segment,) = found.transcript.segments
    return segment.text, segment.start_s


@pytest.mark.parametrize("damaged", ["NaN", "Infinity", "-Infinity", "-5", "0", "1e308", "5e-324", "1e-300", "1e10"])
def test_a_damaged_duration_counts_as_none_in_every_figure(odd: Pool, damaged: str) -> None:
    def figures() -> list[object]:
        user = metrics.get_user(odd, CARA, 3650)
        assert user is not None
        user.pop("recent_videos")
        users, total = metrics.get_users(odd, 3650, 50, 0, "hours_ready")
        for each in (user, *users):
            each.pop("last_activity")  # the existing system's trigger notes each write
        return [
            metrics.get_overview(odd),
            metrics.get_throughput(odd, 3650),
            users,
            total,
            user,
            metrics.get_rtf_distribution(odd, 3650),
            metrics.get_throughput_v2(odd, 3650),
        ]

    write(
        odd,
        "UPDATE videos SET queued_at = now(), processing_started_at = now(), processing_finished_at = now(), "
        "processing_duration_ms = 1500 WHERE status = 'READY'",
    )
    update = "UPDATE videos SET duration_s = %s::float8 WHERE status = 'READY' AND id <> %s"
    write(odd, update, None, READY)
    without = figures()
    write(odd, update, damaged, READY)
    assert figures() == without
