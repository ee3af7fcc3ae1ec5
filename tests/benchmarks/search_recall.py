"""Recall of an engine: how many of the ten nearest scenes it finds, held against comparing all of them."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from uuid import UUID

import numpy as np

from cluster.contracts.search import QueryVector, Retriever, Scope
from tests.benchmarks.made_scenes import HUNDREDTH, MOST, SCENES_PER_VIDEO, TENTH, Floats, MadeScenes, Scenery
from tests.benchmarks.search_engines import SearchEngine

NEAREST = 10
REACH = 0.98
OWNERS = {MOST: "89 %", TENTH: "10 %", HUNDREDTH: "1 %"}
"""Owners that ask, and their share of all scenes."""


@dataclass(frozen=True)
class Recall:
    """Shares of the ten nearest that were found, on average over so many queries.

    ``asked_ten``: where ten were asked for; ``asked_deep``: among the first ten of as many as the search asks for.
    """

    by: Retriever
    owner: UUID
    asked_ten: float
    asked_deep: float
    queries: int


def exactly_nearest(
    scenery: Scenery, vectors: Mapping[Retriever, Floats], owners: Sequence[UUID]
) -> dict[tuple[Retriever, UUID], list[set[UUID]]]:
    """For each list and owner, of each query (a row) the ten nearest scenes of all."""
    best = {(by, owner): _Best(len(rows)) for by, rows in vectors.items() for owner in owners}
    for made in scenery:
        for by, rows in vectors.items():
            cosines = rows @ made.vectors[by].T
            for owner in owners:
                best[by, owner].meet(cosines, made, owner)
    return {key: one.ids for key, one in best.items()}


class _Best:
    """The nearest so far of each query."""

    def __init__(self, queries: int) -> None:
        self._found: list[list[tuple[float, UUID]]] = [[] for _ in range(queries)]

    @property
    def ids(self) -> list[set[UUID]]:
        return [{scene for _, scene in found} for found in self._found]

    def meet(self, cosines: Floats, made: MadeScenes, owner: UUID) -> None:
        """``cosines``: [queries, scenes made]."""
        own = np.flatnonzero(np.repeat([one == owner for one in made.owners], SCENES_PER_VIDEO))
        count = min(NEAREST, len(own))
        if not count:
            return
        nearest = own[np.argpartition(-cosines[:, own], count - 1, axis=1)[:, :count]]
        for row, (found, places) in enumerate(zip(self._found, nearest, strict=True)):
            found += [(float(cosines[row, place]), made.scenes[place]) for place in places]
            found.sort(reverse=True)
            del found[NEAREST:]


def measure_recall(
    engine: SearchEngine,
    exact: Mapping[tuple[Retriever, UUID], Sequence[set[UUID]]],
    vectors: Mapping[Retriever, Sequence[QueryVector]],
    deep: int,
    say: Callable[[str], None],
) -> list[Recall]:
    """Ask the engine what has been looked for exactly."""
    recalls = []
    for (by, owner), nearest in exact.items():
        shares: dict[int, list[float]] = {NEAREST: [], deep: []}
        for vector, right in zip(vectors[by], nearest, strict=True):
            for limit, into in shares.items():
                found = engine.index.nearest(by, vector, Scope(owner), limit)[:NEAREST]
                into.append(len(right & {scene.scene_id for scene in found}) / len(right))
        ten, more = shares[NEAREST], shares[deep]
        recalls.append(Recall(by, owner, float(np.mean(ten)), float(np.mean(more)), len(nearest)))
        say(f"recall of {engine.name}, {by}, owner of {OWNERS[owner]}: {np.mean(ten):.4f}, {np.mean(more):.4f}")
    return recalls
