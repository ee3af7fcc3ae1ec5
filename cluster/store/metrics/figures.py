"""The admin metrics: one function here for each function of the database, with the same columns.

What a figure means is said above the SQL function (migrations 018, 020, 031, 040 and 050); here is only the way from
Python to it and back. Rows are dicts whose keys are those of the endpoints' JSON; days are dates, times aware, in UTC.
"""

from contextlib import nullcontext
from datetime import UTC, datetime
from typing import Any, LiteralString
from uuid import UUID

from psycopg import Connection
from psycopg.rows import dict_row

from cluster.security.redaction import redacted_beginning
from cluster.store.postgres.connections import Pool

Source = Pool | Connection[Any]
"""A pool, or a session (its transaction is left to the caller)."""
Row = dict[str, Any]


def get_overview(source: Source) -> Row:
    """Totals over all time, and searches of the last 7 and 30 days."""
    return _rows(source, "SELECT * FROM public.get_admin_overview_metrics()")[0]


def get_throughput(source: Source, days: int) -> list[Row]:
    """READY videos and hours by day of ``updated_at``, ascending: day, videos_ready, hours_ready."""
    return _rows(source, "SELECT * FROM public.get_throughput_timeseries(%s)", days)


def get_searches(source: Source, days: int) -> list[Row]:
    """Searches by day, ascending: day, searches, avg_latency_ms."""
    return _rows(source, "SELECT * FROM public.get_search_timeseries(%s)", days)


def get_users(source: Source, days: int, limit: int, offset: int, sort: str) -> tuple[list[Row], int]:
    """One page of the users, the highest ``sort`` first, and how many users there are on all pages.

    ``sort`` is last_activity, hours_ready, videos_ready or searches_7d.
    """
    page = _rows(source, "SELECT * FROM public.get_admin_users_list(%s, %s, %s, %s)", days, limit, offset, str(sort))
    if not page:  # beyond the end, where no row could carry the total
        return [], int(_rows(source, "SELECT public.heimdex_users_total() AS total")[0]["total"])
    totals = [row.pop("total_users") for row in page]
    return page, totals[0]


def get_user(source: Source, user_id: UUID, days: int) -> Row | None:
    """One user with ``recent_videos`` (20) and ``recent_searches`` (50), or None when unknown.

    In these, a duration, time or count that cannot be true is None.
    """
    rows = _rows(source, "SELECT * FROM public.get_admin_user_detail(%s, %s)", user_id, days)
    if not rows:
        return None
    user = rows[0]
    for video in user["recent_videos"]:
        message = redacted_beginning(video["error_message"])
        video.update(id=UUID(video["id"]), updated_at=_time(video["updated_at"]), error_message=message)
    for search in user["recent_searches"]:
        video_id = search["video_id"]
        search.update(created_at=_time(search["created_at"]), video_id=UUID(video_id) if video_id else None)
    return user


def get_processing_latency(source: Source, days: int) -> Row:
    """Percentiles and averages of processing, queue and total time, in ms."""
    return _rows(source, "SELECT * FROM public.get_admin_processing_latency(%s)", days)[0]


def get_rtf_distribution(source: Source, days: int) -> Row:
    """Percentiles and average of processing time / video duration."""
    return _rows(source, "SELECT * FROM public.get_admin_rtf_distribution(%s)", days)[0]


def get_queue_analysis(source: Source, days: int) -> Row:
    """Waiting against processing, in seconds and per cent."""
    return _rows(source, "SELECT * FROM public.get_admin_queue_analysis(%s)", days)[0]


def get_failures_by_stage(source: Source, days: int) -> list[Row]:
    """Failures by stage, most first: processing_stage, failure_count, failure_pct."""
    return _rows(source, "SELECT * FROM public.get_admin_failures_by_stage(%s)", days)


def get_throughput_v2(source: Source, days: int) -> list[Row]:
    """What ended by day, the latest first, with average processing time and RTF."""
    return _rows(source, "SELECT * FROM public.get_admin_throughput_timeseries_v2(%s)", days)


def _rows(source: Source, query: LiteralString, *parameters: object) -> list[Row]:
    session = nullcontext(source) if isinstance(source, Connection) else source.connection()
    with session as connection, connection.cursor(row_factory=dict_row) as cursor:
        cursor.execute(query, parameters)
        return [{name: _utc(value) for name, value in row.items()} for row in cursor]


def _utc(value: object) -> object:
    """A caller's own session may be in another time zone."""
    return value.astimezone(UTC) if isinstance(value, datetime) else value


def _time(text: str | None) -> datetime | None:
    return None if text is None else datetime.fromisoformat(text).astimezone(UTC)
