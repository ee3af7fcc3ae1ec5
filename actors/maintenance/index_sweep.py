"""Brings the search engine in line where no attempt does: forgotten videos, and those whose attempt died."""

import asyncio
import logging
import time

from cluster.contracts.errors import DatabaseUnavailable, SearchUnavailable
from cluster.store.opensearch.sync import IndexFollower

logger = logging.getLogger(__name__)

SWEEP_S = 2.0
PURGE_S = 3600.0


class IndexSweep:
    """Works off what is due. What cannot be done stays due."""

    def __init__(self, follower: IndexFollower) -> None:
        self._follower = follower
        self._purged_s = time.monotonic()

    async def sweep_forever(self) -> None:
        """Every few seconds."""
        while True:
            await asyncio.sleep(SWEEP_S)
            try:
                await asyncio.to_thread(self.sweep)
            except (DatabaseUnavailable, SearchUnavailable) as error:
                logger.warning("the search index is not followed up: %s", error)
            except Exception:  # videos do not stop for it
                logger.exception("the search index is not followed up")

    def sweep(self) -> None:
        """Bring all that is due in line. Raises DatabaseUnavailable, SearchUnavailable."""
        self._follower.follow_due()
        if time.monotonic() - self._purged_s >= PURGE_S:
            self._purged_s = time.monotonic()
            self._follower.purge()
