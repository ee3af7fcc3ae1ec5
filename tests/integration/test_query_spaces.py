"""A search loads the models that its question needs, and no others."""

from typing import Any

import numpy as np

from cluster.contracts.search import Retriever, Scope
from cluster.search.active_models import ModelName
from cluster.search.fusion import EQUAL
from cluster.search.query_models import ModelLoaders, QueryModels
from cluster.search.service import SearchRequest, SearchService, spaces_of
from cluster.store.postgres.connections import Pool
from cluster.store.search.engines import index_opener
from tests.support.api_client import ALICE
from tests.support.searchable import TEXT, VISION, Scene, add_video

ALICES = Scope(ALICE)


def test_models_of_spaces_that_are_not_asked_are_not_loaded(pool: Pool) -> None:
    says, shows = add_video(pool, ALICE, [Scene("red circle", "blue square"), Scene("blue square", "red circle")])

    def alone(by: Retriever) -> tuple[SearchService, list[str]]:
        loaded: list[str] = []

        def load(model: ModelName) -> Any:
            loaded.append(model.name)
            return VISION if model.name == VISION.key else TEXT

        loaders = ModelLoaders(ModelName(VISION.key), load, ModelName(TEXT.key), load)
        request = SearchRequest(ALICES, "red circle", by=frozenset({by}))
        models = QueryModels(pool, loaders, spaces=spaces_of(request, EQUAL))
        return SearchService(index_opener(pool), models, pool), loaded

    for by, needed, first in (
        (Retriever.WORDS, [], says),
        (Retriever.MEANING, [TEXT.key], says),
        (Retriever.PICTURE, [VISION.key], shows),
    ):
        searching, loaded = alone(by)
        hits = searching.search(SearchRequest(ALICES, "red circle", by=frozenset({by}))).hits
        assert (loaded, hits[0].scene.scene_id) == (needed, first)


def test_spaces_are_those_that_the_request_can_use() -> None:
    both = {Retriever.MEANING, Retriever.PICTURE}
    assert spaces_of(SearchRequest(ALICES, "tide"), EQUAL) == both
    assert spaces_of(SearchRequest(ALICES, "tide"), {**EQUAL, Retriever.PICTURE: 0}) == {Retriever.MEANING}
    picture = np.zeros((1, 1, 3), np.uint8)
    assert spaces_of(SearchRequest(ALICES, "", picture), EQUAL) == {Retriever.PICTURE}
    assert spaces_of(SearchRequest(ALICES, "tide", picture), EQUAL) == both
    assert spaces_of(SearchRequest(ALICES, "", picture, frozenset({Retriever.WORDS})), EQUAL) == set()
