"""One attempt from claim to its end on a real queue and ledger; only the workers are played."""

import asyncio
import threading
from collections.abc import Sequence
from typing import Any

import pytest

from actors.attempt.attempt import Admitted
from actors.attempt.engine_outage import EngineOutage
from actors.workers.deadlines import ENOUGH, Deadlines
from cluster.contracts.errors import LeaseLost, NodeLost, StageTimeout, WorkerLost
from cluster.contracts.results import StageFailure
from cluster.contracts.stages import Blame, Setbacks, Stage
from cluster.contracts.videos import ClaimedVideo
from cluster.store.postgres.connections import Pool
from cluster.store.queue.stage_results import StageResults
from cluster.store.queue.stage_runs import ClosedRun, OpenRun, StageLedger
from cluster.store.queue.video_queue import VideoQueue
from cluster.store.videos.scenes import SceneStore
from tests.support.played_workers import RUN_S, Workers, attempt
from tests.support.queued_videos import MS, claim_one, everything, expire, only, recovery, row, runs, scenes, transcript


@pytest.fixture
def queue(pool: Pool) -> VideoQueue:
    return VideoQueue(pool, "first", 60.0)


@pytest.fixture
def video(pool: Pool, queue: VideoQueue) -> ClaimedVideo:
    return claim_one(pool, queue)


def outcomes(pool: Pool, video: ClaimedVideo) -> dict[str, str]:
    return {stage: run["outcome"] for stage, run in runs(pool, video.id).items()}


def test_a_video_goes_all_the_way_and_its_time_is_without_gap(
    pool: Pool, queue: VideoQueue, video: ClaimedVideo
) -> None:
    workers = Workers()
    told_s: list[float] = []
    attempt(pool, queue, video, workers, admitted=Admitted(on_length=told_s.append))
    assert told_s == [60.0]
    stored = row(pool, video.id)
    assert (stored["status"], stored["processing_stage"], stored["duration_s"]) == ("READY", "completed", 60.0)
    assert outcomes(pool, video) == {stage.value: "completed" for stage in Stage}
    beside_each_other = {"read_speech", "detect", "transcribe", "keep_transcript"}
    one_by_one = ["locate", "probe", "describe", "write", "discard"]
    assert [call for call, _ in workers.calls if call not in beside_each_other] == one_by_one
    on_the_files_node = {"probe", "read_speech", "detect", "discard"}
    assert {call for call, node_id in workers.calls if node_id == "the-files-node"} == on_the_files_node
    ledger = runs(pool, video.id)
    assert ledger["downloading"]["ready_at"] == stored["processing_started_at"] >= video.claimed_at
    assert ledger["scene_processing"]["ready_at"] == max(
        ledger["transcription"]["finished_at"], ledger["scene_detection"]["finished_at"]
    )
    assert ledger["transcription"]["run_ms"] == pytest.approx(3 * RUN_S * 1000)  # three calls, one stage
    assert abs((ledger["finalizing"]["finished_at"] - stored["processing_finished_at"]) / MS) <= 1.0


def test_deadlines_are_learned_from_attempts(pool: Pool, queue: VideoQueue) -> None:
    deadlines, workers = Deadlines(), Workers()
    for _ in range(ENOUGH + 1):
        attempt(pool, queue, claim_one(pool, queue), workers, deadlines=deadlines)
    given = dict(workers.added_s[-8:])
    assert given["transcribe"] == given["detect"] == 0.0  # ten times RUN_S is far below the fixed part
    assert dict(workers.added_s[:8])["transcribe"] == 20.0 * 60.0


AWAY = StageFailure("SearchUnavailable", "OpenSearch cannot be used: it is away", blame=Blame.INTERRUPTION)


def test_video_waits_in_indexing_while_search_engine_is_away(
    pool: Pool, queue: VideoQueue, video: ClaimedVideo
) -> None:
    outage, answers, told = EngineOutage(pause_s=0.05), [AWAY, AWAY, None], list[str | None]()

    async def index() -> StageFailure | None:
        told.append(outage.trouble)
        return answers.pop(0)

    workers = Workers(index=index)
    assert attempt(pool, queue, video, workers, outage=outage) == []
    assert told == [None, AWAY.message, AWAY.message]
    assert outage.trouble is None
    stored, run = row(pool, video.id), runs(pool, video.id)["indexing"]
    assert (stored["status"], stored["interruptions"]) == ("READY", 0)
    assert [call for call, _ in workers.calls if call in ("write", "index")] == ["write", "index", "index", "index"]
    assert run["outcome"] == "completed"
    assert run["run_ms"] == pytest.approx(4 * RUN_S * 1000)
    assert run["wait_ms"] >= 2 * 50


def test_what_is_stored_is_still_brought_to_the_search_engine(
    pool: Pool, queue: VideoQueue, video: ClaimedVideo
) -> None:
    async def lost() -> StageFailure:
        return StageFailure("WorkerLost", "it died", blame=Blame.INTERRUPTION)

    def stored() -> None:
        SceneStore(pool).replace(
            video.id, video.lease_token, transcript("low tide"), scenes(video.id, "low tide"), 60.0
        )

    async def write() -> None:
        await asyncio.to_thread(stored)

    attempt(pool, queue, video, Workers(write=write, index=lost), outage=EngineOutage())
    (again,) = queue.claim(10)
    workers = Workers()
    attempt(pool, queue, again, workers, outage=EngineOutage())
    assert [call for call, _ in workers.calls] == ["index"]
    assert row(pool, video.id)["status"] == "READY"
    assert runs(pool, video.id)["indexing"]["outcome"] == "completed"


def test_a_document_that_is_refused_fails_its_video(pool: Pool, queue: VideoQueue, video: ClaimedVideo) -> None:
    refused = StageFailure("DocumentRefused", "the search engine refuses scene 3: too long", blame=Blame.VIDEO)
    attempt(pool, queue, video, Workers(index=refused), outage=EngineOutage())
    stored = row(pool, video.id)
    assert (stored["status"], stored["processing_stage"], stored["error_message"]) == (
        "FAILED", "indexing", refused.message,
    )  # fmt: skip


def test_finalizing_is_charged_the_removal_without_its_wait(pool: Pool, queue: VideoQueue, video: ClaimedVideo) -> None:
    async def busy() -> None:
        await asyncio.sleep(0.3)

    attempt(pool, queue, video, Workers(discard=busy))
    run = runs(pool, video.id)["finalizing"]
    assert run["run_ms"] == pytest.approx(RUN_S * 1000, abs=0.01)
    assert run["wait_ms"] >= 290
    assert (run["worker"], run["node"]) == ("discard-worker", "10.0.0.1")


@pytest.mark.parametrize(
    ("failure", "status", "stage"),
    [
        (StageFailure("InvalidVideo", "no pictures", blame=Blame.VIDEO), "FAILED", "scene_detection"),
        (StageFailure("TransientFailure", "the disk is full", blame=Blame.ERROR), "PENDING", "queued"),
    ],
)
def test_a_failed_stage_is_settled_and_its_neighbour_given_up(
    pool: Pool, queue: VideoQueue, video: ClaimedVideo, failure: StageFailure, status: str, stage: str
) -> None:
    async def endless() -> None:
        await asyncio.sleep(3600)

    workers = Workers(detect=failure, transcribe=endless)
    attempt(pool, queue, video, workers)
    stored = row(pool, video.id)
    assert (stored["status"], stored["processing_stage"]) == (status, stage)
    assert (stored["error_type"], stored["error_message"]) == (failure.error_type, failure.message)
    given_up = runs(pool, video.id)["transcription"]
    assert (given_up["outcome"], given_up["error_type"]) == ("lost", "Abandoned")
    assert outcomes(pool, video)["scene_detection"] == "failed"
    assert workers.calls[-1][0] == "discard"


def test_a_failure_is_in_the_ledger_before_its_video_is_settled(
    pool: Pool, queue: VideoQueue, video: ClaimedVideo, monkeypatch: pytest.MonkeyPatch
) -> None:
    def write_late(ledger: StageLedger, opened: Sequence[OpenRun], closed: Sequence[ClosedRun]) -> set[int]:
        if closed:
            threading.Event().wait(0.3)
        return write(ledger, opened, closed)

    write = StageLedger.write
    monkeypatch.setattr(StageLedger, "write", write_late)
    attempt(pool, queue, video, Workers(locate=StageFailure("InvalidVideo", "it is empty", blame=Blame.VIDEO)))
    assert outcomes(pool, video) == {"downloading": "failed"}
    assert row(pool, video.id)["status"] == "FAILED"


@pytest.mark.parametrize(
    ("error", "outcome"),
    [(WorkerLost("worker x died"), "lost"), (StageTimeout("still running after 60 s"), "failed")],
)
def test_a_dead_or_hanging_worker_costs_one_attempt(
    pool: Pool, queue: VideoQueue, video: ClaimedVideo, error: Exception, outcome: str
) -> None:
    attempt(pool, queue, video, Workers(describe=error))
    run = runs(pool, video.id)["scene_processing"]
    assert (run["outcome"], run["run_ms"], run["error_message"]) == (outcome, 0.0, str(error))
    assert row(pool, video.id)["status"] == "PENDING"
    (again,) = queue.claim(1)
    assert (again.attempt, again.setbacks) == (2, Setbacks(crashes=1))


def test_the_last_allowed_failure_is_final_and_names_its_stage(
    pool: Pool, queue: VideoQueue, video: ClaimedVideo
) -> None:
    workers = Workers(write=StageFailure("TransientFailure", "the disk is full", blame=Blame.ERROR))
    attempt(pool, queue, video, workers)
    for _ in range(2):
        (again,) = queue.claim(1)
        attempt(pool, queue, again, workers)
    stored = row(pool, video.id)
    assert (stored["status"], stored["processing_stage"], stored["failures"]) == ("FAILED", "indexing", 3)
    assert only(pool, "SELECT count(*) AS n FROM video_stage_runs WHERE outcome = 'running'")["n"] == 0


def test_lost_lease_removes_the_download_and_writes_nothing(pool: Pool, queue: VideoQueue, video: ClaimedVideo) -> None:
    seen: list[Any] = []

    async def lose() -> None:
        expire(pool, video)
        recovery(pool, "first").reap()
        seen.append(everything(pool))

    workers = Workers(describe=lose)
    with pytest.raises(LeaseLost):
        attempt(pool, queue, video, workers)
    assert everything(pool) == seen[0]
    assert workers.calls[-1][0] == "discard"


@pytest.mark.parametrize("call", ["probe", "detect", "write"])
def test_a_cancelled_attempt_removes_its_download(
    pool: Pool, queue: VideoQueue, video: ClaimedVideo, call: str
) -> None:
    begun = asyncio.Event()

    async def hang() -> None:
        begun.set()
        await asyncio.sleep(3600)

    async def cancel(processing: "asyncio.Task[None]") -> None:
        await begun.wait()
        processing.cancel()

    workers = Workers()
    workers.trouble = {call: hang}
    with pytest.raises(asyncio.CancelledError):
        attempt(pool, queue, video, workers, cancel)
    assert workers.calls[-1] == ("discard", "the-files-node")
    assert row(pool, video.id)["status"] == "PROCESSING"
    assert recovery(pool, "first").hand_back() == [video.id]
    assert "running" not in outcomes(pool, video).values()


def test_attempt_own_defect_leaves_the_video_to_the_reaper(pool: Pool, queue: VideoQueue, video: ClaimedVideo) -> None:
    workers = Workers(describe=ZeroDivisionError("a defect"))
    with pytest.raises(ZeroDivisionError):
        attempt(pool, queue, video, workers)
    assert workers.calls[-1][0] == "discard"
    assert outcomes(pool, video)["scene_processing"] == "running"
    expire(pool, video)
    assert recovery(pool, "first").reap() == [video.id]
    assert outcomes(pool, video)["scene_processing"] == "lost"
    assert row(pool, video.id)["status"] == "PENDING"


def test_unremovable_download_keeps_no_video_from_ready(pool: Pool, queue: VideoQueue, video: ClaimedVideo) -> None:
    attempt(pool, queue, video, Workers(discard=NodeLost("its node is gone")))
    assert row(pool, video.id)["status"] == "READY"
    assert runs(pool, video.id)["finalizing"]["worker"] == "first"


def test_a_node_that_died_costs_none_of_the_attempts(pool: Pool, queue: VideoQueue, video: ClaimedVideo) -> None:
    attempt(pool, queue, video, Workers(detect=NodeLost("the node 10.0.0.1 is gone")))
    run = runs(pool, video.id)["scene_detection"]
    assert (run["outcome"], run["error_type"]) == ("lost", "NodeLost")
    stored = row(pool, video.id)
    assert (stored["status"], stored["failures"], stored["crashes"], stored["interruptions"]) == ("PENDING", 0, 0, 1)


def test_video_runs_alone_after_two_crashes_and_fails_at_three(
    pool: Pool, queue: VideoQueue, video: ClaimedVideo
) -> None:
    for crashes in (1, 2, 3):
        workers = Workers(describe=WorkerLost("worker embedder-1 died"))
        attempt(pool, queue, video, workers)
        assert (True in workers.alone, row(pool, video.id)["crashes"]) == (crashes == 3, crashes)
        if crashes < 3:
            (video,) = queue.claim(1)
    stored = row(pool, video.id)
    assert (stored["status"], stored["processing_stage"], stored["error_type"]) == (
        "FAILED",
        "scene_processing",
        "WorkerLost",
    )


def test_a_transcript_that_is_kept_is_not_made_again(pool: Pool, queue: VideoQueue, video: ClaimedVideo) -> None:
    StageResults(pool).keep_transcript(video.id, video.lease_token, transcript("the tide comes in"))
    queue.retry(video, StageFailure("NodeLost", "gone", blame=Blame.INTERRUPTION), 0.0)
    (again,) = queue.claim(1)
    workers = Workers()
    attempt(pool, queue, again, workers)
    calls = {call for call, _ in workers.calls}
    assert {"recall_transcript", "detect"} <= calls
    assert not calls & {"read_speech", "transcribe", "keep_transcript"}
    assert row(pool, video.id)["status"] == "READY"
    assert _last_outcomes(pool, again) == {
        stage.value: "skipped" if stage is Stage.TRANSCRIPTION else "completed" for stage in Stage
    }
    assert only(pool, "SELECT count(*) AS n FROM video_stage_results")["n"] == 0


def test_scenes_that_are_written_are_not_made_again(pool: Pool, queue: VideoQueue, video: ClaimedVideo) -> None:
    said = transcript("the tide comes in")
    SceneStore(pool).replace(video.id, video.lease_token, said, scenes(video.id, "the tide"), 1.0)
    queue.retry(video, StageFailure("NodeLost", "gone", blame=Blame.INTERRUPTION), 0.0)
    (again,) = queue.claim(1)
    workers = Workers()
    attempt(pool, queue, again, workers)
    assert workers.calls == []
    assert row(pool, video.id)["status"] == "READY"
    assert _last_outcomes(pool, again) == {
        stage.value: "completed" if stage is Stage.FINALIZING else "skipped" for stage in Stage
    }
    assert only(pool, "SELECT count(*) AS n FROM video_scenes")["n"] == 1


def _last_outcomes(pool: Pool, video: ClaimedVideo) -> dict[str, str]:
    with pool.connection() as connection:
        found = connection.execute(
            "SELECT stage, outcome FROM video_stage_runs WHERE video_id = %s AND attempt = %s",
            (video.id, video.attempt),
        ).fetchall()
    return {run["stage"]: run["outcome"] for run in found}
