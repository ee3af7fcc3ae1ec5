"""Times in rows of ``videos``, which users of an existing database may write, as far as they can be true.

An impossible one (infinite, before Christ, decades ago) is no time: no program can hold it, and a duration made of it
fits no column. Whoever wrote it must not stop what is done for others.
"""

from datetime import UTC, datetime
from typing import cast

import psycopg
from psycopg import DataError
from psycopg.abc import AdaptContext, Buffer
from psycopg.adapt import Loader
from psycopg.pq import Format

EARLIEST, LATEST = datetime(1, 1, 2, tzinfo=UTC), datetime(9999, 12, 30, tzinfo=UTC)
"""Stand for times that are earlier and later than Python's."""
LONGEST_PROCESSING = "interval '24 days'"
"""``processing_duration_ms`` holds 24.8 days."""

STARTED_AT = f"""CASE WHEN v.processing_started_at BETWEEN clock_timestamp() - {LONGEST_PROCESSING}
                                          AND clock_timestamp() + interval '1 day'
                 THEN v.processing_started_at END"""
"""When the processing of the video ``v`` began, which may be in the future where a clock was set back; else NULL."""


def plausible(column: str) -> str:
    """SQL for a time that programs and intervals can hold; else NULL."""
    return f"CASE WHEN {column} BETWEEN '1970-01-01 UTC' AND '3000-01-01 UTC' THEN {column} END"


QUEUE_MS = f"(extract(epoch FROM {plausible('v.processing_started_at')} - {plausible('v.queued_at')}) * 1000)::float8"
"""How long the video ``v`` waited in the queue."""
RTF = "v.processing_duration_ms / 1000.0::float8 / CASE WHEN v.duration_s BETWEEN 1e-3 AND 1e9 THEN v.duration_s END"
"""Processing time of the video ``v`` divided by its duration."""


class AnyTime(Loader):
    """Reads times as psycopg does, and in place of those that Python lacks ``EARLIEST`` or ``LATEST``."""

    def __init__(self, oid: int, context: AdaptContext | None = None) -> None:
        super().__init__(oid, context)
        usual = psycopg.adapters.get_loader(oid, Format.TEXT)
        assert usual is not None
        self._usual = usual(oid, context)

    def load(self, data: Buffer) -> datetime:
        """One value of the type ``timestamptz``."""
        try:
            return cast(datetime, self._usual.load(data))
        except DataError:
            text = bytes(data)
            return EARLIEST if text.startswith(b"-") or text.endswith(b"BC") else LATEST
