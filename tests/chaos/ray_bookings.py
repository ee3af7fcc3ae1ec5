"""What every kill hit, and how the queue booked it: a crash for a worker, an interruption for all else.

An attempt is known by its lease token; how it ended is read from the audit. Who is killed is ``ray_kills``'.
"""

import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from cluster.contracts.stages import Stage
from cluster.store.database import Pool

BOOKED_WITHIN_S = 90.0
"""Ray's health checks take up to half a minute to find a node dead, a lease ten seconds to expire."""

_STANDING = """
-- How attempts ended, and what their videos have been charged with up to now.
SELECT l.lease_token, l.video_id, l.attempt, l.ended_in IS NOT NULL AS ended, v.storage_path AS uri,
       v.failures, v.crashes, v.interruptions, c.after,
       ARRAY(SELECT r.stage || ' ' || r.outcome || ' ' || coalesce(r.error_type, '')
             FROM video_stage_runs AS r WHERE r.video_id = l.video_id AND r.attempt = l.attempt
               AND r.outcome NOT IN ('completed', 'skipped')) AS runs
FROM chaos.leases AS l JOIN videos AS v ON v.id = l.video_id
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
        """Whether nothing befalls it but what is done from outside."""
        return self.uri.startswith("toy://none/")


def strike(pool: Pool, stages: Mapping[int, Stage | None]) -> list[Struck]:
    """Those of the attempts that are under way, as they stand now."""
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
    """Waits until what was struck is booked, and judges it. ``counts``: kind of kill -> how it was booked."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self.counts: dict[str, Counter[str]] = {}
        self.violations: list[str] = []
        self.crashes: Counter[UUID] = Counter()
        """What healthy videos must have been charged with at the end."""

    def settle(self, kind: str, struck: Sequence[Struck], *, certain: bool) -> None:
        """``certain``: the attempt cannot have ended any other way than by this kill."""
        rows = self._ended([one.token for one in struck])
        booked = self.counts.setdefault(kind, Counter())
        for one in struck:
            row = rows.get(one.token)
            if row is None or not row["ended"]:
                self.violations.append(f"{kind}: {one.video} is not booked within {BOOKED_WITHIN_S:.0f} s")
                continue
            how, wrong = _judged(kind, one, row, certain)
            booked[how] += 1
            if kind == "worker":
                self.crashes[one.video] += 1
            if wrong:
                self.violations.append(f"{kind}: {one.video} in {one.stage} ended {row['after']}: {wrong}: {row}")

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
    others = [run for run in row["runs"] if not run.endswith(("NodeLost", "Abandoned"))]
    fits = errors == crashes == 0 and interruptions >= 1 and not others
    return "interruption" if interruptions else "crash", None if fits else "not an interruption"


def _charged(row: dict[str, Any]) -> tuple[int, int, int]:
    return row["failures"], row["crashes"], row["interruptions"]


def _standing(pool: Pool, tokens: list[int]) -> list[dict[str, Any]]:
    with pool.connection() as connection:
        return connection.execute(_STANDING, (tokens,)).fetchall()
