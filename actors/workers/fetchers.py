"""Downloads, beside decoding: which one begins when and on which node, and what becomes of it.

A file never leaves its node, so it is fetched where a media worker can decode it. Owns what becomes of the downloads
of a fetcher that dies or hangs, and of those that are given up. Who may begin is ``fetch_slots``', the processes are
``fetcher_processes``', what a download is ``stages.fetcher``'s. All methods run on one asyncio loop.
"""

import asyncio
import itertools
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import ray
from ray.exceptions import RayError

from actors.workers.fetch_slots import FetchLimit, FetchSlots, OwnerPauses, caps_of
from actors.workers.fetcher_processes import Fetcher, FetcherProcesses
from actors.workers.node_watch import WORKER_DEATH_ERRORS
from actors.workers.pool import STOPPING, WorkerView
from actors.workers.turns import Turn
from actors.workers.worker import StageReply
from cluster.contracts.errors import ConfigurationError, HeimdexError, NodeLost, NoRoom, StageTimeout, WorkerLost
from cluster.contracts.events import Event
from cluster.contracts.stages import FETCH_CALL
from cluster.security.event_log import EventLog

logger = EventLog(__name__)

DISCARD = "discard"
REMOVAL_S = 60.0
"""Time that the removal of a lost download's remains may take."""
STOP_AGAIN_S = 2.0
"""A download that goes on although it was stopped is stopped again after this."""
CLAIMED_PER_SLOT = 2
"""Videos of one owner that may be in flight for each of its places: one in it and one to follow."""


@dataclass(eq=False)
class _Download:
    """A video's file that is fetched, or waits for a place. ``arguments`` are those of ``stages.fetcher``'s fetch."""

    arguments: tuple[Any, ...]
    turn: Turn
    alone: bool
    on_start: Callable[[], None]
    reply: "asyncio.Future[StageReply]"
    node_id: str = ""
    fetcher: Fetcher | None = None

    @property
    def key(self) -> str:
        """The name under which the file is on its node."""
        return str(self.arguments[1])

    def fail(self, error: Exception) -> None:
        """Answer with the error, unless it was answered or given up."""
        if not self.reply.done():
            self.reply.set_exception(error)


class Fetchers:
    """The downloads of all nodes.

    Args:
        spawn: starts a fetcher's actor, by name, on the node of that id, and returns its handle.
        media_nodes: how many media workers there are on each node.
        limit: how many downloads run at once.
        deadline_s: how long one may run before its fetcher is taken for hung.
        kill: ends what ``spawn`` started.
    """

    def __init__(
        self,
        spawn: Callable[[str, str], Any],
        media_nodes: Callable[[], Mapping[str, int]],
        limit: FetchLimit,
        deadline_s: float,
        kill: Callable[[Any], None] = ray.kill,
    ) -> None:
        self._processes = FetcherProcesses(spawn, media_nodes, self._on_loaded, kill)
        self._media_nodes = media_nodes
        self._limit = limit
        self._deadline_s = deadline_s
        self._kill = kill
        self._slots = FetchSlots(limit)
        self._pauses = OwnerPauses()
        self._waiting: dict[_Download, None] = {}
        self._running: dict[_Download, None] = {}
        self._files: dict[str, str] = {}  # the node of each file that is there
        self._left: dict[str, set[str]] = {}  # what lost downloads left, by node
        self._tasks: set[asyncio.Task[None]] = set()
        self._closed = False

    async def ready(self) -> None:
        """Start a fetcher where media workers are, and wait until it has loaded. Raises ConfigurationError."""
        await self._processes.ready()

    def follow_nodes(self) -> None:
        """Start what is missing where media workers are by now."""
        self._processes.follow_nodes()
        self._feed()

    async def fetch(
        self, arguments: tuple[Any, ...], turn: Turn, alone: bool, on_start: Callable[[], None]
    ) -> StageReply:
        """Download a file to a node that has media workers. ``arguments`` are those of ``stages.fetcher``'s fetch.

        ``alone``: in a process of its own. ``on_start`` is called when the download begins. One that is cancelled ends
        soon, and leaves nothing behind.

        Raises:
            WorkerLost: the fetcher died under the download.
            StageTimeout: the deadline passed.
            NodeLost: the node is gone, or the cluster is stopping.
        """
        if self._closed:
            raise NodeLost(STOPPING)
        download = _Download(arguments, turn, alone, on_start, asyncio.get_running_loop().create_future())
        self._waiting[download] = None
        self._feed()
        try:
            return await download.reply
        finally:
            self._waiting.pop(download, None)
            if download in self._running and not self._closed:
                self._background(self._stop(download))

    async def run_beside(self, call: str, arguments: tuple[Any, ...], deadline_s: float, node_id: str) -> StageReply:
        """Run a short call on the node beside its downloads. Raises as ``FetcherProcesses.run_beside`` does."""
        reply = await self._processes.run_beside(call, arguments, deadline_s, node_id)
        if call == DISCARD:
            self._files.pop(str(arguments[0]), None)
        return reply

    def nodes(self) -> set[str]:
        """The nodes whose fetcher has loaded."""
        return self._processes.nodes()

    @property
    def loaded(self) -> int:
        """Fetchers that have loaded and are there."""
        return len(self.nodes())

    def view(self) -> list[WorkerView]:
        """The fetchers as they are now."""
        return self._processes.view()

    def caps(self) -> Mapping[UUID, int]:
        """Videos of an owner that may still be claimed, where that is limited: by its downloads, or by a disk."""
        owners = (each.turn.owner_id for each in itertools.chain(self._waiting, self._running))
        most = CLAIMED_PER_SLOT * self._limit.per_owner * max(1, self.loaded)
        return caps_of([owner for owner in owners if owner is not None], most, self._pauses.paused())

    async def settle(self, within_s: float) -> None:
        """Wait for downloads that were stopped to end."""
        end_s = time.monotonic() + within_s
        while self._running and time.monotonic() < end_s:
            await asyncio.sleep(0.05)

    def close(self) -> None:
        """Kill the fetchers. Downloads that wait or run are lost."""
        self._closed = True
        for task in self._tasks:
            task.cancel()
        self._processes.close()
        for download in (*self._waiting, *self._running):
            download.fail(NodeLost(STOPPING))

    # Downloading

    def _on_loaded(self, node_id: str) -> None:
        for key in self._left.pop(node_id, set()):
            self._background(self._remove(key, node_id))
        self._feed()

    def _feed(self) -> None:
        """Begin the downloads that have a place, those of owners with fewest first."""
        while not self._closed and (found := self._next()) is not None:
            download, fetcher = found
            del self._waiting[download]
            self._running[download] = None
            download.node_id, download.fetcher = fetcher.node_id, fetcher
            if download.alone:
                download.fetcher = self._processes.start(fetcher.node_id)
            self._slots.begin(fetcher.node_id, download.turn.owner_id)
            download.on_start()
            self._background(self._run(download, download.fetcher))

    def _next(self) -> tuple[_Download, Fetcher] | None:
        def place(download: _Download) -> tuple[bool, int, float]:
            return not download.turn.urgent, self._slots.taken_by(download.turn.owner_id), download.turn.due_s

        fetchers = self._by_load() if self._waiting else []
        for download in sorted(self._waiting, key=place):
            for fetcher in fetchers:
                if self._slots.may_begin(fetcher.node_id, download.turn.owner_id):
                    return download, fetcher
        return None

    def _by_load(self) -> list[Fetcher]:
        """The fetchers where media workers are, those first whose media workers have fewest files each."""
        files = Counter(self._files.values()) + Counter(each.node_id for each in self._running)
        media = self._media_nodes()
        loads = [(files[node_id] / count, node_id) for node_id, count in media.items() if count]
        found = (self._processes.of(node_id) for _, node_id in sorted(loads))
        return [fetcher for fetcher in found if fetcher is not None]

    async def _run(self, download: _Download, fetcher: Fetcher) -> None:
        """Have the file fetched and answer the download, whatever happens."""
        fetcher.begin()
        try:
            await self._ask(download, fetcher)
        finally:
            fetcher.end()
            del self._running[download]
            self._slots.end(download.node_id, download.turn.owner_id)
            download.fail(NodeLost(STOPPING))
            if download.alone:
                self._kill(fetcher.handle)
            self._processes.end_retired(fetcher)
            self._feed()

    async def _ask(self, download: _Download, fetcher: Fetcher) -> None:
        try:
            info = await asyncio.shield(fetcher.ready)
        except ConfigurationError as error:
            download.fail(NodeLost(str(error)))
            return
        try:
            async with asyncio.timeout(self._deadline_s):
                (reply,) = await fetcher.handle.run.remote(FETCH_CALL, [download.arguments], [download.turn.about])
        except TimeoutError:
            self._processes.retire(fetcher)
            self._leave(download)
            download.fail(StageTimeout(f"still running after {self._deadline_s:.0f} s; its worker is replaced"))
        except WORKER_DEATH_ERRORS as error:
            cause = self._processes.lose(fetcher, info, error)
            self._leave(download)
            download.fail(await cause)
        except Exception as error:  # the answer cannot be read: the fetcher lives
            self._leave(download)
            download.fail(WorkerLost(f"worker {fetcher.name} could not answer: {error}"))
        else:
            fetcher.peak_memory_bytes = reply.peak_memory_bytes
            self._settle(download, reply)

    def _settle(self, download: _Download, reply: StageReply) -> None:
        failure, owner_id = reply.report.failure, download.turn.owner_id
        if failure is None:
            self._files[download.key] = download.node_id
        if owner_id is not None and failure is None:
            self._pauses.note_room(owner_id)
        elif owner_id is not None and failure is not None and failure.error_type == NoRoom.__name__:
            self._pauses.note_no_room(owner_id)
        if not download.reply.done():
            download.reply.set_result(reply)
        elif failure is None:  # it was given up just when it was there
            self._leave(download)

    # Removing

    async def _stop(self, download: _Download) -> None:
        """End a download that was given up: its place is free when it has ended, and not before."""
        while download in self._running and download.fetcher is not None:
            try:
                await download.fetcher.handle.run_beside.remote(DISCARD, [(download.key,)])
            except RayError:
                return  # its fetcher is gone, and the download with it
            await asyncio.sleep(STOP_AGAIN_S)

    def _leave(self, download: _Download) -> None:
        """Remove the download's remains: now, or by the fetcher that its node gets."""
        self._left.setdefault(download.node_id, set()).add(download.key)
        if self._processes.of(download.node_id) is not None:
            self._on_loaded(download.node_id)

    async def _remove(self, key: str, node_id: str) -> None:
        try:
            await self.run_beside(DISCARD, (key,), REMOVAL_S, node_id)
        except HeimdexError as error:
            logger.warning(Event.DOWNLOAD_NOT_REMOVED, download=key, error=error)

    def _background(self, work: Awaitable[None]) -> None:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
