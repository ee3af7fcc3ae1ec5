"""Brings the search engine in line where no attempt does: forgotten videos, and those whose attempt died."""

import asyncio
import logging
import time

from cluster.contracts.errors import DatabaseUnavailable, SearchUnavailable
from cluster.store.index_follower import IndexFollower
from cluster.store.search_changes import SearchChanges

logger = logging.getLogger(__name__)

SWEEP_S = 2.0
PURGE_S = 3600.0
VIDEOS_AT_ONCE = 20


class IndexSweep:
    """Works off what is due. What cannot be done stays due."""

    def __init__(self, changes: SearchChanges, follower: IndexFollower) -> None:
        self._changes = changes
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
        while video_ids := self._changes.due(VIDEOS_AT_ONCE):
            for video_id, reason in self._follower.follow_all(video_ids).items():
                logger.warning("%s: %s", video_id, reason)
        if time.monotonic() - self._purged_s >= PURGE_S:
            self._purged_s = time.monotonic()
            self._follower.purge()
