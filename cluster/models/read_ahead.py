"""Makes the next item while the current one is processed.

Owns the one thread that makes it. The reader gets the items in their order, and what making one raised.
"""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

Item = TypeVar("Item")


def read_ahead(items: Iterator[Item]) -> Iterator[Item]:
    """``items``, of which the next one is made in another thread meanwhile; never more than one ahead."""
    end = object()
    with ThreadPoolExecutor(1, "read-ahead") as thread:
        coming = thread.submit(next, items, end)
        while (item := coming.result()) is not end:
            coming = thread.submit(next, items, end)
            yield item  # type: ignore[misc]
