"""The bytes of a media file on their way into FFmpeg.

FFmpeg is handed the bytes and opens nothing itself, so an error of the disk is told from one of the file. Leaves the
memory that this takes to ``memory_watch`` and what FFmpeg makes of the bytes to ``media_file``.
"""

import errno
import io
import os
from pathlib import Path

from actors.stages.memory_watch import MemoryWatch, bound_memory


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
