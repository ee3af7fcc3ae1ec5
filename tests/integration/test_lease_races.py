"""Leases where two meet: each is stopped in the middle of what it does, and the other one comes by.

The queue without another session in the way is ``test_video_queue``'s.
"""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import psycopg
import pytest
from psycopg import sql

from cluster.contracts.errors import LeaseLost
from cluster.contracts.events import Event
from cluster.contracts.media import MediaInfo
from cluster.contracts.results import StageFailure, StageReport
from cluster.contracts.stages import Blame, Outcome, RetryRule, Stage
from cluster.contracts.videos import ClaimedVideo, Submission
from cluster.store.postgres.connections import Pool, connect, open_pool
from cluster.store.queue.stage_results import StageResults
from cluster.store.queue.stage_runs import ClosedRun, OpenRun, StageLedger
from cluster.store.queue.submissions import cancel, submit
from cluster.store.queue.video_queue import VideoQueue
from tests.support.queued_videos import (
    OWNER,
    begin,
    claim_one,
    enqueue,
    everything,
    expire,
    only,
    paused,
    record_media,
    recovery,
    row,
    runs,
    transcript,
    until_a_session_waits,
)

TROUBLE = StageFailure("TransientFailure", "the network is away", Blame.ERROR)
INFO = MediaInfo(1.0, 0.0, 25.0, 640, 360, 0, "h264", None, 4096)
IMPATIENT_S = 3.0


@pytest.fixture
def queue(pool: Pool) -> VideoQueue:
    return VideoQueue(pool, "first", 60.0)


@pytest.fixture
def impatient(database_url: str) -> Iterator[Pool]:
    """Sessions in which a statement that waits is given up soon."""
    with open_pool(database_url, max_size=2, name="impatient", statement_timeout_s=IMPATIENT_S) as opened:
        yield opened


# Claiming


def test_a_claim_waits_for_nobody(pool: Pool, impatient: Pool) -> None:
    first, second = enqueue(pool, 2)
    with pool.connection() as connection:
        connection.execute("SELECT 1 FROM videos WHERE id = %s FOR UPDATE", (first,))
        assert [video.id for video in VideoQueue(impatient, "first", 60.0).claim(2)] == [second]


def test_video_cancelled_while_claimed_stays_cancelled(database_url: str) -> None:
    """The claim is stopped when it has chosen both and locked only the first."""
    with connect(database_url, autocommit=True) as connection:
        name = sql.Identifier(connection.info.dbname)
        for join in ("hashjoin", "mergejoin"):  # one row after the other, however few there are
            connection.execute(sql.SQL(f"ALTER DATABASE {{}} SET enable_{join} = off").format(name))
    with open_pool(database_url, max_size=4, name="tests") as pool, ThreadPoolExecutor(1) as threads:
        first, second = enqueue(pool, 2)
        with paused(database_url, "videos", "UPDATE ON {} FOR EACH ROW WHEN (NEW.status = 'PROCESSING')"):
            claiming = threads.submit(VideoQueue(pool, "first", 60.0).claim, 2)
            until_a_session_waits(pool)
            assert cancel(pool, [second]) == [second]
        assert [video.id for video in claiming.result(timeout=10)] == [first]
        assert row(pool, second)["status"] == "CANCELLED"


def test_a_claim_waits_for_the_claim_before_it(database_url: str, pool: Pool) -> None:
    """Else both would count the same videos on the way, and what is submitted in between would exceed the cap."""
    enqueue(pool, 4)
    queues = [VideoQueue(pool, name, 60.0, owner_cap=2) for name in ("first", "second")]
    with ThreadPoolExecutor(2) as threads:
        with paused(database_url, "video_leases", "INSERT ON {} FOR EACH ROW"):
            claims = [threads.submit(queues[0].claim, 2)]
            until_a_session_waits(pool)
            submit(pool, OWNER, [Submission(uri="urgent.mp4", priority=10)])
            claims.append(threads.submit(queues[1].claim, 2))
            until_a_session_waits(pool, 2)
        assert [len(claim.result(timeout=10)) for claim in claims] == [2, 0]


def test_a_video_that_backs_off_takes_nobodys_place(pool: Pool, queue: VideoQueue) -> None:
    _, second = enqueue(pool, 2)
    queue.retry(queue.claim(1)[0], TROUBLE, delay_s=3600.0)
    assert [video.id for video in queue.claim(1)] == [second]


def test_the_database_refuses_one_token_for_two_leases(pool: Pool, queue: VideoQueue) -> None:
    enqueue(pool, 2)
    (video,) = queue.claim(1)
    with pytest.raises(psycopg.errors.UniqueViolation), pool.connection() as connection:
        connection.execute(
            "INSERT INTO video_leases SELECT id, %s, 'x', now() FROM videos WHERE id <> %s",
            (video.lease_token, video.id),
        )


# Writing


@pytest.fixture
def stale(pool: Pool, queue: VideoQueue) -> ClaimedVideo:
    """A video whose lease was lost; another scheduler works on it now."""
    video = claim_one(pool, queue)
    expire(pool, video)
    assert recovery(pool, "second").reap() == [video.id]
    (fresh,) = VideoQueue(pool, "second", 60.0).claim(1)
    begin(pool, fresh, Stage.DOWNLOADING)
    return video


def test_a_stale_token_opens_no_run(pool: Pool, stale: ClaimedVideo) -> None:
    before = everything(pool)
    assert StageLedger(pool).write([OpenRun(stale, Stage.METADATA, stale.claimed_at)], []) == set()
    assert everything(pool) == before


def test_a_stale_token_closes_no_run(pool: Pool, stale: ClaimedVideo) -> None:
    """Not even one of its own attempt, if ever one were left open."""
    left = OpenRun(stale, Stage.METADATA, stale.claimed_at)
    with pool.connection() as connection:
        connection.execute(
            "INSERT INTO video_stage_runs (video_id, attempt, stage, ready_at) VALUES (%s, %s, 'metadata', %s)",
            (stale.id, stale.attempt, stale.claimed_at),
        )
    before = everything(pool)
    report = StageReport(run_s=0.0, batch_size=1, node="node", worker="worker", device="cpu", resource_s=0.0)
    closed = ClosedRun(left, Outcome.COMPLETED, stale.claimed_at, report)
    assert StageLedger(pool).write([], [closed]) == set()
    assert everything(pool) == before


def test_a_stale_token_keeps_no_transcript(pool: Pool, stale: ClaimedVideo) -> None:
    with pytest.raises(LeaseLost):
        StageResults(pool).keep_transcript(stale.id, stale.lease_token, transcript("too late"))
    assert only(pool, "SELECT count(*) AS n FROM video_stage_results")["n"] == 0


def writes(pool: Pool, queue: VideoQueue, video: ClaimedVideo) -> dict[str, tuple[str, Callable[[], object]]]:
    """The place at which a write is stopped, and the write."""
    return {
        "run": (
            "video_stage_runs",
            lambda: StageLedger(pool).write([OpenRun(video, Stage.DOWNLOADING, video.claimed_at)], []),
        ),
        "media": ("videos", lambda: record_media(pool, video, INFO)),
        "transcript": (
            "video_stage_results",
            lambda: StageResults(pool).keep_transcript(video.id, video.lease_token, transcript("in time")),
        ),
    }


@pytest.mark.parametrize("write", ["run", "media", "transcript"])
def test_writer_under_an_expiring_lease_is_passed_over(
    database_url: str, pool: Pool, impatient: Pool, queue: VideoQueue, write: str
) -> None:
    video = claim_one(pool, queue)
    table, act = writes(pool, queue, video)[write]
    with ThreadPoolExecutor(1) as threads:
        with paused(database_url, table, "INSERT OR UPDATE ON {} FOR EACH ROW"):
            written = threads.submit(act)
            until_a_session_waits(pool)
            expire(pool, video)
            assert recovery(impatient, "second").reap() == []
        written.result(timeout=10)
    assert recovery(pool, "second").reap() == [video.id]
    assert {run["outcome"] for run in runs(pool, video.id).values()} <= {"lost"}


# Taking back


def test_the_reaper_waits_for_nobody(
    pool: Pool, impatient: Pool, queue: VideoQueue, caplog: pytest.LogCaptureFixture
) -> None:
    enqueue(pool, 2)
    first, second = queue.claim(2)
    expire(pool, first, second)
    with pool.connection() as writing:
        writing.execute("SELECT FROM video_leases WHERE video_id = %s FOR KEY SHARE", (first.id,))
        with caplog.at_level("DEBUG"):
            assert recovery(impatient, "second").reap() == [second.id]
    assert Event.LEASE_RECOVERY_REFUSED not in caplog.text  # nor looked at one by one after a wait


def test_a_heartbeat_that_comes_first_keeps_the_lease(
    pool: Pool, impatient: Pool, queue: VideoQueue, caplog: pytest.LogCaptureFixture
) -> None:
    video = claim_one(pool, queue)
    expire(pool, video)
    with pool.connection() as beating:
        beating.execute("UPDATE video_leases SET expires_at = clock_timestamp() + interval '1 minute'")
        with caplog.at_level("DEBUG"):
            assert recovery(impatient, "second").reap() == []
    assert Event.LEASE_RECOVERY_REFUSED not in caplog.text
    assert recovery(pool, "second").reap() == []
    assert queue.heartbeat([video.lease_token]) == {video.lease_token}


def test_ended_video_is_not_restored_by_a_leftover_lease(pool: Pool, queue: VideoQueue) -> None:
    """No way leads there; should a defect ever leave a lease behind, what has ended stays ended."""
    video = claim_one(pool, queue)
    queue.fail(video, "metadata", TROUBLE)
    with pool.connection() as connection:
        connection.execute("INSERT INTO video_leases VALUES (%s, 999999, 'first', now())", (video.id,))
    failed = row(pool, video.id)
    assert recovery(pool, "second").reap() == []
    assert row(pool, video.id) == failed
    assert only(pool, "SELECT count(*) AS n FROM video_leases")["n"] == 0


def test_what_is_handed_back_never_fails_for_it(pool: Pool, queue: VideoQueue) -> None:
    (video_id,) = submit(pool, OWNER, [Submission(uri="a.mp4")])
    with pool.connection() as connection:
        connection.execute("UPDATE video_processing SET interruptions = 5")
    queue.claim(1)
    assert recovery(pool, "first", RetryRule(max_interruptions=5)).hand_back() == [video_id]
    assert row(pool, video_id)["status"] == "PENDING"


def test_what_another_system_has_taken_is_not_claimed(pool: Pool, queue: VideoQueue) -> None:
    """It waits here no more, so that it does not take another's place repeatedly."""
    first, second = enqueue(pool, 2)
    with pool.connection() as connection:
        connection.execute("UPDATE videos SET status = 'PROCESSING' WHERE id = %s", (first,))
    assert queue.claim(1) == []
    assert [video.id for video in queue.claim(1)] == [second]
    assert (row(pool, first)["available_at"], row(pool, first)["attempt"]) == (None, 0)
