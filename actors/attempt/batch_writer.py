"""Batches what attempts write to the database: everything that came up during one write goes into the next.

The order is kept, across batches and within one: when an entry is written, so is every entry before it that was not
refused, or put off because the database took too long over it alone.
"""

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

from cluster.contracts.errors import DatabaseUnavailable, LeaseLost, StatementTimeout
from cluster.contracts.events import Event
from cluster.contracts.videos import ClaimedVideo
from cluster.security.event_log import EventLog, log_fields
from cluster.store.postgres.refusals import sentence_of
from cluster.store.queue.stage_runs import BegunVideo, ClosedRun, OpenRun, StageLedger

logger = EventLog(__name__)

BETWEEN_WRITES_S = 0.01
"""While many videos are on their way, a write is for several of them; one that is alone does not wait."""
RETRY_DELAY_S = 0.5
LONGEST_PUT_OFF_S = 60.0
"""An entry over which the database takes too long is tried again after a second, two, four and so on up to this."""


class Fenced(Protocol):
    """Something about a claimed video that only the holder of its lease may write."""

    @property
    def video(self) -> ClaimedVideo: ...


Entry = TypeVar("Entry", bound=Fenced)


@dataclass(eq=False)
class _Waiting(Generic[Entry]):
    entry: Entry
    written: "asyncio.Future[None]"
    put_off_s: float = 0.5


class BatchWriter(Generic[Entry]):
    """Hands entries to ``write``, a batch at a time; it answers which of their lease tokens are still held.

    ``serve`` must run beside it.
    """

    def __init__(self, write: Callable[[Sequence[Entry]], set[int]]) -> None:
        self._write = write
        self._waiting: list[_Waiting[Entry]] = []
        self._work = asyncio.Event()

    def add(self, entry: Entry) -> "asyncio.Future[None]":
        """Done when the entry is committed; fails with LeaseLost when it may not be written any more."""
        waiting = _Waiting(entry, asyncio.get_running_loop().create_future())
        self._waiting.append(waiting)
        self._work.set()
        return waiting.written

    async def serve(self) -> None:
        """Write batch after batch, until cancelled. While the database is away, the batch and its videos wait."""
        next_s = 0.0
        while True:
            await self._work.wait()
            await asyncio.sleep(max(0.0, next_s - time.monotonic()))
            self._work.clear()
            batch, self._waiting = self._waiting, []
            try:
                _answer(batch, await self._until_written(batch))
            except Exception as error:
                logger.warning(Event.BATCH_REFUSED, writes=len(batch), error=sentence_of(error))
                await self._write_each(batch)
            next_s = time.monotonic() + BETWEEN_WRITES_S

    async def _write_each(self, batch: list[_Waiting[Entry]]) -> None:
        """Only the entry that the database refuses fails, and with it its video's attempt."""
        for waiting in batch:
            try:
                _answer([waiting], await self._until_written([waiting]))
            except StatementTimeout as error:
                self._put_off(waiting, error)
            except Exception as error:
                if not waiting.written.done():
                    waiting.written.set_exception(error)

    def _put_off(self, waiting: _Waiting[Entry], error: StatementTimeout) -> None:
        """Something waits on the row of this one video, such as a trigger: the others are written meanwhile."""
        waiting.put_off_s = min(2 * waiting.put_off_s, LONGEST_PUT_OFF_S)
        video = waiting.entry.video
        with log_fields(video_id=video.id, attempt=video.attempt):
            logger.warning(Event.WRITE_POSTPONED, delay_s=waiting.put_off_s, error=error)
        asyncio.get_running_loop().call_later(waiting.put_off_s, self._add_again, waiting)

    def _add_again(self, waiting: _Waiting[Entry]) -> None:
        if not waiting.written.done():  # its attempt was not cancelled meanwhile
            self._waiting.append(waiting)
            self._work.set()

    async def _until_written(self, batch: list[_Waiting[Entry]]) -> set[int]:
        """The tokens that are still held. Raises StatementTimeout, for which the database must not be away."""
        entries = [waiting.entry for waiting in batch]
        while True:
            try:
                return await asyncio.to_thread(self._write, entries)
            except StatementTimeout:
                raise
            except DatabaseUnavailable as error:
                logger.warning(Event.WRITES_POSTPONED, writes=len(entries), delay_s=RETRY_DELAY_S, error=error)
                await asyncio.sleep(RETRY_DELAY_S)


class LedgerWriter(BatchWriter[OpenRun | ClosedRun | BegunVideo]):
    """Stage runs that begin and end, and videos whose first worker has begun."""

    def __init__(self, ledger: StageLedger) -> None:
        def write(entries: Sequence[OpenRun | ClosedRun | BegunVideo]) -> set[int]:
            opened = [entry for entry in entries if isinstance(entry, OpenRun)]
            closed = [entry for entry in entries if isinstance(entry, ClosedRun)]
            begun = [entry for entry in entries if isinstance(entry, BegunVideo)]
            held = ledger.begin(begun) if begun else set()
            return held | ledger.write(opened, closed) if opened or closed else held

        super().__init__(write)


def _answer(batch: list[_Waiting[Entry]], held: set[int]) -> None:
    for waiting in batch:
        if waiting.written.done():  # its attempt was cancelled meanwhile
            continue
        if waiting.entry.video.lease_token in held:
            waiting.written.set_result(None)
        else:
            waiting.written.set_exception(LeaseLost(f"the lease of {waiting.entry.video.filename} is lost"))
