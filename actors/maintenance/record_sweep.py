"""Removes what is past its time in the audit log and among the requests of owners."""

import asyncio

from cluster.contracts.events import Event
from cluster.security.event_log import EventLog, FailingSteps
from cluster.store.postgres.audit_log import remove_old_entries
from cluster.store.postgres.connections import Pool
from cluster.store.queue.owner_requests import remove_old_requests

logger = EventLog(__name__)

SWEEP_S = 3600.0


class RecordSweep:
    """Once at the start, then every hour. ``audit_days``: how long entries of the audit log are kept."""

    def __init__(self, pool: Pool, audit_days: int) -> None:
        self._pool = pool
        self._audit_days = audit_days
        self._failing = FailingSteps(logger)

    async def sweep_forever(self) -> None:
        """Sweep at intervals: records that cannot be removed now are removed later."""
        while True:
            try:
                await asyncio.to_thread(self.sweep)
            except Exception as error:  # videos do not stop for it
                self._failing.note_failure(Event.RECORD_SWEEP_FAILED, error, retry_s=SWEEP_S)
            else:
                self._failing.note_success(Event.RECORD_SWEEP_FAILED)
            await asyncio.sleep(SWEEP_S)

    def sweep(self) -> None:
        """Remove what is past its time. Raises DatabaseUnavailable."""
        remove_old_requests(self._pool)
        remove_old_entries(self._pool, self._audit_days)
