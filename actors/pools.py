"""Pools of equal workers: feed idle workers, batch ready items across videos, replace dead ones, enforce deadlines.

A pool answers every item with the worker's reply or raises why there is none: the worker died under it
(``WorkerLost``) or overran its deadline (``StageTimeout``). It never repeats an item: retrying is the queue's.
All methods run on one asyncio loop; nothing here blocks it.
"""

import asyncio
import itertools
import logging
import time
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

import ray
from ray.exceptions import RayError, RayTaskError

from actors.stage_actor import StageReply, WorkerInfo
from cluster.contracts.errors import ConfigurationError, DeviceFailure, StageTimeout, WorkerLost
from cluster.contracts.stages import WorkerKind

logger = logging.getLogger(__name__)

CALLS_PER_WORKER = 2
"""One call runs and one waits at the worker, so that it never idles for a round trip."""
RESTART_DELAY_S = 1.0
STRANDED_S = 60.0
"""How long an item that is bound to a node without workers waits for one that is starting and may be there."""


@dataclass(eq=False)
class _Item:
    call: str
    arguments: tuple[Any, ...]
    deadline_s: float
    node_id: str | None
    reply: "asyncio.Future[StageReply]"
    stranded_since_s: float | None = None


@dataclass(eq=False)
class _Worker:
    name: str
    handle: Any
    info: WorkerInfo | None = None
    calls: deque[list[_Item]] = field(default_factory=deque)
    head_since_s: float = 0.0
    busy_s: float = 0.0
    peak_memory_bytes: int | None = None


@dataclass(frozen=True)
class WorkerView:
    """A worker as the pool sees it; ``info`` is None until it has loaded."""

    name: str
    info: WorkerInfo | None
    calls: int
    busy_s: float
    peak_memory_bytes: int | None


class Pool:
    """Workers of one kind.

    Args:
        spawn: starts a worker's actor by name and returns its handle.
        size: how many workers to keep alive.
        batch_sizes: most items per call, by call name; one where none is named.
    """

    def __init__(
        self, kind: WorkerKind, spawn: Callable[[str], Any], size: int, batch_sizes: dict[str, int] | None = None
    ) -> None:
        self.kind = kind
        self._spawn = spawn
        self._size = size
        self._batch_sizes = batch_sizes or {}
        self._waiting: deque[_Item] = deque()
        self._workers: list[_Worker] = []
        self._numbers = itertools.count(1)
        self._tasks: set[asyncio.Task[None]] = set()
        self._closed = False

    def start(self) -> None:
        """Start the workers; ``ready`` waits for them."""
        for _ in range(self._size):
            self._start_worker()

    async def ready(self) -> None:
        """Wait until every first worker has loaded.

        Raises:
            ConfigurationError: loading failed for a reason that only the operator can mend.
        """
        await asyncio.gather(*(self._load(worker) for worker in self._workers))
        self._feed()

    async def run(
        self, call: str, arguments: tuple[Any, ...], *, deadline_s: float, node_id: str | None = None
    ) -> StageReply:
        """Run one item, sharing a call with others where the call takes batches.

        ``deadline_s`` counts from when the worker turns to the call. ``node_id`` asks for a worker on that node.

        Raises:
            WorkerLost: the worker or the node died under the item.
            StageTimeout: the deadline passed; the worker was killed.
        """
        if self._closed:
            raise WorkerLost("the cluster is stopping")
        item = _Item(call, arguments, deadline_s, node_id, asyncio.get_running_loop().create_future())
        self._waiting.append(item)
        self._feed()
        try:
            return await item.reply
        finally:
            if item in self._waiting:
                self._waiting.remove(item)

    def view(self) -> list[WorkerView]:
        """The workers as they are now."""
        now_s = time.monotonic()
        return [
            WorkerView(
                worker.name,
                worker.info,
                len(worker.calls),
                worker.busy_s + (now_s - worker.head_since_s if worker.calls else 0.0),
                worker.peak_memory_bytes,
            )
            for worker in self._workers
        ]

    @property
    def waiting(self) -> int:
        """Items that no worker has been given yet."""
        return len(self._waiting)

    def close(self) -> None:
        """Kill the workers. Items that still wait are lost."""
        self._closed = True
        for task in self._tasks:
            task.cancel()
        for worker in self._workers:
            ray.kill(worker.handle)
            self._lose_all(worker, "the cluster is stopping")
        self._workers.clear()
        self._fail(self._waiting, WorkerLost("the cluster is stopping"))
        self._waiting.clear()

    # Starting and replacing

    def _start_worker(self) -> _Worker:
        name = f"{self.kind.value}-{next(self._numbers)}"
        worker = _Worker(name, self._spawn(name))
        self._workers.append(worker)
        return worker

    async def _load(self, worker: _Worker) -> None:
        try:
            worker.info = await worker.handle.describe.remote()
        except RayTaskError as error:
            if isinstance(error.cause, ConfigurationError):
                raise ConfigurationError(str(error.cause)) from None
            raise ConfigurationError(f"worker {worker.name} could not start: {error.cause}") from None
        except RayError as error:
            raise ConfigurationError(f"worker {worker.name} died while it was loading: {_first_line(error)}") from None

    def _replace(self, dead: _Worker) -> None:
        if dead not in self._workers or self._closed:
            return
        self._workers.remove(dead)
        logger.warning("worker %s is gone; starting another", dead.name)
        self._background(self._load_replacement(self._start_worker()))

    async def _load_replacement(self, worker: _Worker) -> None:
        try:
            await self._load(worker)
        except ConfigurationError as error:
            logger.error("%s", error)
            await asyncio.sleep(RESTART_DELAY_S)
            ray.kill(worker.handle)
            self._replace(worker)
        else:
            self._feed()

    def _background(self, work: Awaitable[None]) -> None:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    # Feeding

    def _feed(self) -> None:
        """Give waiting items to the workers with the fewest calls, as long as one has room."""
        for rank in range(CALLS_PER_WORKER):
            for worker in self._workers:
                if worker.info is not None and len(worker.calls) == rank:
                    batch = self._take_batch(worker.info)
                    if batch:
                        self._give(worker, batch)
        self._fail_stranded()

    def _fail_stranded(self) -> None:
        """Items bound to a node on which no worker is left cannot run; one that is starting may come to be there."""
        now_s = time.monotonic()
        nodes = {worker.info.node_id for worker in self._workers if worker.info is not None}
        starting = any(worker.info is None for worker in self._workers)
        for item in list(self._waiting):
            if item.node_id is None or item.node_id in nodes:
                item.stranded_since_s = None
                continue
            if item.stranded_since_s is None:
                item.stranded_since_s = now_s
                asyncio.get_running_loop().call_later(STRANDED_S, self._feed)
            if not starting or now_s - item.stranded_since_s >= STRANDED_S:
                self._waiting.remove(item)
                self._fail([item], WorkerLost(f"no {self.kind.value} worker is left on the node that holds the file"))

    def _take_batch(self, info: WorkerInfo) -> list[_Item]:
        batch: list[_Item] = []
        limit = 1
        for item in list(self._waiting):
            if item.node_id not in (None, info.node_id) or (batch and item.call != batch[0].call):
                continue
            if not batch:
                limit = self._batch_sizes.get(item.call, 1)
            self._waiting.remove(item)
            batch.append(item)
            if len(batch) == limit:
                break
        return batch

    def _give(self, worker: _Worker, batch: list[_Item]) -> None:
        if not worker.calls:
            worker.head_since_s = time.monotonic()
        worker.calls.append(batch)
        reply = worker.handle.run.remote(batch[0].call, [item.arguments for item in batch])
        self._background(self._await_call(worker, batch, reply))

    async def _await_call(self, worker: _Worker, batch: list[_Item], reply: Any) -> None:
        answer = asyncio.ensure_future(_answer(reply))
        try:
            replies = await self._within_deadline(worker, batch, answer)
        except asyncio.CancelledError:
            answer.cancel()
            raise
        except TimeoutError:
            answer.cancel()
            ray.kill(worker.handle)
            sentence = f"still running after {max(i.deadline_s for i in batch):.0f} s; its worker was killed"
            self._lose(worker, batch, StageTimeout(sentence))
        except RayError as error:
            if isinstance(error, RayTaskError):
                self._could_not_answer(worker, batch, error)
            else:
                self._lose(worker, batch, WorkerLost(f"worker {worker.name} died: {_first_line(error)}"))
        except Exception as error:  # an answer that cannot be read here
            self._could_not_answer(worker, batch, error)
        else:
            self._settle(worker, batch, replies)
        self._feed()

    def _settle(self, worker: _Worker, batch: list[_Item], replies: list[StageReply]) -> None:
        self._settle_head(worker, batch)
        worker.peak_memory_bytes = replies[0].peak_memory_bytes
        for item, reply in zip(batch, replies, strict=True):
            if not item.reply.done():
                item.reply.set_result(reply)
        failures = (reply.report.failure for reply in replies)
        if any(failure is not None and failure.error_type == DeviceFailure.__name__ for failure in failures):
            self._retire(worker)

    def _could_not_answer(self, worker: _Worker, batch: list[_Item], error: Exception) -> None:
        """The wrapper itself failed, not the stage: a defect, but the worker lives."""
        self._settle_head(worker, batch)
        self._fail(batch, WorkerLost(f"worker {worker.name} could not answer: {_first_line(error)}"))

    async def _within_deadline(
        self, worker: _Worker, batch: list[_Item], answer: "asyncio.Future[list[StageReply]]"
    ) -> list[StageReply]:
        deadline_s = max(item.deadline_s for item in batch)
        while True:
            is_head = bool(worker.calls) and worker.calls[0] is batch
            left_s = worker.head_since_s + deadline_s - time.monotonic() if is_head else deadline_s
            done, _ = await asyncio.wait({answer}, timeout=max(0.0, left_s))
            if done:
                return answer.result()
            if is_head and worker.calls and worker.calls[0] is batch:
                raise TimeoutError

    def _settle_head(self, worker: _Worker, batch: list[_Item]) -> None:
        now_s = time.monotonic()
        if batch in worker.calls:
            worker.calls.remove(batch)
            worker.busy_s += now_s - worker.head_since_s
            worker.head_since_s = now_s

    # Losing

    def _lose(self, worker: _Worker, batch: list[_Item], error: Exception) -> None:
        """The worker is gone: the call that it ran fails, the calls that waited behind it wait again, in front."""
        if batch not in worker.calls:  # a call that waited behind the one that ran: it has been put back already
            return
        ran, *behind = worker.calls
        worker.calls.clear()
        self._fail(ran, error)
        self._waiting.extendleft(reversed([item for items in behind for item in items]))
        self._replace(worker)

    def _retire(self, worker: _Worker) -> None:
        """The worker's device is unusable: whatever waited behind the call that met the error goes elsewhere."""
        if worker in self._workers:
            self._waiting.extendleft(reversed([item for items in worker.calls for item in items]))
            worker.calls.clear()
            ray.kill(worker.handle)
            self._replace(worker)

    def _lose_all(self, worker: _Worker, sentence: str) -> None:
        for batch in worker.calls:
            self._fail(batch, WorkerLost(sentence))
        worker.calls.clear()

    @staticmethod
    def _fail(items: "deque[_Item] | list[_Item]", error: Exception) -> None:
        for item in items:
            if not item.reply.done():
                item.reply.set_exception(error)


async def _answer(reply: Any) -> list[StageReply]:
    replies: list[StageReply] = await reply
    return replies


def _first_line(error: Exception) -> str:
    text = str(error).strip()
    return text.splitlines()[0] if text else type(error).__name__
