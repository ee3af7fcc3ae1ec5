"""Brings the search engine in line where no attempt does: forgotten videos, and those whose attempt died."""

import asyncio
import time

from cluster.contracts.events import Event
from cluster.security.event_log import EventLog, FailingSteps
from cluster.store.opensearch.sync import IndexFollower

logger = EventLog(__name__)

SWEEP_S = 2.0
PURGE_S = 3600.0


class IndexSweep:
    """Works off what is due. What cannot be done stays due."""

    def __init__(self, follower: IndexFollower) -> None:
        self._follower = follower
        self._purged_s = time.monotonic()
        self._failing = FailingSteps(logger)

    async def sweep_forever(self) -> None:
        """Every few seconds."""
        while True:
            await asyncio.sleep(SWEEP_S)
            try:
                await asyncio.to_thread(self.sweep)
            except Exception as error:  # videos do not stop for it
                self._failing.note_failure(Event.INDEX_SWEEP_FAILED, error, retry_s=SWEEP_S)
            else:
                self._failing.note_success(Event.INDEX_SWEEP_FAILED)

    def sweep(self) -> None:
        """Bring all that is due in line. Raises DatabaseUnavailable, SearchUnavailable."""
        self._follower.follow_due()
        if time.monotonic() - self._purged_s >= PURGE_S:
            self._purged_s = time.monotonic()
            self._follower.purge()
