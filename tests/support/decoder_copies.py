"""The contents of a decoder process's copies, for tests of how many there are at once."""

from collections.abc import Iterable
from contextlib import suppress

import psutil


def resident_bytes(copies: Iterable[psutil.Process]) -> list[int]:
    """The resident set of each copy; one that has ended holds nothing, until the kernel has cleared it away."""
    found = []
    for copy in copies:
        with suppress(psutil.NoSuchProcess):
            found.append(copy.memory_info().rss)
    return [size for size in found if size]
