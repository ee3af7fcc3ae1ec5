"""A real scheduler on a real Postgres, in a thread of the test. Its workers are played: each call takes its time."""

import asyncio
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from typing import Any
from uuid import UUID

from actors.scheduler.admission import WORK_S
from actors.scheduler.scheduler import SchedulerConfig
from actors.workers.catalog import BATCH_LIMITS, DEFERRED
from actors.workers.fetchers import Fetchers
from actors.workers.pool import WorkerPool
from actors.workers.worker import StageReply
from cluster.contracts.stages import FETCH_CALL, RetryRule, WorkerKind
from cluster.store.postgres.connections import Pool
from tests.benchmarks.idle_workers import IdlePlan, IdleScheduler, _Handle
from tests.support.queued_videos import only

RUNS_S = {"read_speech": 0.02, "transcribe": 0.3, "detect": 0.1, "describe": 0.02, "write": 0.01}
"""Seconds that calls run for each video; the others take no time."""
TWO_CORES = IdlePlan(media_workers=2, others=1, max_in_flight=128)
PATIENCE_S = 60.0
SOURCE_ANSWERS = threading.Event()
"""Until it does, downloads do not end."""
SOURCE_ANSWERS.set()


class _Worker(_Handle):
    """Runs for a while."""

    async def _run(self, call: str, batch: Sequence[tuple[Any, ...]], _: object = ()) -> list[StageReply]:
        run_s = RUNS_S.get(call, 0.0)
        await asyncio.sleep(run_s * len(batch))
        return [replace(reply, report=replace(reply.report, run_s=run_s)) for reply in await super()._run(call, batch)]


class _Fetcher(_Handle):
    """Waits for the source."""

    async def _run(self, call: str, batch: Sequence[tuple[Any, ...]], _: object = ()) -> list[StageReply]:
        if call == FETCH_CALL:
            await asyncio.to_thread(SOURCE_ANSWERS.wait, PATIENCE_S)
        return await super()._run(call, batch)


class PlayedScheduler(IdleScheduler):
    def _pool(self, kind: WorkerKind) -> WorkerPool:
        size = self._config.plan.placements[kind].count
        return WorkerPool(
            kind,
            _Worker,
            size,
            BATCH_LIMITS,
            DEFERRED,
            shares=self._shares,
            estimates=self._estimates,
            kill=lambda handle: handle.end(),
        )

    def _fetchers_beside(self, media: WorkerPool) -> Fetchers:
        plan = self._config.plan
        return Fetchers(
            lambda name, _: _Fetcher(name),
            media.nodes,
            plan.fetch_limit,
            plan.fetch_deadline_s,
            kill=lambda handle: handle.end(),
        )


@contextmanager
def scheduling(
    url: str, owner_cap: int | None = None, work_in_flight_s: float = WORK_S, lease_s: float = 60.0
) -> Iterator[None]:
    """A scheduler in a thread of its own."""
    config = SchedulerConfig(url, TWO_CORES, lease_s, RetryRule(), owner_cap, work_in_flight_s)  # type: ignore[arg-type]
    ready, stops = threading.Event(), list[Any]()

    async def serve() -> None:
        scheduler = PlayedScheduler(config, "first")
        stops.append(partial(asyncio.get_running_loop().call_soon_threadsafe, scheduler.stop, 0.0))
        await scheduler.serve(ready.set)

    thread = threading.Thread(target=lambda: asyncio.run(serve()))
    thread.start()
    assert ready.wait(PATIENCE_S)
    try:
        yield
    finally:
        stops[0]()
        thread.join()


def until_ready(pool: Pool, ids: Sequence[UUID], count: int | None = None) -> None:
    end_s = time.monotonic() + PATIENCE_S
    statement = "SELECT count(*) AS n FROM videos WHERE status = 'READY' AND id = ANY (%s)"
    while only(pool, statement, list(ids))["n"] < (len(ids) if count is None else count):
        assert time.monotonic() < end_s
        threading.Event().wait(0.02)
