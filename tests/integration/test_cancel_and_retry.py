"""The actions of owners on their videos: submit them once, cancel them in any state, let them be tried again.

Which HTTP answers come of it is ``test_videos_api``'s and ``test_quarantine_api``'s.
"""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from uuid import UUID, uuid4

import pytest

from cluster.contracts.errors import LeaseLost, SubmissionChanged
from cluster.contracts.media import MediaInfo
from cluster.contracts.results import StageFailure
from cluster.contracts.stages import Blame, Setbacks, Stage
from cluster.contracts.videos import ClaimedVideo, Submission
from cluster.store.postgres.connections import Pool
from cluster.store.queue.failures import FailureFilter
from cluster.store.queue.reprocessing import retry
from cluster.store.queue.stage_results import StageResults
from cluster.store.queue.stage_runs import OpenRun, StageLedger
from cluster.store.queue.submissions import cancel, quarantine, submit
from cluster.store.queue.video_queue import VideoQueue
from cluster.store.videos.scenes import SceneStore
from tests.support.queued_videos import (
    OWNER,
    begin,
    claim_one,
    enqueue,
    everything,
    finish,
    only,
    record_media,
    row,
    runs,
    scenes,
    transcript,
    until_a_session_waits,
)

OTHER = UUID(int=8)
TROUBLE = StageFailure("TransientFailure", "the network is away", Blame.ERROR)
SAID = transcript("the tide comes in")


@pytest.fixture
def queue(pool: Pool) -> VideoQueue:
    return VideoQueue(pool, "first", 60.0)


def fail_one(pool: Pool, queue: VideoQueue, stage: Stage = Stage.TRANSCRIPTION, owner: UUID = OWNER) -> UUID:
    (video_id,) = submit(pool, owner, [Submission(uri=f"/videos/{stage}.mp4")])
    (video,) = queue.claim(1)
    assert video.id == video_id
    queue.fail(video, stage, TROUBLE)
    return video_id


def status(pool: Pool, video_id: UUID) -> str:
    found: str = row(pool, video_id)["status"]
    return found


# Submitting


def test_the_same_submission_twice_is_one_whatever_became_of_it(pool: Pool, queue: VideoQueue) -> None:
    ids = [uuid4() for _ in range(3)]
    submissions = [Submission(uri=f"{n}.mp4", priority=n) for n in range(3)]
    assert submit(pool, OWNER, submissions, ids) == ids
    waiting = everything(pool)
    assert submit(pool, OWNER, submissions, ids) == ids
    assert everything(pool) == waiting
    claimed, failed, _ = queue.claim(3)
    queue.fail(failed, "metadata", TROUBLE)
    cancel(pool, [claimed.id])
    settled = everything(pool)
    assert submit(pool, OWNER, submissions, ids) == ids
    assert everything(pool) == settled


def test_the_same_submission_at_once_is_one(pool: Pool) -> None:
    ids = [uuid4() for _ in range(200)]
    submissions = [Submission(uri=f"{n}.mp4") for n in range(200)]
    with ThreadPoolExecutor(4) as threads:
        answers = list(threads.map(lambda _: submit(pool, OWNER, submissions, ids), range(8)))
    assert answers == [ids] * 8
    assert only(pool, "SELECT count(*) AS n, count(DISTINCT id) AS ids FROM videos") == {"n": 200, "ids": 200}


def test_a_submission_of_which_some_arrived_is_completed(pool: Pool) -> None:
    ids = [uuid4() for _ in range(3)]
    submissions = [Submission(uri=f"{n}.mp4") for n in range(3)]
    submit(pool, OWNER, submissions[:1], ids[:1])
    assert submit(pool, OWNER, submissions, ids) == ids
    assert [row(pool, video_id)["filename"] for video_id in ids] == ["0.mp4", "1.mp4", "2.mp4"]


def test_ids_of_another_submission_are_refused(pool: Pool) -> None:
    (known,) = submit(pool, OWNER, [Submission(uri="a.mp4")])
    before = everything(pool)
    with pytest.raises(SubmissionChanged):
        submit(pool, OWNER, [Submission(uri="c.mp4"), Submission(uri="b.mp4")], [uuid4(), known])
    assert everything(pool) == before


# Cancelling


@pytest.mark.parametrize("delay_s", [None, 3600.0])
def test_what_waits_is_cancelled_and_never_claimed(pool: Pool, queue: VideoQueue, delay_s: float | None) -> None:
    """Also while it backs off."""
    (video_id,) = enqueue(pool)
    if delay_s is not None:
        queue.retry(queue.claim(1)[0], TROUBLE, delay_s)
    assert cancel(pool, [video_id]) == [video_id]
    stored = row(pool, video_id)
    assert (stored["status"], stored["available_at"], stored["error_type"]) == ("CANCELLED", None, "Cancelled")
    assert queue.claim(10) == []


def late_writes(pool: Pool, queue: VideoQueue, video: ClaimedVideo) -> dict[str, Callable[[], object]]:
    info = MediaInfo(1.0, 0.0, 25.0, 640, 360, 0, "h264", None, 4096)
    return {
        "media": lambda: record_media(pool, video, info),
        "transcript": lambda: StageResults(pool).keep_transcript(video.id, video.lease_token, SAID),
        "scenes": lambda: SceneStore(pool).replace(video.id, video.lease_token, SAID, scenes(video.id, "tide"), 1.0),
        "finish": lambda: finish(queue, video),
        "fail": lambda: queue.fail(video, "metadata", TROUBLE),
        "retry": lambda: queue.retry(video, TROUBLE, 0.0),
    }


def test_cancelled_running_video_loses_its_lease_and_writes(pool: Pool, queue: VideoQueue) -> None:
    enqueue(pool, 2)
    video, beside = queue.claim(2)
    begin(pool, video, Stage.TRANSCRIPTION, Stage.SCENE_DETECTION)
    begin(pool, beside, Stage.TRANSCRIPTION)
    StageResults(pool).keep_transcript(video.id, video.lease_token, SAID)
    assert cancel(pool, [video.id]) == [video.id]
    stored = row(pool, video.id)
    assert (stored["status"], stored["available_at"], stored["error_type"]) == ("CANCELLED", None, "Cancelled")
    closed = runs(pool, video.id)
    assert {run["outcome"] for run in closed.values()} == {"lost"}
    assert {run["error_type"] for run in closed.values()} == {"Cancelled"}
    assert all(run["finished_at"] >= run["ready_at"] for run in closed.values())
    assert queue.heartbeat([video.lease_token, beside.lease_token]) == {beside.lease_token}
    assert only(pool, "SELECT count(*) AS n FROM video_stage_results")["n"] == 0
    before = everything(pool)
    for write in late_writes(pool, queue, video).values():
        with pytest.raises(LeaseLost):
            write()
    assert StageLedger(pool).write([OpenRun(video, Stage.SCENE_PROCESSING, video.claimed_at)], []) == set()
    assert everything(pool) == before
    assert only(pool, "SELECT count(*) AS n FROM video_stage_results")["n"] == 0


def test_what_has_ended_stays_as_it_is(pool: Pool, queue: VideoQueue) -> None:
    ready, again = claim_one(pool, queue), fail_one(pool, queue)
    begin(pool, ready, Stage.FINALIZING)
    finish(queue, ready)
    (cancelled,) = enqueue(pool)
    cancel(pool, [cancelled])
    before = everything(pool)
    assert cancel(pool, [ready.id, again, cancelled, uuid4()]) == []
    assert cancel(pool, []) == []
    assert everything(pool) == before


def test_cancel_with_owner_cancels_only_that_owners_videos(pool: Pool, queue: VideoQueue) -> None:
    claimed, mine = claim_one(pool, queue).id, enqueue(pool)
    theirs = submit(pool, OTHER, [Submission(uri="a.mp4")])
    assert cancel(pool, [*mine, *theirs, claimed], owner_id=OTHER) == theirs
    assert set(cancel(pool, [*mine, *theirs, claimed])) == {*mine, claimed}


def test_video_claimed_while_cancelled_is_cancelled(pool: Pool, queue: VideoQueue) -> None:
    (video_id,) = enqueue(pool)
    with ThreadPoolExecutor(1) as threads:
        with pool.connection() as claiming:  # as a claim does, seen in the middle of its transaction
            claiming.execute("UPDATE videos SET status = 'PROCESSING' WHERE id = %s", (video_id,))
            claiming.execute(
                "UPDATE video_processing SET attempt = 1, available_at = NULL WHERE video_id = %s", (video_id,)
            )
            claiming.execute(
                "INSERT INTO video_leases (video_id, lease_token, scheduler, expires_at) "
                "VALUES (%s, nextval('video_lease_tokens'), 'first', clock_timestamp() + interval '1 minute')",
                (video_id,),
            )
            cancelling = threads.submit(cancel, pool, [video_id])
            until_a_session_waits(pool)
        assert cancelling.result(timeout=10) == [video_id]
    assert (status(pool, video_id), everything(pool)[1]) == ("CANCELLED", [])


def test_a_video_that_fails_while_it_is_cancelled_has_failed(pool: Pool, queue: VideoQueue) -> None:
    video = claim_one(pool, queue)
    with ThreadPoolExecutor(1) as threads:
        with pool.connection() as failing:
            failing.execute("DELETE FROM video_leases WHERE video_id = %s", (video.id,))
            failing.execute("UPDATE videos SET status = 'FAILED' WHERE id = %s", (video.id,))
            cancelling = threads.submit(cancel, pool, [video.id])
            until_a_session_waits(pool)
        assert cancelling.result(timeout=10) == []
    assert status(pool, video.id) == "FAILED"


# Trying again


def test_failed_video_is_retried_with_its_attempts_counted(pool: Pool, queue: VideoQueue) -> None:
    chosen, beside = fail_one(pool, queue), fail_one(pool, queue)
    failed = row(pool, chosen)
    assert (failed["failures"], failed["error_type"]) == (1, "TransientFailure")
    assert retry(pool, [chosen]) == [chosen]
    stored = row(pool, chosen)
    assert (stored["status"], stored["processing_stage"], stored["attempt"]) == ("PENDING", "queued", 1)
    assert (stored["error_type"], stored["error_message"]) == (None, None)
    assert (stored["processing_started_at"], stored["processing_finished_at"]) == (None, None)
    assert stored["processing_duration_ms"] is None
    assert stored["queued_at"] > failed["processing_finished_at"] - timedelta(milliseconds=1)
    assert status(pool, beside) == "FAILED"
    (again,) = queue.claim(10)
    assert (again.id, again.attempt, again.setbacks) == (chosen, 2, Setbacks())


def test_retry_of_a_stage_retries_nothing_else(pool: Pool, queue: VideoQueue) -> None:
    transcription, indexing = fail_one(pool, queue), fail_one(pool, queue, Stage.INDEXING)
    theirs = fail_one(pool, queue, owner=OTHER)
    claimed = claim_one(pool, queue)
    begin(pool, claimed, Stage.TRANSCRIPTION)
    cancelled = claim_one(pool, queue)
    begin(pool, cancelled, Stage.TRANSCRIPTION)
    cancel(pool, [cancelled.id])
    assert row(pool, cancelled.id)["processing_stage"] == "transcription"
    assert retry(pool, owner_id=OTHER, failures=FailureFilter(Stage.TRANSCRIPTION)) == [theirs]
    assert retry(pool, failures=FailureFilter(Stage.TRANSCRIPTION)) == [transcription]
    assert (status(pool, indexing), status(pool, claimed.id)) == ("FAILED", "PROCESSING")
    assert retry(pool, failures=FailureFilter(Stage.METADATA)) == []
    assert retry(pool) == [indexing]
    assert retry(pool) == []
    assert status(pool, cancelled.id) == "CANCELLED"


def test_a_cancelled_video_is_tried_again_when_it_is_named(pool: Pool, queue: VideoQueue) -> None:
    video = claim_one(pool, queue)
    begin(pool, video, Stage.TRANSCRIPTION)
    StageResults(pool).keep_transcript(video.id, video.lease_token, SAID)
    cancel(pool, [video.id])
    assert retry(pool, [video.id], owner_id=OTHER) == []
    assert retry(pool, [video.id]) == [video.id]
    (again,) = queue.claim(10)
    assert (again.id, again.attempt, again.stored) == (video.id, 2, frozenset())
    assert again.lease_token > video.lease_token
    with pytest.raises(LeaseLost):
        finish(queue, video)


def test_what_waits_is_worked_on_or_is_ready_is_not_tried_again(pool: Pool, queue: VideoQueue) -> None:
    ready = claim_one(pool, queue)
    begin(pool, ready, Stage.FINALIZING)
    finish(queue, ready)
    claimed = claim_one(pool, queue)
    (waiting,) = enqueue(pool)
    before = everything(pool)
    assert retry(pool, [ready.id, claimed.id, waiting, uuid4()]) == retry(pool, []) == []
    assert everything(pool) == before


def test_what_another_system_failed_is_not_tried_again(pool: Pool, queue: VideoQueue) -> None:
    submit(pool, OWNER, [])
    with pool.connection() as connection:
        connection.execute(
            "INSERT INTO videos (owner_id, storage_path, filename, status) VALUES (%s, 'x', 'x', 'FAILED')", (OWNER,)
        )
    assert retry(pool) == []
    assert queue.claim(1) == []


def test_stored_results_of_a_failed_video_are_not_made_again(pool: Pool, queue: VideoQueue) -> None:
    video = claim_one(pool, queue)
    assert video.stored == frozenset()
    StageResults(pool).keep_transcript(video.id, video.lease_token, SAID)
    SceneStore(pool).replace(video.id, video.lease_token, SAID, scenes(video.id, "tide"), 1.0)
    queue.fail(video, Stage.FINALIZING, TROUBLE)
    retry(pool, [video.id])
    (again,) = queue.claim(1)
    assert again.stored == {Stage.TRANSCRIPTION, Stage.INDEXING}
    assert StageResults(pool).recall_transcript(video.id) == SAID
    begin(pool, again, Stage.FINALIZING)
    finish(queue, again)
    assert only(pool, "SELECT count(*) AS n FROM video_stage_results")["n"] == 0
    with pytest.raises(LookupError):
        StageResults(pool).recall_transcript(video.id)


@pytest.mark.parametrize("blame", [Blame.ERROR, Blame.CRASH, Blame.INTERRUPTION])
def test_errors_crashes_and_interruptions_count_apart(pool: Pool, queue: VideoQueue, blame: Blame) -> None:
    video = claim_one(pool, queue)
    for count in (1, 2):
        queue.retry(video, StageFailure("Trouble", "x", blame), 0.0)
        (video,) = queue.claim(1)
        expected = Setbacks(*(count if blame is kind else 0 for kind in (Blame.ERROR, Blame.CRASH, Blame.INTERRUPTION)))
        assert (video.attempt, video.setbacks) == (count + 1, expected)
    queue.fail(video, "metadata", StageFailure("Trouble", "x", blame))
    stored = row(pool, video.id)
    counted = (stored["failures"], stored["crashes"], stored["interruptions"])
    assert counted == tuple(3 if blame is kind else 0 for kind in (Blame.ERROR, Blame.CRASH, Blame.INTERRUPTION))


# What failed for good


def test_quarantine_lists_what_failed_latest_first_and_why(pool: Pool, queue: VideoQueue) -> None:
    first, second = fail_one(pool, queue, Stage.METADATA), fail_one(pool, queue)
    theirs = fail_one(pool, queue, owner=OTHER)
    crashed = claim_one(pool, queue)
    queue.retry(crashed, StageFailure("WorkerLost", "the worker died", Blame.CRASH), 0.0)
    (crashed,) = queue.claim(1)
    queue.fail(crashed, Stage.SCENE_DETECTION, StageFailure("WorkerLost", "the worker died", Blame.CRASH))
    (cancelled,) = enqueue(pool)
    cancel(pool, [cancelled])
    claim_one(pool, queue)
    videos, total = quarantine(pool, 10)
    assert ([video.id for video in videos], total) == ([crashed.id, theirs, second, first], 4)
    last = videos[0]
    assert (last.stage, last.error_type, last.error_message) == ("scene_detection", "WorkerLost", "the worker died")
    assert (last.attempts, last.crashes, last.owner_id, last.uri) == (2, 2, OWNER, "/videos/00000.mp4")
    assert last.failed_at == row(pool, crashed.id)["processing_finished_at"]
    page, total = quarantine(pool, 2, 1)
    assert ([video.id for video in page], total) == ([theirs, second], 4)
    ours, total = quarantine(pool, 10, owner_id=OWNER, stage=Stage.TRANSCRIPTION)
    assert ([video.id for video in ours], total) == ([second], 1)
    retry(pool, [first])
    assert quarantine(pool, 10)[1] == 3
