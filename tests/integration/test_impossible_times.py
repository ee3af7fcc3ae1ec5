"""Times that users of an existing database may write into their rows: they stop nothing that is done for others."""

from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest
from psycopg import sql

from cluster.contracts.results import StageFailure
from cluster.contracts.stages import Blame, RetryRule
from cluster.contracts.videos import ClaimedVideo
from cluster.store.index.embeddings import _MADE
from cluster.store.postgres.connections import Pool
from cluster.store.queue.submissions import quarantine
from cluster.store.queue.video_queue import VideoQueue
from cluster.store.videos.progress import read_results, read_standings, recent_times
from cluster.store.videos.videos import list_videos
from tests.support.queued_videos import claim_one, expire, finish, note_begun, recovery, row

IMPOSSIBLE = ["1990-01-01", "0044-03-15 BC", "-infinity", "infinity", "294276-12-31"]
UNREADABLE = StageFailure("InvalidVideo", "it is empty", blame=Blame.VIDEO)


@pytest.fixture
def queue(pool: Pool) -> VideoQueue:
    return VideoQueue(pool, "first", 60.0)


@pytest.fixture
def video(pool: Pool, queue: VideoQueue) -> ClaimedVideo:
    video = claim_one(pool, queue)
    note_begun(pool, video)
    return video


def begin_at(pool: Pool, video: ClaimedVideo, moment: str) -> None:
    with pool.connection() as connection:
        connection.execute(
            "UPDATE videos SET processing_started_at = %s::timestamptz WHERE id = %s", (moment, video.id)
        )


def assert_ended_now(pool: Pool, video_id: UUID, status: str) -> None:
    stored = row(pool, video_id)
    assert stored["status"] == status
    assert 0 <= stored["processing_duration_ms"] < 60_000
    for column in ("processing_started_at", "processing_finished_at", "updated_at"):
        assert abs(stored[column] - datetime.now(UTC)) < timedelta(minutes=1), column


@pytest.mark.parametrize("moment", IMPOSSIBLE)
def test_video_is_ready_whenever_it_is_said_to_have_begun(
    pool: Pool, queue: VideoQueue, video: ClaimedVideo, moment: str
) -> None:
    begin_at(pool, video, moment)
    finish(queue, video)
    assert_ended_now(pool, video.id, "READY")


@pytest.mark.parametrize("moment", IMPOSSIBLE)
def test_video_fails_whenever_it_is_said_to_have_begun(
    pool: Pool, queue: VideoQueue, video: ClaimedVideo, moment: str
) -> None:
    begin_at(pool, video, moment)
    queue.fail(video, "metadata", UNREADABLE)
    assert_ended_now(pool, video.id, "FAILED")


@pytest.mark.parametrize("moment", IMPOSSIBLE)
@pytest.mark.parametrize("own", [True, False])
def test_expired_leases_are_taken_back_at_any_stated_beginning(
    pool: Pool, queue: VideoQueue, video: ClaimedVideo, moment: str, own: bool
) -> None:
    other = claim_one(pool, queue)
    begin_at(pool, video, moment)
    expire(pool, video, other)
    recovering = recovery(pool, "first", RetryRule(max_interruptions=1))
    taken_back = recovering.reap_own() if own else recovering.reap()
    assert set(taken_back) == {video.id, other.id}
    for each in (video, other):
        assert_ended_now(pool, each.id, "FAILED")


@pytest.mark.parametrize("own", [True, False])
def test_video_whose_row_is_refused_holds_up_no_other(
    pool: Pool, queue: VideoQueue, video: ClaimedVideo, own: bool, caplog: pytest.LogCaptureFixture
) -> None:
    other = claim_one(pool, queue)
    with pool.connection() as connection:
        connection.execute(
            f"""
            CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'never'; END $$;
            CREATE TRIGGER refuse BEFORE UPDATE ON videos FOR EACH ROW WHEN (OLD.id = '{video.id}')
                EXECUTE FUNCTION refuse();
            """
        )
    expire(pool, video, other)
    recovering = recovery(pool, "first")
    assert (recovering.reap_own() if own else recovering.reap()) == [other.id]
    assert row(pool, other.id)["status"] == "PENDING"
    assert "cannot be taken back: never" in caplog.text


@pytest.mark.parametrize("moment", IMPOSSIBLE)
@pytest.mark.parametrize("duration_s", [1.0, 5e-324, 1e308])
def test_rows_are_read_whatever_times_they_have(
    pool: Pool, queue: VideoQueue, video: ClaimedVideo, moment: str, duration_s: float
) -> None:
    finish(queue, video)
    with pool.connection() as connection:
        connection.execute(
            """
            UPDATE videos SET created_at = m.m, updated_at = m.m, queued_at = m.m, processing_started_at = m.m,
                              processing_finished_at = m.m, processing_duration_ms = 2147483647, duration_s = %s,
                              status = 'FAILED'
            FROM (SELECT %s::timestamptz AS m) AS m WHERE id = %s
            """,
            (duration_s, moment, video.id),
        )
        owner_id = connection.execute("SELECT owner_id FROM videos WHERE id = %s", (video.id,)).fetchone()
    assert owner_id is not None
    assert [standing.id for standing in read_standings(pool, [video.id])] == [video.id]
    assert [result["id"] for result in read_results(pool, [video.id])] == [str(video.id)]
    assert recent_times(pool).keys() == {"videos", "queue_ms", "wait_ms", "run_ms"}
    shown, _ = list_videos(pool, owner_id["owner_id"], None, 10, 0)
    assert [each["id"] for each in shown] == [video.id]
    assert [each.id for each in quarantine(pool, 10)[0]] == [video.id]


@pytest.mark.parametrize("moment", IMPOSSIBLE)
def test_scenes_are_embedded_at_any_stated_time_of_making(
    pool: Pool, queue: VideoQueue, video: ClaimedVideo, moment: str
) -> None:
    with pool.connection() as connection:
        connection.execute(
            """
            INSERT INTO video_scenes (video_id, index, start_s, end_s, created_at, transcript_segment)
            VALUES (%s, 0, 0, 1, %s::timestamptz, 'a word')
            """,
            (video.id, moment),
        )
        made = connection.execute(sql.SQL("SELECT {} AS made FROM video_scenes AS s").format(_MADE)).fetchone()
    assert made is not None
    assert isinstance(made["made"], int)
