"""The stage ledger on a real Postgres: what is written, what a lost lease keeps out, and that the numbers add up."""

import asyncio
import random
import threading
import time
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import psycopg
import pytest

from actors.attempt.batch_writer import LedgerWriter
from cluster.contracts.errors import DatabaseUnavailable, LeaseLost
from cluster.contracts.results import StageFailure, StageReport
from cluster.contracts.stages import Blame, Outcome, Stage
from cluster.store.postgres.connections import Pool
from cluster.store.queue.stage_runs import ClosedRun, DatabaseClock, OpenRun, StageLedger, latest_runs
from cluster.store.queue.video_queue import VideoQueue
from tests.support.queued_videos import MS, begin, claim_one, enqueue, everything, expire, only, recovery, row, runs

REPORT = StageReport(run_s=0.25, batch_size=2, node="10.0.0.1", worker="media-1", device="cpu", resource_s=0.5)


@pytest.fixture
def queue(pool: Pool) -> VideoQueue:
    return VideoQueue(pool, "first", lease_s=60.0)


@pytest.fixture
def ledger(pool: Pool) -> StageLedger:
    return StageLedger(pool)


def closed(run: OpenRun, after_s: float = 1.0, **report: object) -> ClosedRun:
    return ClosedRun(
        run,
        Outcome.COMPLETED,
        run.ready_at + timedelta(seconds=after_s),
        replace(REPORT, **report),  # type: ignore[arg-type]
    )


def test_a_run_is_open_from_before_its_stage_until_it_is_closed(
    pool: Pool, queue: VideoQueue, ledger: StageLedger
) -> None:
    video = claim_one(pool, queue)
    (run,) = begin(pool, video, Stage.DOWNLOADING)
    stored = runs(pool, video.id)["downloading"]
    assert (stored["outcome"], stored["finished_at"], stored["ready_at"]) == ("running", None, run.ready_at)
    assert row(pool, video.id)["processing_stage"] == "downloading"
    assert ledger.write([], [closed(run)]) == {video.lease_token}
    stored = runs(pool, video.id)["downloading"]
    assert (stored["outcome"], stored["run_ms"], stored["wait_ms"]) == ("completed", 250.0, 750.0)
    assert stored["finished_at"] == run.ready_at + timedelta(seconds=1)
    assert stored["started_at"] == run.ready_at + timedelta(seconds=0.75)
    assert (stored["node"], stored["worker"], stored["device"]) == ("10.0.0.1", "media-1", "cpu")
    assert (stored["resource_s"], stored["batch_size"], stored["error_type"]) == (0.5, 2, None)


def test_a_failed_run_says_why(pool: Pool, queue: VideoQueue, ledger: StageLedger) -> None:
    video = claim_one(pool, queue)
    (run,) = begin(pool, video, Stage.METADATA)
    failure = StageFailure("InvalidVideo", "no pictures", blame=Blame.VIDEO)
    ledger.write([], [replace(closed(run, failure=failure), outcome=Outcome.FAILED)])
    stored = runs(pool, video.id)["metadata"]
    assert (stored["outcome"], stored["error_type"], stored["error_message"]) == (
        "failed",
        "InvalidVideo",
        "no pictures",
    )


def test_one_call_writes_for_many_videos_at_once(pool: Pool, queue: VideoQueue, ledger: StageLedger) -> None:
    enqueue(pool, 50)
    videos = queue.claim(50)
    tokens = {video.lease_token for video in videos}
    first = [OpenRun(video, Stage.DOWNLOADING, video.claimed_at) for video in videos]
    assert ledger.write(first, []) == tokens
    ended = [closed(run) for run in first]
    second = [OpenRun(video, Stage.METADATA, end.finished_at) for video, end in zip(videos, ended, strict=True)]
    assert ledger.write(second, ended) == tokens
    counted = only(pool, "SELECT count(*) AS n, count(finished_at) AS ended FROM video_stage_runs")
    assert (counted["n"], counted["ended"]) == (100, 50)
    assert {row(pool, video.id)["processing_stage"] for video in videos} == {"metadata"}


def test_writing_the_same_again_changes_nothing(pool: Pool, queue: VideoQueue, ledger: StageLedger) -> None:
    video = claim_one(pool, queue)
    first, second = begin(pool, video, Stage.DOWNLOADING, Stage.METADATA)
    end = closed(first)
    ledger.write([second], [end])
    before = everything(pool)
    assert ledger.write([first, second], [end]) == {video.lease_token}
    assert ledger.write([], [closed(first, after_s=99.0)]) == {video.lease_token}
    assert runs(pool, video.id)["downloading"] == before[2][0]
    assert everything(pool)[1:] == before[1:]


def test_what_a_lost_lease_concerns_is_not_written_and_reported(
    pool: Pool, queue: VideoQueue, ledger: StageLedger
) -> None:
    enqueue(pool, 2)
    kept, lost = queue.claim(2)
    (run,) = begin(pool, lost, Stage.DOWNLOADING)
    expire(pool, lost)
    recovery(pool, "first").reap()
    before = runs(pool, lost.id)
    opened = [OpenRun(video, Stage.METADATA, video.claimed_at) for video in (kept, lost)]
    assert ledger.write(opened, [closed(run)]) == {kept.lease_token}
    assert runs(pool, lost.id) == before
    assert set(runs(pool, kept.id)) == {"metadata"}
    assert row(pool, lost.id)["processing_stage"] == "queued"


def test_an_old_attempt_cannot_close_what_the_new_one_opened(
    pool: Pool, queue: VideoQueue, ledger: StageLedger
) -> None:
    old = claim_one(pool, queue)
    (old_run,) = begin(pool, old, Stage.DOWNLOADING)
    expire(pool, old)
    recovery(pool, "first").reap()
    (new,) = queue.claim(1)
    begin(pool, new, Stage.DOWNLOADING)
    assert ledger.write([], [closed(old_run)]) == set()
    with pool.connection() as connection:
        found = connection.execute("SELECT attempt, outcome FROM video_stage_runs ORDER BY attempt").fetchall()
    assert [(run["attempt"], run["outcome"]) for run in found] == [(1, "lost"), (2, "running")]


def test_wait_and_run_add_up_to_the_time_since_ready(pool: Pool, queue: VideoQueue, ledger: StageLedger) -> None:
    """Runs that took all the time there was, give or take what rounding does, are taken too."""
    enqueue(pool, 400)
    videos = queue.claim(400)
    rng = random.Random(5)
    opened = [OpenRun(video, Stage.DOWNLOADING, video.claimed_at) for video in videos]
    ledger.write(opened, [])
    spans = [rng.choice([rng.random(), rng.random() * 1e4, rng.random() * 1e-5]) for _ in videos]
    drifts = [rng.choice([0.0, 0.0, 1e-7, -1e-7, 0.5]) for _ in videos]
    ledger.write(
        [],
        [
            closed(run, after_s=span, run_s=max(0.0, span + drift))
            for run, span, drift in zip(opened, spans, drifts, strict=True)
        ],
    )
    with pool.connection() as connection:
        found = connection.execute("SELECT * FROM video_stage_runs").fetchall()
    assert len(found) == 400
    for run in found:
        assert run["outcome"] == "completed"
        assert run["wait_ms"] >= 0
        assert run["wait_ms"] + run["run_ms"] == pytest.approx((run["finished_at"] - run["ready_at"]) / MS, abs=1e-3)


def test_a_run_longer_than_the_time_since_ready_is_cut(pool: Pool, queue: VideoQueue, ledger: StageLedger) -> None:
    video = claim_one(pool, queue)
    (run,) = begin(pool, video, Stage.DOWNLOADING)
    ledger.write([], [closed(run, after_s=1.0, run_s=1.5)])
    stored = runs(pool, video.id)["downloading"]
    assert (stored["run_ms"], stored["wait_ms"], stored["started_at"]) == (1000.0, 0.0, run.ready_at)


@pytest.mark.parametrize(
    "change",
    [
        "stage = 'cutting'",
        "outcome = 'perhaps'",
        "outcome = 'completed'",
        "finished_at = ready_at",
        "attempt = 0",
        "wait_ms = -1",
        "run_ms = -1",
        "resource_s = -1",
        "batch_size = 0",
        "started_at = ready_at - interval '1 ms'",
        "outcome = 'failed', finished_at = ready_at",
        "outcome = 'completed', finished_at = ready_at - interval '1 ms'",
        "outcome = 'completed', finished_at = ready_at, started_at = ready_at + interval '1 ms'",
    ],
)
def test_the_database_refuses_a_run_that_cannot_be(pool: Pool, queue: VideoQueue, change: str) -> None:
    begin(pool, claim_one(pool, queue), Stage.DOWNLOADING)
    with pytest.raises(psycopg.errors.CheckViolation), pool.connection() as connection:
        connection.execute(f"UPDATE video_stage_runs SET {change}")


# Reading back


def test_latest_attempts_runs_come_in_the_order_of_readiness(
    pool: Pool, queue: VideoQueue, ledger: StageLedger
) -> None:
    video = claim_one(pool, queue)
    begin(pool, video, Stage.DOWNLOADING, Stage.METADATA)
    queue.retry(video, StageFailure("TransientFailure", "x", blame=Blame.ERROR), 0.0)
    (again,) = queue.claim(1)
    downloading, *_ = begin(pool, again, Stage.DOWNLOADING, Stage.METADATA)
    ready_at = again.claimed_at + timedelta(seconds=5)
    ledger.write([OpenRun(again, stage, ready_at) for stage in (Stage.SCENE_DETECTION, Stage.TRANSCRIPTION)], [])
    ledger.write([], [closed(downloading)])
    (never,) = enqueue(pool)
    found = latest_runs(pool, [video.id, never])
    assert found[never] == []
    assert [run.name for run in found[video.id]] == ["downloading", "metadata", "transcription", "scene_detection"]
    assert {run.attempt for run in found[video.id]} == {2}
    assert (found[video.id][0].outcome, found[video.id][0].run_ms) == ("completed", 250.0)
    assert (found[video.id][1].outcome, found[video.id][1].run_ms) == ("running", None)


# The clock


def test_the_clock_is_the_servers_within_a_few_milliseconds(pool: Pool) -> None:
    clock = DatabaseClock(pool)
    errors_s = []
    for _ in range(20):
        before = clock.now()
        server = only(pool, "SELECT clock_timestamp() AS now")["now"]
        after = clock.now()
        errors_s.append(max((before - server).total_seconds(), (server - after).total_seconds(), 0.0))
    assert min(errors_s) < 0.005
    assert clock.now().tzinfo is UTC


def test_the_clock_never_goes_back_while_it_is_set_anew(pool: Pool) -> None:
    clock = DatabaseClock(pool)
    end = threading.Event()

    def refresh() -> None:
        while not end.is_set():
            clock.refresh(rounds=1)

    refreshing = threading.Thread(target=refresh)
    refreshing.start()
    try:
        began_s, began = time.monotonic(), clock.now()
        readings = [began]
        while time.monotonic() - began_s < 1.0:
            readings.append(clock.now())
        passed_s = time.monotonic() - began_s
    finally:
        end.set()
        refreshing.join()
    assert readings == sorted(readings)
    assert (readings[-1] - began).total_seconds() == pytest.approx(passed_s, abs=0.2)


# The writer that batches


class _Flaky(StageLedger):
    """The ledger, whose database is away for the first writes."""

    def __init__(self, pool: Pool, away: int) -> None:
        super().__init__(pool)
        self.away = away
        self.batches: list[int] = []

    def write(self, opened: Sequence[OpenRun], closed: Sequence[ClosedRun]) -> set[int]:
        self.batches.append(len(opened) + len(closed))
        if self.away:
            self.away -= 1
            raise DatabaseUnavailable("away")
        return super().write(opened, closed)


async def _written(writer: LedgerWriter, *entries: OpenRun | ClosedRun) -> list[object]:
    """The answer to each entry."""
    serving = asyncio.create_task(writer.serve())
    try:
        added = [writer.add(entry) for entry in entries]
        return await asyncio.wait_for(asyncio.gather(*added, return_exceptions=True), 30)
    finally:
        assert not serving.done(), serving
        serving.cancel()
        await asyncio.gather(serving, return_exceptions=True)


def test_what_comes_up_together_is_written_together(pool: Pool, queue: VideoQueue) -> None:
    enqueue(pool, 20)
    videos = queue.claim(20)
    ledger = _Flaky(pool, away=0)
    writer = LedgerWriter(ledger)
    answers = asyncio.run(_written(writer, *(OpenRun(v, Stage.DOWNLOADING, v.claimed_at) for v in videos)))
    assert answers == [None] * 20
    assert ledger.batches == [20]


def test_after_a_write_entries_are_collected_for_the_next(
    pool: Pool, queue: VideoQueue, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("actors.attempt.batch_writer.BETWEEN_WRITES_S", 1.0)
    enqueue(pool, 6)
    first, *others = (OpenRun(v, Stage.DOWNLOADING, v.claimed_at) for v in queue.claim(6))
    ledger = _Flaky(pool, away=0)
    writer = LedgerWriter(ledger)

    async def scenario() -> None:
        serving = asyncio.create_task(writer.serve())
        await writer.add(first)
        added = []
        for entry in others:
            added.append(writer.add(entry))
            await asyncio.sleep(0.02)
        await asyncio.gather(*added)
        serving.cancel()

    asyncio.run(asyncio.wait_for(scenario(), 30))
    assert ledger.batches == [1, 5]


def test_while_the_database_is_away_the_batch_waits(
    pool: Pool, queue: VideoQueue, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("actors.attempt.batch_writer.RETRY_DELAY_S", 0.01)
    video = claim_one(pool, queue)
    run = OpenRun(video, Stage.DOWNLOADING, video.claimed_at)
    ledger = _Flaky(pool, away=3)
    writer = LedgerWriter(ledger)
    assert asyncio.run(_written(writer, run)) == [None]
    assert runs(pool, video.id)["downloading"]["outcome"] == "running"


def test_only_the_video_whose_lease_is_lost_is_told_so(pool: Pool, queue: VideoQueue) -> None:
    enqueue(pool, 2)
    kept, lost = queue.claim(2)
    expire(pool, lost)
    recovery(pool, "first").reap()
    writer = LedgerWriter(StageLedger(pool))
    answers = asyncio.run(_written(writer, *(OpenRun(v, Stage.DOWNLOADING, v.claimed_at) for v in (kept, lost))))
    assert answers[0] is None
    assert isinstance(answers[1], LeaseLost)


def test_an_entry_that_the_database_refuses_fails_alone(pool: Pool, queue: VideoQueue) -> None:
    enqueue(pool, 3)
    videos = queue.claim(3)
    opened = [begin(pool, video, Stage.DOWNLOADING)[0] for video in videos]
    refused = replace(closed(opened[1]), finished_at=opened[1].ready_at - timedelta(days=1))
    writer = LedgerWriter(StageLedger(pool))
    ends = [closed(opened[0]), refused, closed(opened[2])]
    answers = asyncio.run(_written(writer, *ends))
    assert answers[0] is None
    assert isinstance(answers[1], psycopg.errors.CheckViolation)
    assert answers[2] is None
    outcomes = [runs(pool, video.id)["downloading"]["outcome"] for video in videos]
    assert outcomes == ["completed", "running", "completed"]


def test_a_cancelled_attempt_does_not_stop_the_writer(pool: Pool, queue: VideoQueue) -> None:
    enqueue(pool, 2)
    first, second = queue.claim(2)
    writer = LedgerWriter(StageLedger(pool))

    async def scenario() -> None:
        writer.add(OpenRun(first, Stage.DOWNLOADING, first.claimed_at)).cancel()
        answers = await _written(writer, OpenRun(second, Stage.DOWNLOADING, second.claimed_at))
        assert answers == [None]

    asyncio.run(scenario())
    assert set(runs(pool, second.id)) == {"downloading"}


def test_times_are_aware_and_utc(pool: Pool, queue: VideoQueue) -> None:
    video = claim_one(pool, queue)
    (run,) = begin(pool, video, Stage.DOWNLOADING)
    stored = runs(pool, video.id)["downloading"]["ready_at"]
    assert stored.utcoffset() == timedelta(0)
    assert abs(stored - datetime.now(UTC)) < timedelta(minutes=1)
    assert stored == run.ready_at
