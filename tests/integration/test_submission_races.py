"""Actions of owners while something else happens to the same videos, each stopped in the middle."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from uuid import UUID, uuid4

import pytest

from cluster.contracts.errors import TooManySubmissions
from cluster.contracts.quotas import OwnerQuotas, SubmissionLimits
from cluster.contracts.videos import Submission
from cluster.store.postgres.connections import Pool
from cluster.store.queue.reprocessing import LeftVideo, reprocess, retry, take_over
from cluster.store.queue.submissions import cancel, submit
from cluster.store.queue.video_queue import VideoQueue
from cluster.store.videos.deletion import forget
from tests.support.queued_videos import OWNER, claim_one, enqueue, only, paused, row, until_a_session_waits


def take_over_failed(pool: Pool, ids: list[UUID]) -> list[UUID]:
    return take_over(pool, [LeftVideo(each, OWNER, "/videos/00000.mp4", "FAILED") for each in ids], ["FAILED"])


def test_video_requeued_while_cancelled_is_cancelled(pool: Pool) -> None:
    video = claim_one(pool, VideoQueue(pool, "first", 60.0))
    with ThreadPoolExecutor(1) as threads:
        with pool.connection() as retrying:  # as a retry does, seen in the middle of its transaction
            retrying.execute("DELETE FROM video_leases WHERE video_id = %s", (video.id,))
            retrying.execute("UPDATE videos SET status = 'PENDING' WHERE id = %s", (video.id,))
            retrying.execute(
                "UPDATE video_processing SET available_at = clock_timestamp() WHERE video_id = %s", (video.id,)
            )
            cancelling = threads.submit(cancel, pool, [video.id])
            until_a_session_waits(pool)
        assert cancelling.result(timeout=10) == [video.id]
    assert row(pool, video.id)["status"] == "CANCELLED"


def test_an_owners_submissions_are_counted_one_after_the_other(database_url: str, pool: Pool) -> None:
    submit(pool, OWNER, [Submission(uri="a.mp4")], limits=SubmissionLimits(4))

    def send() -> int:
        try:
            return len(submit(pool, OWNER, [Submission(uri=f"{n}.mp4") for n in range(2)], limits=SubmissionLimits(4)))
        except TooManySubmissions:
            return 0

    with ThreadPoolExecutor(2) as threads:
        with paused(database_url, "videos", "INSERT ON {} FOR EACH ROW"):
            sent = [threads.submit(send) for _ in range(2)]
            until_a_session_waits(pool, 2)
        assert sorted(one.result(timeout=10) for one in sent) == [0, 2]
    assert only(pool, "SELECT count(*) AS n FROM videos")["n"] == 3


def test_the_same_submission_at_once_counts_once(pool: Pool) -> None:
    ids, limits = [uuid4(), uuid4()], SubmissionLimits(quotas=OwnerQuotas(videos=2))
    submissions = [Submission(uri=f"{n}.mp4") for n in range(2)]
    with ThreadPoolExecutor(2) as threads:
        with pool.connection() as blocker:
            blocker.execute("INSERT INTO video_owners (owner_id) VALUES (%s)", (OWNER,))
            sent = [threads.submit(submit, pool, OWNER, submissions, ids, limits=limits) for _ in range(2)]
            until_a_session_waits(pool, 2)
        assert [one.result(timeout=10) for one in sent] == [ids, ids]


def test_what_another_system_left_waiting_is_not_cancelled(pool: Pool) -> None:
    (video_id,) = enqueue(pool)
    with pool.connection() as connection:
        connection.execute("UPDATE video_processing SET available_at = NULL")
    assert cancel(pool, [video_id]) == []
    assert row(pool, video_id)["status"] == "PENDING"


def test_repeat_counts_for_nothing_whatever_came_between(pool: Pool) -> None:
    ids, two = [uuid4(), uuid4()], [Submission(uri="a.mp4"), Submission(uri="b.mp4")]
    submit(pool, OWNER, two, ids, limits=SubmissionLimits(4))
    enqueue(pool, 10)  # by a command, which has no such limit
    assert submit(pool, OWNER, two, ids, limits=SubmissionLimits(4)) == ids
    with pytest.raises(TooManySubmissions):
        submit(pool, OWNER, two, limits=SubmissionLimits(4))


@pytest.mark.parametrize("known", [True, False], ids=["ours", "another system's"])
@pytest.mark.parametrize("again", [reprocess, retry, take_over_failed])
def test_what_is_being_forgotten_is_not_processed_again(
    pool: Pool, again: Callable[[Pool, list[UUID]], list[UUID]], known: bool
) -> None:
    (video_id,) = enqueue(pool)
    with pool.connection() as connection:
        connection.execute("UPDATE videos SET status = 'FAILED', processing_finished_at = clock_timestamp()")
        if not known:
            connection.execute("DELETE FROM video_processing")
    with ThreadPoolExecutor(2) as threads:
        with pool.connection() as blocker:
            blocker.execute("SELECT FROM videos FOR UPDATE")
            forgetting = threads.submit(forget, pool, [video_id])
            until_a_session_waits(pool)
            reviving = threads.submit(again, pool, [video_id])
            until_a_session_waits(pool, 2)
        assert forgetting.result(timeout=10) == [video_id]
        assert reviving.result(timeout=10) == []
    assert row(pool, video_id)["status"] == "FAILED"
    assert VideoQueue(pool, "first", 60.0).claim(9) == []
