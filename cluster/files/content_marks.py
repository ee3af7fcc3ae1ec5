"""Marks of the content that files have, local and remote: equal as long as a file was not written to.

Nothing is read of a file. A remote one is asked about when it is submitted, for a short time, and has no mark where its
source does not answer or names no version: what is wrong with it, its download says.
"""

import queue
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from cluster.contracts.uris import local_path, scheme_of
from cluster.files.deadline import Deadline
from cluster.files.storage import FetchLimits, driver_of
from cluster.files.web_source import WebReach, open_web

WITHIN_S = 5.0
"""Time for all remote files of a submission together."""
MOST_ASKED, AT_ONCE = 256, 16
"""Remote files of one submission that are asked about; the others have no marks."""
_VERSIONS = ("ETag", "etag", "LastModified", "updated", "mtime")
"""What drivers call that which changes with a file."""


def content_marks(uris: Sequence[str], limits: FetchLimits, within_s: float = WITHIN_S) -> list[str | None]:
    """The mark of each URI's file: size and time of the last change of a local one, its source's ETag else.

    None: it is not known, or there is no such file.
    """
    paths = [local_path(uri) for uri in uris]
    marks = [None if path is None else _local_mark(path) for path in paths]
    remote = [position for position, path in enumerate(paths) if path is None][:MOST_ASKED]
    if remote:
        found = _remote_marks({position: uris[position] for position in remote}, limits, within_s)
        for position, mark in found.items():
            marks[position] = mark
    return marks


def _local_mark(path: Path) -> str | None:
    try:
        status = path.stat()
    except (OSError, ValueError):
        return None
    return f"{status.st_size}-{status.st_mtime_ns}"


def _remote_marks(uris: dict[int, str], limits: FetchLimits, within_s: float) -> dict[int, str]:
    """Those that became known in time, by position. The threads are left alone: a driver may wait for long."""
    waiting: queue.SimpleQueue[int] = queue.SimpleQueue()
    for position in uris:
        waiting.put(position)
    found: queue.SimpleQueue[tuple[int, str | None]] = queue.SimpleQueue()
    end_s = time.monotonic() + within_s

    def ask() -> None:
        while (left_s := end_s - time.monotonic()) > 0 and not waiting.empty():
            with suppress(queue.Empty):  # another thread was quicker
                position = waiting.get_nowait()
                found.put((position, _mark_or_none(uris[position], limits, left_s)))

    for _ in range(min(AT_ONCE, len(uris))):
        threading.Thread(target=ask, daemon=True).start()
    marks: dict[int, str | None] = {}
    with suppress(queue.Empty):  # the time is over
        for _ in uris:
            position, mark = found.get(timeout=max(0.0, end_s - time.monotonic()))
            marks[position] = mark
    return {position: mark for position, mark in marks.items() if mark is not None}


def _mark_or_none(uri: str, limits: FetchLimits, timeout_s: float) -> str | None:
    try:
        return _remote_mark(uri, limits, timeout_s)
    except Exception:  # whatever its driver raises: the download says what is wrong
        return None


def _remote_mark(uri: str, limits: FetchLimits, timeout_s: float) -> str | None:
    scheme = scheme_of(uri)
    if scheme not in limits.allowed_schemes:
        return None
    if scheme in {"http", "https"}:
        reach = WebReach(Deadline(timeout_s), limits.allowed_schemes, limits.private_networks)
        with open_web(uri, reach, {"Range": "bytes=0-0"}) as answer:
            tag = answer.headers.get("ETag", "").strip()
            return f"etag {tag}" if answer.status in {200, 206} and tag else None
    filesystem, path = driver_of(uri)
    info: dict[str, Any] = filesystem.info(path)
    version = next((str(info[name]) for name in _VERSIONS if info.get(name) is not None), None)
    return None if version is None or info.get("type") == "directory" else f"{info.get('size')} {version}"
