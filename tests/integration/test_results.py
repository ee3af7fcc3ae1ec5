"""The states of videos and what became of them, as progress, summaries and --json read it."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import timedelta
from uuid import UUID, uuid4

import pytest

from cluster.cli.watch import watch_lines
from cluster.contracts.results import StageFailure, StageReport, Transcript
from cluster.contracts.stages import Blame, Outcome, Stage
from cluster.contracts.videos import ClaimedVideo, Submission
from cluster.store.postgres.connections import Pool
from cluster.store.queue.reprocessing import retry
from cluster.store.queue.stage_runs import ClosedRun, OpenRun, StageLedger
from cluster.store.queue.submissions import cancel, submit
from cluster.store.queue.video_queue import VideoQueue
from cluster.store.videos.progress import (
    Standing,
    count_by_status,
    in_flight,
    read_results,
    read_standings,
    recent_times,
)
from cluster.store.videos.scenes import SceneStore
from tests.support.queued_videos import OWNER, begin, enqueue, finish, row, scenes, transcript

REPORT = StageReport(run_s=0.5, batch_size=1, node="n", worker="w", device="cpu", resource_s=0.5)
TROUBLE_OF_THE_FILE = StageFailure("InvalidVideo", "no pictures", Blame.VIDEO)
TROUBLE = StageFailure("TransientFailure", "the network is away", blame=Blame.ERROR)


@pytest.fixture
def queue(pool: Pool) -> VideoQueue:
    return VideoQueue(pool, "first", lease_s=60.0)


def complete(pool: Pool, video: ClaimedVideo, *stages: Stage) -> None:
    for run in begin(pool, video, *stages):
        end = ClosedRun(run, Outcome.COMPLETED, run.ready_at + timedelta(seconds=1), REPORT)
        StageLedger(pool).write([], [end])


def test_standings_come_in_the_order_asked_for(pool: Pool) -> None:
    ids = enqueue(pool, 5)
    asked = [ids[3], ids[0], ids[4]]
    assert [standing.id for standing in read_standings(pool, asked)] == asked
    assert [result["id"] for result in read_results(pool, asked)] == [str(video_id) for video_id in asked]
    assert read_standings(pool, [uuid4()]) == []
    assert (read_standings(pool, []), read_results(pool, [])) == ([], [])


def test_lines_name_the_uri_where_names_repeat(pool: Pool, queue: VideoQueue) -> None:
    uris = [f"https://host/{n}/a.mp4?X-Amz-Signature=secret" for n in range(2)]
    ids = submit(pool, OWNER, [Submission(uri=uri) for uri in [*uris, "/videos/b.mp4"]])
    for video in queue.claim(3):
        queue.fail(video, Stage.METADATA.value, StageFailure("InvalidVideo", "no pictures", Blame.VIDEO))
    said: list[str] = []
    watch_lines(pool, ids, said.append)
    assert sorted(said) == [
        "[1/3] FAILED  https://host/0/a.mp4: metadata: no pictures",
        "[2/3] FAILED  https://host/1/a.mp4: metadata: no pictures",
        "[3/3] FAILED  b.mp4: metadata: no pictures",
    ]
    assert read_standings(pool, ids)[0].place == "https://host/0/a.mp4"


class Looks:
    """Counts what is read for those who watch, and has something happen before the look of a number."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, happenings: Mapping[int, Callable[[], object]]) -> None:
        self.read: list[int] = []
        self._happenings = happenings
        monkeypatch.setattr("cluster.cli.watch.read_standings", self._look)
        monkeypatch.setattr("cluster.cli.watch.POLL_S", 0.01)

    def _look(self, pool: Pool, ids: Sequence[UUID]) -> list[Standing]:
        self._happenings.get(len(self.read), lambda: None)()
        self.read.append(len(ids))
        return read_standings(pool, ids)


def test_watching_reads_settled_videos_once_more_at_the_end(
    pool: Pool, queue: VideoQueue, monkeypatch: pytest.MonkeyPatch
) -> None:
    ids = enqueue(pool, 3)
    first, *others = queue.claim(3)
    happenings = {1: lambda: fail_all(queue, [first]), 3: lambda: fail_all(queue, others)}
    looks = Looks(monkeypatch, happenings)
    said: list[str] = []
    watch_lines(pool, ids, said.append)
    assert looks.read == [3, 3, 2, 2, 3]
    assert len(said) == 3


def test_watch_waits_for_retried_videos_not_for_gone_ones(
    pool: Pool, queue: VideoQueue, monkeypatch: pytest.MonkeyPatch
) -> None:
    ids = enqueue(pool, 2)
    first, second = queue.claim(2)

    def second_forgotten_and_first_retried() -> None:
        retry(pool, [first.id])
        with pool.connection() as connection:
            connection.execute("DELETE FROM videos WHERE id = %s", (second.id,))

    happenings = {
        0: lambda: fail_all(queue, [first]),
        1: second_forgotten_and_first_retried,
        4: lambda: fail_all(queue, queue.claim(1)),
    }
    looks = Looks(monkeypatch, happenings)
    said: list[str] = []
    watch_lines(pool, ids, said.append)
    assert looks.read == [2, 1, 2, 1, 1, 2]
    assert len(said) == 1


def fail_all(queue: VideoQueue, videos: Sequence[ClaimedVideo]) -> None:
    for video in videos:
        queue.fail(video, Stage.METADATA.value, TROUBLE_OF_THE_FILE)


def test_a_standing_names_what_runs_and_counts_what_is_done(pool: Pool, queue: VideoQueue) -> None:
    waiting, moving = enqueue(pool, 2)
    (_, video) = queue.claim(2)
    complete(pool, video, Stage.DOWNLOADING, Stage.METADATA)
    ready_at = video.claimed_at + timedelta(seconds=3)
    open_runs = [OpenRun(video, Stage.TRANSCRIPTION, ready_at), OpenRun(video, Stage.SCENE_DETECTION, ready_at)]
    StageLedger(pool).write(open_runs, [])
    first, second = read_standings(pool, [waiting, moving])
    assert (first.stages, first.done_stages, first.settled) == ([], 0, False)
    assert (sorted(second.stages), second.done_stages) == (["scene_detection", "transcription"], 2)
    assert (second.status, second.settled) == ("PROCESSING", False)


def test_standing_says_queue_wait_and_run_apart(pool: Pool, queue: VideoQueue) -> None:
    waiting, moving = enqueue(pool, 2)
    (_, video) = queue.claim(2)
    complete(pool, video, Stage.DOWNLOADING, Stage.METADATA, Stage.TRANSCRIPTION, Stage.SCENE_DETECTION)
    first, second = read_standings(pool, [waiting, moving])
    assert (first.wait_ms, first.run_ms) == (None, None)
    assert first.queue_ms is not None
    assert first.queue_ms > 0
    assert second.run_ms == 3 * 500.0  # of the two beside each other one counts
    assert second.wait_ms == 4000.0 - 1500.0
    assert second.queue_ms == (video.claimed_at - video.queued_at) / timedelta(milliseconds=1)


def test_an_earlier_attempt_counts_for_nothing(pool: Pool, queue: VideoQueue) -> None:
    (video_id,) = enqueue(pool)
    (video,) = queue.claim(1)
    complete(pool, video, Stage.DOWNLOADING, Stage.METADATA)
    queue.retry(video, TROUBLE, 0.0)
    (standing,) = read_standings(pool, [video_id])
    assert (standing.status, standing.stages, standing.done_stages) == ("PENDING", [], 0)
    assert standing.error_message == "the network is away"
    (again,) = queue.claim(1)
    begin(pool, again, Stage.DOWNLOADING)
    (standing,) = read_standings(pool, [video_id])
    assert (standing.stages, standing.done_stages) == (["downloading"], 0)
    (result,) = read_results(pool, [video_id])
    assert [stage["name"] for stage in result["stages"]] == ["downloading"]
    assert result["stages"][0] == {"name": "downloading", "wait_ms": None, "run_ms": None, "outcome": "running"}


def test_a_result_says_everything_of_a_ready_video(pool: Pool, queue: VideoQueue) -> None:
    (video_id,) = enqueue(pool)
    (video,) = queue.claim(1)
    complete(pool, video, Stage.DOWNLOADING)
    SceneStore(pool).replace(
        video.id, video.lease_token, transcript("hello there again"), scenes(video.id, "hello there", "again"), 2.0
    )
    StageLedger(pool).write([OpenRun(video, Stage.FINALIZING, video.claimed_at + timedelta(milliseconds=1))], [])
    finish(queue, video)
    (result,) = read_results(pool, [video_id])
    assert list(result) == [
        "id", "uri", "filename", "status", "processing_stage", "error_type", "error_message", "duration_s", "queue_ms",
        "processing_ms", "rtf", "scenes", "words", "warnings", "metadata", "wait_ms", "run_ms", "stages",
    ]  # fmt: skip
    stored = row(pool, video_id)
    assert (result["id"], result["uri"], result["filename"]) == (str(video_id), "/videos/00000.mp4", "00000.mp4")
    assert (result["status"], result["processing_stage"], result["error_type"]) == ("READY", "completed", None)
    assert (result["duration_s"], result["scenes"], result["words"]) == (2.0, 2, 3)
    queued = (stored["processing_started_at"] - stored["queued_at"]) / timedelta(milliseconds=1)
    assert result["queue_ms"] == pytest.approx(queued)
    assert result["queue_ms"] >= 0
    assert result["processing_ms"] == stored["processing_duration_ms"]
    assert result["wait_ms"] + result["run_ms"] == result["processing_ms"]
    assert result["rtf"] == pytest.approx(stored["processing_duration_ms"] / 2000.0)
    assert [stage["name"] for stage in result["stages"]] == ["downloading", "finalizing"]
    assert result["stages"][0] == {"name": "downloading", "wait_ms": 500.0, "run_ms": 500.0, "outcome": "completed"}
    (standing,) = read_standings(pool, [video_id])
    assert standing.settled


def test_what_is_not_known_yet_is_none_or_nothing(pool: Pool) -> None:
    (result,) = read_results(pool, enqueue(pool))
    unknown = ("error_type", "error_message", "duration_s", "queue_ms", "wait_ms", "run_ms", "processing_ms", "rtf")
    assert [result[name] for name in unknown] == [None] * len(unknown)
    assert (result["scenes"], result["words"], result["stages"]) == (0, 0, [])


def test_a_video_of_no_duration_has_no_rtf(pool: Pool, queue: VideoQueue) -> None:
    (video_id,) = enqueue(pool)
    (video,) = queue.claim(1)
    SceneStore(pool).replace(video.id, video.lease_token, Transcript(None, (), "m"), [], 0.0)
    queue.fail(video, "indexing", replace(TROUBLE, blame=Blame.VIDEO))
    (result,) = read_results(pool, [video_id])
    assert (result["status"], result["processing_stage"], result["rtf"]) == ("FAILED", "indexing", None)
    assert read_standings(pool, [video_id])[0].settled


def test_recent_times_are_means_of_what_ended_lately(pool: Pool, queue: VideoQueue) -> None:
    assert recent_times(pool) == {"videos": 0, "queue_ms": None, "wait_ms": None, "run_ms": None}
    enqueue(pool, 3)
    videos = queue.claim(3)
    for video in videos:
        complete(pool, video, Stage.DOWNLOADING, Stage.TRANSCRIPTION, Stage.SCENE_DETECTION)
        queue.fail(video, "scene_processing", TROUBLE)
    with pool.connection() as connection:
        for video, queue_s in zip(videos, (1, 2, 9), strict=True):
            connection.execute(
                "UPDATE videos SET queued_at = processing_started_at - make_interval(secs => %s), "
                "processing_finished_at = clock_timestamp() - make_interval(mins => %s), processing_duration_ms = 4000 "
                "WHERE id = %s",
                (queue_s, 90 if queue_s == 9 else 1, video.id),
            )
    assert recent_times(pool) == {"videos": 2, "queue_ms": 1500.0, "wait_ms": 3000.0, "run_ms": 1000.0}


def test_recent_times_leave_out_what_was_cancelled(pool: Pool, queue: VideoQueue) -> None:
    enqueue(pool)
    (video,) = queue.claim(1)
    complete(pool, video, Stage.DOWNLOADING, Stage.TRANSCRIPTION)
    assert cancel(pool, [video.id]) == [video.id]
    assert row(pool, video.id)["processing_started_at"] is not None
    assert recent_times(pool)["videos"] == 0


def test_counts_leave_out_what_another_system_left_pending(pool: Pool, queue: VideoQueue) -> None:
    enqueue(pool, 5)
    first, second, _ = queue.claim(3)
    queue.fail(first, "metadata", TROUBLE)
    begin(pool, second, Stage.FINALIZING)
    finish(queue, second)
    with pool.connection() as connection:
        connection.execute(
            "INSERT INTO videos (id, owner_id, storage_path, filename, status) VALUES (%s, %s, 'x', 'x', 'PENDING')",
            (uuid4(), OWNER),
        )
    assert count_by_status(pool) == {"PENDING": 2, "PROCESSING": 1, "READY": 1, "FAILED": 1, "CANCELLED": 0}


def test_in_flight_are_those_under_a_lease_earliest_first(pool: Pool, queue: VideoQueue) -> None:
    ids = enqueue(pool, 3)
    (first,) = queue.claim(1)
    queue.claim(1)
    assert in_flight(pool) == ids[:2]
    queue.fail(first, "metadata", TROUBLE)
    assert in_flight(pool) == [ids[1]]
