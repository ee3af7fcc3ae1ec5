"""Lines that a decoder process logs, added to the log of the process that asks it.

A decoder that was taken over may have written them: only events pass as such, with their fields made safe again; all
else is the message of a library. No more than ``MOST_LINES`` are read within ``PERIOD_S``, the others are dropped.
"""

import json
import logging
import threading
import time
from contextlib import suppress
from typing import IO, Any

from cluster.contracts.events import Event
from cluster.security.event_log import EventLog
from cluster.security.log_output import RESERVED

LONGEST_LINE_BYTES = 64 * 2**10
MOST_LINES, PERIOD_S = 100, 10.0
_FIELDS = 30
"""Fields of a line at most."""
_EVENTS = {event.value: event for event in Event}

logger = EventLog(__name__)
raw = logging.getLogger("decoder")


def relay(stream: IO[bytes]) -> None:
    """Begin to take over what comes on the stream, until its end, in a thread of its own."""
    threading.Thread(target=_take_over, args=(stream,), daemon=True, name="decoder-log").start()


def _take_over(stream: IO[bytes]) -> None:
    since_s, count = time.monotonic(), 0
    with stream:
        while line := stream.readline(LONGEST_LINE_BYTES):
            if time.monotonic() - since_s >= PERIOD_S:
                since_s, count = time.monotonic(), 0
            count += 1
            if count <= MOST_LINES and not _is_logged(line):
                raw.warning("%s", line.decode(errors="replace").rstrip())


def _is_logged(line: bytes) -> bool:
    """Whether the line is an event, which is logged then."""
    with suppress(ValueError, RecursionError):
        found = json.loads(line)
        if isinstance(found, dict) and found.get("event") in _EVENTS:
            write = {"info": logger.info, "error": logger.error}.get(str(found.get("level")), logger.warning)
            write(_EVENTS[found["event"]], **_fields(found))
            return True
    return False


def _fields(line: dict[str, Any]) -> dict[str, Any]:
    names = [name for name in line if name not in RESERVED and name.isascii() and name.isidentifier()][:_FIELDS]
    return {name: line[name] for name in names}
