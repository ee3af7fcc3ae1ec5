"""Plausible times and durations in rows of ``videos``, which users of an existing database may write.

An impossible one (an infinite time, a duration of 1e308 s) is none: no program can hold it, and what is computed of it
overflows. Its row must stop nothing that is done for others. The rule is in functions of migration 050, which the admin
figures use too.
"""

from datetime import UTC, datetime
from typing import cast

import psycopg
from psycopg import DataError
from psycopg.abc import AdaptContext, Buffer
from psycopg.adapt import Loader
from psycopg.pq import Format

EARLIEST, LATEST = datetime(1, 1, 2, tzinfo=UTC), datetime(9999, 12, 30, tzinfo=UTC)
"""Replace times that are earlier and later than Python's."""


def plausible(column: str) -> str:
    """SQL for a time from 1970 to a day from now, else NULL."""
    return f"public.heimdex_plausible_time({column})"


SECONDS = "public.heimdex_plausible_seconds(v.duration_s)"
"""The duration of the video ``v``, from 1e-9 to 1e7 seconds, else NULL."""
PROCESSING_MS = "public.heimdex_plausible_ms(v.processing_duration_ms)"
"""Processing time of the video ``v``, from 0 ms to 24 days, else NULL."""
STARTED_AT = f"""CASE WHEN {plausible("v.processing_started_at")} > clock_timestamp() - interval '576 hours'
                 THEN v.processing_started_at END"""
"""Start of the processing of the video ``v``; NULL where ``PROCESSING_MS`` would not hold the time since then.

It may be in the future where a clock was set back.
"""
QUEUE_MS = f"(extract(epoch FROM {plausible('v.processing_started_at')} - {plausible('v.queued_at')}) * 1000)::float8"
"""Time that the video ``v`` waited in the queue."""
RTF = f"{PROCESSING_MS} / 1000 / {SECONDS}"
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
