"""The file that all processes of a data directory add their log lines to, and its rotation; reading it in order.

Every line is one write at the file's end, which the kernel keeps whole: no process waits for another one, not even for
one that is stopped. The process that makes the file too large renames it; the others find that out at their next line.
"""

import fcntl
import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import IO

from cluster.security.private_files import open_log

NAME = "events.jsonl"
ROTATE_BYTES = 16 * 2**20
KEPT = 5
"""Renamed files that are kept beside the one that grows: ``events.jsonl.1`` is the youngest."""
_LOCK = ".rotation"


class EventFile:
    """One process's way to the file."""

    def __init__(self, folder: Path, rotate_bytes: int = ROTATE_BYTES) -> None:
        self._path = folder / NAME
        self._rotate_bytes = rotate_bytes
        self._file: IO[str] | None = None

    def append(self, line: str) -> None:
        """Add a line. Raises OSError."""
        file = self._current()
        os.write(file.fileno(), line.encode() + b"\n")
        if os.fstat(file.fileno()).st_size >= self._rotate_bytes:
            rotate(self._path, os.fstat(file.fileno()).st_ino)

    def close(self) -> None:
        """Close it; the next line opens it again."""
        if self._file is not None:
            self._file.close()
        self._file = None

    def _current(self) -> IO[str]:
        if self._file is None or not _is_at(self._path, os.fstat(self._file.fileno())):
            self.close()
            self._file = open_log(self._path)
        return self._file


def rotate(path: Path, inode: int) -> None:
    """Rename the file of that inode, and those before it; the oldest is removed. Another process may be at it."""
    with open_log(path.with_name(_LOCK)) as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return
        try:
            if path.stat().st_ino != inode:
                return
        except FileNotFoundError:  # another process renamed it, and none has written since
            return
        for number in range(KEPT - 1, 0, -1):
            with suppress(FileNotFoundError):
                renamed(path, number).rename(renamed(path, number + 1))
        path.rename(renamed(path, 1))


def renamed(path: Path, number: int) -> Path:
    """The file after so many rotations."""
    return path.with_name(f"{path.name}.{number}") if number else path


class EventReader:
    """Reads the lines, oldest first: those that are there, then those that are added.

    Lines of several processes are in the order in which they were written: that of their times, but for moments.
    """

    def __init__(self, folder: Path) -> None:
        self._path = folder / NAME
        self._file: IO[bytes] | None = None
        self._rest = b""

    def __enter__(self) -> "EventReader":
        return self

    def __exit__(self, *_: object) -> None:
        if self._file is not None:
            self._file.close()

    def new_lines(self) -> Iterator[bytes]:
        """The lines that were not read yet, at first all; those of files that were rotated meanwhile are among them."""
        newer = self._newer_files()
        if self._file is not None:
            yield from self._lines_of(self._file)
        for file in newer:
            if self._file is not None:
                self._file.close()
            self._file, self._rest = file, b""
            yield from self._lines_of(file)

    def _newer_files(self) -> list[IO[bytes]]:
        """The files that are younger than the one at hand, oldest first. A rotation meanwhile hides none of them."""
        at_hand = None if self._file is None else os.fstat(self._file.fileno()).st_ino
        found: dict[int, IO[bytes]] = {}
        for number in range(KEPT + 1):
            try:
                file = renamed(self._path, number).open("rb")
            except FileNotFoundError:
                continue
            inode = os.fstat(file.fileno()).st_ino
            if inode == at_hand or inode in found:
                file.close()
            else:
                found[inode] = file
            if inode == at_hand:
                break
        return list(found.values())[::-1]

    def _lines_of(self, file: IO[bytes]) -> Iterator[bytes]:
        for line in file:
            whole = self._rest + line
            if not whole.endswith(b"\n"):  # still being written
                self._rest = whole
                return
            self._rest = b""
            yield whole


def _is_at(path: Path, found: os.stat_result) -> bool:
    try:
        there = path.stat(follow_symlinks=False)
    except FileNotFoundError:
        return False
    return (there.st_dev, there.st_ino) == (found.st_dev, found.st_ino)
