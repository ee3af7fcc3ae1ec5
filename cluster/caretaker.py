"""Watches over a cluster while a command waits for its videos: what died is brought back, or its user told how."""

import time
from collections.abc import Callable

from cluster import launch
from cluster.contracts.errors import DatabaseUnavailable, HeimdexError
from cluster.settings import Settings
from cluster.store.database import Pool
from cluster.store.worker_registry import SCHEDULER_KIND, SEEN_WITHIN_S, seen_workers

LOOK_EVERY_S = 2.0
SILENCE_S = 10.0
"""How long nobody may have been seen, beyond what counts as seen, before something is done."""


class Caretaker:
    """Called again and again while videos are waited for.

    ``owned``: the cluster was brought up for this command, which then brings it back as well. The embedded Postgres is
    started again in any case: it belongs to the data directory, not to a process.
    """

    def __init__(self, settings: Settings, pool: Pool, owned: bool, say: Callable[[str], None]) -> None:
        self._settings = settings
        self._pool = pool
        self._owned = owned
        self._say = say
        self._looked_s = 0.0
        self._silent_since_s: float | None = None
        self._warned = False

    def look(self) -> None:
        """Bring back what is gone. Returns at once when it looked only just before."""
        now_s = time.monotonic()
        if now_s - self._looked_s < LOOK_EVERY_S:
            return
        self._looked_s = now_s
        if self._somebody_schedules():
            self._silent_since_s, self._warned = None, False
            return
        self._silent_since_s = self._silent_since_s or now_s
        if now_s - self._silent_since_s > SILENCE_S and not self._warned:
            self._bring_back()

    def _somebody_schedules(self) -> bool:
        try:
            return any(worker.kind == SCHEDULER_KIND for worker in seen_workers(self._pool, SEEN_WITHIN_S))
        except DatabaseUnavailable:
            self._revive_postgres()
            return False

    def _revive_postgres(self) -> None:
        if self._settings.database_url is None:
            try:
                launch.embedded(self._settings).start()
            except HeimdexError as error:
                self._say(f"Postgres does not start again yet: {error}")

    def _bring_back(self) -> None:
        if not self._owned:
            self._warned = True
            self._say("no scheduler answers; the videos stay submitted and go on after `heimdex up`")
            return
        self._say("the cluster is gone: bringing it up again")
        try:
            launch.take_over(self._settings, self._say)
        except HeimdexError as error:
            self._say(f"that failed, and is tried again: {error}")
        self._silent_since_s = None
