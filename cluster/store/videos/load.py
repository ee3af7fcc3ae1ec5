"""How much is left and how fast it goes: the backlog, its oldest video, the rate, and what each stage does now."""

from dataclasses import dataclass
from typing import Any
from uuid import UUID

from cluster.contracts.stages import Stage
from cluster.store.postgres.connections import Pool
from cluster.store.postgres.plausible_times import plausible

WINDOW_S = 300
"""Seconds back from now in which the rate is counted."""

_BACKLOG = f"""
WITH left_over AS MATERIALIZED (
    SELECT v.id, {plausible("v.queued_at")} AS queued_at
    FROM videos AS v JOIN video_processing AS p ON p.video_id = v.id
    LEFT JOIN video_leases AS l ON l.video_id = v.id
    WHERE (p.available_at IS NOT NULL AND v.status = 'PENDING' OR l.video_id IS NOT NULL) AND p.forgotten_at IS NULL
), ended AS (
    SELECT count(*) AS n FROM videos AS v JOIN video_processing AS p ON p.video_id = v.id
    WHERE v.processing_finished_at > clock_timestamp() - make_interval(secs => %(window_s)s)
      AND v.processing_finished_at <= clock_timestamp()
      AND v.status IN ('READY', 'FAILED') AND p.cancelled_at IS NULL
), cluster AS (
    SELECT extract(epoch FROM clock_timestamp() - min(started_at))::float8 AS alive_s FROM cluster_workers
    WHERE kind = 'scheduler' AND seen_at > clock_timestamp() - interval '10 seconds'
)
SELECT (SELECT count(*) FROM left_over) AS videos,
       (SELECT id FROM left_over ORDER BY queued_at, id LIMIT 1) AS oldest,
       (SELECT extract(epoch FROM clock_timestamp() - min(queued_at))::float8 FROM left_over) AS oldest_s,
       ended.n AS ended, cluster.alive_s FROM ended, cluster
"""

_STAGES = """
WITH open AS (
    SELECT r.stage, count(*) AS videos FROM video_leases AS l
    JOIN video_processing AS p ON p.video_id = l.video_id
    JOIN video_stage_runs AS r ON r.video_id = l.video_id AND r.attempt = p.attempt
    WHERE r.outcome = 'running' GROUP BY r.stage
), closed AS (
    SELECT stage, count(*) FILTER (WHERE outcome = 'completed') AS completed,
           count(*) FILTER (WHERE outcome IN ('failed', 'lost')) AS failed,
           avg(wait_ms) FILTER (WHERE outcome = 'completed') AS wait_ms,
           avg(run_ms) FILTER (WHERE outcome = 'completed') AS run_ms
    FROM video_stage_runs
    WHERE finished_at > clock_timestamp() - make_interval(secs => %(window_s)s) GROUP BY stage
)
SELECT stage AS name, coalesce(open.videos, 0) AS in_flight, coalesce(closed.completed, 0) AS completed,
       coalesce(closed.failed, 0) AS failed, closed.wait_ms, closed.run_ms
FROM open FULL JOIN closed USING (stage)
"""


@dataclass(frozen=True)
class Backlog:
    """Videos that wait or are on their way, and how long they will take.

    The rate is that of the last five minutes. ``videos_per_hour`` and ``left_s`` are None where no cluster is up, or no
    video ended in that time.
    """

    videos: int
    oldest: UUID | None
    oldest_s: float | None
    """Seconds since the oldest of them was queued."""
    videos_per_hour: float | None
    left_s: float | None


def read_backlog(pool: Pool) -> Backlog:
    """Count what is left, of every owner."""
    with pool.connection() as connection:
        row = connection.execute(_BACKLOG, {"window_s": WINDOW_S}).fetchone()
    assert row is not None
    rate = _per_hour(row["ended"], row["alive_s"])
    left_s = 3600 * row["videos"] / rate if rate else None
    return Backlog(row["videos"], row["oldest"], row["oldest_s"], rate, left_s)


def _per_hour(ended: int, alive_s: float | None) -> float | None:
    """A cluster that came up a minute ago is judged by that minute."""
    if not ended or alive_s is None:
        return None
    return 3600 * ended / min(WINDOW_S, max(alive_s, 1.0))


def read_stage_load(pool: Pool) -> list[dict[str, Any]]:
    """Of each stage: videos in it now; runs that ended in the last five minutes, with their mean wait and run."""
    with pool.connection() as connection:
        rows = connection.execute(_STAGES, {"window_s": WINDOW_S}).fetchall()
    found = {row["name"]: row for row in rows}
    nothing = {"in_flight": 0, "completed": 0, "failed": 0, "wait_ms": None, "run_ms": None}
    return [found.get(stage.value, {"name": stage.value, **nothing}) for stage in Stage]
