"""The short part of what kills Ray around videos; ``make chaos`` runs all of it."""

import pytest

from tests.chaos.ray_kills import RaySize, run

pytestmark = pytest.mark.long

SHORT = RaySize(
    videos=24,
    faulty=4,
    owners=3,
    nodes=2,
    media=2,
    others=1,
    worker_kills=3,
    node_kills=1,
    scheduler_kills=1,
    cluster_kills=1,
)


@pytest.mark.timeout(500)
def test_killed_workers_nodes_and_schedulers_lose_no_video() -> None:
    counts = run(1, SHORT)
    assert counts.violations == []
    assert counts.ended == {"FAILED": 4, "READY": 20}
    killed = counts.killed
    assert killed.get("busy worker", 0) + killed.get("idle worker", 0) == 3
    assert (killed["node"], killed["scheduler"], killed["cluster"]) == (1, 1, 1)
