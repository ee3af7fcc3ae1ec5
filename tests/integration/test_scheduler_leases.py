"""The real scheduler on a real Postgres keeps its leases: by the clock, through outages, and not longer than its own.

Workers are played.
"""

import threading
import time
from collections.abc import Callable, Iterator
from typing import Any
from uuid import UUID

import pytest

from cluster.contracts.errors import DatabaseUnavailable
from cluster.contracts.videos import Submission
from cluster.store.postgres.connections import Pool
from cluster.store.queue.notify import Hints, notifications
from cluster.store.queue.submissions import cancel, submit
from cluster.store.queue.video_queue import VideoQueue
from tests.support.played_scheduler import PATIENCE_S, RUNS_S, scheduling, until_ready
from tests.support.queued_videos import OWNER, only, recovery, row
from tests.support.stopped_process import stopped


@pytest.fixture
def video(database_url: str, pool: Pool, monkeypatch: pytest.MonkeyPatch) -> Iterator[UUID]:
    """A video on its way for three seconds, under a scheduler whose heart beats every 15."""
    monkeypatch.setitem(RUNS_S, "transcribe", 3.0)
    with scheduling(database_url):
        (video_id,) = submit(pool, OWNER, [Submission(uri="/videos/long.mp4")])
        until(lambda: stages(pool) == (1, 3))
        yield video_id


def until(true: Callable[[], bool]) -> None:
    end_s = time.monotonic() + PATIENCE_S
    while not true():
        assert time.monotonic() < end_s
        threading.Event().wait(0.02)


def stages(pool: Pool) -> tuple[int, int]:
    """How many stages run, and how many have succeeded."""
    counted = only(
        pool,
        "SELECT count(*) FILTER (WHERE outcome = 'running') AS running, "
        "count(*) FILTER (WHERE outcome = 'completed') AS done FROM video_stage_runs",
    )
    return counted["running"], counted["done"]


def leases(pool: Pool) -> int:
    return int(only(pool, "SELECT count(*) AS n FROM video_leases")["n"])


def test_submissions_prolong_no_lease(pool: Pool, video: UUID) -> None:
    statement = "SELECT expires_at FROM video_leases WHERE video_id = %s"
    before = only(pool, statement, video)
    for n in range(20):
        submit(pool, OWNER, [Submission(uri=f"/videos/{n}.mp4")])
        threading.Event().wait(0.02)
    assert only(pool, statement, video) == before


def test_a_cancelled_video_is_abandoned_at_once(pool: Pool, video: UUID, caplog: pytest.LogCaptureFixture) -> None:
    assert cancel(pool, [video]) == [video]
    until(lambda: any("lease lost" in record.getMessage() for record in caplog.records))
    assert "found_by=notification" in caplog.text


def test_what_was_cancelled_before_the_listener_listens_is_found(
    database_url: str, pool: Pool, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    cancelled = threading.Event()

    def late(url: str, wait_s: float) -> Iterator[Hints]:
        assert cancelled.wait(PATIENCE_S)
        yield from notifications(url, wait_s)

    monkeypatch.setattr("actors.scheduler.scheduler.notifications", late)
    monkeypatch.setitem(RUNS_S, "transcribe", 3.0)
    with scheduling(database_url):
        (video_id,) = submit(pool, OWNER, [Submission(uri="/videos/long.mp4")])
        until(lambda: stages(pool) == (1, 3))
        assert cancel(pool, [video_id]) == [video_id]
        cancelled.set()
        until(lambda: any("lease lost" in record.getMessage() for record in caplog.records))
    assert "found_by=notification" in caplog.text


def test_what_a_scheduler_holds_it_does_not_take_back(pool: Pool, video: UUID) -> None:
    with pool.connection() as connection:  # as after an outage of the database, or a sleep of the machine
        connection.execute("UPDATE video_leases SET expires_at = now() - interval '1 hour'")
    until_ready(pool, [video])
    assert only(pool, "SELECT attempt, interruptions FROM video_processing") == {"attempt": 1, "interruptions": 0}


def test_a_heart_whose_session_is_stopped_takes_another(
    database_url: str, pool: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(RUNS_S, "transcribe", 12.0)
    statement = "SELECT pid FROM pg_stat_activity WHERE application_name = 'heimdex-heartbeat'"
    with scheduling(database_url, lease_s=8.0):
        (video_id,) = submit(pool, OWNER, [Submission(uri="/videos/long.mp4")])
        until(lambda: leases(pool) == 1)
        with stopped(only(pool, statement)["pid"]):
            other = recovery(pool, "second")
            until(lambda: bool(other.reap()) or row(pool, video_id)["status"] == "READY")
    assert row(pool, video_id)["status"] == "READY"


def test_a_failed_heartbeat_is_soon_repeated(database_url: str, pool: Pool, monkeypatch: pytest.MonkeyPatch) -> None:
    heartbeat, beats_s = VideoQueue.heartbeat, list[float]()

    def failing(self: VideoQueue, tokens: Any) -> set[int]:
        beats_s.append(time.monotonic())
        if len(beats_s) < 4:
            raise DatabaseUnavailable("away")
        return heartbeat(self, tokens)

    monkeypatch.setattr(VideoQueue, "heartbeat", failing)
    with scheduling(database_url):
        until(lambda: len(beats_s) == 4)
        assert beats_s[3] - beats_s[0] < 15.0
        threading.Event().wait(2.0)
        assert len(beats_s) == 4
