"""A file that is read where it is may still be written: a recording, or a copy into the folder that videos come from.

Owns how that is noticed. A failure to read such a file says nothing of the video, and what was read of it is not all.
Copies of our own never grow.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from cluster.contracts.errors import InvalidVideo, SourceChanging
from cluster.contracts.media import LocalVideo
from cluster.contracts.uris import local_path, shown

FRESH_S = 5.0
"""A file that was written to so shortly ago and cannot be read may not be complete."""
SETTLED_S = 2.0
"""Time for which a file that was read to its end has to be unchanged."""


@contextmanager
def found_by(uri: str) -> Iterator[None]:
    """Around finding ``uri``: a local file without a byte that was made just now is only about to be written."""
    try:
        yield
    except InvalidVideo:
        path = local_path(uri)
        if path is not None and _is_empty_file(path) and _is_fresh(path):
            raise _changing(path) from None
        raise


@contextmanager
def unchanged(video: LocalVideo, *, to_the_end: bool = False) -> Iterator[None]:
    """Around reading ``video``: raises ``SourceChanging`` when it has become another file since it was found.

    So it does in place of ``InvalidVideo`` when the file was written to just now. ``to_the_end``: all of it is read, so
    that this waits until the file has been unchanged for ``SETTLED_S`` seconds.
    """
    try:
        yield
    except InvalidVideo:
        if _has_changed(video) or (video.modified_ns is not None and _is_fresh(video.path)):
            raise _changing(video.path) from None
        raise
    if to_the_end and video.modified_ns is not None:
        time.sleep(_unsettled_s(video.path))
    if _has_changed(video):
        raise _changing(video.path)


def _has_changed(video: LocalVideo) -> bool:
    if video.modified_ns is None:
        return False
    try:
        found = video.path.stat()
    except OSError:  # whatever is wrong with it now, what was read is what was found
        return False
    return (found.st_size, found.st_mtime_ns) != (video.size_bytes, video.modified_ns)


def _is_fresh(path: Path) -> bool:
    return 0 <= _age_s(path) < FRESH_S


def _unsettled_s(path: Path) -> float:
    """How long the file has to stay as it is; 0 where another machine's clock, which is ahead, wrote its time."""
    age_s = _age_s(path)
    return SETTLED_S - age_s if 0 <= age_s < SETTLED_S else 0.0


def _age_s(path: Path) -> float:
    """Seconds since it was written to; less than 0 when that is not known."""
    try:
        return time.time() - path.stat().st_mtime
    except (OSError, ValueError):
        return -1.0


def _is_empty_file(path: Path) -> bool:
    try:
        return path.is_file() and path.stat().st_size == 0
    except (OSError, ValueError):
        return False


def _changing(path: Path) -> SourceChanging:
    return SourceChanging(f"the file is still being written: {shown(str(path))}", FRESH_S)
