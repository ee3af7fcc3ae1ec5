"""The file that a video is copied to: written within its limits, and begun again where it must be.

Owns what is said of a disk that is full and of a file that is too large. Leaves how much of the disk it may take to
``disk_space``, where the bytes come from to ``storage`` and ``web_transfer``.
"""

import errno
import io
from collections.abc import Iterator
from contextlib import contextmanager

from cluster.contracts.errors import InvalidVideo, NoRoom, TransientFailure
from cluster.files.deadline import Deadline
from cluster.files.disk_space import NO_ROOM_RETRY_S, STEP_BYTES, DiskSpace, Reservation


def check_size(size: int, max_bytes: int) -> None:
    """Raise ``InvalidVideo`` for a file that is empty or too large."""
    if size == 0:
        raise InvalidVideo("the file is empty")
    if size > max_bytes:
        raise InvalidVideo(f"the file has {size:,} bytes, the limit is {max_bytes:,} bytes")


@contextmanager
def blaming_this_machine() -> Iterator[None]:
    """Turn what the disk raises into the cluster's own errors: infrastructure failures."""
    try:
        yield
    except OSError as error:
        if error.errno in {errno.ENOSPC, errno.EDQUOT}:
            raise NoRoom("the disk for downloads is full", NO_ROOM_RETRY_S) from error
        raise TransientFailure(f"cannot write to the folder for downloads: {error.strerror}") from error


class CopiedFile:
    """The file that a copy is written to, within its limits."""

    def __init__(
        self, file: io.FileIO, space: DiskSpace, reservation: Reservation, max_bytes: int, deadline: Deadline
    ) -> None:
        self._file = file
        self._space = space
        self._reservation = reservation
        self._max_bytes = max_bytes
        self._deadline = deadline
        self.size = 0

    def expect(self, total: int) -> None:
        """Raise for a length that is announced and cannot be kept."""
        check_size(total, self._max_bytes)
        self._space.extend(self._reservation, total)

    def write(self, chunk: bytes) -> None:
        if self.size + len(chunk) > self._max_bytes:
            raise InvalidVideo(f"the file is larger than the limit of {self._max_bytes:,} bytes")
        self._deadline.note_received(len(chunk))
        self._deadline.check()
        if self.size + len(chunk) > self._reservation.reserved:
            self._space.extend(self._reservation, self.size + max(len(chunk), STEP_BYTES))
        with self._deadline.own_time(), blaming_this_machine():
            rest = memoryview(chunk)
            while rest:
                rest = rest[self._file.write(rest) :]
        self.size += len(chunk)
        self._reservation.written = self.size

    def read_at(self, first: int, count: int) -> bytes:
        with blaming_this_machine():
            self._file.seek(first)
            read = self._file.read(count)
            self._file.seek(self.size)
            return read

    def restart(self) -> None:
        with blaming_this_machine():
            self._file.seek(0)
            self._file.truncate()
        self.size = self._reservation.written = 0
