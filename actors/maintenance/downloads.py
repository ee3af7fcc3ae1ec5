"""The downloads that attempts leave on the nodes: removed when an attempt ends, or swept away later.

A removal runs beside the downloads of its node: whatever becomes of its fetcher meanwhile concerns no other video. A
disk may be slow, so the end of an attempt waits a moment and no longer. How files are removed is the fetcher's.
"""

import asyncio
from collections import Counter

from actors.workers.fetchers import DISCARD, Fetchers
from cluster.contracts.errors import Interrupted, WorkerCrash
from cluster.contracts.events import Event
from cluster.contracts.results import StageReport
from cluster.contracts.stages import DEADLINES, Stage
from cluster.security.event_log import EventLog
from cluster.store.queue.video_queue import VideoQueue

logger = EventLog(__name__)

SOON_S = 1.0
"""Longest wait of an attempt's end for its download's removal; then that goes on in the background."""
SWEEP_S = 20.0
"""Interval between searches for downloads that attempts left behind."""
MAX_TRIES = 3
"""Tries to sweep away a download that cannot be removed: each may cost a worker."""


class Downloads:
    """Removes downloads by the fetchers, each on its own node."""

    def __init__(self, fetchers: Fetchers, queue: VideoQueue) -> None:
        self._fetchers = fetchers
        self._queue = queue
        self._under_way: set[asyncio.Task[StageReport | None]] = set()
        self._failed: Counter[str] = Counter()
        self._swept: set[str] = set()

    async def remove(self, key: str, node_id: str) -> StageReport | None:
        """Remove a download; None when that takes longer than a moment or fails, and is tried again later."""
        removal = asyncio.create_task(self._remove(key, node_id))
        self._under_way.add(removal)
        removal.add_done_callback(self._under_way.discard)
        done, _ = await asyncio.wait({removal}, timeout=SOON_S)
        return removal.result() if done else None

    async def settle(self, within_s: float) -> None:
        """Wait for the removals that are under way."""
        if self._under_way:
            await asyncio.wait(self._under_way, timeout=within_s)

    async def sweep_forever(self) -> None:
        """Remove downloads of attempts that are over, on every node: their worker or scheduler may have died."""
        async with asyncio.TaskGroup() as sweeps:
            while True:
                await asyncio.sleep(SWEEP_S)
                for node_id in self._fetchers.nodes() - self._swept:
                    sweeps.create_task(self._sweep(node_id))

    async def _remove(self, key: str, node_id: str) -> StageReport | None:
        deadline_s = DEADLINES[Stage.FINALIZING].fixed_s
        try:
            reply = await self._fetchers.run_beside(DISCARD, (key,), deadline_s, node_id)
        except (WorkerCrash, Interrupted) as error:
            logger.warning(Event.DOWNLOAD_NOT_REMOVED, download=key, error=error)
            return None
        return reply.report

    async def _sweep(self, node_id: str) -> None:
        self._swept.add(node_id)
        try:
            for key in await self._left_over(node_id):
                if self._failed[key] < MAX_TRIES:
                    self._failed[key] += await self._remove(key, node_id) is None
        except (WorkerCrash, Interrupted) as error:
            logger.warning(Event.DOWNLOAD_SWEEP_FAILED, error=error)
        except Exception as error:  # videos do not stop for it
            logger.exception(Event.DOWNLOAD_SWEEP_FAILED, error=error)
        finally:
            self._swept.discard(node_id)

    async def _left_over(self, node_id: str) -> list[str]:
        """Listed first and checked afterwards: a lease is always older than its download."""
        deadline_s = DEADLINES[Stage.FINALIZING].fixed_s
        reply = await self._fetchers.run_beside("list_downloads", (), deadline_s, node_id)
        keys: list[str] = reply.value or []
        live = await asyncio.to_thread(self._queue.live_tokens) if keys else set()
        return [key for key in keys if key not in live]
