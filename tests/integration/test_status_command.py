"""``heimdex status``: the backlog and its rate, stages and workers on one screen, also of a cluster that is down."""

import contextlib
import json
import os
import pty
import select
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from uuid import UUID

import pytest

from cluster.contracts.stages import Stage
from cluster.contracts.videos import Submission
from cluster.store.postgres.connections import Pool
from cluster.store.postgres.embedded import EmbeddedPostgres
from cluster.store.postgres.migrations import apply_migrations
from cluster.store.queue.submissions import submit
from cluster.store.queue.video_queue import VideoQueue
from cluster.store.queue.worker_registry import SCHEDULER_KIND, WorkerRegistry, WorkerState, seen_workers
from cluster.store.videos.load import read_backlog, read_stage_load
from cluster.store.videos.progress import count_by_status
from tests.support.queued_videos import OWNER, begin, enqueue, finish

Command = Callable[..., "subprocess.CompletedProcess[bytes]"]
SCHEDULER = WorkerState("first", SCHEDULER_KIND, "10.0.0.1", "cpu", None, "busy", 0.0, None)
MEDIA = [WorkerState(f"first/media-{n}", "media", "10.0.0.1", "cpu", None, "busy", 1.0, 2**20) for n in range(1, 65)]


@pytest.fixture
def queue(pool: Pool) -> VideoQueue:
    return VideoQueue(pool, "first", 60.0)


def age_scheduler(pool: Pool, seconds: float) -> None:
    with pool.connection() as connection:
        connection.execute("UPDATE cluster_workers SET started_at = now() - make_interval(secs => %s)", (seconds,))


def test_backlog_counts_what_is_left_and_how_long_it_takes(pool: Pool, queue: VideoQueue) -> None:
    assert read_backlog(pool).videos == 0
    enqueue(pool, 10)
    first, second, _ = queue.claim(3)
    for video in (first, second):
        finish(queue, video)
    with pool.connection() as connection:
        connection.execute("UPDATE videos SET queued_at = queued_at - interval '1 hour' WHERE id = %s", (first.id,))
        oldest = connection.execute(
            "UPDATE videos SET queued_at = queued_at - interval '2 minutes' WHERE storage_path = '/videos/00007.mp4' "
            "RETURNING id"
        ).fetchone()
    assert oldest is not None
    backlog = read_backlog(pool)
    assert (backlog.videos, backlog.oldest) == (8, oldest["id"])
    assert 120 <= (backlog.oldest_s or 0) < 130
    assert (backlog.videos_per_hour, backlog.left_s) == (None, None)  # no cluster is up
    WorkerRegistry(pool, "first").announce([SCHEDULER])
    age_scheduler(pool, 60)
    young = read_backlog(pool)
    assert young.videos_per_hour == pytest.approx(120, rel=0.1)
    assert young.left_s == pytest.approx(240, rel=0.1)
    age_scheduler(pool, 86_400)
    assert read_backlog(pool).videos_per_hour == 24
    with pool.connection() as connection:
        connection.execute("UPDATE videos SET processing_finished_at = now() - interval '6 minutes'")
    assert read_backlog(pool).videos_per_hour is None


def test_stage_load_is_what_runs_now_and_what_ended_lately(pool: Pool, queue: VideoQueue) -> None:
    enqueue(pool, 3)
    videos = queue.claim(3)
    for video in videos:
        begin(pool, video, Stage.DOWNLOADING)
    with pool.connection() as connection:
        for video, minutes in zip(videos[:2], (1, 6), strict=True):
            connection.execute(
                "UPDATE video_stage_runs SET outcome = 'completed', ready_at = now() - interval '10 minutes', "
                "finished_at = now() - make_interval(mins => %s), wait_ms = 500, run_ms = 1500 WHERE video_id = %s",
                (minutes, video.id),
            )
    load = {stage["name"]: stage for stage in read_stage_load(pool)}
    assert list(load) == [stage.value for stage in Stage]
    assert load["downloading"] == {
        "name": "downloading", "in_flight": 1, "completed": 1, "failed": 0, "wait_ms": 500.0, "run_ms": 1500.0,
    }  # fmt: skip
    assert load["finalizing"]["in_flight"] == load["finalizing"]["completed"] == 0


def test_counts_leave_out_forgotten_videos(pool: Pool, queue: VideoQueue) -> None:
    enqueue(pool, 2)
    for video in queue.claim(2):
        finish(queue, video)
    with pool.connection() as connection:
        connection.execute(
            "UPDATE video_processing SET forgotten_at = now() WHERE video_id = (SELECT id FROM videos LIMIT 1)"
        )
    assert count_by_status(pool)["READY"] == 1


def test_announced_share_is_of_the_last_minutes(pool: Pool) -> None:
    registry = WorkerRegistry(pool, "first")
    registry.announce([SCHEDULER, MEDIA[0]])
    assert seen_workers(pool, 10.0)[1].busy_share is None
    registry._recent._clock = lambda: time.monotonic() + 100
    registry.announce([SCHEDULER, replace(MEDIA[0], busy_s=26.0)])
    seen = seen_workers(pool, 10.0)[1]
    assert seen.busy_share == pytest.approx(0.25, abs=0.01)
    assert seen.recent_busy_s == 25.0


def test_status_under_load_fits_on_one_screen(heimdex: Command, pool: Pool, queue: VideoQueue) -> None:
    submit(pool, OWNER, [Submission(uri=f"s3://bucket/{number:04}.mp4") for number in range(300)])
    for video in queue.claim(100):
        begin(pool, video, Stage.DOWNLOADING, Stage.METADATA)
    WorkerRegistry(pool, "first").announce([SCHEDULER, *MEDIA])
    printed = heimdex("status").stdout.decode().splitlines()
    assert len(printed) <= 24, "\n".join(printed)
    text = "\n".join(printed)
    assert "Left: 300 videos; no video ended in the last 5 minutes" in text
    assert "64 busy" in text
    assert "and 97 more (--all)" in text
    everything = heimdex("status", "--all").stdout.decode()
    assert "media-64" in everything
    assert "queue s" in everything
    assert everything.count(".mp4") > 100
    assert len(json.loads(heimdex("status", "--json").stdout)["in_flight"]) == 100


def test_status_prints_whole_ids_at_80_columns(heimdex: Command, pool: Pool, queue: VideoQueue) -> None:
    ids = enqueue(pool, 2)
    (video,) = queue.claim(1)
    begin(pool, video, Stage.DOWNLOADING)
    printed = heimdex("status", settings={"COLUMNS": "80"}).stdout.decode()
    assert str(ids[0]) in printed


@pytest.fixture
def embedded_environment(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Settings with a data directory of the test's own and no database URL."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("HEIMDEX_")}
    return {**kept, "HEIMDEX_DATA_DIR": str(tmp_path_factory.mktemp("data")), "HEIMDEX_OWNER_ID": str(OWNER)}


def run(environment: dict[str, str], *arguments: str) -> "subprocess.CompletedProcess[bytes]":
    command = [sys.executable, "-m", "cluster.cli.main", *arguments]
    return subprocess.run(command, env=environment, capture_output=True, check=False)


def test_status_without_a_database_is_json_and_prose_on_stderr(embedded_environment: dict[str, str]) -> None:
    done = run(embedded_environment, "status", "--json")
    assert done.returncode == 1
    assert done.stderr == b"No cluster is up: `heimdex up` brings one up.\n"
    current = json.loads(done.stdout)
    assert (current["scheduling"], current["database"], current["backlog"]["videos"]) == (False, None, 0)
    assert not (Path(embedded_environment["HEIMDEX_DATA_DIR"]) / "postgres").exists()
    assert run(embedded_environment, "status").stdout == b""


def test_status_of_a_cluster_that_is_down_shows_the_backlog(embedded_environment: dict[str, str]) -> None:
    submitted = run(embedded_environment, "submit", "s3://bucket/a.mp4", "--json")
    assert submitted.returncode == 0, submitted.stderr
    done = run(embedded_environment, "status")
    assert done.returncode == 1
    assert b"Left: 1 video;" in done.stdout
    assert json.loads(submitted.stdout)[0]["id"].encode() in done.stdout
    current = json.loads(run(embedded_environment, "status", "--json").stdout)
    assert (current["scheduling"], current["backlog"]["videos"]) == (False, 1)
    server = EmbeddedPostgres(Path(embedded_environment["HEIMDEX_DATA_DIR"]) / "postgres")
    assert not server.is_running()


def test_top_keeps_the_status_on_a_terminal(database_url: str, pool: Pool, tmp_path: Path) -> None:
    apply_migrations(database_url)
    video_id: UUID = enqueue(pool)[0]
    environment = {**os.environ, "HEIMDEX_DATABASE_URL": database_url, "HEIMDEX_DATA_DIR": str(tmp_path / "data")}
    environment |= {"TERM": "xterm", "COLUMNS": "120", "LINES": "40"}
    terminal, end = pty.openpty()
    command = [sys.executable, "-m", "cluster.cli.main", "top", "--interval", "0.5"]
    process = subprocess.Popen(command, env=environment, stdin=end, stdout=end, stderr=end, start_new_session=True)
    os.close(end)
    try:
        shown = _read_until(terminal, b"Left: 1 video;")
        assert str(video_id).encode() in shown
        enqueue(pool, 4)
        _read_until(terminal, b"Left: 5 videos")
        process.send_signal(2)
        _read_to_end(terminal)  # an unread terminal is full after a few screens
        assert process.wait(timeout=30) == 0
    finally:
        process.kill()
        os.close(terminal)


def _read_to_end(terminal: int) -> None:
    with contextlib.suppress(OSError):  # what a terminal says when its last program has ended
        while os.read(terminal, 1 << 16):
            pass


def _read_until(terminal: int, text: bytes) -> bytes:
    seen, end_s = b"", time.monotonic() + 120
    while text not in seen:
        assert time.monotonic() < end_s, seen
        if select.select([terminal], [], [], 1.0)[0]:
            seen += os.read(terminal, 65536)
    return seen
