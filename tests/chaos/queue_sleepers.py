"""Schedulers that sleep past their leases: which are stopped, and when each is to be woken.

Half of them sleep for a while; the others until another scheduler works on one of their videos, so that what they still
want to write meets a lease that is alive, and not theirs. Stopping and waking is the caller's.
"""

import random
from dataclasses import dataclass
from uuid import UUID

from cluster.store.postgres.connections import Pool

LEAST_LEASES = 1.1
MOST_LEASES = 2.0
MOST_PATIENT_LEASES = 3.0


@dataclass(frozen=True)
class _Sleeper:
    wakes_s: float
    waits_for_others: bool
    videos: list[UUID]
    tokens: list[int]


class Sleepers:
    """The sleeping schedulers, by name."""

    def __init__(self, pool: Pool, rng: random.Random, lease_s: float) -> None:
        self._pool = pool
        self._rng = rng
        self._lease_s = lease_s
        self._asleep: dict[str, _Sleeper] = {}

    def __contains__(self, name: str) -> bool:
        return name in self._asleep

    def __len__(self) -> int:
        return len(self._asleep)

    def add(self, name: str, now_s: float) -> None:
        """This scheduler was stopped just now. Raises DatabaseUnavailable."""
        waits = self._rng.random() < 0.5
        most = self._rng.uniform(LEAST_LEASES, MOST_LEASES) if not waits else MOST_PATIENT_LEASES
        with self._pool.connection() as connection:
            held = connection.execute(
                "SELECT video_id, lease_token FROM video_leases WHERE scheduler = %s", (name,)
            ).fetchall()
        videos, tokens = [row["video_id"] for row in held], [row["lease_token"] for row in held]
        self._asleep[name] = _Sleeper(now_s + most * self._lease_s, waits and bool(held), videos, tokens)

    def pop_due(self, now_s: float) -> list[str]:
        """Those that are to be woken now; they sleep no longer. Raises DatabaseUnavailable."""
        due = [name for name, sleeper in self._asleep.items() if self._is_due(sleeper, now_s)]
        for name in due:
            del self._asleep[name]
        return due

    def pop_all(self) -> list[str]:
        """All of them; none sleeps any longer."""
        names = list(self._asleep)
        self._asleep.clear()
        return names

    def _is_due(self, sleeper: _Sleeper, now_s: float) -> bool:
        if sleeper.wakes_s <= now_s:
            return True
        if not sleeper.waits_for_others:
            return False
        with self._pool.connection() as connection:
            row = connection.execute(
                "SELECT FROM video_leases WHERE video_id = ANY (%s) AND lease_token <> ALL (%s) LIMIT 1",
                (sleeper.videos, sleeper.tokens),
            ).fetchone()
        return row is not None
