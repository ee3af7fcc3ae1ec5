"""The file that a video is copied to: written within its limits, and begun again where it must be.

Owns what is said of a disk that is full and of a file that is too large. Leaves where the bytes come from to
``storage`` and ``web_transfer``.
"""

import errno
import io
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from cluster.contracts.errors import InvalidVideo, NoSpace, TransientFailure
from cluster.web_source import Deadline


def check_size(size: int, max_bytes: int) -> None:
    """Raise ``InvalidVideo`` for a file that is empty or too large."""
    if size == 0:
        raise InvalidVideo("the file is empty")
    if size > max_bytes:
        raise InvalidVideo(f"the file has {size:,} bytes, the limit is {max_bytes:,} bytes")


@contextmanager
def blaming_this_machine(directory: Path) -> Iterator[None]:
    """Turn what the disk raises into the cluster's own errors: no fault of the video's."""
    try:
        yield
    except OSError as error:
        if error.errno in {errno.ENOSPC, errno.EDQUOT}:
            raise NoSpace(f"the disk is full: {directory}") from error
        raise TransientFailure(f"cannot write to {directory}: {error.strerror}") from error


class CopiedFile:
    """The file that a copy is written to, within its limits."""

    def __init__(self, file: io.FileIO, directory: Path, max_bytes: int, deadline: Deadline) -> None:
        self._file = file
        self._directory = directory
        self._max_bytes = max_bytes
        self._deadline = deadline
        self.size = 0

    def expect(self, total: int) -> None:
        """Raise for a length that is announced and cannot be kept."""
        check_size(total, self._max_bytes)
        if total - self.size > shutil.disk_usage(self._directory).free:
            raise NoSpace(f"not enough space in {self._directory} for {total:,} bytes")

    def write(self, chunk: bytes) -> None:
        if self.size + len(chunk) > self._max_bytes:
            raise InvalidVideo(f"the file is larger than the limit of {self._max_bytes:,} bytes")
        self._deadline.check()
        with blaming_this_machine(self._directory):
            rest = memoryview(chunk)
            while rest:
                rest = rest[self._file.write(rest) :]
        self.size += len(chunk)

    def read_at(self, first: int, count: int) -> bytes:
        with blaming_this_machine(self._directory):
            self._file.seek(first)
            read = self._file.read(count)
            self._file.seek(self.size)
            return read

    def restart(self) -> None:
        with blaming_this_machine(self._directory):
            self._file.seek(0)
            self._file.truncate()
        self.size = 0
