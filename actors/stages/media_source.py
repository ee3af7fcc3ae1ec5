"""The bytes of a media file on their way into FFmpeg.

FFmpeg is handed the bytes and opens nothing itself, so errors of the disk and of the file are distinct. Leaves the
memory that this takes to ``memory_watch`` and what FFmpeg makes of the bytes to ``media_file``.
"""

import errno
import io
import os
from pathlib import Path

from actors.stages.memory_watch import MemoryWatch, bound_memory


class MediaSource(io.FileIO):
    """A local file, or the bytes of it from ``begin`` to ``end``, that FFmpeg reads through this object."""

    def __init__(self, path: Path, begin: int = 0, end: int | None = None, memory: MemoryWatch | None = None) -> None:
        super().__init__(os.fspath(path), "rb")
        bound_memory()
        self.memory = memory or MemoryWatch()
        self._begin = begin
        self._end = end
        super().seek(begin)

    def read(self, size: int | None = -1, /) -> bytes:
        """The next bytes. Raises ``InvalidVideo`` when those read so far take too much memory."""
        self.memory.check()
        wanted = -1 if size is None else size
        if self._end is not None:
            left = max(0, self._end - super().tell())
            wanted = left if wanted < 0 else min(wanted, left)
        return super().read(wanted) or b""

    def seek(self, offset: int, whence: int = os.SEEK_SET, /) -> int:
        """Go to ``offset``; where there is none, an answer that FFmpeg reads as an error and may get over."""
        try:
            if whence == os.SEEK_END and self._end is not None:
                return super().seek(self._end + offset) - self._begin
            return super().seek(offset + self._begin if whence == os.SEEK_SET else offset, whence) - self._begin
        except OSError as error:
            return -(error.errno or errno.EINVAL)

    def tell(self) -> int:
        """Where the next byte is, from ``begin``."""
        return super().tell() - self._begin
