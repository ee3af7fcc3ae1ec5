"""No stage run stays open, although it was opened while its lease was being taken away."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from cluster.contracts.results import StageFailure
from cluster.contracts.stages import Blame, Stage
from cluster.contracts.videos import ClaimedVideo
from cluster.store.postgres.connections import Pool
from cluster.store.queue.stage_results import keep
from cluster.store.queue.submissions import cancel
from cluster.store.queue.video_queue import VideoQueue
from tests.support.queued_videos import claim_one, only, recovery, runs, until_a_session_waits

TROUBLE = StageFailure("TransientFailure", "the network is away", Blame.ERROR)


def endings(pool: Pool, queue: VideoQueue, video: ClaimedVideo) -> dict[str, Callable[[], object]]:
    return {
        "cancel": lambda: cancel(pool, [video.id]),
        "hand_back": recovery(pool, "first").hand_back,
        "reap_own": recovery(pool, "first").reap_own,
        "fail": lambda: queue.fail(video, "metadata", TROUBLE),
        "retry": lambda: queue.retry(video, TROUBLE, 0.0),
    }


@pytest.mark.parametrize("end", ["cancel", "hand_back", "reap_own", "fail", "retry"])
def test_run_opened_while_its_lease_ends_is_closed_with_it(pool: Pool, end: str) -> None:
    queue = VideoQueue(pool, "first", 60.0)
    video = claim_one(pool, queue)
    with ThreadPoolExecutor(1) as threads:
        with pool.connection() as ledger:  # as the ledger does, seen in the middle of its transaction
            keep(ledger, video.id, video.lease_token, Stage.TRANSCRIPTION)
            ledger.execute(
                "INSERT INTO video_stage_runs (video_id, attempt, stage, ready_at) VALUES (%s, 1, 'downloading', %s)",
                (video.id, video.claimed_at),
            )
            ended = threads.submit(endings(pool, queue, video)[end])
            until_a_session_waits(pool)
        ended.result(timeout=10)
    assert runs(pool, video.id)["downloading"]["outcome"] == "lost"
    kept = only(pool, "SELECT count(*) AS n FROM video_stage_results WHERE video_id = %s", video.id)["n"]
    assert kept == (0 if end == "cancel" else 1)
