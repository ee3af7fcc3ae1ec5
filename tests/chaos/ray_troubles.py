"""Faults of a running Ray cluster: workers, nodes, schedulers, and all of it killed with SIGKILL, and started again.

A kill that found no live and busy target is none: it answers False and is tried again. A healthy video is spared by
those who kill workers once two crashes are charged to it, and a faulty one always, so that the cluster's own limits
hold for the run as they are. How often and when is ``ray_kills``'; how it must be booked ``ray_bookings``'.
"""

import random
import signal
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from cluster.contracts.stages import Stage
from cluster.store.postgres.connections import Pool
from tests.chaos.ray_bookings import Bookings, Struck, leases_of, strike
from tests.chaos.ray_processes import Process, RayCluster, signal_to, started, stopped
from tests.chaos.toy_way import Occupation, ToyPlan, occupations

IDLE_SHARE = 0.2
"""Of the workers that are killed, those that were at nothing."""
SPARED_FROM = 2
"""So many crashes may be charged to a healthy video from outside."""
BACK_WITHIN_S = 180.0
"""Time that a killed scheduler may take until it claims again, while there is something to claim."""


@dataclass
class _Scheduler:
    """A scheduler by its actor's name. ``silent_since_s``: it was killed then, and has claimed nothing since."""

    name: str
    lease_name: str
    silent_since_s: float | None = None
    last_token: int = 0


class Troubles:
    """One cluster after the other on one database. ``schedulers``: how many, for each life of the cluster in turn."""

    def __init__(self, plan: ToyPlan, pool: Pool, folder: Path, nodes: int, rng: random.Random) -> None:
        self._plan = plan
        self._pool = pool
        self._folder = folder
        self._nodes = nodes
        self._rng = rng
        self._cluster: RayCluster | None = None
        self._lives = 0
        self._schedulers: list[_Scheduler] = []
        self.bookings = Bookings(pool)
        self.done: Counter[str] = Counter()
        self.struck_stages: Counter[str] = Counter()
        self.idle_kills: list[datetime] = []
        """Times at which a worker was killed that was idle, or a fetcher: it may have been sent a call meanwhile."""
        self.shared: list[set[str]] = []
        """For each life with two schedulers, the names that their leases carry."""
        self.violations = self.bookings.violations
        self.hurried = False
        """Whether the next kill comes before this one is booked."""
        self.kinds: dict[str, Callable[[], bool]] = {
            "worker": self._kill_worker,
            "node": self._kill_node,
            "scheduler": self._kill_scheduler,
            "cluster": self._kill_cluster,
        }

    # Lives of the cluster

    def begin(self) -> None:
        """A new cluster: one scheduler in its odd lives, two in the even ones."""
        self._lives += 1
        self._cluster = started(self._folder / f"ray{self._lives}")
        for _ in range(self._nodes):
            self._cluster.ask("add_node")
        names = ["scheduler-one", "scheduler-two"][: 2 - self._lives % 2]
        plan = {key: str(value) if isinstance(value, Path) else value for key, value in asdict(self._plan).items()}
        self._schedulers = [_Scheduler(name, self._cluster.ask("start_scheduler", name, plan)) for name in names]
        if len(names) > 1:
            self.shared.append({scheduler.lease_name for scheduler in self._schedulers})

    def end(self) -> None:
        """As ``heimdex down``; what it leaves behind is a violation."""
        self.bookings.settle("worker", [], certain=False)  # what the last kills left open
        self._of().ask("stop")
        self.violations += [f"left running: {title}" for title in self._of().close()]

    def abandon(self) -> None:
        """Kill whatever there is."""
        if self._cluster is not None:
            self._cluster.kill_all()

    def check_strength(self, within_s: float) -> None:
        """Every worker that was killed must have been replaced."""
        pools = sum(placement.count for placement in self._plan.placements.values())
        # A fetcher is on each node that has media workers.
        wanted = [(pools + nodes) * len(self._schedulers) for nodes in (1, self._nodes)]
        end_s = time.monotonic() + within_s
        while not wanted[0] <= (found := len(self._of().workers())) <= wanted[1] and time.monotonic() < end_s:
            time.sleep(0.2)
        if not wanted[0] <= found <= wanted[1]:
            self.violations.append(f"{found} workers are alive in the end instead of {wanted[0]} to {wanted[1]}")

    def check_comebacks(self) -> None:
        """A killed scheduler must claim again on its own."""
        for scheduler in self._schedulers:
            if scheduler.silent_since_s is None:
                continue
            if self._last_token(scheduler.lease_name) > scheduler.last_token:
                scheduler.silent_since_s = None
            elif time.monotonic() - scheduler.silent_since_s > BACK_WITHIN_S:
                self.violations.append(f"{scheduler.name} did not come back within {BACK_WITHIN_S:.0f} s")
                scheduler.silent_since_s = None

    # Kills

    def _kill_worker(self) -> bool:
        """One whose node is alive: the worker of a dead node, which has not noticed yet, dies of the node's death."""
        raylets = set(self._of().ask("raylets").values())
        workers = [worker for worker in self._of().workers() if worker.parent in raylets]
        at_work = occupations(self._journal)
        if self._rng.random() < IDLE_SHARE:
            return self._kill_idle([w.pid for w in workers if w.pid not in at_work])
        stages = {at_work[worker.pid].stage for worker in workers if worker.pid in at_work}
        if not stages:
            return False
        stage = self._rng.choice(sorted(stages))
        pids = [w.pid for w in workers if w.pid in at_work and at_work[w.pid].stage is stage]
        return self._kill_at_work(self._rng.choice(pids))

    def _kill_idle(self, pids: list[int]) -> bool:
        if not pids or not leases_of(self._pool):
            return False
        self.idle_kills.append(datetime.now(UTC))
        return self._count("idle worker", signal_to(self._rng.choice(pids), signal.SIGKILL))

    def _kill_at_work(self, pid: int) -> bool:
        with stopped(pid):  # what it is at stays so until it is dead
            occupation = occupations(self._journal).get(pid)
            struck = self._strike([occupation]) if occupation else []
            if occupation is None or len(struck) < len(occupation.attempts) or not all(map(_may_crash, struck)):
                return False
            killed = signal_to(pid, signal.SIGKILL)
        self._forget(pid)
        if occupation.stage is Stage.DOWNLOADING:  # of several videos, of which some may not be in the journal yet
            self.idle_kills.append(datetime.now(UTC))
        self.struck_stages[occupation.stage] += 1
        self._settle("worker", struck, certain=True)
        return self._count("busy worker", killed)

    def _kill_node(self) -> bool:
        """Kill a node: half of the time with all that runs on it, else alone, which the rest notices."""
        raylets: dict[str, int] = self._of().ask("raylets")
        at_work = occupations(self._journal)
        on_node = {node: [w for w in self._of().workers() if w.parent == raylet] for node, raylet in raylets.items()}
        busy = [node for node, workers in on_node.items() if any(worker.pid in at_work for worker in workers)]
        if not busy:
            return False
        node = self._rng.choice(sorted(busy))
        passengers = [p for p in self._of().processes() if p.parent == raylets[node] and p.title.startswith("ray::")]
        if self._rng.random() < 0.5:
            struck = self._cut_power(node, passengers)
            self._of().ask("add_node")
            self._settle("node", struck, certain=True)
        else:
            struck = self._strike_passengers(passengers)
            self._of().ask("kill_node", node)
            self._of().ask("add_node")
            self._settle("node", struck, certain=False)
        return self._count("node", True)

    def _cut_power(self, node: str, passengers: list[Process]) -> list[Struck]:
        for passenger in passengers:
            signal_to(passenger.pid, signal.SIGSTOP)
        struck = self._strike_passengers(passengers)
        self._of().ask("kill_node", node)
        for passenger in passengers:
            signal_to(passenger.pid, signal.SIGKILL)
            self._forget(passenger.pid)
        return struck

    def _strike_passengers(self, passengers: list[Process]) -> list[Struck]:
        at_work = occupations(self._journal)
        return self._strike([at_work[passenger.pid] for passenger in passengers if passenger.pid in at_work])

    def _kill_scheduler(self) -> bool:
        scheduler = self._rng.choice(self._schedulers)
        if scheduler.silent_since_s is not None:
            return False  # it is not back from the last time
        pid: int | None = self._of().ask("scheduler_pid", scheduler.name)
        if pid is None:
            return False  # the node that it was on was killed
        with stopped(pid):
            struck = strike(self._pool, dict.fromkeys(leases_of(self._pool, scheduler.lease_name)))
            if not struck:
                return False
            killed = signal_to(pid, signal.SIGKILL)
        scheduler.silent_since_s, scheduler.last_token = time.monotonic(), self._last_token(scheduler.lease_name)
        self._settle("scheduler", struck, certain=False)
        return self._count("scheduler", killed)

    def _kill_cluster(self) -> bool:
        struck = strike(self._pool, dict.fromkeys(leases_of(self._pool)))
        if not struck:
            return False
        self._of().kill_all()
        for path in self._journal.glob("[0-9]*"):
            path.unlink()
        self.begin()
        self._settle("cluster", struck, certain=False)
        return self._count("cluster", True)

    # What they share

    @property
    def _journal(self) -> Path:
        assert self._plan.journal_dir is not None
        return self._plan.journal_dir

    def _of(self) -> RayCluster:
        assert self._cluster is not None
        return self._cluster

    def _strike(self, at_work: list[Occupation]) -> list[Struck]:
        stages: dict[int, Stage | None] = {token: one.stage for one in at_work for _, token in one.attempts}
        return strike(self._pool, stages)

    def _settle(self, kind: str, struck: list[Struck], *, certain: bool) -> None:
        self.bookings.settle(kind, struck, certain=certain, hurriedly=self.hurried)

    def _forget(self, pid: int) -> None:
        (self._journal / str(pid)).unlink(missing_ok=True)

    def _count(self, kind: str, killed: bool) -> bool:
        self.done[kind] += killed
        return killed

    def _last_token(self, lease_name: str) -> int:
        with self._pool.connection() as connection:
            row: dict[str, Any] | None = connection.execute(
                "SELECT coalesce(max(lease_token), 0) AS token FROM chaos.leases WHERE scheduler = %s", (lease_name,)
            ).fetchone()
        assert row is not None
        return int(row["token"])


def _may_crash(one: Struck) -> bool:
    _, crashes, _ = one.charged
    return one.healthy and crashes < SPARED_FROM
