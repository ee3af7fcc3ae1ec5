"""Registry of live schedulers and workers: they announce themselves in Postgres, for the HTTP side and the commands."""

import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from psycopg.rows import class_row

from cluster.store.postgres.connections import Pool

SCHEDULER_KIND = "scheduler"
"""The kind under which a scheduler announces itself beside its workers."""
SEEN_WITHIN_S = 10.0
"""A worker without an announcement for so long is taken for dead; announcements come every two seconds."""

RECENT_S = 300.0
"""The time back from now over which a worker's utilisation is announced."""
SAMPLE_S = 10.0
"""Least time between two samples of a worker's busy seconds."""

FORGOTTEN_AFTER_S = 3600.0
"""Time after which workers that died without a word are removed."""


@dataclass(frozen=True)
class WorkerState:
    """A worker as its scheduler last saw it. ``busy_s``: seconds of calls so far; ``model``: what it loaded;
    ``trouble``: what keeps it from working, in a sentence.
    """

    worker: str
    kind: str
    node: str
    device: str
    model: str | None
    state: str
    busy_s: float
    peak_memory_bytes: int | None
    trouble: str | None = None


@dataclass(frozen=True, kw_only=True)
class SeenWorker(WorkerState):
    """A worker with the age of its last announcement, in seconds.

    ``recent_busy_s``: seconds of calls within the last ``recent_s``, at most about ``RECENT_S``.
    """

    age_s: float
    alive_s: float
    recent_busy_s: float | None = None
    recent_s: float | None = None

    @property
    def busy_share(self) -> float | None:
        """Part of the last five minutes in which it was busy; None where that is not known yet."""
        if not self.recent_s or self.recent_busy_s is None:
            return None
        return min(1.0, max(0.0, self.recent_busy_s / self.recent_s))


class RecentWork:
    """Busy seconds of workers within about the last ``RECENT_S``, from samples of what they announce."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._samples: dict[str, deque[tuple[float, float]]] = {}

    def note(self, workers: Sequence[WorkerState]) -> dict[str, tuple[float, float]]:
        """Take a sample; of each worker its busy seconds and over how many seconds they are. Others are dropped."""
        now_s = self._clock()
        kept = {worker.worker: self._samples.get(worker.worker) or deque[tuple[float, float]]() for worker in workers}
        self._samples, recent = kept, {}
        for worker in workers:
            samples = kept[worker.worker]
            if samples and worker.busy_s < samples[-1][1]:  # a new process under the name of one that ended
                samples.clear()
            if not samples or now_s - samples[-1][0] >= SAMPLE_S:
                samples.append((now_s, worker.busy_s))
            while len(samples) > 1 and samples[1][0] <= now_s - RECENT_S:
                samples.popleft()
            recent[worker.worker] = (worker.busy_s - samples[0][1], now_s - samples[0][0])
        return recent


class WorkerRegistry:
    """Announces one scheduler and its workers."""

    def __init__(self, pool: Pool, scheduler: str) -> None:
        self._pool = pool
        self._scheduler = scheduler
        self._recent = RecentWork()

    def announce(self, workers: Sequence[WorkerState]) -> None:
        """State all workers of this scheduler; those no longer named are removed."""
        with self._pool.connection() as connection, connection.cursor() as cursor:
            cursor.execute(
                "DELETE FROM cluster_workers WHERE scheduler = %s AND worker <> ALL (%s) "
                "OR seen_at < clock_timestamp() - make_interval(secs => %s)",
                (self._scheduler, [worker.worker for worker in workers], FORGOTTEN_AFTER_S),
            )
            recent = self._recent.note(workers)
            rows: list[dict[str, Any]] = [
                {
                    **asdict(worker),
                    "scheduler": self._scheduler,
                    **dict(zip(("recent_busy_s", "recent_s"), recent[worker.worker], strict=True)),
                }
                for worker in workers
            ]
            cursor.executemany(
                """
                INSERT INTO cluster_workers
                    (worker, scheduler, kind, node, device, model, state, busy_s, peak_memory_bytes, trouble,
                     recent_busy_s, recent_s)
                VALUES (%(worker)s, %(scheduler)s, %(kind)s, %(node)s, %(device)s, %(model)s, %(state)s, %(busy_s)s,
                        %(peak_memory_bytes)s, %(trouble)s, %(recent_busy_s)s, %(recent_s)s)
                ON CONFLICT (worker) DO UPDATE
                SET scheduler = excluded.scheduler, state = excluded.state, busy_s = excluded.busy_s,
                    node = excluded.node, device = excluded.device, model = excluded.model,
                    peak_memory_bytes = excluded.peak_memory_bytes, trouble = excluded.trouble,
                    recent_busy_s = excluded.recent_busy_s, recent_s = excluded.recent_s,
                    seen_at = clock_timestamp()
                """,
                rows,
            )

    def withdraw(self) -> None:
        """Remove this scheduler and its workers: an orderly stop."""
        with self._pool.connection() as connection:
            connection.execute("DELETE FROM cluster_workers WHERE scheduler = %s", (self._scheduler,))


def seen_workers(pool: Pool, max_age_s: float) -> list[SeenWorker]:
    """The workers that announced themselves within the last ``max_age_s`` seconds, schedulers first."""
    with pool.connection() as connection, connection.cursor(row_factory=class_row(SeenWorker)) as cursor:
        cursor.execute(
            """
            SELECT worker, kind, node, device, model, state, busy_s, peak_memory_bytes, trouble,
                   recent_busy_s, recent_s,
                   extract(epoch FROM clock_timestamp() - seen_at)::float8 AS age_s,
                   extract(epoch FROM clock_timestamp() - started_at)::float8 AS alive_s
            FROM cluster_workers WHERE seen_at > clock_timestamp() - make_interval(secs => %s)
            ORDER BY kind = 'scheduler' DESC, kind, worker
            """,
            (max_age_s,),
        )
        return cursor.fetchall()
