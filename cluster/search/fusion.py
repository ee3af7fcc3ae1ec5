"""Fuses the ranked lists of a search into one, and judges which scenes are distinct from what merely is nearest.

Owns ranks and scores. Which lists are asked for, and by which models, is ``service``'s.
"""

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from uuid import UUID

import numpy as np

from cluster.contracts.search import ModelKeys, RankedScene, Retriever

FUSION_K = 60
"""Constant of reciprocal rank fusion, as its authors found it best."""
STANDS_OUT = 2.5
"""Standard deviations above a list's mean from which a rank counts in full."""
FAINT = 0.1
"""Factor for a rank whose score is below that."""
FULL_LIST = 100
"""Scenes of a list that ends where it was cut: there are further ones, less near."""
STANDS_OUT_OF_FULL = 4.5
"""Standard deviations above the mean of a full list from which a scene is distinct, by a model without floors.

The nearest of so many are the end of a tail: of a hundred, the nearest is 4.2 deviations above their mean by chance
alone, whatever was asked.
"""

Weights = Mapping[Retriever, float]
EQUAL: Weights = dict.fromkeys(Retriever, 1.0)


@dataclass(frozen=True)
class Floor:
    """Cosines of a model below which no scene is distinct: in a list of all scenes, and in a full one of very many.

    ``of_full`` None: not measured. A full list is judged as that of a model without floors then, from ``of_all`` on.
    """

    of_all: float
    of_full: float | None


Floors = Mapping[Retriever, Floor]
_MINI_LM = Floor(0.3, 0.35)
MEANING_FLOORS = {"bundled": _MINI_LM, "all-MiniLM-L6-v2": _MINI_LM}
"""Floors of the models that were measured (``tests/benchmarks/standing_out.md``), by name; others have none."""
PICTURE_FLOORS = {"bundled": Floor(0.53, None)}
"""The same of picture models. The demo's words and queries reach 0.54 to 0.65 in its scenes, nonsense 0.34 to 0.54."""


def floors_of(models: ModelKeys) -> Floors:
    """The floors of these models, whose keys begin with their names."""
    found = {
        Retriever.MEANING: MEANING_FLOORS.get(models.text.partition("@")[0]),
        Retriever.PICTURE: PICTURE_FLOORS.get(models.vision.partition("@")[0]),
    }
    return {by: floor for by, floor in found.items() if floor is not None}


@dataclass(frozen=True)
class FusedScene:
    """A scene's place in each list that has it, from 1, and its score in all together.

    ``similarities``: the cosine in the lists that measure by it. ``stands_out``: words fit, or it is nearer than scenes
    are that merely are the nearest.
    """

    scene_id: UUID
    ranks: Mapping[Retriever, int]
    similarities: Mapping[Retriever, float]
    score: float
    stands_out: bool


def fuse(
    lists: Mapping[Retriever, Sequence[RankedScene]], weights: Weights = EQUAL, floors: Floors | None = None
) -> list[FusedScene]:
    """Fuse ranked lists by weighted reciprocal rank: score = sum over lists of weight / (60 + rank), best first.

    Cormack, Clarke, Buettcher: Reciprocal rank fusion outperforms Condorcet and individual rank learning methods, SIGIR
    2009. Only ranks count, so the lists' measures need not be comparable. But in meanings and pictures there is always
    a nearest scene, also to what no scene means or shows: there, ranks are down-weighted x 0.1 unless the score
    reaches the list's mean + 2.5 sigma, and its floor. At equal score the scene that words found comes first.
    """
    ranks: dict[UUID, dict[Retriever, int]] = {}
    similarities: dict[UUID, dict[Retriever, float]] = {}
    scores: dict[UUID, float] = defaultdict(float)
    standing_out: set[UUID] = set()
    for by, scenes in lists.items():
        least, clear = _thresholds(by, scenes, (floors or {}).get(by))
        for rank, scene in enumerate(scenes, 1):
            ranks.setdefault(scene.scene_id, {})[by] = rank
            scores[scene.scene_id] += weights[by] * (1.0 if scene.score >= least else FAINT) / (FUSION_K + rank)
            if scene.score >= clear:
                standing_out.add(scene.scene_id)
            if by is not Retriever.WORDS:
                similarities.setdefault(scene.scene_id, {})[by] = scene.score
    fused = [
        FusedScene(scene_id, places, similarities.get(scene_id, {}), scores[scene_id], scene_id in standing_out)
        for scene_id, places in ranks.items()
    ]
    return sorted(fused, key=lambda scene: (-scene.score, Retriever.WORDS not in scene.ranks, str(scene.scene_id)))


def _thresholds(by: Retriever, scenes: Sequence[RankedScene], floor: Floor | None) -> tuple[float, float]:
    """The score from which a rank counts in full, and the one from which a scene is distinct; in words, any is both."""
    if by is Retriever.WORDS:
        return -math.inf, -math.inf
    least, is_full = _above_mean(scenes, STANDS_OUT), len(scenes) >= FULL_LIST
    clear = least
    if is_full and (floor is None or floor.of_full is None):
        clear = _above_mean(scenes, STANDS_OUT_OF_FULL)
    if floor is None:
        return least, clear
    of_full = floor.of_all if floor.of_full is None else floor.of_full
    return max(least, floor.of_all), max(clear, of_full if is_full else floor.of_all)


def _above_mean(scenes: Sequence[RankedScene], deviations: float) -> float:
    """The score so far above a list's mean; infinity where all are equal, or there are none."""
    scores = [scene.score for scene in scenes]
    if not scores or min(scores) == max(scores):
        return math.inf
    return float(np.mean(scores) + deviations * np.std(scores))
