"""Pools of equal workers: feed idle workers, batch ready items across videos, replace dead ones, enforce deadlines.

Which items are next and share a call is ``turns``'. A pool answers every item with the worker's reply or raises why
there is none: the worker's process died under it (``WorkerLost``), it overran its deadline (``StageTimeout``), or its
node is gone (``NodeLost``). It never repeats an item: retrying is the queue's. A worker has one call at a time, so that
whatever dies with it is known for certain. All methods run on one asyncio loop; nothing here blocks it.
"""

import asyncio
import itertools
import time
from collections import Counter
from collections.abc import Callable, Collection, Coroutine, Iterable, Mapping, Sequence
from contextvars import Context
from dataclasses import dataclass, replace
from typing import Any

import ray
from ray.exceptions import RayError, RayTaskError

from actors.workers.fair_share import FairShare
from actors.workers.node_watch import WORKER_DEATH_ERRORS, why_gone
from actors.workers.run_estimates import RunEstimates
from actors.workers.turns import ANY_TURN, BatchLimit, Item, Turn, Turns
from actors.workers.worker import StageReply, WorkerInfo, is_device_failure
from cluster.contracts.errors import (
    ConfigurationError,
    NodeLost,
    StageTimeout,
    WorkerLost,
)
from cluster.contracts.events import Event
from cluster.contracts.stages import WorkerKind
from cluster.security.event_log import EventLog

logger = EventLog(__name__)

RESTART_DELAY_S = 1.0
STRANDED_S = 60.0
"""Wait of an item that is bound to a node without workers, for a worker that is starting and may be there."""
ABANDONED_S = 10.0
"""Time for which a worker may go on with a call that all callers abandoned, before it is replaced."""
WORKERS_PER_KEPT = 8
"""Workers of a pool for each one that is kept for urgent and for short calls."""
STOPPING = "the cluster is stopping"


def _nothing() -> None:
    pass


@dataclass(eq=False)
class _Worker:
    name: str
    handle: Any
    info: WorkerInfo | None = None
    batch: list[Item] | None = None
    since_s: float = 0.0
    is_long: bool = False
    busy_s: float = 0.0
    peak_memory_bytes: int | None = None
    is_spent: bool = False


@dataclass(frozen=True)
class WorkerView:
    """A worker as the pool sees it; ``info`` is None until it has loaded."""

    name: str
    info: WorkerInfo | None
    busy: bool
    busy_s: float
    peak_memory_bytes: int | None


class WorkerPool:
    """Workers of one kind.

    Args:
        spawn: starts a worker's actor by name and returns its handle.
        size: how many workers to keep alive.
        limits: what may share a call, by call name; where none is named, an item has a call to itself.
        deferred: names of calls that wait for all others, in whatever order they came.
        shares: what owners have received in this and other pools; what they receive here is added.
        estimates: how long calls run; what runs here is learned.
        kill: ends what ``spawn`` started.
    """

    def __init__(
        self,
        kind: WorkerKind,
        spawn: Callable[[str], Any],
        size: int,
        limits: Mapping[str, BatchLimit] | None = None,
        deferred: Collection[str] = (),
        *,
        shares: FairShare | None = None,
        estimates: RunEstimates | None = None,
        kill: Callable[[Any], None] = ray.kill,
    ) -> None:
        self.kind = kind
        self._spawn = spawn
        self._kill = kill
        self._size = size
        self._turns = Turns(limits or {}, deferred, shares or FairShare(), estimates or RunEstimates())
        self._waiting: dict[Item, None] = {}  # in order; each may leave at any time
        self._workers: list[_Worker] = []
        self._idle: dict[_Worker, WorkerInfo] = {}
        self._long_calls = 0
        self._numbers = itertools.count(1)
        self._tasks: set[asyncio.Task[None]] = set()
        self._closed = False
        self._feeds_soon = False

    def start(self) -> None:
        """Start the workers; ``ready`` waits for them."""
        for _ in range(self._size):
            self._start_worker()

    async def ready(self) -> None:
        """Wait until every first worker has loaded.

        Raises:
            ConfigurationError: loading failed for a reason that only the operator can fix.
        """
        await asyncio.gather(*(self._load(worker) for worker in self._workers))
        self._feed()
        self._fail_stranded(self._waiting)

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
        on_start: Callable[[], None] = _nothing,
    ) -> StageReply:
        """Run one item, sharing a call with others where the call takes batches and the item may not be ``alone``.

        ``deadline_s`` counts from when the worker turns to the call; ``added_s`` is what the item adds to it, whatever
        shares the call. ``node_id`` asks for a worker on that node. ``size`` is what the call's limit counts.
        ``on_start`` is called when the item is handed to a worker.

        Raises:
            WorkerLost: the worker died under the item.
            StageTimeout: the deadline passed; the worker was killed.
            NodeLost: the node is gone, or the pool is closed.
        """
        if self._closed:
            raise NodeLost(STOPPING)
        loop = asyncio.get_running_loop()
        reply, since_s = loop.create_future(), loop.time()
        item = Item(call, arguments, deadline_s, node_id, alone, size, added_s, turn, since_s, on_start, reply)
        self._waiting[item] = None
        self._feed_soon()
        if node_id is not None and item in self._waiting:
            self._fail_stranded([item])
        try:
            return await item.reply
        finally:
            if item in self._waiting:
                del self._waiting[item]
            elif item.reply.cancelled():
                self._give_up(item)

    def nodes(self) -> Mapping[str, int]:
        """Number of workers that have loaded on each node."""
        return Counter(worker.info.node_id for worker in self._workers if worker.info is not None)

    def view(self) -> list[WorkerView]:
        """The workers as they are now."""
        now_s = time.monotonic()
        return [
            WorkerView(
                worker.name,
                worker.info,
                worker.batch is not None,
                worker.busy_s + (now_s - worker.since_s if worker.batch is not None else 0.0),
                worker.peak_memory_bytes,
            )
            for worker in self._workers
        ]

    @property
    def loaded(self) -> int:
        """Workers that have loaded and are there."""
        return sum(worker.info is not None for worker in self._workers)

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
            self._kill(worker.handle)
            _fail(worker.batch or [], NodeLost(STOPPING))
        self._workers.clear()
        self._idle.clear()
        _fail(list(self._waiting), NodeLost(STOPPING))
        self._waiting.clear()

    # Starting and replacing

    def _start_worker(self) -> _Worker:
        name = f"{self.kind.value}-{next(self._numbers)}"
        worker = _Worker(name, self._spawn(name), since_s=time.monotonic())
        self._workers.append(worker)
        return worker

    async def _load(self, worker: _Worker) -> None:
        try:
            info: WorkerInfo = await worker.handle.describe.remote()
        except RayTaskError as error:
            if isinstance(error.cause, ConfigurationError):
                raise ConfigurationError(str(error.cause)) from None
            raise ConfigurationError(f"worker {worker.name} could not start: {error.cause}") from None
        except RayError as error:
            raise ConfigurationError(f"worker {worker.name} died while it was loading: {_first_line(error)}") from None
        worker.info = self._idle[worker] = info
        log_worker_start(info, self.kind, since_s=worker.since_s)
        self._background(self._watch(worker))

    async def _watch(self, worker: _Worker) -> None:
        """Replace a worker that dies while it is idle: the next item would be charged with its death."""
        try:
            await worker.handle.wait_until_death.remote()
        except RayError:
            if worker.batch is None:  # else its call fails as well, which says whom it took along
                self._replace(worker, "its process died while it was idle")

    def _replace(self, gone: _Worker, reason: str, batch: Sequence[Item] = ()) -> None:
        """Kill the worker's remains and start another one. ``batch``: what is lost with it."""
        if gone not in self._workers or self._closed:
            return
        self._workers.remove(gone)
        self._idle.pop(gone, None)
        gone.is_spent = True
        self._kill(gone.handle)
        other = self._start_worker()
        lost = [item.turn.about["video_id"] for item in batch if "video_id" in item.turn.about]
        node = gone.info.node if gone.info is not None else None
        logger.warning(Event.WORKER_LOST, worker=gone.name, node=node, reason=reason, video_ids=lost or None)
        logger.info(Event.WORKER_REPLACED, worker=other.name, replaces=gone.name)
        self._background(self._load_replacement(other))
        self._fail_stranded(self._waiting)

    async def _load_replacement(self, worker: _Worker) -> None:
        try:
            await self._load(worker)
        except ConfigurationError as error:
            logger.error(Event.WORKER_LOAD_FAILED, worker=worker.name, error=error)
            await asyncio.sleep(RESTART_DELAY_S)
            self._replace(worker, "it did not load")
        else:
            self._feed()
            self._fail_stranded(self._waiting)

    def _background(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work, context=Context())  # what it logs is about no caller's video
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    # Feeding

    def _feed_soon(self) -> None:
        """Once for all that comes up in this turn of the loop."""
        if not self._feeds_soon and self._waiting and self._idle:
            self._feeds_soon = True
            asyncio.get_running_loop().call_soon(self._feed)

    def _feed(self) -> None:
        self._feeds_soon = False
        if not self._waiting or not self._idle:
            return
        ordered = self._turns.in_order(self._waiting, asyncio.get_running_loop().time())
        for worker, info in list(self._idle.items()):
            batch = self._turns.next_batch(ordered, info.node_id, self._size, no_long=self._keeps_short())
            if not batch:
                continue
            for item in batch:
                del self._waiting[item]
                item.on_start()
            del self._idle[worker]
            worker.batch, worker.since_s = batch, time.monotonic()
            worker.is_long = self._turns.is_long(batch[0])
            self._long_calls += worker.is_long
            self._background(self._call(worker, info, batch))
            ordered = [item for item in ordered if item in self._waiting]
            if not ordered:
                return

    def _keeps_short(self) -> bool:
        """Whether as many workers have long calls as may, so that the others are kept for short and urgent ones."""
        return self._long_calls >= self._size - self._size // WORKERS_PER_KEPT

    def _fail_stranded(self, items: Iterable[Item]) -> None:
        """Items bound to a node on which no worker is left cannot run; one that is starting may be on it.

        To be asked of an item that comes to wait, and of all whenever a worker goes or has loaded.
        """
        now_s, nodes = time.monotonic(), self.nodes()
        starting = any(worker.info is None for worker in self._workers)
        for item in list(items):
            if item.node_id is None or item.node_id in nodes:
                item.stranded_since_s = None
                continue
            if item.stranded_since_s is None:
                item.stranded_since_s = now_s
                asyncio.get_running_loop().call_later(STRANDED_S, self._fail_stranded, self._waiting)
            if not starting or now_s - item.stranded_since_s >= STRANDED_S:
                del self._waiting[item]
                _fail([item], NodeLost(f"no {self.kind.value} worker is left on the node that holds the file"))

    async def _call(self, worker: _Worker, info: WorkerInfo, batch: list[Item]) -> None:
        """Give the worker a batch and answer every item of it, whatever happens."""
        deadline_s = max(item.deadline_s for item in batch) + sum(item.added_s for item in batch)
        about = [item.turn.about for item in batch]
        reply = worker.handle.run.remote(batch[0].call, [item.arguments for item in batch], about)
        try:
            async with asyncio.timeout(deadline_s):
                replies: list[StageReply] = await reply
        except TimeoutError:
            ended = f"its call was still running after {deadline_s:.0f} s"
            sentence = f"still running after {deadline_s:.0f} s; its worker was killed"
            self._end_call(worker, info)
            self._replace(worker, ended, batch)
            _fail(batch, StageTimeout(sentence))
        except WORKER_DEATH_ERRORS as error:
            self._end_call(worker, info)
            self._replace(worker, "its process died during a call", batch)
            _fail(batch, await why_gone(info, error))
        except (
            Exception
        ) as error:  # not the stage failed but its wrapper, or the answer cannot be read: the worker lives
            self._end_call(worker, info)
            _fail(batch, WorkerLost(f"worker {worker.name} could not answer: {_first_line(error)}"))
        else:
            self._end_call(worker, info)
            self._settle(worker, batch, replies)
        self._replace_when_idle(worker)
        self._feed_soon()

    def _end_call(self, worker: _Worker, info: WorkerInfo) -> None:
        worker.busy_s += time.monotonic() - worker.since_s
        worker.batch = None
        self._long_calls -= worker.is_long
        if not worker.is_spent:
            self._idle[worker] = info

    def _settle(self, worker: _Worker, batch: list[Item], replies: list[StageReply]) -> None:
        worker.peak_memory_bytes = replies[0].peak_memory_bytes
        if worker.info is not None and worker.info.model != replies[-1].model:
            worker.info = replace(worker.info, model=replies[-1].model)
        for item, reply in zip(batch, replies, strict=True):
            self._turns.learn(item, reply)
            if not item.reply.done():
                item.reply.set_result(reply)
        worker.is_spent |= any(map(is_device_failure, replies))

    def _replace_when_idle(self, worker: _Worker) -> None:
        """A worker whose device is broken is given nothing more."""
        if worker.is_spent and worker.batch is None:
            self._replace(worker, "its device failed")

    def _give_up(self, item: Item) -> None:
        """The item's caller abandoned it; a worker whose batch has no callers left is replaced after a while."""
        worker = next((worker for worker in self._workers if worker.batch and item in worker.batch), None)
        batch = worker.batch if worker is not None else None
        if worker is not None and batch and all(other.reply.done() for other in batch):
            asyncio.get_running_loop().call_later(ABANDONED_S, self._replace_if_still_at, worker, batch)

    def _replace_if_still_at(self, worker: _Worker, batch: list[Item]) -> None:
        if worker.batch is batch:
            logger.warning(Event.CALL_ABANDONED, worker=worker.name, call=batch[0].call, after_s=ABANDONED_S)
            self._replace(worker, "its call was abandoned by all callers", batch)


def log_worker_start(info: WorkerInfo, kind: WorkerKind, since_s: float) -> None:
    """The worker has loaded, ``since_s`` being when it was started, by the monotonic clock."""
    logger.info(
        Event.WORKER_STARTED,
        worker=info.worker,
        kind=kind,
        node=info.node,
        device=info.device,
        model=info.model,
        worker_pid=info.pid,
        load_s=time.monotonic() - since_s,
    )


def _fail(items: list[Item], error: Exception) -> None:
    for item in items:
        if not item.reply.done():
            item.reply.set_exception(error)


def _first_line(error: Exception) -> str:
    text = str(error).strip()
    return text.splitlines()[0] if text else type(error).__name__
