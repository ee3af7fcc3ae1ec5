"""The load of a chaos run: owners who submit, cancel and retry, and schedulers without Ray that work it off.

Everything that happens is due at a share of the work done, drawn from the seed; a chaos part adds its own troubles to
``Load.troubles`` by name. What is wrong afterwards is ``invariants``', ``queue_plan``'s and ``queue_report``'s to say.
"""

import random
import signal
import time
from collections import Counter
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from uuid import UUID

from cluster.contracts.stages import Stage
from cluster.contracts.videos import Submission
from cluster.store.postgres.connections import Pool
from cluster.store.queue.failures import FailureFilter
from cluster.store.queue.reprocessing import retry
from cluster.store.queue.submissions import cancel, submit
from tests.chaos.queue_plan import submission_of
from tests.chaos.queue_processes import ProcessPool
from tests.chaos.queue_sleepers import Sleepers
from tests.chaos.queue_worker import WorkerConfig, until_answered

BULK_OWNERS = 8
FIRST_OWNERS_SHARE = 0.6
"""Share of all submissions that is one owner's."""
FIRST_SHARE = 0.9
"""Share of the videos that is submitted before the schedulers start."""
CHUNK = 20
LAST_TROUBLE = 0.93
SAME_NAME_SHARE = 0.7
"""Killed schedulers that are started again under their own name; the leases of the others have to expire."""
LOOK_S = 0.5
MOST_PAUSE_S = 0.06
OWNERS_AT_ONCE = 2


@dataclass(frozen=True)
class LoadSize:
    """The size of a load: how much, by how many."""

    seed: int
    videos: int
    workers: int = 6
    batch: int = 16
    lease_s: float = 2.0
    owner_cap: int = 48
    limit_s: float = 3600.0


class Load:
    """One run. ``url`` is how the schedulers reach Postgres, ``pool`` how the owners do."""

    def __init__(self, size: LoadSize, nursery: ProcessPool, pool: Pool, url: str, log: Path) -> None:
        self.size = size
        self.rng = random.Random(size.seed)
        self.submitted: dict[UUID, int] = {}
        self.cancelled: set[UUID] = set()
        self.lone: dict[UUID, datetime] = {}
        self.first: list[UUID] = []
        self.done: Counter[str] = Counter()
        self.violations: list[str] = []
        self.log = log
        self.troubles: dict[str, Callable[[], bool]] = {
            "kill": self._kill,
            "stop": self._stop,
            "terminate": self._terminate,
            "submit": self._submit_more,
            "submit one": self._submit_lone,
            "cancel": self._cancel,
            "retry": self._retry,
        }
        self._nursery = nursery
        self._pool = pool
        self._url = url
        self._ids = random.Random(f"{size.seed}/ids")
        self._owners = [UUID(int=self._ids.getrandbits(128), version=4) for _ in range(BULK_OWNERS)]
        self._slots: dict[str, int] = {}
        self._stopped = Sleepers(pool, self.rng, size.lease_s)
        self._leaving: set[int] = set()
        self._asked: list[Future[None]] = []
        self._started = 0

    def run(self, troubles: Mapping[str, int], progress: Callable[[str], None]) -> float:
        """Until every video has ended; returns the seconds it took. ``troubles``: how often each."""
        # Owners have threads of their own: a cancel may wait for a scheduler that has to be woken first.
        with ThreadPoolExecutor(OWNERS_AT_ONCE) as self._owners_threads:
            seconds = self._work_off(troubles, progress)
            self._wind_up()
        return seconds

    def _work_off(self, troubles: Mapping[str, int], progress: Callable[[str], None]) -> float:
        schedule = self._schedule(troubles)
        self._submit_first()
        started_s = looked_s = told_s = time.monotonic()
        for _ in range(self.size.workers):
            self._start()
        left = len(self.submitted)
        while left or schedule or self._asked:
            now_s = time.monotonic()
            if now_s - looked_s > LOOK_S:
                self._hear_owners()
                left, looked_s = self._left(), now_s
                self._look_after_workers()
            self._wake(until_answered(self._stopped.pop_due, now_s))
            if now_s - told_s > 10.0:
                told_s = now_s
                progress(f"{now_s - started_s:.0f} s: {len(self.submitted) - left} ended; {dict(self.done)}")
            if now_s - started_s > self.size.limit_s:
                self.violations.append(f"{left} videos have not ended after {self.size.limit_s:.0f} s")
                break
            share = (len(self.submitted) - left) / self.size.videos
            self._trouble(schedule, share if left else 1.0)
            time.sleep(self.rng.uniform(0.0, MOST_PAUSE_S))
        return time.monotonic() - started_s

    def _trouble(self, schedule: list[tuple[float, str]], share: float) -> None:
        """Do one thing that is due; whatever cannot be done now holds up nothing but its like."""
        for name in dict.fromkeys(name for due, name in schedule if due <= share):
            if self.troubles[name]():
                schedule.remove(next(entry for entry in schedule if entry[1] == name))
                self.done[name] += 1
                return

    def running(self) -> list[str]:
        """Schedulers that are neither stopped nor about to end."""
        return [name for name, pid in self._slots.items() if name not in self._stopped and pid not in self._leaving]

    def _schedule(self, troubles: Mapping[str, int]) -> list[tuple[float, str]]:
        videos = self.size.videos
        lone = max(3, videos // 500)
        self._to_come = videos - int(videos * FIRST_SHARE) - lone
        plan = {
            "submit": (-(-self._to_come // CHUNK), 0.85),
            "submit one": (lone, 0.85),
            "cancel": (max(5, videos // 200), LAST_TROUBLE),
            "retry": (max(5, videos // 400), 0.9),
            **{name: (count, LAST_TROUBLE) for name, count in troubles.items()},
        }
        return sorted((self.rng.uniform(0.0, end), name) for name, (count, end) in plan.items() for _ in range(count))

    def _left(self) -> int:
        def count() -> int:
            with self._pool.connection() as connection:
                row = connection.execute(
                    "SELECT count(*) AS n FROM videos WHERE status IN ('PENDING', 'PROCESSING')"
                ).fetchone()
            assert row is not None
            return int(row["n"])

        left: int = until_answered(count)
        return left

    # Owners

    def _ask(self, call: Callable[..., object], *arguments: object, **keywords: object) -> bool:
        """Until the database answered, in another thread."""
        self._asked.append(self._owners_threads.submit(until_answered, call, *arguments, **keywords))
        return True

    def _hear_owners(self) -> None:
        for asked in [asked for asked in self._asked if asked.done()]:
            self._asked.remove(asked)
            asked.result()

    def _submit_first(self) -> None:
        rest = int(self.size.videos * FIRST_SHARE)
        while rest:
            chunk = min(rest, 10 * CHUNK)
            until_answered(submit, self._pool, self._owner(), *self._new(chunk))
            rest -= chunk
        self.first = list(self.submitted)

    def _submit_more(self) -> bool:
        chunk = min(self._to_come, CHUNK)
        self._to_come -= chunk
        return self._ask(submit, self._pool, self._owner(), *self._new(chunk))

    def _submit_lone(self) -> bool:
        """One video of an owner who has no other, and when it was submitted."""
        owner = UUID(int=self._ids.getrandbits(128), version=4)
        submissions, ids = self._new(1)

        def submit_alone() -> None:
            submit(self._pool, owner, submissions, ids)
            self.lone[ids[0]] = _now(self._pool)

        return self._ask(submit_alone)

    def _owner(self) -> UUID:
        return self._owners[0] if self.rng.random() < FIRST_OWNERS_SHARE else self.rng.choice(self._owners[1:])

    def _new(self, count: int) -> tuple[list[Submission], list[UUID]]:
        ids = [UUID(int=self._ids.getrandbits(128), version=4) for _ in range(count)]
        numbers = range(len(self.submitted), len(self.submitted) + count)
        self.submitted |= zip(ids, numbers, strict=True)
        return [submission_of(number, self.rng.choice([0, 0, 0, -5, 5, 10])) for number in numbers], ids

    def _cancel(self) -> bool:
        """Some that may be anywhere, and some that are on their way."""
        with_lease = until_answered(_on_their_way, self._pool)
        chosen = self._some(4) + self.rng.sample(with_lease, min(2, len(with_lease)))
        self.cancelled |= set(chosen)
        return self._ask(cancel, self._pool, chosen)

    def _retry(self) -> bool:
        if self.rng.random() < 0.1:
            owner, stage = self.rng.choice(self._owners[1:]), self.rng.choice(list(Stage))
            return self._ask(retry, self._pool, owner_id=owner, failures=FailureFilter(stage=stage))
        return self._ask(retry, self._pool, self._some(20))

    def _some(self, count: int) -> list[UUID]:
        return self.rng.sample(list(self.submitted), min(count, len(self.submitted)))

    # Schedulers

    def _start(self, name: str | None = None) -> None:
        self._started += 1
        name = name or f"scheduler-{self._started}"
        config = WorkerConfig(
            url=self._url,
            seed=self.size.seed,
            scheduler=name,
            session=f"{name}/{self._started}",
            batch=self.size.batch,
            lease_s=self.size.lease_s,
            owner_cap=self.size.owner_cap,
            log=str(self.log),
        )
        self._slots[name] = self._nursery.start("tests.chaos.queue_worker:run_worker", config.dump())

    def _kill(self) -> bool:
        running = self.running()
        if not running:
            return False
        name = self.rng.choice(running)
        status = self._nursery.kill(self._slots.pop(name))
        if status != -signal.SIGKILL:
            self.violations.append(f"{name} had ended by itself, status {status}")
        self._start(name if self.rng.random() < SAME_NAME_SHARE else None)
        return True

    def _stop(self) -> bool:
        """Until ``_stopped`` says that it has slept past its lease."""
        running = self.running()
        if len(running) < 3:
            return False
        name = self.rng.choice(running)
        self._nursery.signal(self._slots[name], signal.SIGSTOP)
        until_answered(self._stopped.add, name, time.monotonic())
        return True

    def _terminate(self) -> bool:
        """Ask one to hand back what it has; ``_look_after_workers`` sees that it ends."""
        running = self.running()
        if not running:
            return False
        pid = self._slots[self.rng.choice(running)]
        self._leaving.add(pid)
        self._nursery.signal(pid, signal.SIGTERM)
        return True

    def _wake(self, names: list[str]) -> None:
        for name in names:
            self._nursery.signal(self._slots[name], signal.SIGCONT)

    def _look_after_workers(self) -> None:
        for pid, status in self._nursery.ended().items():
            name = next(name for name, found in self._slots.items() if found == pid)
            del self._slots[name]
            if status != 0 or pid not in self._leaving:
                self.violations.append(f"{name} ended by itself, status {status}")
            self._leaving.discard(pid)
            self._start(None)

    def _wind_up(self) -> None:
        """Wake the stopped schedulers, so that they try what they still want to write; then let all hand back."""
        self._wake(self._stopped.pop_all())
        for pid in self._slots.values():
            self._nursery.signal(pid, signal.SIGTERM)
        for name, pid in self._slots.items():
            if self._nursery.wait(pid) != 0:
                self.violations.append(f"{name} did not end as asked")
        self._slots.clear()


def _now(pool: Pool) -> datetime:
    with pool.connection() as connection:
        row = connection.execute("SELECT clock_timestamp() AS now").fetchone()
    assert row is not None
    moment: datetime = row["now"]
    return moment


def _on_their_way(pool: Pool) -> list[UUID]:
    with pool.connection() as connection:
        return [row["video_id"] for row in connection.execute("SELECT video_id FROM video_leases ORDER BY 1")]
