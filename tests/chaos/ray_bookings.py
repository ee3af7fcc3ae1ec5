"""The attempts that every kill hit, and how the queue booked it: a crash for a worker, an interruption for all else.

An attempt is known by its lease token; how it ended is read from the audit. Who is killed is ``ray_kills``'.
"""

import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from cluster.contracts.stages import Stage
from cluster.store.postgres.connections import Pool
from tests.chaos.invariants import VIDEOS

BOOKED_WITHIN_S = 90.0
"""Ray's health checks take up to half a minute to find a node dead, a lease ten seconds to expire."""

HEALTHY = "toy://none/"

_STANDING = f"""
-- How attempts ended, and what their videos have been charged with up to now.
SELECT l.lease_token, l.video_id, l.attempt, l.ended_in IS NOT NULL AS ended, v.storage_path AS uri,
       v.failures, v.crashes, v.interruptions, c.after,
       ARRAY(SELECT r.stage || ' ' || r.outcome || ' ' || coalesce(r.error_type, '')
             FROM video_stage_runs AS r WHERE r.video_id = l.video_id AND r.attempt = l.attempt
               AND r.outcome NOT IN ('completed', 'skipped')) AS runs
FROM chaos.leases AS l JOIN {VIDEOS} AS v ON v.id = l.video_id
LEFT JOIN chaos.changes AS c ON c.video_id = l.video_id AND c.attempt = l.attempt AND c.before = 'PROCESSING'
WHERE l.lease_token = ANY (%s) ORDER BY l.lease_token
"""


@dataclass(frozen=True)
class Struck:
    """An attempt that a kill hit. ``stage``: what its worker was at, where that is known."""

    token: int
    video: UUID
    uri: str
    charged: tuple[int, int, int]
    """Errors, crashes and interruptions of the video before."""
    stage: Stage | None = None

    @property
    def healthy(self) -> bool:
        """Whether its only faults are those injected from outside."""
        return self.uri.startswith(HEALTHY)


def strike(pool: Pool, stages: Mapping[int, Stage | None]) -> list[Struck]:
    """Those of the attempts that are under way, in their current state."""
    rows = [row for row in _standing(pool, list(stages)) if not row["ended"]]
    return [Struck(r["lease_token"], r["video_id"], r["uri"], _charged(r), stages[r["lease_token"]]) for r in rows]


def leases_of(pool: Pool, scheduler: str | None = None) -> list[int]:
    """The tokens of all leases, or of those of one scheduler."""
    with pool.connection() as connection:
        cursor = connection.execute(
            "SELECT lease_token FROM video_leases WHERE %s::text IS NULL OR scheduler = %s", (scheduler, scheduler)
        )
        return [row["lease_token"] for row in cursor]


class Bookings:
    """Waits until what was struck is booked, and judges it. ``counts``: kind of kill -> how it was booked.

    What is struck ``hurriedly`` is judged together with what is struck next, and leniently: each attempt that was hit
    by several kills must be booked as one of them is.
    """

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._open: list[tuple[str, Struck]] = []
        self._crashed: dict[int, UUID] = {}
        self.counts: dict[str, Counter[str]] = {}
        self.violations: list[str] = []

    @property
    def crashes(self) -> Counter[UUID]:
        """Number of crashes that each healthy video must have been charged with."""
        return Counter(self._crashed.values())

    def settle(self, kind: str, struck: Sequence[Struck], *, certain: bool, hurriedly: bool = False) -> None:
        """``certain``: the attempts cannot have ended any other way than by this kill."""
        lenient = bool(self._open) or hurriedly
        self._open += [(kind, one) for one in struck]
        if hurriedly:
            return
        rows = self._ended([one.token for _, one in self._open])
        for of_kind, one in self._open:
            row = rows[one.token]
            if not row["ended"]:
                self.violations.append(f"{of_kind}: {one.video} is not booked within {BOOKED_WITHIN_S:.0f} s")
                continue
            how, wrong = _judged_leniently(row) if lenient else _judged(of_kind, one, row, certain)
            self.counts.setdefault(f"{of_kind}, among others" if lenient else of_kind, Counter())[how] += 1
            if how == "crash":
                self._crashed[one.token] = one.video
            if wrong:
                self.violations.append(f"{of_kind}: {one.video} in {one.stage}: {wrong}: {row}")
        self._open.clear()

    def _ended(self, tokens: list[int]) -> dict[int, dict[str, Any]]:
        end_s = time.monotonic() + BOOKED_WITHIN_S
        while True:
            rows = _standing(self._pool, tokens)
            if all(row["ended"] for row in rows) or time.monotonic() > end_s:
                return {row["lease_token"]: row for row in rows}
            time.sleep(0.1)


def _judged(kind: str, one: Struck, row: dict[str, Any], certain: bool) -> tuple[str, str | None]:
    """How the attempt was booked, and what is wrong with that."""
    if row["after"] == "READY":
        return "finished before", "it cannot have finished" if certain else None
    if not one.healthy:
        return "of a faulty video", None
    errors, crashes, interruptions = (now - before for now, before in zip(_charged(row), one.charged, strict=True))
    if kind == "worker":
        lost = f"{one.stage} lost WorkerLost" in row["runs"]
        fits = (errors, crashes, interruptions) == (0, 1, 0) and lost
        return "crash" if crashes else "interruption", None if fits else "not a crash of this stage"
    fits = errors == crashes == 0 and interruptions >= 1 and not _of_other_types(row, "NodeLost")
    return "interruption" if interruptions else "crash", None if fits else "not an interruption"


def _judged_leniently(row: dict[str, Any]) -> tuple[str, str | None]:
    if row["after"] == "READY":
        return "finished before", None
    if not row["uri"].startswith(HEALTHY):
        return "of a faulty video", None
    how = "crash" if any(run.endswith("WorkerLost") for run in row["runs"]) else "interruption"
    return how, "of another type" if row["failures"] or _of_other_types(row, "NodeLost", "WorkerLost") else None


def _of_other_types(row: dict[str, Any], *types: str) -> bool:
    return any(not run.endswith((*types, "Abandoned")) for run in row["runs"])


def _charged(row: dict[str, Any]) -> tuple[int, int, int]:
    return row["failures"], row["crashes"], row["interruptions"]


def _standing(pool: Pool, tokens: list[int]) -> list[dict[str, Any]]:
    with pool.connection() as connection:
        return connection.execute(_STANDING, (tokens,)).fetchall()
