"""The bytes of a media file on their way into FFmpeg, and the memory that FFmpeg may take for them.

Owns how a file is read (FFmpeg is handed the bytes and opens nothing itself, so an error of the disk is told from one
of the file) and the bounds that keep a small file from filling the machine. Leaves what FFmpeg makes of the bytes
to ``media_file``.
"""

import ctypes
import errno
import io
import os
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

from cluster.contracts.errors import InvalidVideo

LARGEST_BLOCK_BYTES = 256 * 2**20
"""FFmpeg may ask for so much memory at once: a picture of the default limit with 8 bytes per pixel, or the index of
12 hours at 240 pictures per second."""
LARGEST_GROWTH_BYTES = 1152 * 2**20
"""What a process may grow by while it reads a file. 8K in 10 bits takes 900 MiB when one thread decodes it."""
LARGEST_RESERVE_BYTES = 1280 * 2**20
"""What the kernel lets it reserve meanwhile, where it takes too much in one step."""
TOO_MUCH_MEMORY = f"more than {LARGEST_GROWTH_BYTES >> 20:,} MiB of memory: it is damaged or asks too much"

_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
_M_MMAP_THRESHOLD = -3  # malloc.h
_LARGE_BLOCK_BYTES = 2**20


class MediaSource(io.FileIO):
    """A local file that FFmpeg reads through this object."""

    def __init__(self, path: Path) -> None:
        super().__init__(os.fspath(path), "rb")
        bound_memory()
        self.memory = MemoryWatch()

    def read(self, size: int | None = -1, /) -> bytes:
        """The next bytes. Raises ``InvalidVideo`` when those read so far take too much memory."""
        self.memory.check()
        return super().read(-1 if size is None else size) or b""

    def seek(self, offset: int, whence: int = os.SEEK_SET, /) -> int:
        """Go to ``offset``; where there is none, an answer that FFmpeg reads as an error and may get over."""
        try:
            return super().seek(offset, whence)
        except OSError as error:
            return -(error.errno or errno.EINVAL)


class MemoryWatch:
    """Watches what this process grows by from now on."""

    def __init__(self) -> None:
        self._before_bytes = _own_bytes()

    def check(self) -> None:
        """Raise ``InvalidVideo`` when it is too much."""
        if _own_bytes() - self._before_bytes > LARGEST_GROWTH_BYTES:
            raise InvalidVideo(f"reading the file takes {TOO_MUCH_MEMORY}")


def _own_bytes() -> int:
    """Memory that is resident and this process's own: an object store that is mapped into it does not count."""
    _, resident, shared = Path("/proc/self/statm").read_bytes().split()[:3]
    return (int(resident) - int(shared)) * _PAGE_BYTES


@contextmanager
def bounded_reserve() -> Iterator[None]:
    """Within the block the kernel refuses this process what goes beyond ``LARGEST_RESERVE_BYTES``, thus FFmpeg too."""
    soft, hard = resource.getrlimit(resource.RLIMIT_DATA)
    bound = _reserved_bytes() + LARGEST_RESERVE_BYTES
    resource.setrlimit(resource.RLIMIT_DATA, (bound if soft == resource.RLIM_INFINITY else min(soft, bound), hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_DATA, (soft, hard))


def _reserved_bytes() -> int:
    """What counts for RLIMIT_DATA (proc(5), VmData)."""
    [line] = [line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmData:")]
    return int(line.split()[1]) * 1024


@cache
def bound_memory() -> None:
    """Make FFmpeg refuse, in this process, to reserve more than ``LARGEST_BLOCK_BYTES`` at once, and make the C library
    hand large blocks back to the machine as soon as they are free.

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
