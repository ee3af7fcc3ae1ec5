"""The memory that FFmpeg may take for a media file.

Owns the bounds that keep a small file from filling the machine: of one block, of what the process grows by, of what the
kernel lets it reserve. They hold while a file is read and for this process alone; what it held before does not count.
"""

import ctypes
import os
import resource
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import closing, contextmanager
from functools import cache
from pathlib import Path
from threading import Lock
from typing import TypeVar

from cluster.contracts.errors import InvalidVideo

LARGEST_BLOCK_BYTES = 256 * 2**20
"""FFmpeg may ask for so much memory at once: a picture of the default limit with 8 bytes per pixel, or the index of
12 hours at 240 pictures per second."""
LARGEST_GROWTH_BYTES = 1152 * 2**20
"""Growth that a process is allowed while it reads a file. 8K in 10 bits takes 900 MiB when one thread decodes it."""
LARGEST_RESERVE_BYTES = 1280 * 2**20
"""Limit on its reservations meanwhile, where it takes too much in one step; more than it may grow by, so that
something is left for the process's other threads."""
BETWEEN_CHECKS_S = 0.005
"""A process fills some 10 MiB in that time, and a short clip has hundreds of packets: 7 % of its CPU were checks."""
TOO_MUCH_MEMORY = f"more than {LARGEST_GROWTH_BYTES >> 20:,} MiB of memory: it is damaged or asks too much"

Item = TypeVar("Item")

_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
_M_MMAP_THRESHOLD = -3  # malloc.h
_LARGE_BLOCK_BYTES = 2**20


class MemoryWatch:
    """Watches what this process grows by while one file is read.

    The file answers for what grows on opening and within ``bounded``, not for what others take in between.
    """

    def __init__(self) -> None:
        self._resident = _Growth(_own_bytes)
        self._reserved = _Growth(_reserved_bytes)
        self._next_s = 0.0

    def check(self) -> None:
        """Raise ``InvalidVideo`` when it is too much. Cheap enough to be asked after every packet."""
        now_s = time.monotonic()
        if now_s < self._next_s:
            return
        self._next_s = now_s + BETWEEN_CHECKS_S
        if self._resident.so_far() > LARGEST_GROWTH_BYTES:
            raise InvalidVideo(f"reading the file takes {TOO_MUCH_MEMORY}")

    @contextmanager
    def bounded(self) -> Iterator[None]:
        """Within the block the kernel refuses this process what would go beyond ``LARGEST_RESERVE_BYTES``, thus FFmpeg
        too. The bound is the whole process's: nothing but the reading of the file belongs in the block.
        """
        self._resident.resume()
        with _DATA_BOUND.held_at(self._reserved.resume() + LARGEST_RESERVE_BYTES):
            try:
                yield
            finally:
                self._resident.pause()
                self._reserved.pause()

    def bounded_steps(self, items: Generator[Item, None, None]) -> Generator[Item, None, None]:
        """``items``, each made within ``bounded``; nothing is bounded while one of them is in the caller's hands."""
        with closing(items):
            while True:
                with self.bounded():
                    try:
                        item = next(items)
                    except StopIteration:
                        return
                yield item


class _Growth:
    """Growth of a measure of this process while it was looked at."""

    def __init__(self, measure: Callable[[], int]) -> None:
        self._measure = measure
        self._base = measure()
        self._grown = 0

    def so_far(self) -> int:
        """The growth up to now."""
        return self._measure() - self._base

    def pause(self) -> None:
        """Stop counting: growth from now on has other causes."""
        self._grown = self.so_far()

    def resume(self) -> int:
        """Look again; the measure at which there was, and would be, no growth."""
        self._base = max(self._base, self._measure() - self._grown)
        return self._base


class _DataBound:
    """The bound of a process's memory (RLIMIT_DATA), of which there is one for all who hold it at a time.

    The most generous of those that are held is in force, and what was there before once none is.
    """

    def __init__(self) -> None:
        self._lock = Lock()
        self._held: dict[object, int] = {}
        self._before = (resource.RLIM_INFINITY, resource.RLIM_INFINITY)

    @contextmanager
    def held_at(self, bound_bytes: int) -> Iterator[None]:
        """Hold a bound within the block."""
        holder = object()
        try:
            with self._lock:
                if not self._held:
                    self._before = resource.getrlimit(resource.RLIMIT_DATA)
                self._held[holder] = bound_bytes
                self._enforce()
            yield
        finally:
            with self._lock:
                if self._held.pop(holder, None) is not None:
                    self._enforce()

    def _enforce(self) -> None:
        soft, hard = self._before
        if self._held:
            bound_bytes = max(self._held.values())
            soft = bound_bytes if soft == resource.RLIM_INFINITY else min(soft, bound_bytes)
        resource.setrlimit(resource.RLIMIT_DATA, (soft, hard))


_DATA_BOUND = _DataBound()


def _own_bytes() -> int:
    """Memory that is resident and this process's own: an object store that is mapped into it does not count."""
    _, resident, shared, *_ = _statm()
    return (int(resident) - int(shared)) * _PAGE_BYTES


def _reserved_bytes() -> int:
    """What counts for RLIMIT_DATA, and the main thread's stack (proc(5), ``data``)."""
    return int(_statm()[5]) * _PAGE_BYTES


def _statm() -> list[bytes]:
    """The process's memory in pages. Read often: pathlib takes twice as long."""
    statm = os.open("/proc/self/statm", os.O_RDONLY)
    try:
        return os.read(statm, 128).split()
    finally:
        os.close(statm)


@cache
def bound_memory() -> None:
    """Bound what FFmpeg may reserve in this process. It refuses more than ``LARGEST_BLOCK_BYTES`` at once, and the C
    library returns large blocks to the machine as soon as they are free.

    Headers may announce tables of any size: ``av_max_alloc`` (libavutil/mem.h) is FFmpeg's own bound, which PyAV does
    not hand out. glibc would keep a gigabyte of pictures for the next file (mallopt(3), "dynamic mmap threshold").
    """
    for library in _loaded("/libavutil"):
        ctypes.CDLL(library).av_max_alloc(ctypes.c_size_t(LARGEST_BLOCK_BYTES))
    for library in _loaded("/libc.so.6"):
        ctypes.CDLL(library).mallopt(_M_MMAP_THRESHOLD, _LARGE_BLOCK_BYTES)


def _loaded(name: str) -> set[str]:
    """The files of a library that this process has loaded."""
    lines = Path("/proc/self/maps").read_text().splitlines()
    return {line.split(maxsplit=5)[-1] for line in lines if name in line}
