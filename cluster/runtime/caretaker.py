"""Watches over a cluster while a command waits for its videos: what died is restarted, or its user is shown how."""

import time
from collections.abc import Callable

from cluster.contracts.errors import DatabaseUnavailable, HeimdexError
from cluster.runtime import launch
from cluster.settings import Settings
from cluster.store.postgres.connections import Pool
from cluster.store.queue.worker_registry import SCHEDULER_KIND, SEEN_WITHIN_S, seen_workers

LOOK_EVERY_S = 2.0
SILENCE_S = 20.0
"""Time without a scheduler seen in Postgres, beyond what counts as seen, before the cluster is brought back."""


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
        self._said: set[str] = set()

    def look(self) -> None:
        """Bring back what is gone. Returns at once when it looked only just before."""
        now_s = time.monotonic()
        if now_s - self._looked_s < LOOK_EVERY_S:
            return
        self._looked_s = now_s
        if not self._postgres_runs():
            self._silent_since_s = None
        elif self._owned and launch.find(self._settings) is None:
            self._bring_back()
        else:
            self._note(self._has_live_scheduler(), now_s)

    def _note(self, seen: bool | None, now_s: float) -> None:
        if seen is None:
            self._silent_since_s = None
        elif seen:
            self._silent_since_s = None
            self._said.clear()
        else:
            self._silent_since_s = self._silent_since_s or now_s
            if now_s - self._silent_since_s > SILENCE_S:
                self._bring_back()

    def _postgres_runs(self) -> bool:
        """The embedded Postgres is started where it does not run; another one is not this command's."""
        server = launch.embedded(self._settings)
        if self._settings.database_url is not None or server.is_running():
            return True
        self._say_once("Postgres is gone: starting it again")
        try:
            server.start()
        except HeimdexError as error:
            self._say_once(f"Postgres does not start again yet: {error}")
            return False
        return True

    def _has_live_scheduler(self) -> bool | None:
        """Whether a scheduler was seen lately; None while Postgres is away: who is alive can only be seen in it."""
        try:
            return any(worker.kind == SCHEDULER_KIND for worker in seen_workers(self._pool, SEEN_WITHIN_S))
        except DatabaseUnavailable as error:
            self._say_once(f"waiting: {error}")
            return None

    def _bring_back(self) -> None:
        self._silent_since_s = None
        if not self._owned:
            self._say_once("no scheduler answers; the videos stay submitted and go on after `heimdex up`")
            return
        self._say("the cluster is gone: bringing it up again")
        try:
            launch.take_over(self._settings, self._say)
        except HeimdexError as error:
            self._say(f"that failed, and is tried again: {error}")

    def _say_once(self, sentence: str) -> None:
        """Once, until all is well again."""
        if sentence not in self._said:
            self._said.add(sentence)
            self._say(sentence)
