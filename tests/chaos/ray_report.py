"""The report of a chaos run of Ray: counts, and every violation that can be found once it is over."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from cluster.store.postgres.connections import Pool
from tests.chaos.invariants import VIDEOS, violations
from tests.chaos.ray_host import RULE
from tests.chaos.ray_troubles import Troubles
from tests.chaos.toy_way import FAULTS, SCENES

ENOUGH_TO_SHARE = 40
MOST_NAMED = 20
NOTICED_WITHIN_S = 5.0
"""Time between the death of a worker and the close of the run that it had been sent, at most."""

_ENDS = f"""
SELECT v.*, (SELECT count(*) FROM video_scenes AS s WHERE s.video_id = v.id) AS scenes,
       ARRAY(SELECT finished_at FROM video_stage_runs AS r
             WHERE r.video_id = v.id AND r.error_type = 'WorkerLost' ORDER BY 1) AS crashed_at,
       ARRAY(SELECT r.finished_at FROM video_stage_runs AS r
             WHERE r.video_id = v.id AND r.error_type = 'WorkerLost' AND r.stage = 'downloading') AS fetcher_died_at
FROM {VIDEOS} AS v ORDER BY v.storage_path
"""

_TOTALS = """
SELECT count(*) AS attempts,
       (SELECT jsonb_object_agg(scheduler, n)
        FROM (SELECT scheduler, count(*) AS n FROM chaos.leases GROUP BY 1) AS s) AS by_scheduler
FROM chaos.leases
"""


@dataclass(frozen=True)
class Counts:
    """What was run and how it ended.

    ``stages``: how often a worker was killed in which stage; ``booked``: how the attempts that a kind of kill hit were
    booked; ``shared``: for each life of the cluster with two schedulers, how many claims each made.
    """

    seed: int
    seconds: float
    ended: dict[str, int]
    attempts: int
    killed: dict[str, int]
    stages: dict[str, int]
    booked: dict[str, dict[str, int]]
    shared: list[list[int]]
    violations: list[str]

    def lines(self) -> Iterator[str]:
        """As people read it."""
        yield f"seed {self.seed}: {sum(self.ended.values())} videos in {self.seconds:.0f} s, {self.attempts} attempts"
        yield f"ended {self.ended}"
        yield f"killed {self.killed}; workers in {self.stages}"
        yield from (f"attempts under a killed {kind}: {booked}" for kind, booked in self.booked.items())
        yield f"claims of two schedulers at once {self.shared}"
        yield f"violations {len(self.violations)}"
        yield from (f"VIOLATION {line}" for line in self.violations)


def _is_unshared(claims: list[int]) -> bool:
    """Of a few claims one scheduler may get all: it was there first."""
    return 0 in claims and sum(claims) >= ENOUGH_TO_SHARE


def report(seed: int, troubles: Troubles, pool: Pool, seconds: float) -> Counts:
    """Check everything and count it."""
    with pool.connection() as connection:
        rows = connection.execute(_ENDS).fetchall()
        totals = connection.execute(_TOTALS).fetchone()
    assert totals is not None
    claims = totals["by_scheduler"] or {}
    shared = [[claims.get(name, 0) for name in sorted(names)] for names in troubles.shared]
    wrong = [*troubles.violations, *violations(pool, RULE)]
    ended_fetchers = [at for row in rows if not _is_healthy(row) for at in row["fetcher_died_at"]]
    wrong += [line for row in rows for line in _wrong(row, troubles, ended_fetchers)][:MOST_NAMED]
    wrong += [f"two schedulers did not share the work: {numbers} claims" for numbers in shared if _is_unshared(numbers)]
    statuses = [row["status"] for row in rows]
    return Counts(
        seed=seed,
        seconds=seconds,
        ended={status: statuses.count(status) for status in sorted(set(statuses))},
        attempts=totals["attempts"],
        killed=dict(troubles.done),
        stages=dict(troubles.struck_stages),
        booked={kind: dict(counted) for kind, counted in troubles.bookings.counts.items()},
        shared=shared,
        violations=wrong,
    )


def _is_healthy(row: dict[str, Any]) -> bool:
    return str(row["storage_path"]).startswith("toy://none/")


def _wrong(row: dict[str, Any], troubles: Troubles, ended_fetchers: list[datetime]) -> Iterator[str]:
    """Violations of a video, whose end is known from its URI and from the kills that hit it.

    ``ended_fetchers``: times at which faulty videos ended their fetcher, a crash of each video that it was downloading.
    """
    uri = str(row["storage_path"])
    fault, stage, _ = uri.removeprefix("toy://").split("/")
    healthy = _is_healthy(row)
    dealt = troubles.bookings.crashes[row["id"]]
    by_chance = sum(_is_after_one_of(at, troubles.idle_kills) for at in row["crashed_at"])
    by_chance += sum(_is_close_to_one_of(at, ended_fetchers) for at in row["fetcher_died_at"])
    expected = ("READY", "completed", None) if healthy else ("FAILED", stage, FAULTS[fault])
    found = (row["status"], row["processing_stage"], row["error_type"])
    if healthy and by_chance and RULE.max_crashes <= row["crashes"] <= dealt + by_chance:
        return
    if found != expected:
        yield f"{row['id']} {uri} ended {found} instead of {expected}: {row['error_message']}"
    if healthy and row["scenes"] != SCENES:
        yield f"{row['id']} has {row['scenes']} scenes instead of {SCENES}"
    if healthy and (row["failures"] or not dealt <= row["crashes"] <= dealt + by_chance):
        charged = f"{row['failures']} errors and {row['crashes']} crashes (at {list(map(str, row['crashed_at']))})"
        yield f"{row['id']} is charged with {charged} instead of 0 and {dealt}"


def _is_after_one_of(moment: datetime, kills: list[datetime]) -> bool:
    """Whether a worker thought idle may have been sent a call just when it was killed."""
    return any(0 <= (moment - kill).total_seconds() <= NOTICED_WITHIN_S for kill in kills)


def _is_close_to_one_of(moment: datetime, ends: list[datetime]) -> bool:
    return any(abs((moment - end).total_seconds()) < 1 for end in ends)
