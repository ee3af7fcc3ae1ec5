"""Counts in sentences agree with their nouns."""

import pytest

from cluster.contracts.counts import counted


@pytest.mark.parametrize(("count", "sentence"), [(0, "0 videos wait"), (1, "1 video waits"), (2, "2 videos wait")])
def test_counted_agrees_with_its_noun_and_verb(count: int, sentence: str) -> None:
    assert counted(count, "video waits", "videos wait") == sentence


def test_counted_adds_an_s_where_no_plural_is_given() -> None:
    assert [counted(count, "scene") for count in range(3)] == ["0 scenes", "1 scene", "2 scenes"]
