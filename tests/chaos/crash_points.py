"""A scheduler dies right before and right after each of its writes; another one finishes the work.

The writes are not listed: one that survives plays each scenario first and reports at how many points it could die.
``python -m tests.chaos.crash_points``
"""

import argparse
import itertools
import json
import re
import signal
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import asdict, dataclass
from pathlib import Path
from uuid import UUID

from cluster.contracts.search import Retriever
from cluster.store.index.vector_tables import make_table
from cluster.store.postgres.connections import Pool, open_pool
from cluster.store.queue.lease_recovery import LeaseRecovery
from cluster.store.queue.submissions import submit
from tests.chaos.crash_scenarios import LEASE_S, OWNER, SCENARIOS, CrashConfig
from tests.chaos.cutting_proxy import WRITES
from tests.chaos.invariants import violations
from tests.chaos.marked_results import MODEL
from tests.chaos.queue import watched_postgres
from tests.chaos.queue_plan import RULE, Plan, misfits, plan_of, submission_of
from tests.chaos.queue_processes import ProcessPool, nursery
from tests.chaos.queue_worker import Scheduler, WorkerConfig
from tests.support.vector_lengths import EMBEDDING_DIM

OWNER_CAP = 1000
PAUSE_S = 0.02
RESCUE_S = 30.0
MOST_NAMED = 20

_WHERE = re.compile("^(before|after the commit of|after) ")


@dataclass(frozen=True)
class Counts:
    """``points``: how many of each scenario; ``writes``: how often death came right before or after each write."""

    seed: int
    seconds: float
    points: dict[str, int]
    writes: dict[str, int]
    violations: list[str]

    def lines(self) -> Iterator[str]:
        """As people read it."""
        yield f"seed {self.seed}: died at {sum(self.points.values())} points in {self.seconds:.0f} s: {self.points}"
        yield f"before and after {self.writes}"
        yield f"violations {len(self.violations)}"
        yield from (f"VIOLATION {line}" for line in self.violations)


class Killer:
    def __init__(self, seed: int, url: str, pool: Pool, folder: Path, schedulers: ProcessPool) -> None:
        self.seed = seed
        self.submitted: dict[UUID, int] = {}
        self.cancelled: set[UUID] = set()
        self.violations: list[str] = []
        self._url = url
        self._pool = pool
        self._folder = folder
        self._schedulers = schedulers
        self._numbers = itertools.count()
        self._sessions = itertools.count(1)
        self._rescuer = Scheduler(self._worker("rescuer"))

    def points_of(self, scenario: str) -> list[str]:
        """Let one live, and learn where one can die."""
        report = self._folder / f"points of {scenario}"
        config = self._config(scenario, report, None)
        status = self._play(config)
        if status != 0:
            self.violations.append(f"{scenario}: nobody was to die, but the status is {status}")
        self._settle(config)
        return report.read_text().splitlines()

    def die_at(self, scenario: str, point: int, what: str) -> None:
        """Let one die there; then see to it that its work is finished."""
        report = self._folder / f"{scenario} {point}"
        config = self._config(scenario, report, point)
        status = self._play(config)
        reached = report.read_text().splitlines() if report.exists() else []
        if status != -signal.SIGKILL or len(reached) != point:
            self.violations.append(f"{scenario}, {what}: not reached, status {status} after {reached[-1:]}")
        self._settle(config, starts_again=point % 2 == 0)

    def close(self) -> None:
        """End the rescuer's sessions."""
        self._rescuer.close()

    def _config(self, scenario: str, report: Path, dies_at: int | None) -> CrashConfig:
        numbers = [self._number(fits) for fits in SCENARIOS[scenario].videos]
        worker = self._worker(f"{scenario} {dies_at}", SCENARIOS[scenario].lease_s)
        return CrashConfig(worker, scenario, numbers, str(report), dies_at)

    def _number(self, fits: Callable[[Plan], bool]) -> int:
        return next(number for number in self._numbers if fits(plan_of(self.seed, number)))

    def _worker(self, name: str, lease_s: float = LEASE_S) -> WorkerConfig:
        session = f"{name}/{next(self._sessions)}"
        return WorkerConfig(self._url, self.seed, name, session, 10, lease_s, OWNER_CAP, str(self._folder / "log"))

    def _play(self, config: CrashConfig) -> int:
        """Let one begin where the scenario wants it to; returns the status with which it ended."""
        with self._pool.connection() as connection:
            connection.execute("DELETE FROM scene_vector_tables WHERE model = %s", (MODEL,))
            if not SCENARIOS[config.scenario].new_model:
                make_table(connection, Retriever.PICTURE, MODEL, EMBEDDING_DIM)
        process = self._schedulers.start("tests.chaos.crash_scenarios:die", json.dumps(asdict(config)))
        return self._schedulers.wait(process)

    def _settle(self, config: CrashConfig, starts_again: bool = True) -> None:
        """The owner repeats the submission; the scheduler starts again or its leases expire; the rest is worked off."""
        submissions = [submission_of(number) for number in config.numbers]
        self.submitted |= zip(submit(self._pool, OWNER, submissions, config.ids), config.numbers, strict=True)
        if config.scenario == "cancel and retry":
            self.cancelled |= set(config.ids)
        if starts_again:
            with open_pool(self._url, max_size=1, name=f"{config.worker.scheduler}/again") as pool:
                LeaseRecovery(pool, config.worker.scheduler, RULE).reap_own()
        else:
            with self._pool.connection() as connection:
                connection.execute("UPDATE video_leases SET expires_at = clock_timestamp()")
        deadline_s = time.monotonic() + RESCUE_S
        while left := _left(self._pool):
            if time.monotonic() > deadline_s:
                self.violations.append(f"{config.worker.scheduler}: {left} videos do not end")
                break
            self._rescuer.recovery.reap()
            ways = self._rescuer.claim()
            self._rescuer.walk(ways)
            if not ways:
                time.sleep(PAUSE_S)


def _left(pool: Pool) -> int:
    with pool.connection() as connection:
        row = connection.execute(
            "SELECT count(*) AS n FROM videos WHERE status IN ('PENDING', 'PROCESSING')"
        ).fetchone()
    assert row is not None
    return int(row["n"])


def run(seed: int, progress: Callable[[str], None] | None = None) -> Counts:
    """Die at every point of every scenario; then check everything."""
    started_s = time.monotonic()
    points: Counter[str] = Counter()
    writes: Counter[str] = Counter()
    with (
        watched_postgres(OWNER_CAP) as (server, folder),
        open_pool(server.url, max_size=1, name="owner") as pool,
        nursery() as schedulers,
    ):
        executioner = Killer(seed, server.url, pool, folder, schedulers)
        with closing(executioner):
            for scenario in SCENARIOS:
                for point, what in enumerate(executioner.points_of(scenario)):
                    executioner.die_at(scenario, point, what)
                    points[scenario] += 1
                    writes[_WHERE.sub("", what)] += 1
                if progress is not None:
                    progress(f"{scenario}: {points[scenario]} points")
        wrong = executioner.violations
        wrong += [f"nobody died at the write {kind}" for kind in WRITES if kind not in writes]
        wrong += violations(pool, RULE)
        wrong += misfits(pool, seed, executioner.submitted, executioner.cancelled)[:MOST_NAMED]
    return Counts(seed, time.monotonic() - started_s, dict(points), dict(writes), wrong)


def main() -> int:
    """Run from the command line; exits with 1 when there are violations."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=1)
    counts = run(parser.parse_args().seed, lambda line: print(line, flush=True))
    print(*counts.lines(), sep="\n")
    return 1 if counts.violations else 0


if __name__ == "__main__":
    sys.exit(main())
