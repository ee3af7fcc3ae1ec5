"""Every stage, every fault: the right stage is named each time, and the videos beside are unharmed.

``python -m tests.chaos.faults --seed 1 --repeats 5``. A real scheduler on a real Ray and a real Postgres; the workers
are those of ``toy_way``.
"""

import argparse
import asyncio
import random
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import UUID

from cluster.contracts.stages import DEADLINES, Deadline, RetryRule, Stage
from cluster.contracts.videos import SETTLED, Submission
from cluster.store.postgres.connections import Pool, open_pool
from cluster.store.postgres.embedded import EmbeddedPostgres
from cluster.store.postgres.migrations import apply_migrations
from cluster.store.queue.submissions import submit
from tests.chaos.invariants import VIDEOS, violations, watch
from tests.chaos.toy_way import FAULTS, SCENES, ToyPlan, left_in, toy_uri

DEADLINE_S = 4.0
HEALTHY_PER_FAULT = 2
RULE = RetryRule(first_delay_s=0.05, max_delay_s=0.5)
PATIENCE_S = 60.0
"""Longest time without any video being settled."""

Case = tuple[str, Stage]


@dataclass(frozen=True)
class Counts:
    """What was run and what was wrong."""

    faulty: int
    healthy: int
    violations: list[str]


def all_cases() -> list[Case]:
    return [(fault, stage) for fault in FAULTS for stage in Stage]


def run(
    seed: int, repeats: int, cases: Sequence[Case] | None = None, progress: Callable[[str], None] = lambda _: None
) -> Counts:
    """Each case ``repeats`` times among healthy videos, in an order made from ``seed``. Needs Ray to be connected."""
    chosen = [case for case in (cases or all_cases()) for _ in range(repeats)]
    uris = [toy_uri(number, fault, stage) for number, (fault, stage) in enumerate(chosen)]
    uris += [toy_uri(number) for number in range(len(uris) * HEALTHY_PER_FAULT)]
    random.Random(seed).shuffle(uris)
    with tempfile.TemporaryDirectory(prefix="heimdex-faults-") as name:
        folder = Path(name)
        with _database(folder / "postgres") as url, open_pool(url, max_size=2, name="faults") as pool:
            watch(url)
            plan = ToyPlan(url, folder / "scratch", workers=2, max_in_flight=12, fetch_deadline_s=DEADLINE_S)
            with running_scheduler(plan):
                ids = submit(pool, UUID(int=7), [Submission(uri=uri) for uri in uris])
                _settle(pool, len(ids), progress)
                left = left_in(folder / "scratch")
            wrong = [*left, *_wrong(pool), *violations(pool, RULE)]
    return Counts(len(chosen), len(uris) - len(chosen), wrong)


def _wrong(pool: Pool) -> Iterator[str]:
    with pool.connection() as connection:
        rows = connection.execute(
            f"SELECT v.*, (SELECT count(*) FROM video_scenes WHERE video_id = v.id) AS scenes FROM {VIDEOS} AS v"
        ).fetchall()
    for row in rows:
        fault, stage, _ = row["storage_path"].removeprefix("toy://").split("/")
        healthy = fault == "none" or stage == Stage.FINALIZING  # what cannot be removed keeps no video from being READY
        expected = ("READY", "completed", None) if healthy else ("FAILED", stage, FAULTS[fault])
        found = (row["status"], row["processing_stage"], row["error_type"])
        if found != expected:
            yield f"{row['storage_path']}: {found} instead of {expected}: {row['error_message']}"
        if healthy and row["scenes"] != SCENES:
            yield f"{row['storage_path']}: {row['scenes']} scenes"


def _settle(pool: Pool, count: int, progress: Callable[[str], None]) -> None:
    settled, since_s = -1, time.monotonic()
    while settled < count and time.monotonic() - since_s < PATIENCE_S:
        with pool.connection() as connection:
            row = connection.execute(
                f"SELECT count(*) AS n FROM {VIDEOS} AS v WHERE v.status = ANY (%s)", (list(SETTLED),)
            ).fetchone()
        assert row is not None
        if row["n"] != settled:
            settled, since_s = row["n"], time.monotonic()
            progress(f"{settled} of {count} videos have ended")
        time.sleep(0.2)


@contextmanager
def _database(folder: Path) -> Iterator[str]:
    server = EmbeddedPostgres(folder, {"fsync": "off", "full_page_writes": "off"})
    url = server.start()
    try:
        apply_migrations(url)
        yield url
    finally:
        server.stop()


@contextmanager
def running_scheduler(plan: Any) -> Iterator[None]:
    """The product's scheduler on a thread of this process, with deadlines that a test can wait for."""
    from actors.scheduler.scheduler import SchedulerConfig, VideoScheduler

    usual = dict(DEADLINES)
    DEADLINES.update(dict.fromkeys(Stage, Deadline(DEADLINE_S, 0.0)))
    scheduler = VideoScheduler(SchedulerConfig(plan.database_url, plan, 10.0, RULE), "faults")
    ready = threading.Event()
    thread = threading.Thread(target=lambda: asyncio.run(scheduler.serve(ready.set)))
    thread.start()
    try:
        if not ready.wait(120):
            raise TimeoutError("the workers did not start")
        yield
    finally:
        scheduler.stop(1.0)
        thread.join()
        DEADLINES.update(usual)


@contextmanager
def own_ray() -> Iterator[None]:
    """A Ray of this process alone."""
    import ray

    ray.init(
        address="local", num_cpus=2, include_dashboard=False, object_store_memory=80 * 1024**2, log_to_driver=False
    )
    try:
        yield
    finally:
        ray.shutdown()


def main() -> int:
    """Run the whole matrix from the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()
    with own_ray():
        counts = run(options.seed, options.repeats, progress=lambda line: print(line, flush=True))
    print(f"seed {options.seed}: {counts.faulty} faulty videos beside {counts.healthy} healthy ones")
    print(*(f"VIOLATION: {line}" for line in counts.violations), sep="\n")
    return 1 if counts.violations else 0


if __name__ == "__main__":
    sys.exit(main())
