"""The fetchers' processes: one on each node that has media workers, replaced when it dies or hangs.

Owns starting, loading and replacing them, and calls that run beside their downloads. Leaves what is downloaded to
``fetchers``. All methods run on one asyncio loop; nothing here blocks it.
"""

import asyncio
import itertools
import time
from collections.abc import Callable, Coroutine, Mapping
from contextvars import Context
from dataclasses import dataclass, field
from typing import Any

import ray
from ray.exceptions import RayError, RayTaskError

from actors.workers.node_watch import WORKER_DEATH_ERRORS, why_gone
from actors.workers.pool import RESTART_DELAY_S, WorkerView, log_worker_start
from actors.workers.worker import StageReply, WorkerInfo
from cluster.contracts.errors import ConfigurationError, HeimdexError, NodeLost, StageTimeout
from cluster.contracts.events import Event
from cluster.contracts.stages import WorkerKind
from cluster.security.event_log import EventLog

logger = EventLog(__name__)


@dataclass(eq=False)
class Fetcher:
    """A process that downloads. ``ready``: when it has loaded, or failed to; ``downloads``: how many it has now."""

    name: str
    node_id: str
    handle: Any
    ready: "asyncio.Future[WorkerInfo]"
    downloads: int = 0
    busy_s: float = 0.0
    since_s: float = 0.0
    peak_memory_bytes: int | None = None
    started_s: float = field(default_factory=time.monotonic)
    cause: "asyncio.Task[HeimdexError] | None" = None
    """Why it is gone, by the error that was seen first."""

    @property
    def info(self) -> WorkerInfo | None:
        """Its ``WorkerInfo``, once it has loaded."""
        loaded = self.ready.done() and not self.ready.cancelled() and self.ready.exception() is None
        return self.ready.result() if loaded else None

    @property
    def node(self) -> str | None:
        """The address of its node, once it has loaded."""
        return self.info.node if self.info is not None else None

    def begin(self) -> None:
        """It has one download more."""
        if not self.downloads:
            self.since_s = time.monotonic()
        self.downloads += 1

    def end(self) -> None:
        """It has one download less."""
        self.downloads -= 1
        if not self.downloads:
            self.busy_s += time.monotonic() - self.since_s

    def view(self) -> WorkerView:
        """As it is shown."""
        busy_s = self.busy_s + (time.monotonic() - self.since_s if self.downloads else 0.0)
        return WorkerView(self.name, self.info, bool(self.downloads), busy_s, self.peak_memory_bytes)


class FetcherProcesses:
    """Keeps a fetcher on each node of ``media_nodes``.

    Args:
        spawn: starts a fetcher's actor, by name, on the node of that id, and returns its handle.
        media_nodes: how many media workers there are on each node.
        on_loaded: called with a node's id when its fetcher can be used.
        kill: ends what ``spawn`` started.
    """

    def __init__(
        self,
        spawn: Callable[[str, str], Any],
        media_nodes: Callable[[], Mapping[str, int]],
        on_loaded: Callable[[str], None],
        kill: Callable[[Any], None] = ray.kill,
    ) -> None:
        self._spawn = spawn
        self._media_nodes = media_nodes
        self._on_loaded = on_loaded
        self._kill = kill
        self._kept: dict[str, Fetcher] = {}
        self._retired: set[Fetcher] = set()
        self._numbers = itertools.count(1)
        self._tasks: set[asyncio.Task[None]] = set()
        self._closed = False

    async def ready(self) -> None:
        """Start the fetchers and wait until they have loaded. Raises ConfigurationError when one cannot."""
        self.follow_nodes()
        await asyncio.gather(*(asyncio.shield(fetcher.ready) for fetcher in self._kept.values()))

    def follow_nodes(self) -> None:
        """Start what is missing where media workers are."""
        for node_id in self._media_nodes().keys() - self._kept.keys():
            if not self._closed:
                self._kept[node_id] = self.start(node_id)

    def start(self, node_id: str) -> Fetcher:
        """A fetcher on the node that is the caller's: not kept, and ended by it."""
        name = f"{WorkerKind.FETCHER.value}-{next(self._numbers)}"
        fetcher = Fetcher(name, node_id, self._spawn(name, node_id), asyncio.get_running_loop().create_future())
        self._background(self._load(fetcher))
        return fetcher

    def of(self, node_id: str) -> Fetcher | None:
        """The node's fetcher, once it has loaded."""
        fetcher = self._kept.get(node_id)
        return fetcher if fetcher is not None and fetcher.info is not None else None

    def nodes(self) -> set[str]:
        """The nodes whose fetcher has loaded."""
        return {node_id for node_id in self._kept if self.of(node_id) is not None}

    def view(self) -> list[WorkerView]:
        """The fetchers as they are now."""
        return [fetcher.view() for fetcher in (*self._kept.values(), *self._retired)]

    async def run_beside(self, call: str, arguments: tuple[Any, ...], deadline_s: float, node_id: str) -> StageReply:
        """Run a short call on the node, beside its downloads.

        Raises:
            WorkerLost: the fetcher died under the call.
            StageTimeout: the deadline passed; the fetcher is replaced.
            NodeLost: the node, or its fetcher, is gone.
        """
        fetcher = self._kept.get(node_id)
        if fetcher is None:
            raise NodeLost("no fetcher is left on the node that holds the file")
        try:
            info = await asyncio.shield(fetcher.ready)
        except ConfigurationError as error:
            raise NodeLost(str(error)) from None
        try:
            async with asyncio.timeout(deadline_s):
                (reply,) = await fetcher.handle.run_beside.remote(call, [arguments])
        except TimeoutError:
            self.retire(fetcher)
            raise StageTimeout(f"still running after {deadline_s:.0f} s; its worker is replaced") from None
        except WORKER_DEATH_ERRORS as error:
            raise await self.lose(fetcher, info, error) from None
        answered: StageReply = reply
        return answered

    def lose(self, fetcher: Fetcher, info: WorkerInfo, error: RayError) -> "asyncio.Future[HeimdexError]":
        """Bury the fetcher, a call to which failed with ``error``; returns ``why_gone``, the same for all its calls.

        The error that is seen first decides. Burying kills the process, so the other calls may fail with the error of a
        process that died, although it was the node that is lost.
        """
        if fetcher.cause is None:
            fetcher.cause = asyncio.create_task(why_gone(info, error))
        self.bury(fetcher)
        return asyncio.shield(fetcher.cause)

    def bury(self, fetcher: Fetcher) -> None:
        """Kill the fetcher's remains; start another one if there are media workers on its node."""
        self._kill(fetcher.handle)
        self._retired.discard(fetcher)
        if self._kept.get(fetcher.node_id) is fetcher:
            del self._kept[fetcher.node_id]
            self._note_loss(fetcher, "its process died, or did not load")

    def retire(self, fetcher: Fetcher) -> None:
        """The fetcher ends when it has no downloads left, see ``end_retired``; another one takes its place now."""
        if self._kept.get(fetcher.node_id) is fetcher:
            del self._kept[fetcher.node_id]
            self._retired.add(fetcher)
            self._note_loss(fetcher, "it does not answer in time; its downloads go on")

    def _note_loss(self, fetcher: Fetcher, reason: str) -> None:
        logger.warning(Event.WORKER_LOST, worker=fetcher.name, node=fetcher.node, reason=reason)
        self.follow_nodes()
        other = self._kept.get(fetcher.node_id)
        if other is not None:
            logger.info(Event.WORKER_REPLACED, worker=other.name, replaces=fetcher.name)

    def end_retired(self, fetcher: Fetcher) -> None:
        """Kill the fetcher if it is retired and has no downloads left."""
        if fetcher in self._retired and not fetcher.downloads:
            self.bury(fetcher)

    def close(self) -> None:
        """Kill the fetchers."""
        self._closed = True
        for task in self._tasks:
            task.cancel()
        for fetcher in (*self._kept.values(), *self._retired):
            self._kill(fetcher.handle)

    async def _load(self, fetcher: Fetcher) -> None:
        try:
            info = await fetcher.handle.describe.remote()
        except RayError as error:
            cause = error.cause if isinstance(error, RayTaskError) else error
            sentence = str(cause) if isinstance(cause, ConfigurationError) else f"{fetcher.name} cannot start: {cause}"
            logger.error(Event.WORKER_LOAD_FAILED, worker=fetcher.name, error=sentence)
            fetcher.ready.set_exception(ConfigurationError(sentence))
            fetcher.ready.exception()  # it may be that nothing waits for it
            await asyncio.sleep(RESTART_DELAY_S)
            self.bury(fetcher)
            return
        fetcher.ready.set_result(info)
        log_worker_start(info, WorkerKind.FETCHER, fetcher.started_s)
        self._background(self._watch(fetcher, info))
        if self._kept.get(fetcher.node_id) is fetcher:
            self._on_loaded(fetcher.node_id)

    async def _watch(self, fetcher: Fetcher, info: WorkerInfo) -> None:
        """Replace a fetcher that dies, whatever it was at."""
        try:
            await fetcher.handle.wait_until_death.remote()
        except RayError as error:
            await self.lose(fetcher, info, error)

    def _background(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work, context=Context())  # what it logs is about no caller's video
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
