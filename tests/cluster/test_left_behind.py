"""When the queue is empty, all is as it was before: descriptors, object references, files, processes."""

import gc
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import UUID

import psutil
import pytest
import ray
from ray._private.internal_api import get_memory_info_reply, get_state_from_address

from cluster.contracts.stages import Stage
from cluster.contracts.videos import SETTLED, Submission
from cluster.store.postgres.connections import Pool
from cluster.store.queue.submissions import submit
from tests.chaos.faults import running_scheduler
from tests.chaos.toy_way import ToyPlan, toy_uri
from tests.support.small_ray import small_ray

pytestmark = pytest.mark.long

WORKERS = 6
"""Two for media and one of every other kind."""
PATIENCE_S = 120.0
MOMENT_S = 5.0
ATTEMPTS = 3
VIDEOS = 40
"""So many that one thing left behind by each would be more than what may come and go."""
MORE_CONNECTIONS = 13
"""The pools of the scheduler and of the tests open up to 8 each as they are needed, and begin with 2 and 1."""
MORE_OF_A_WORKER = 1 + (WORKERS - 1)
"""A writer's pool begins with one connection and may open a second; Ray connects a worker with each of the others, once
it needs what they hold."""
FAULTY = [toy_uri(1, "raise", Stage.METADATA), toy_uri(2, "malformed", Stage.SCENE_PROCESSING)]
DEADLY = [toy_uri(3, "sigkill", Stage.DOWNLOADING), toy_uri(4, "hang", Stage.TRANSCRIPTION)]
"""Each takes a worker with it, three times."""


@dataclass(frozen=True)
class Held:
    """Held resources: worker processes, object references of the scheduler, bytes of Ray's object store, files."""

    workers: int
    references: int
    pinned_bytes: int
    files: list[str]


def workers() -> dict[int, int]:
    """Descriptors of each living worker process, by process id."""
    found = {}
    for child in psutil.Process().children(recursive=True):
        with suppress(psutil.NoSuchProcess):  # it died, or is a zombie, since it was listed
            if "ray::heimdex" in "".join(child.cmdline()[:1]):
                found[child.pid] = child.num_fds()
    return found


def held(scratch: Path) -> Held:
    gc.collect()
    core_worker: Any = vars(ray._private.worker.global_worker)["core_worker"]
    store = get_memory_info_reply(get_state_from_address(ray.get_runtime_context().gcs_address)).store_stats
    return Held(
        workers=len(workers()),
        references=len(core_worker.get_all_reference_counts()),
        pinned_bytes=store.object_store_bytes_primary_copy,
        files=sorted(path.name for path in scratch.iterdir()),
    )


def settled(scratch: Path, is_back: Callable[[Held], bool]) -> Held:
    """The resources held once all is back, or once patience has ended."""
    end_s = time.monotonic() + PATIENCE_S
    while not is_back(now := held(scratch)) and time.monotonic() < end_s:
        time.sleep(0.5)
    return now


def descriptors(choose: Callable[[list[int]], int]) -> int:
    """Of this process, which schedules: the most or the fewest within a moment, for connections come and go."""
    seen, end_s = [], time.monotonic() + MOMENT_S
    while time.monotonic() < end_s:
        seen.append(psutil.Process().num_fds())
        time.sleep(0.1)
    return choose(seen)


def healthy(first: int) -> list[str]:
    return [toy_uri(number) for number in range(first, first + VIDEOS)]


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
            before = settled(scratch, lambda now: now.workers == now.references == WORKERS and not now.files)
            assert before.workers == before.references == WORKERS
            assert (before.pinned_bytes, before.files) == (0, [])
            most, most_of_a_worker = descriptors(max), max(workers().values())
            work_off(pool, [*FAULTY, *healthy(200)])
            assert settled(scratch, lambda now: now == before) == before
            assert descriptors(min) <= most + MORE_CONNECTIONS
            assert max(workers().values()) <= most_of_a_worker + MORE_OF_A_WORKER < most_of_a_worker + VIDEOS
            work_off(pool, [*DEADLY, *healthy(300)])
            assert settled(scratch, lambda now: now == before) == before
            # Ray keeps its connection to a worker that died for a while.
            assert descriptors(min) <= most + MORE_CONNECTIONS + len(DEADLY) * ATTEMPTS < most + VIDEOS
        end_s = time.monotonic() + PATIENCE_S
        while (left := workers()) and time.monotonic() < end_s:
            time.sleep(0.1)
        assert left == {}
