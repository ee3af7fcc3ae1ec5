"""Removes what is past its time in the audit log and among the requests of owners."""

import asyncio
import logging

from cluster.contracts.errors import DatabaseUnavailable
from cluster.store.postgres.audit_log import remove_old_entries
from cluster.store.postgres.connections import Pool
from cluster.store.queue.owner_requests import remove_old_requests

logger = logging.getLogger(__name__)

SWEEP_S = 3600.0


class RecordSweep:
    """Once at the start, then every hour. ``audit_days``: how long entries of the audit log are kept."""

    def __init__(self, pool: Pool, audit_days: int) -> None:
        self._pool = pool
        self._audit_days = audit_days

    async def sweep_forever(self) -> None:
        """Sweep at intervals: records that cannot be removed now are removed later."""
        while True:
            try:
                await asyncio.to_thread(self.sweep)
            except DatabaseUnavailable as error:
                logger.warning("old records are not removed: %s", error)
            except Exception:  # videos do not stop for it
                logger.exception("old records are not removed")
            await asyncio.sleep(SWEEP_S)

    def sweep(self) -> None:
        """Remove what is past its time. Raises DatabaseUnavailable."""
        remove_old_requests(self._pool)
        remove_old_entries(self._pool, self._audit_days)
