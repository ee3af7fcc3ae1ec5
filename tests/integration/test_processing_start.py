"""When processing begins: with the first worker, whatever becomes of the video, and all before that is queue time."""

import asyncio
from datetime import timedelta
from typing import Any

import pytest

from cluster.contracts.errors import WorkerLost
from cluster.contracts.results import StageFailure
from cluster.contracts.stages import REQUIRES, Blame, RetryRule, Stage
from cluster.contracts.videos import ClaimedVideo
from cluster.store.postgres.connections import Pool
from cluster.store.queue.submissions import cancel
from cluster.store.queue.video_queue import VideoQueue
from cluster.store.videos.scenes import SceneStore
from tests.support.played_workers import RUN_S, Workers, attempt
from tests.support.queued_videos import (
    MS,
    begin,
    claim_one,
    expire,
    finish,
    only,
    recovery,
    row,
    runs,
    scenes,
    transcript,
)

WAIT_S = 0.3
UNREADABLE = StageFailure("InvalidVideo", "it is empty", blame=Blame.VIDEO)


@pytest.fixture
def queue(pool: Pool) -> VideoQueue:
    return VideoQueue(pool, "first", 60.0)


@pytest.fixture
def video(pool: Pool, queue: VideoQueue) -> ClaimedVideo:
    return claim_one(pool, queue)


def measured(pool: Pool, video: ClaimedVideo) -> dict[str, Any]:
    """The video's row, whose times have been checked."""
    stored = row(pool, video.id)
    started_at, finished_at = stored["processing_started_at"], stored["processing_finished_at"]
    assert started_at >= stored["queued_at"]
    assert stored["processing_duration_ms"] * MS == finished_at - started_at
    return stored


def way_ms(pool: Pool, video: ClaimedVideo) -> float:
    """Wait and run along the critical path."""
    ledger, stage, path_ms = runs(pool, video.id), Stage.FINALIZING, 0.0
    while True:
        path_ms += ledger[stage]["wait_ms"] + ledger[stage]["run_ms"]
        if not REQUIRES[stage]:
            return path_ms
        stage = max(REQUIRES[stage], key=lambda needed: ledger[needed]["finished_at"])


def test_start_is_the_first_workers_and_waiting_is_queue(pool: Pool, queue: VideoQueue, video: ClaimedVideo) -> None:
    attempt(pool, queue, video, Workers(wait_s=WAIT_S))
    stored, first = measured(pool, video), runs(pool, video.id)["downloading"]
    assert stored["processing_started_at"] - video.claimed_at >= timedelta(seconds=WAIT_S)
    assert first["ready_at"] == stored["processing_started_at"]
    assert first["wait_ms"] <= 1.0
    assert first["started_at"] - first["ready_at"] <= MS
    queue_ms = (stored["processing_started_at"] - stored["queued_at"]) / MS
    whole_ms = (stored["processing_finished_at"] - stored["queued_at"]) / MS
    assert abs(queue_ms + way_ms(pool, video) - whole_ms) < 50


def test_start_is_known_while_a_long_first_call_runs(
    pool: Pool, queue: VideoQueue, video: ClaimedVideo, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("actors.attempt.attempt.SHORT_CALL_S", 0.01)
    seen: list[Any] = []

    async def download() -> None:
        for _ in range(500):
            if seen and seen[-1] is not None:
                return
            seen.append((await asyncio.to_thread(row, pool, video.id))["processing_started_at"])
            await asyncio.sleep(0.01)

    attempt(pool, queue, video, Workers(wait_s=WAIT_S, locate=download))
    stored = measured(pool, video)
    assert stored["processing_started_at"] == seen[-1] == runs(pool, video.id)["downloading"]["ready_at"]
    assert seen[-1] - video.claimed_at >= timedelta(seconds=WAIT_S)


def test_start_of_a_video_that_fails_at_once_is_measured(pool: Pool, queue: VideoQueue, video: ClaimedVideo) -> None:
    attempt(pool, queue, video, Workers(wait_s=WAIT_S, locate=UNREADABLE))
    stored, first = measured(pool, video), runs(pool, video.id)["downloading"]
    assert stored["status"] == "FAILED"
    assert stored["processing_started_at"] - video.claimed_at >= timedelta(seconds=WAIT_S)
    assert stored["processing_duration_ms"] >= RUN_S * 1000
    assert first["ready_at"] == stored["processing_started_at"]


def test_start_when_the_first_worker_dies_is_its_call(pool: Pool, queue: VideoQueue, video: ClaimedVideo) -> None:
    async def dies() -> None:
        await asyncio.sleep(WAIT_S)
        raise WorkerLost("worker x died")

    attempt(pool, queue, video, Workers(wait_s=WAIT_S, locate=dies))
    for _ in range(2):
        (video,) = queue.claim(1)
        attempt(pool, queue, video, Workers(wait_s=WAIT_S, locate=dies))
    stored = measured(pool, video)
    assert (stored["status"], stored["processing_stage"], stored["crashes"]) == ("FAILED", "downloading", 3)
    assert stored["processing_started_at"] - video.claimed_at >= timedelta(seconds=WAIT_S)
    assert stored["processing_duration_ms"] >= WAIT_S * 1000


def test_start_ahead_of_a_clock_set_back_is_the_end(pool: Pool, queue: VideoQueue, video: ClaimedVideo) -> None:
    begin(pool, video, Stage.FINALIZING)
    with pool.connection() as connection:
        connection.execute("UPDATE videos SET processing_started_at = date_trunc('minute', now()) + interval '2 min'")
    finish(queue, video)
    stored = measured(pool, video)
    assert (stored["status"], stored["processing_duration_ms"]) == ("READY", 0)
    assert runs(pool, video.id)["finalizing"]["finished_at"] == stored["processing_finished_at"]


def test_start_of_a_video_whose_scenes_are_stored_is_set(pool: Pool, queue: VideoQueue, video: ClaimedVideo) -> None:
    SceneStore(pool).replace(video.id, video.lease_token, transcript("low tide"), scenes(video.id, "low tide"), 60.0)
    queue.retry(video, StageFailure("NodeLost", "it is gone", Blame.INTERRUPTION), 0.0)
    assert row(pool, video.id)["processing_started_at"] is None
    (again,) = queue.claim(1)
    attempt(pool, queue, again, Workers())
    assert measured(pool, again)["status"] == "READY"


def test_start_is_unknown_after_the_scheduler_died(pool: Pool, queue: VideoQueue, video: ClaimedVideo) -> None:
    expire(pool, video)
    assert recovery(pool, "second").reap() == [video.id]
    assert row(pool, video.id)["processing_started_at"] is None


def test_start_of_a_video_interrupted_too_often_is_measured(pool: Pool, queue: VideoQueue, video: ClaimedVideo) -> None:
    expire(pool, video)
    assert recovery(pool, "second", RetryRule(max_interruptions=1)).reap() == [video.id]
    assert measured(pool, video)["status"] == "FAILED"


def test_start_of_a_cancelled_video_that_waits_is_unknown(pool: Pool, queue: VideoQueue, video: ClaimedVideo) -> None:
    assert cancel(pool, [video.id]) == [video.id]
    assert row(pool, video.id)["processing_started_at"] is None


def test_start_of_a_lost_lease_is_not_written(pool: Pool, queue: VideoQueue, video: ClaimedVideo) -> None:
    async def loses() -> None:
        expire(pool, video)
        recovery(pool, "second").reap()

    with pytest.raises(BaseException, match="lease"):
        attempt(pool, queue, video, Workers(locate=loses))
    assert row(pool, video.id)["processing_started_at"] is None
    assert only(pool, "SELECT count(*) AS n FROM video_leases")["n"] == 0


def test_queue_share_of_the_figures_is_that_of_the_ledger(pool: Pool, queue: VideoQueue) -> None:
    for wait_s in (0.0, WAIT_S, 2 * WAIT_S):
        attempt(pool, queue, claim_one(pool, queue), Workers(wait_s=wait_s))
    shares = only(
        pool,
        """
        SELECT (SELECT queue_time_pct FROM get_admin_queue_analysis(1)) AS figures,
               100 * sum(extract(epoch FROM r.started_at - v.queued_at))
                   / sum(extract(epoch FROM v.processing_finished_at - v.queued_at)) AS ledger
        FROM videos AS v JOIN video_stage_runs AS r ON r.video_id = v.id AND r.stage = 'downloading'
        """,
    )
    assert shares["figures"] == pytest.approx(float(shares["ledger"]), abs=2.0)
    assert shares["figures"] > 10
