"""When the queue is empty, all is as it was before: descriptors, object references, files, processes."""

import gc
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import UUID

import psutil
import pytest
import ray
from ray._private.internal_api import get_memory_info_reply, get_state_from_address
from small_ray import small_ray

from cluster.contracts.stages import Stage
from cluster.contracts.videos import SETTLED, Submission
from cluster.store.database import Pool
from cluster.store.submissions import submit
from tests.chaos.faults import running_scheduler
from tests.chaos.toy_way import ToyPlan, toy_uri

WORKERS = 5
"""Two for media and one of every other kind."""
PATIENCE_S = 120.0
SETTLED_WITHIN_S = 20.0
ATTEMPTS = 3
FAULTY = [toy_uri(1, "raise", Stage.METADATA), toy_uri(2, "malformed", Stage.SCENE_PROCESSING)]
DEADLY = [toy_uri(3, "sigkill", Stage.DOWNLOADING), toy_uri(4, "hang", Stage.TRANSCRIPTION)]
"""Each takes a worker with it, three times."""


@dataclass(frozen=True)
class Held:
    """What this process, which schedules, holds, what the workers do, in the order of their size, and what Ray does."""

    descriptors: int
    of_workers: list[int]
    references: int
    pinned_bytes: int
    files: list[str]


def worker_processes() -> list[psutil.Process]:
    return [
        child
        for child in psutil.Process().children(recursive=True)
        if child.status() != psutil.STATUS_ZOMBIE and child.cmdline()[:1] and "StageActor" in child.cmdline()[0]
    ]


def held(scratch: Path) -> Held:
    gc.collect()
    core_worker: Any = vars(ray._private.worker.global_worker)["core_worker"]
    store = get_memory_info_reply(get_state_from_address(ray.get_runtime_context().gcs_address)).store_stats
    return Held(
        descriptors=psutil.Process().num_fds(),
        of_workers=sorted(worker.num_fds() for worker in worker_processes()),
        references=len(core_worker.get_all_reference_counts()),
        pinned_bytes=store.object_store_bytes_primary_copy,
        files=sorted(path.name for path in scratch.iterdir()),
    )


def settled(scratch: Path, wanted: Held | None = None) -> Held:
    """What is held once it is as ``wanted``, or once some time has passed."""
    end_s = time.monotonic() + SETTLED_WITHIN_S
    while (now := held(scratch)) != wanted and time.monotonic() < end_s:
        time.sleep(0.5)
    return now


def healthy(first: int) -> list[str]:
    return [toy_uri(number) for number in range(first, first + 20)]


def work_off(pool: Pool, uris: list[str]) -> None:
    submit(pool, UUID(int=7), [Submission(uri=uri) for uri in uris])
    end_s = time.monotonic() + PATIENCE_S
    while True:
        with pool.connection() as connection:
            rows = connection.execute(
                "SELECT storage_path FROM videos WHERE NOT status::text = ANY (%s)", (list(SETTLED),)
            ).fetchall()
        if not rows:
            return
        assert time.monotonic() < end_s, rows
        time.sleep(0.2)


@pytest.mark.timeout(400)
def test_what_videos_took_is_given_back_whatever_befell_them(database_url: str, pool: Pool, tmp_path: Path) -> None:
    scratch = tmp_path / "scratch"
    plan = ToyPlan(database_url, scratch, workers=2, max_in_flight=6)
    with small_ray():
        with running_scheduler(plan):
            work_off(pool, [*DEADLY, *healthy(100)])  # until then connections are made
            before = settled(scratch)
            assert len(before.of_workers) == WORKERS
            assert (before.pinned_bytes, before.files) == (0, [])
            work_off(pool, [*FAULTY, *healthy(200)])
            assert settled(scratch, before) == before
            work_off(pool, [*DEADLY, *healthy(300)])
            # Ray keeps its connection to a worker that died for a while, and the handle of the last one.
            after = settled(scratch, before)
            assert after.descriptors - before.descriptors <= len(DEADLY) * ATTEMPTS
            assert after.references - before.references <= 1
            assert (after.of_workers, after.pinned_bytes, after.files) == (before.of_workers, 0, [])
        end_s = time.monotonic() + PATIENCE_S
        while (left := worker_processes()) and time.monotonic() < end_s:
            time.sleep(0.1)
        assert left == []
