"""Processes that die on the way: the video is taken up again, and the ledger says what happened."""

import json
import os
import re
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any
from uuid import UUID

import psutil
import pytest
from psycopg import OperationalError

from cluster.contracts.errors import DatabaseUnavailable
from cluster.demo import clips
from cluster.store.postgres.connections import Pool, open_pool
from cluster.store.videos.progress import read_results, read_standings
from tests.support.command_line import CommandLine, left_running, make_environment

pytestmark = pytest.mark.long

RUNNING = re.compile(r"ray::heimdex [a-z]+-[0-9]+\.run")
"""The title of a worker's process while a call runs."""
DOWN_WITHIN_S = 20.0
"""Ten seconds, and as many more for a machine on which other tests run."""
SETTLED_WITHIN_S = 120.0
UP_WITHIN_S = 240.0


@pytest.fixture(scope="module")
def mortal(cluster_folder: Path) -> Iterator[CommandLine]:
    """A cluster of its own, whose processes are killed."""
    folder = cluster_folder / "mortal"
    folder.mkdir()
    command_line = CommandLine(make_environment(folder), folder)
    started = command_line.run("up")
    try:
        assert started.returncode == 0, started.stderr
        yield command_line
    finally:
        command_line.run("down")


@pytest.fixture
def mortal_pool(mortal: CommandLine) -> Iterator[Pool]:
    with open_pool(mortal.run("db", "url").stdout.strip(), max_size=2, name="recovery-tests") as pool:
        yield pool


def test_killed_worker_costs_an_attempt_and_is_in_the_ledger(mortal: CommandLine, mortal_pool: Pool) -> None:
    ids = _submit(mortal, clips())
    _wait_for(mortal_pool, ids, "transcription")
    os.kill(_worker_pid(mortal, "transcribe"), signal.SIGKILL)
    results = _settled(mortal_pool, ids)
    assert [result["status"] for result in results] == ["READY"] * len(ids)
    lost = [run for run in _lost_runs(mortal_pool, ids) if run["error_type"] == "WorkerLost"]
    assert {run["stage"] for run in lost} == {"transcription"}
    # A call may hold several videos: each of them loses this one attempt, and the others lose none.
    assert {run["attempt"] for run in lost} == {1}
    with mortal_pool.connection() as connection:
        attempts = connection.execute(
            "SELECT video_id, max(attempt) AS attempts FROM video_stage_runs WHERE video_id = ANY (%s) GROUP BY 1",
            (ids,),
        ).fetchall()
    lost_once = {run["video_id"] for run in lost}
    assert {row["video_id"]: row["attempts"] for row in attempts} == {
        video_id: 2 if video_id in lost_once else 1 for video_id in ids
    }


def test_a_killed_scheduler_is_rebuilt_from_postgres(mortal: CommandLine, mortal_pool: Pool) -> None:
    ids = _submit(mortal, clips())
    _wait_for(mortal_pool, ids, "scene_detection")
    os.kill(_ray_process(mortal, "heimdex scheduler").pid, signal.SIGKILL)
    results = _settled(mortal_pool, ids)
    assert [result["status"] for result in results] == ["READY"] * len(ids)
    assert _lost_runs(mortal_pool, ids)
    with mortal_pool.connection() as connection:
        doubled = connection.execute(
            "SELECT video_id, index FROM video_scenes GROUP BY video_id, index HAVING count(*) > 1"
        ).fetchall()
        leases = connection.execute("SELECT 1 FROM video_leases").fetchall()
        open_runs = connection.execute("SELECT 1 FROM video_stage_runs WHERE outcome = 'running'").fetchall()
    assert (doubled, leases, open_runs) == ([], [], [])


def test_scheduler_dying_with_postgres_restarts_it(mortal: CommandLine, mortal_pool: Pool) -> None:
    with mortal_pool.connection() as connection:
        before = connection.execute("SELECT 1 FROM videos WHERE status = 'READY'").fetchall()
    ids = _submit(mortal, clips())
    _wait_for(mortal_pool, ids, "scene_detection")
    scheduler = _ray_process(mortal, "heimdex scheduler")
    scheduler.suspend()  # it would start Postgres again itself
    os.kill(_postmaster(mortal), signal.SIGKILL)
    scheduler.kill()
    _wait_until_ready(mortal_pool, len(before) + len(ids))
    assert [result["status"] for result in _settled(mortal_pool, ids)] == ["READY"] * len(ids)


def test_down_hands_back_and_the_next_up_finishes(mortal: CommandLine, mortal_pool: Pool) -> None:
    ids = _submit(mortal, clips() * 3)
    _wait_for(mortal_pool, ids, "transcription")
    began_s = time.monotonic()
    assert mortal.run("down").returncode == 0
    assert time.monotonic() - began_s < DOWN_WITHIN_S
    assert mortal.run("status").returncode == 1
    assert mortal.run("up").returncode == 0
    with open_pool(mortal.run("db", "url").stdout.strip(), max_size=2, name="recovery-tests") as pool:
        results = _settled(pool, ids)
    assert [result["status"] for result in results] == ["READY"] * len(ids)


@pytest.mark.timeout(900)
def test_process_brings_back_postgres_and_then_the_whole_cluster(cluster_folder: Path) -> None:
    """The cluster that ``heimdex process`` brought up for itself: everything of it is killed in turn."""
    folder = cluster_folder / "all-dies"
    folder.mkdir()
    heimdex = CommandLine(make_environment(folder), folder)
    videos = [str(clip) for clip in clips() * 2]
    running = heimdex.start("process", "--again", "--json", *videos)
    try:
        url = _url_when_up(heimdex, running)
        with open_pool(url, max_size=2, name="recovery-tests") as pool:
            _wait_until_ready(pool, 1)
            os.kill(_postmaster(heimdex), signal.SIGKILL)
            _wait_until_ready(pool, len(videos) // 2)
            for process in _node_processes(heimdex):
                process.kill()
        output, said = running.communicate(timeout=UP_WITHIN_S + SETTLED_WITHIN_S)
    finally:
        running.kill()
        running.communicate()
        heimdex.run("down")
    assert running.returncode == 0, said
    assert "the cluster is gone: bringing it up again" in said
    results = json.loads(output)
    assert [result["status"] for result in results] == ["READY"] * len(videos)
    assert all(result["scenes"] for result in results)
    assert left_running(folder) == []


def _url_when_up(heimdex: CommandLine, running: "subprocess.Popen[str]") -> str:
    end_s = time.monotonic() + UP_WITHIN_S
    while not _record(heimdex).exists():
        assert running.poll() is None
        assert time.monotonic() < end_s, "the cluster does not come up"
        time.sleep(0.1)
    return str(json.loads(_record(heimdex).read_text())["database_url"])


def _wait_until_ready(pool: Pool, videos: int) -> None:
    """Until that many are READY, whether or not Postgres answers meanwhile."""
    end_s, ready = time.monotonic() + SETTLED_WITHIN_S, 0
    while ready < videos:
        assert time.monotonic() < end_s, f"{ready} of {videos} READY"
        time.sleep(0.05)
        with suppress(DatabaseUnavailable, OperationalError), pool.connection() as connection:
            rows = connection.execute("SELECT count(*) AS ready FROM videos WHERE status = 'READY'").fetchall()
            ready = rows[0]["ready"]


def _postmaster(heimdex: CommandLine) -> int:
    data_dir = Path(heimdex.environment["HEIMDEX_DATA_DIR"])
    return int((data_dir / "postgres" / "postmaster.pid").read_text().split()[0])


def _record(heimdex: CommandLine) -> Path:
    return Path(heimdex.environment["HEIMDEX_DATA_DIR"]) / "cluster.json"


def _submit(heimdex: CommandLine, videos: list[Path]) -> list[UUID]:
    return [UUID(row["id"]) for row in heimdex.json("submit", "--again", *map(str, videos))]


def _wait_for(pool: Pool, ids: list[UUID], stage: str) -> None:
    """Until one of the videos runs (or waits for a worker) in ``stage``."""
    end_s = time.monotonic() + SETTLED_WITHIN_S
    while not any(stage in standing.stages for standing in read_standings(pool, ids)):
        assert time.monotonic() < end_s, f"no video came to {stage}"
        time.sleep(0.01)


def _settled(pool: Pool, ids: list[UUID]) -> list[dict[str, Any]]:
    end_s = time.monotonic() + SETTLED_WITHIN_S
    while not all(standing.settled for standing in read_standings(pool, ids)):
        assert time.monotonic() < end_s, read_standings(pool, ids)
        time.sleep(0.2)
    return read_results(pool, ids)


def _lost_runs(pool: Pool, ids: list[UUID]) -> list[dict[str, Any]]:
    with pool.connection() as connection:
        return connection.execute(
            "SELECT video_id, attempt, stage, error_type FROM video_stage_runs"
            " WHERE outcome = 'lost' AND video_id = ANY (%s)",
            (ids,),
        ).fetchall()


def _worker_pid(heimdex: CommandLine, call: str) -> int:
    """The worker process that runs a call now, by the title that Ray gives it while a method runs."""
    end_s = time.monotonic() + SETTLED_WITHIN_S
    loaded = "libctranslate2" if call == "transcribe" else "libavcodec"
    while time.monotonic() < end_s:
        for process in _ray_processes(heimdex):
            if RUNNING.search(" ".join(process.cmdline())) and any(
                loaded in mapping.path for mapping in process.memory_maps()
            ):
                return process.pid
        time.sleep(0.01)
    raise AssertionError(f"no worker ran {call}")


def _ray_process(heimdex: CommandLine, title: str) -> psutil.Process:
    return next(process for process in _ray_processes(heimdex) if title in " ".join(process.cmdline()))


def _ray_processes(heimdex: CommandLine) -> list[psutil.Process]:
    """The processes of this cluster's Ray, and of no other."""
    alive = []
    for process in _node_processes(heimdex):
        with suppress(psutil.NoSuchProcess):
            if process.cmdline()[:1] and process.cmdline()[0].startswith("ray::"):
                alive.append(process)
    return alive


def _node_processes(heimdex: CommandLine) -> list[psutil.Process]:
    """Ray's own processes, with what they started."""
    node = psutil.Process(json.loads(_record(heimdex).read_text())["node"]["pid"])
    return [node, *node.children(recursive=True)]
