"""Batches what the scheduler writes to the ledger: everything that came up during one write goes into the next.

The order per video is kept: what was closed before something was opened is written before it.
"""

import asyncio
import logging
from dataclasses import dataclass

from cluster.contracts.errors import DatabaseUnavailable, LeaseLost
from cluster.store.stage_ledger import ClosedRun, OpenRun, StageLedger

logger = logging.getLogger(__name__)

RETRY_DELAY_S = 0.5


@dataclass(eq=False)
class _Entry:
    run: OpenRun
    closed: ClosedRun | None
    written: "asyncio.Future[None]"


class LedgerWriter:
    """Hands stage runs to the ledger, one transaction per batch. ``serve`` must run beside it."""

    def __init__(self, ledger: StageLedger) -> None:
        self._ledger = ledger
        self._entries: list[_Entry] = []
        self._work = asyncio.Event()

    async def open(self, run: OpenRun) -> None:
        """Returns when the open row is committed. Raises LeaseLost when it may not be written any more."""
        await self._enqueue(_Entry(run, None, asyncio.get_running_loop().create_future()))

    async def close(self, closed: ClosedRun) -> None:
        """Returns when the closed row is committed. Raises LeaseLost."""
        await self._enqueue(_Entry(closed.run, closed, asyncio.get_running_loop().create_future()))

    async def _enqueue(self, entry: _Entry) -> None:
        self._entries.append(entry)
        self._work.set()
        await entry.written

    async def serve(self) -> None:
        """Write batch after batch, until cancelled. While the database is away, the batch and its videos wait."""
        while True:
            await self._work.wait()
            self._work.clear()
            batch, self._entries = self._entries, []
            try:
                _answer(batch, await self._write(batch))
            except Exception:
                logger.exception("the database refuses a batch of the ledger; its entries are written one by one")
                await self._write_each(batch)

    async def _write_each(self, batch: list[_Entry]) -> None:
        """Only the entry that the database refuses fails, and with it its video's attempt."""
        for entry in batch:
            try:
                _answer([entry], await self._write([entry]))
            except Exception as error:
                if not entry.written.done():
                    entry.written.set_exception(error)

    async def _write(self, batch: list[_Entry]) -> set[int]:
        opened = [entry.run for entry in batch if entry.closed is None]
        closed = [entry.closed for entry in batch if entry.closed is not None]
        while True:
            try:
                return await asyncio.to_thread(self._ledger.write, opened, closed)
            except DatabaseUnavailable as error:
                logger.warning("the ledger waits: %s", error)
                await asyncio.sleep(RETRY_DELAY_S)


def _answer(batch: list[_Entry], held: set[int]) -> None:
    for entry in batch:
        if entry.written.done():  # its attempt was cancelled meanwhile
            continue
        if entry.run.video.lease_token in held:
            entry.written.set_result(None)
        else:
            entry.written.set_exception(LeaseLost(f"the lease of {entry.run.video.filename} is lost"))
