"""One item ahead, in order, and an error while one is made is raised where it is wanted."""

import threading
from collections.abc import Iterator

import pytest

from cluster.models.read_ahead import read_ahead


def test_items_come_in_order_and_all_of_them() -> None:
    assert list(read_ahead(iter(range(100)))) == list(range(100))
    assert list(read_ahead(iter(()))) == []


def test_the_next_item_is_made_while_one_is_worked_on() -> None:
    made = [threading.Event() for _ in range(3)]

    def items() -> Iterator[int]:
        for number, event in enumerate(made):
            event.set()
            yield number

    for number in read_ahead(items()):
        if number < 2:
            assert made[number + 1].wait(10)


def test_error_while_making_an_item_follows_earlier_items() -> None:
    def items() -> Iterator[int]:
        yield 1
        raise ValueError("the sound is damaged")

    ahead = read_ahead(items())
    assert next(ahead) == 1
    with pytest.raises(ValueError, match="the sound is damaged"):
        next(ahead)
