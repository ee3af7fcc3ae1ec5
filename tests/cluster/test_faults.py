"""The short part of the fault matrix; ``make chaos`` runs all of it."""

import pytest

from cluster.contracts.stages import Stage
from tests.chaos.faults import run
from tests.support.small_ray import small_ray

CASES = [
    ("raise", Stage.METADATA),
    ("hang", Stage.SCENE_DETECTION),
    ("sigkill", Stage.TRANSCRIPTION),
    ("segv", Stage.DOWNLOADING),
    ("exit", Stage.SCENE_PROCESSING),
    ("memory", Stage.INDEXING),
    ("cuda", Stage.SCENE_PROCESSING),
    ("malformed", Stage.INDEXING),
    ("raise", Stage.FINALIZING),
]


@pytest.mark.long
@pytest.mark.timeout(400)
def test_fault_is_blamed_on_its_stage_and_spares_neighbours() -> None:
    with small_ray():
        counts = run(seed=1, repeats=1, cases=CASES)
    assert counts.violations == []
    assert (counts.faulty, counts.healthy) == (len(CASES), 2 * len(CASES))
