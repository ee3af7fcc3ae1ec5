"""Workers that answer every call at once with nothing: what is left is the scheduler's own work.

In this process, where a call costs nothing, or as the product's own actors on Ray.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from actors.scheduler.scheduler import VideoScheduler
from actors.workers.catalog import BATCH_LIMITS, DEFERRED, RESULT_TYPES
from actors.workers.configs import Placement
from actors.workers.fetch_slots import FetchLimit
from actors.workers.fetchers import Fetchers
from actors.workers.pool import WorkerPool
from actors.workers.worker import LoadedWorker, StageReply, WorkerInfo
from cluster.contracts.media import LocalVideo, MediaInfo
from cluster.contracts.results import StageReport
from cluster.contracts.stages import WorkerKind

LOCAL = LocalVideo(Path("/scratch/video"), 1, temporary=True)
ANSWERS: Mapping[str, Any] = {
    "fetch": LOCAL,
    "locate": LOCAL,
    "probe": MediaInfo(3.0, 0.0, 25.0, 64, 36, 0, "none", "none", 1),
    "list_downloads": [],
}
CALLS = (*RESULT_TYPES, "discard", "list_downloads")


@dataclass(frozen=True)
class IdlePlan:
    """In place of ``actors.workers.catalog.WorkerPlan``: so many workers of each kind, so many videos on the way."""

    media_workers: int
    others: int
    max_in_flight: int

    @property
    def placements(self) -> Mapping[WorkerKind, Placement]:
        return {
            kind: Placement(self.media_workers if kind is WorkerKind.MEDIA else self.others, cpus=0.0)
            for kind in WorkerKind
        }

    @property
    def fetch_limit(self) -> FetchLimit:
        return FetchLimit(per_node=256, per_owner=128)

    @property
    def fetch_deadline_s(self) -> float:
        return 60.0

    @property
    def root_is_remote(self) -> bool:
        return False

    def resource_share(self, kind: WorkerKind) -> float:
        return 1.0

    def loader(self, kind: WorkerKind) -> Callable[[], LoadedWorker]:
        return _load


class IdleScheduler(VideoScheduler):
    """The scheduler whose workers are in its own process."""

    def _pool(self, kind: WorkerKind) -> WorkerPool:
        size = self._config.plan.placements[kind].count
        return WorkerPool(
            kind,
            _Handle,
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
            lambda name, _: _Handle(name),
            media.nodes,
            plan.fetch_limit,
            plan.fetch_deadline_s,
            kill=lambda handle: handle.end(),
        )


def _load() -> LoadedWorker:
    """The contents of a worker on Ray."""
    calls: dict[str, Callable[..., Any]] = {name: partial(_answer, name) for name in CALLS}
    shared = {name: partial(_answer_all, name) for name in BATCH_LIMITS}
    return LoadedWorker(calls | shared, batched=frozenset(shared))


def _answer_all(call: str, batch: Sequence[tuple[Any, ...]]) -> list[Any]:
    return [_answer(call)] * len(batch)


def _answer(call: str, *arguments: Any) -> Any:
    return ANSWERS.get(call, call)


@dataclass(frozen=True)
class _Method:
    remote: Callable[..., Awaitable[Any]]


class _Handle:
    """In place of the handle of a ``StageActor``."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._over = asyncio.Event()
        self.describe = _Method(self._describe)
        self.wait_until_death = _Method(self._over.wait)
        self.run = self.run_beside = _Method(self._run)

    def end(self) -> None:
        self._over.set()

    async def _describe(self) -> WorkerInfo:
        return WorkerInfo(self._name, "node", "127.0.0.1", "cpu", None, 1)

    async def _run(self, call: str, batch: Sequence[tuple[Any, ...]], _: object = ()) -> list[StageReply]:
        return [self._reply(call) for _ in batch]

    def _reply(self, call: str) -> StageReply:
        report = StageReport(0.0, 1, "127.0.0.1", self._name, "cpu", 0.0, None)
        return StageReply(report, _answer(call), "node", 1)
