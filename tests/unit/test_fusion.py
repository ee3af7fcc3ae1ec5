"""Which scenes of the lists are distinct: what fits the words, and what is nearer than the nearest always are."""

from uuid import UUID

import numpy as np

from cluster.contracts.search import ModelKeys, RankedScene, Retriever
from cluster.search.fusion import FAINT, FULL_LIST, FUSION_K, MEANING_FLOORS, PICTURE_FLOORS, Floor, floors_of, fuse


def ranked(scores: list[float]) -> list[RankedScene]:
    return [RankedScene(UUID(int=place), score) for place, score in enumerate(sorted(scores, reverse=True), 1)]


def tail(nearest: float) -> list[float]:
    """A full list as chance leaves it, the end of a tail, with one more scene in front: ``nearest`` deviations."""
    others = -np.log(1 - (np.arange(FULL_LIST - 1) + 0.5) / FULL_LIST)
    return [float(np.mean(others) + nearest * np.std(others)), *map(float, others)]


def test_fuse_marks_what_fits_the_words() -> None:
    fused = fuse({Retriever.WORDS: ranked([0.1, 0.1]), Retriever.MEANING: ranked([0.1, 0.1, 0.1])})
    assert [scene.stands_out for scene in fused] == [True, True, False]


def test_fuse_of_even_scores_marks_none() -> None:
    fused = fuse({Retriever.PICTURE: ranked([0.3 - 0.001 * place for place in range(20)])})
    assert not any(scene.stands_out for scene in fused)


def test_fuse_marks_a_scene_far_above_a_short_list() -> None:
    fused = fuse({Retriever.PICTURE: ranked([0.9] + [0.3 - 0.001 * place for place in range(20)])})
    assert [scene.stands_out for scene in fused] == [True] + [False] * 20


def test_fuse_below_the_floor_marks_none_and_counts_faintly() -> None:
    lists = {Retriever.MEANING: ranked([0.29] + [0.1 - 0.001 * place for place in range(20)])}
    without, with_floor = fuse(lists), fuse(lists, floors={Retriever.MEANING: Floor(0.3, 0.35)})
    assert (without[0].stands_out, without[0].score) == (True, 1 / (FUSION_K + 1))
    assert (with_floor[0].stands_out, with_floor[0].score) == (False, FAINT / (FUSION_K + 1))


def test_fuse_of_a_full_list_takes_more_to_stand_out() -> None:
    """The nearest hundred of very many scenes are a tail, whose end is far from its mean whatever was asked."""
    by_chance, clear = (fuse({Retriever.PICTURE: ranked(tail(nearest))})[0] for nearest in (4.2, 7.0))
    assert by_chance.score == clear.score == 1 / (FUSION_K + 1)
    assert (by_chance.stands_out, clear.stands_out) == (False, True)


def test_fuse_full_list_of_a_measured_model_has_its_own_floor() -> None:
    """Among very many scenes one is nearer by chance; a cosine says so better than deviations."""
    floors = {Retriever.MEANING: Floor(0.3, 0.35)}
    others = [0.1 + 0.001 * place for place in range(FULL_LIST)]
    for count, nearest, expected in ((50, 0.32, True), (50, 0.29, False), (99, 0.34, False), (99, 0.36, True)):
        first = fuse({Retriever.MEANING: ranked([nearest, *others[:count]])}, floors=floors)[0]
        assert (first.stands_out, len(others[:count]) + 1 >= FULL_LIST) == (expected, count == 99)


def test_floors_are_of_measured_models_alone() -> None:
    meaning, picture = MEANING_FLOORS["bundled"], PICTURE_FLOORS["bundled"]
    measured = {Retriever.MEANING: meaning, Retriever.PICTURE: picture}
    assert floors_of(ModelKeys("bundled@1", "all-MiniLM-L6-v2@0123")) == measured
    assert floors_of(ModelKeys("bundled@1", "bundled@0123")) == measured
    assert floors_of(ModelKeys("bundled@1", "intfloat/e5-base-v2@0123")) == {Retriever.PICTURE: picture}
    assert floors_of(ModelKeys("ViT-B-32/laion@1", "bundled@0123")) == {Retriever.MEANING: meaning}
    assert floors_of(ModelKeys("", "")) == {}


def test_unmeasured_full_list_takes_deviations_of_no_floor() -> None:
    """Among very many, 2.5 deviations are chance, also above the floor."""
    near = [RankedScene(UUID(int=n), 0.6 - 0.0001 * n) for n in range(1, FULL_LIST)]
    for nearest, clear in ((0.603, False), (0.7, True)):
        scenes = [RankedScene(UUID(int=0), nearest), *near]
        (first, *_) = fuse({Retriever.PICTURE: scenes}, floors={Retriever.PICTURE: Floor(0.53, None)})
        assert first.stands_out is clear
