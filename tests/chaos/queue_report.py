"""The report of a chaos run of the queue: counts, and every violation that can be found once it is over."""

import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from cluster.store.postgres.connections import Pool
from tests.chaos.invariants import VIDEOS, violations
from tests.chaos.queue_load import Load
from tests.chaos.queue_plan import RULE, misfits

MOST_PASSED_OVER = 1
"""A claim that is under way when a video is submitted cannot see it yet; the next one must."""
MOST_NAMED = 20
_SETTLED_AS = {"finish": "READY", "fail": "FAILED", "retry": "PENDING"}

_PASSED_OVER = """
-- How many claims went to others between the moment at which a lone video was known to be there and its own.
SELECT lone.video_id, count(DISTINCT other.claim) AS claims
FROM unnest(%s::uuid[], %s::timestamptz[]) AS lone (video_id, submitted_at)
JOIN chaos.leases AS own ON own.video_id = lone.video_id AND own.attempt = 1
JOIN chaos.leases AS other ON other.granted_at > lone.submitted_at AND other.claim < own.claim
GROUP BY 1 HAVING count(DISTINCT other.claim) > %s
"""

_OUT_OF_ORDER = f"""
-- First attempts at videos that were there before the first claim: an owner's are taken in order of when they are due.
SELECT owner_id, claim FROM (
    SELECT v.owner_id, l.claim, min(v.due_at) AS earliest,
           max(max(v.due_at)) OVER (PARTITION BY v.owner_id ORDER BY l.claim
                                    ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING) AS latest_before
    FROM unnest(%s::uuid[]) AS chosen (id)
    JOIN {VIDEOS} AS v ON v.id = chosen.id
    JOIN chaos.leases AS l ON l.video_id = v.id AND l.attempt = 1
    WHERE NOT EXISTS (SELECT FROM chaos.changes AS c
                      WHERE c.video_id = v.id AND (c.after = 'CANCELLED' OR c.before = 'FAILED'))
    GROUP BY 1, 2) AS claims
WHERE earliest < latest_before
"""

_NOT_AS_SETTLED = """
-- The answer to a scheduler was that this attempt ended so.
SELECT told.lease_token, told.ended, c.after
FROM unnest(%s::bigint[], %s::text[]) AS told (lease_token, ended)
LEFT JOIN chaos.leases AS l ON l.lease_token = told.lease_token
LEFT JOIN chaos.changes AS c ON c.video_id = l.video_id AND c.attempt = l.attempt AND c.before = 'PROCESSING'
WHERE c.after IS DISTINCT FROM told.ended
"""


@dataclass(frozen=True)
class Counts:
    """What was run and how it ended. ``refused``: writes of schedulers whose lease was lost, by what they wrote."""

    seed: int
    seconds: float
    videos: int
    ended: dict[str, int]
    attempts: int
    interruptions: int
    troubles: dict[str, int]
    refused: dict[str, int]
    violations: list[str]

    @property
    def videos_per_s(self) -> float:
        """Throughput, everything that was killed included."""
        return self.videos / self.seconds

    def lines(self) -> Iterator[str]:
        """As people read it."""
        yield f"seed {self.seed}: {self.videos} videos in {self.seconds:.0f} s, {self.videos_per_s:.0f} videos/s"
        yield f"ended {self.ended}; {self.attempts} attempts, {self.interruptions} of them taken back"
        yield f"done to them {self.troubles}"
        yield f"stale writes refused {self.refused}"
        yield f"violations {len(self.violations)}"
        yield from (f"VIOLATION {line}" for line in self.violations)


def report(load: Load, pool: Pool, seconds: float) -> Counts:
    """Check everything and count it."""
    log = _Log(load.log)
    wrong = [*load.violations, *log.defects, *violations(pool, RULE)]
    wrong += misfits(pool, load.size.seed, load.submitted, load.cancelled)[:MOST_NAMED]
    with pool.connection() as connection:
        lone = [list(load.lone), list(load.lone.values()), MOST_PASSED_OVER]
        for row in connection.execute(_PASSED_OVER, lone):
            wrong.append(f"the only video of its owner was passed over by {row['claims']} claims: {row['video_id']}")
        for row in connection.execute(_OUT_OF_ORDER, [load.first]).fetchmany(MOST_NAMED):
            wrong.append(f"claim {row['claim']} took a video of {row['owner_id']} that was due before earlier ones")
        for row in connection.execute(_NOT_AS_SETTLED, list(log.settled())).fetchmany(MOST_NAMED):
            wrong.append(f"lease {row['lease_token']} was said to end {row['ended']}, but it is {row['after']}")
        rows = connection.execute(f"SELECT v.status, count(*) AS n FROM {VIDEOS} AS v GROUP BY 1 ORDER BY 1").fetchall()
        totals = connection.execute(
            "SELECT count(*) AS attempts, (SELECT count(*) FROM chaos.changes AS c JOIN chaos.leases AS l "
            "USING (video_id, attempt) WHERE c.before = 'PROCESSING' AND c.session <> l.session) AS interruptions "
            "FROM chaos.leases"
        ).fetchone()
    assert totals is not None
    return Counts(
        seed=load.size.seed,
        seconds=seconds,
        videos=len(load.submitted),
        ended={row["status"]: row["n"] for row in rows},
        attempts=totals["attempts"],
        interruptions=totals["interruptions"],
        troubles=dict(load.done),
        refused=dict(log.refused),
        violations=wrong,
    )


class _Log:
    """The log of the schedulers."""

    def __init__(self, path: Path) -> None:
        self.refused: Counter[str] = Counter()
        self.defects: list[str] = []
        self._settled: dict[int, str] = {}
        for line in path.read_text().splitlines() if path.exists() else ():
            kind, text = line.split(" ", 1)
            self._read(kind, json.loads(text))

    def _read(self, kind: str, text: str) -> None:
        if kind == "defect":
            self.defects.append(f"a scheduler broke: {text}")
            return
        what, token = text.split()
        if kind == "refused":
            self.refused[what] += 1
        else:
            self._settled[int(token)] = _SETTLED_AS[what]

    def settled(self) -> tuple[list[int], list[str]]:
        """Lease tokens, and how their attempts ended by the answers to a scheduler."""
        return list(self._settled), list(self._settled.values())
