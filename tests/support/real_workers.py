"""Every kind of worker in the test's own process: real stages on real files, without Ray."""

import asyncio
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

from actors.workers.catalog import WorkerPlan
from actors.workers.turns import ANY_TURN, Turn
from actors.workers.worker import LoadedWorker, Share, StageReply, failure_of
from cluster.contracts.errors import HeimdexError
from cluster.contracts.results import StageFailure, StageReport
from cluster.contracts.stages import WorkerKind

NODE = "the-only-node"


class RealWorkers:
    """Answers the calls of all kinds of workers, loading each kind at its first call. What comes in parts is a list."""

    def __init__(self, plan: WorkerPlan) -> None:
        self._plan = plan
        self._loaded: list[LoadedWorker] = []
        self._free = threading.Lock()

    async def run(
        self,
        call: str,
        arguments: tuple[Any, ...],
        *,
        deadline_s: float,
        node_id: str | None = None,
        alone: bool = False,
        size: float = 0.0,
        added_s: float = 0.0,
        turn: Turn = ANY_TURN,
        on_start: Callable[[], None] = lambda: None,
    ) -> StageReply:
        assert deadline_s > 0
        on_start()
        run_s, value = await asyncio.to_thread(self._timed, call, arguments)
        failure = value if isinstance(value, StageFailure) else None
        report = StageReport(run_s, 1, "10.0.0.1", f"{call}-worker", "cpu", run_s, failure)
        return StageReply(report, None if failure else value, NODE, 1)

    def _timed(self, call: str, arguments: tuple[Any, ...]) -> tuple[float, Any]:
        """One call at a time: the seconds that it took, and its answer."""
        with self._free:
            started_s = time.monotonic()
            value = self._answer(call, arguments)
            return time.monotonic() - started_s, value

    def _answer(self, call: str, arguments: tuple[Any, ...]) -> Any:
        worker = self._worker_of(call)
        try:
            if call in worker.batched:
                (share,) = worker.calls[call]([arguments])
                value = share.value if isinstance(share, Share) else share
            else:
                value = worker.calls[call](*arguments)
            if isinstance(value, HeimdexError):
                raise value
            return list(value) if isinstance(value, Iterator) else value
        except HeimdexError as error:
            return failure_of(error)

    def _worker_of(self, call: str) -> LoadedWorker:
        for kind in list(WorkerKind)[len(self._loaded) :]:
            if any(call in worker.calls for worker in self._loaded):
                break
            self._loaded.append(self._plan.loader(kind)())
        return next(worker for worker in self._loaded if call in worker.calls)
