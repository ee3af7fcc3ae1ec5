"""Embeddings of queries are remembered for the owner who asked, and answer no other owner sooner."""

from collections.abc import Sequence
from uuid import UUID

import numpy as np
import pytest
from numpy.typing import NDArray

from cluster.search.query_models import CACHED_QUERIES, MeaningQueries, PictureQueries

ALICE, BOB = UUID(int=1), UUID(int=2)


class Counting:
    """A model of both kinds that counts what it was asked."""

    key = "counting@1"
    dimensions = 2

    def __init__(self) -> None:
        self.asked: list[str] = []

    def encode_texts(self, texts: Sequence[str]) -> NDArray[np.float32]:
        self.asked += texts
        return np.asarray([[1.0, 0.0]] * len(texts), np.float32)

    encode_queries = encode = encode_texts

    def encode_images(self, pixels: Sequence[NDArray[np.uint8]]) -> NDArray[np.float32]:
        return np.asarray([[1.0, 0.0]] * len(pixels), np.float32)


@pytest.mark.parametrize("space", ["pictures", "meanings"])
def test_query_of_one_owner_is_encoded_for_another(space: str) -> None:
    model = Counting()
    ask = PictureQueries(model).encode_text if space == "pictures" else MeaningQueries(model).meaning
    for owner_id in (ALICE, ALICE, BOB, BOB, ALICE):
        assert ask("a boat", owner_id).model == model.key
    assert model.asked == ["a boat"] * 2


def test_queries_of_one_owner_push_out_no_others() -> None:
    model = Counting()
    ask = MeaningQueries(model).meaning
    ask("a boat", ALICE)
    for number in range(2 * CACHED_QUERIES):
        ask(f"{number}", BOB)
    ask("a boat", ALICE)
    assert model.asked.count("a boat") == 1
