"""The short part of the queue's chaos: whatever is killed, stopped or cut off, nothing is lost or done twice."""

import pytest

from tests.chaos import crash_points, postgres, queue
from tests.chaos.cutting_proxy import WRITES

SEED = 4


def test_killed_schedulers_lose_nothing_and_write_nothing_stale() -> None:
    counts = queue.run(SEED, videos=1500, kills=20, stops=6)
    assert counts.violations == []
    assert (counts.troubles["kill"], counts.troubles["stop"]) == (20, 6)
    assert sum(counts.ended.values()) == counts.videos == 1500
    assert counts.refused  # a scheduler came back too late, and its write was refused


def test_postgres_stops_and_lost_commits_lose_nothing() -> None:
    size = postgres.PostgresSize(
        videos=600, immediate_stops=2, terminated_backends=10, cut_commits=10, kills=0, stops=0
    )
    counts = postgres.run(SEED, size)
    assert counts.violations == []
    assert (counts.troubles["immediate stop"], counts.troubles["terminated backend"]) == (2, 10)
    assert sum(count for what, count in counts.troubles.items() if what.startswith("cut after")) >= 9


@pytest.mark.long
def test_a_scheduler_may_die_before_and_after_each_of_its_writes() -> None:
    counts = crash_points.run(SEED)
    assert counts.violations == []
    assert counts.writes.keys() >= WRITES.keys()
