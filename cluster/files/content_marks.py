"""Marks of the content that local files have: equal as long as a file was not written to. Nothing is read of it."""

from collections.abc import Sequence
from pathlib import Path

from cluster.contracts.uris import local_path


def content_marks(uris: Sequence[str]) -> list[str | None]:
    """The mark of each URI's file: its size and the time of its last change. None: no file of this machine."""
    return [_mark(local_path(uri)) for uri in uris]


def _mark(path: Path | None) -> str | None:
    if path is None:
        return None
    try:
        status = path.stat()
    except (OSError, ValueError):
        return None
    return f"{status.st_size}-{status.st_mtime_ns}"
