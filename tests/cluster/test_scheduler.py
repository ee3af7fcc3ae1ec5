"""The scheduler's actor on a real Ray and Postgres, without the commands around it."""

import os
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
import ray
from ray.exceptions import RayActorError

from actors.scheduler.actor import SchedulerActor
from actors.scheduler.scheduler import SchedulerConfig
from cluster.contracts.errors import ConfigurationError
from cluster.contracts.stages import RetryRule
from cluster.contracts.videos import Submission
from cluster.demo import clips
from cluster.runtime.plan import Hardware, plan_workers
from cluster.settings import load_settings
from cluster.store.postgres.connections import Pool
from cluster.store.queue.submissions import submit
from cluster.store.queue.worker_registry import seen_workers
from cluster.store.videos.progress import read_results
from tests.support.small_ray import small_ray

pytestmark = pytest.mark.long

PATIENCE_S = 120.0


@pytest.fixture(scope="module", autouse=True)
def ray_of_this_module() -> Iterator[None]:
    with small_ray():
        yield


@pytest.fixture
def start(database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Any]]:
    """Starts a scheduler of small workers; keyword arguments are settings. It is killed at the end."""
    for name in os.environ:
        if name.startswith("HEIMDEX_"):
            monkeypatch.delenv(name)
    started: list[Any] = []

    def start_scheduler(**settings: Any) -> Any:
        usual = {
            "data_dir": tmp_path / "data",
            "scratch_dir": tmp_path / "scratch",
            "whisper_model": "bundled",
            "clip_model": "bundled",
            "text_model": "bundled",
        }
        plan = plan_workers(load_settings(**{**usual, **settings}), database_url, Hardware(2.0, 0.0, 2.0))
        config = SchedulerConfig(database_url, plan, 4.0, RetryRule(max_errors=2, first_delay_s=0.1))
        actor = ray.remote(SchedulerActor).options(num_cpus=0, max_restarts=-1, max_concurrency=8).remote(config)
        started.append(actor)
        return actor

    yield start_scheduler
    for actor in started:
        ray.kill(actor)


def until(condition: Callable[[], bool], what: str) -> None:
    end_s = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < end_s, what
        time.sleep(0.05)


def submit_missing(pool: Pool, tmp_path: Path) -> UUID:
    (video_id,) = submit(pool, UUID(int=7), [Submission(uri=str(tmp_path / "none.mp4"))])
    return video_id


def test_a_scheduler_that_cannot_load_says_why_and_stops_at_once(start: Callable[..., Any], tmp_path: Path) -> None:
    scheduler = start(labels_file=tmp_path / "no_labels.txt")
    with pytest.raises(ConfigurationError, match="HEIMDEX_LABELS_FILE"):
        ray.get(scheduler.wait_until_ready.remote(PATIENCE_S))
    began_s = time.monotonic()
    ray.get(scheduler.stop.remote(60.0))
    assert time.monotonic() - began_s < 10


def test_scheduler_restarts_when_killed_and_stops_cleanly(
    start: Callable[..., Any], pool: Pool, tmp_path: Path
) -> None:
    scheduler = start()
    assert ray.get(scheduler.wait_until_ready.remote(PATIENCE_S))
    first = submit_missing(pool, tmp_path)
    until(lambda: read_results(pool, [first])[0]["status"] == "FAILED", "the first video is not settled")
    assert read_results(pool, [first])[0]["processing_stage"] == "downloading"
    until(lambda: {w.kind for w in seen_workers(pool, 10.0)} >= {"scheduler", "media", "writer"}, "nobody is seen")

    os.kill(ray.get(scheduler.pid.remote()), 9)
    second = submit_missing(pool, tmp_path)
    until(lambda: read_results(pool, [second])[0]["status"] == "FAILED", "the second video is not settled")

    ray.get(_when_alive(scheduler).stop.remote(5.0))
    with pool.connection() as connection:
        left = connection.execute(
            "SELECT (SELECT count(*) FROM video_leases) AS leases, (SELECT count(*) FROM cluster_workers "
            "WHERE seen_at > clock_timestamp() - interval '3 s') AS workers, "
            "(SELECT count(*) FROM video_stage_runs WHERE outcome = 'running') AS runs"
        ).fetchone()
    assert left == {"leases": 0, "workers": 0, "runs": 0}


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may mount a disk that is soon full")
def test_disk_too_small_for_one_owner_delays_no_other(
    start: Callable[..., Any], pool: Pool, tmp_path: Path, web_server: str
) -> None:
    small, *_, large = sorted(clips(), key=lambda clip: clip.stat().st_size)
    half = (small.stat().st_size + large.stat().st_size) // 2  # of the disk, which one owner may hold
    with _disk(tmp_path / "scratch", 2 * half):
        assert ray.get(start(private_networks="127.0.0.0/8").wait_until_ready.remote(PATIENCE_S))
        waiting = submit(pool, UUID(int=7), [Submission(uri=f"{web_server}/{large.name}") for _ in range(3)])
        until(lambda: "has no room" in str(_said(pool, waiting)), "nothing is said of the full disk")
        (other,) = submit(pool, UUID(int=8), [Submission(uri=f"{web_server}/{small.name}")])
        until(lambda: read_results(pool, [other])[0]["status"] == "READY", "another owner's video waits")
        with pool.connection() as connection:
            rows = connection.execute(
                "SELECT v.status::text, p.failures, p.crashes, p.interruptions, p.postponed_s > 0 AS postponed "
                "FROM videos AS v JOIN video_processing AS p ON p.video_id = v.id WHERE v.owner_id = %s",
                (UUID(int=7),),
            )
            ways = {tuple(row.values()) for row in rows}
        assert ("PENDING", 0, 0, 0, True) in ways
        assert ways <= {("PENDING", 0, 0, 0, True), ("PENDING", 0, 0, 0, False)}

        _mount("-o", "remount,size=64m", str(tmp_path / "scratch"))
        with pool.connection() as connection:  # the pause before the next try is not waited for
            connection.execute("UPDATE video_processing SET available_at = now() WHERE owner_id = %s", (UUID(int=7),))
        until(lambda: all(row["status"] == "READY" for row in read_results(pool, waiting)), "they do not go on")


def _said(pool: Pool, videos: Sequence[UUID]) -> list[str | None]:
    return [row["error_message"] for row in read_results(pool, videos)]


@contextmanager
def _disk(place: Path, size_bytes: int) -> Iterator[None]:
    place.mkdir()
    _mount("-t", "tmpfs", "-o", f"size={size_bytes},mode=700", "tmpfs", str(place))
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", str(place)], check=True)


def _mount(*arguments: str) -> None:
    subprocess.run(["mount", *arguments], check=True)


def _when_alive(scheduler: Any) -> Any:
    for _ in range(100):
        try:
            ray.get(scheduler.pid.remote())
        except RayActorError:
            time.sleep(0.1)
        else:
            break
    return scheduler
