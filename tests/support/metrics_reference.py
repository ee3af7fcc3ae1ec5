"""The expected metrics, computed in plain Python from the rows.

Shares nothing with the SQL: loops, ``statistics`` and numpy's percentiles instead of aggregates and joins.
"""

from collections import Counter, defaultdict
from datetime import UTC, datetime
from statistics import fmean
from typing import Any
from uuid import UUID

import numpy as np

from tests.support.random_rows import Search, Video, World


def overview(world: World) -> dict[str, Any]:
    ready = [video for video in world.videos if video.status == "READY"]
    failed = [video for video in world.videos if video.status == "FAILED"]
    seconds = known(video.duration_s for video in ready)
    result: dict[str, Any] = {
        "videos_ready_total": len(ready),
        "videos_failed_total": len(failed),
        "videos_total": len(world.videos),
        "failure_rate_pct": 100 * len(failed) / (len(ready) + len(failed)) if ready or failed else 0,
        "hours_ready_total": sum(seconds) / 3600,
    }
    for days in (7, 30):
        recent = [search for search in world.searches if world.within(search.created_at, days)]
        result[f"searches_{days}d"] = len(recent)
        result[f"avg_search_latency_ms_{days}d"] = mean(search.latency_ms for search in recent)
    return result


def throughput(world: World, days: int) -> list[dict[str, Any]]:
    per_day: defaultdict[Any, list[Video]] = defaultdict(list)
    for video in world.videos:
        if video.status == "READY" and world.within(video.updated_at, days):
            per_day[utc_day(video.updated_at)].append(video)
    return [
        {"day": day, "videos_ready": len(per_day[day]), "hours_ready": hours(per_day[day])} for day in sorted(per_day)
    ]


def searches(world: World, days: int) -> list[dict[str, Any]]:
    per_day: defaultdict[Any, list[Search]] = defaultdict(list)
    for search in world.searches:
        if world.within(search.created_at, days):
            per_day[utc_day(search.created_at)].append(search)
    return [
        {"day": day, "searches": len(rows), "avg_latency_ms": mean(row.latency_ms for row in rows)}
        for day, rows in sorted(per_day.items())
    ]


def users(world: World, days: int) -> dict[UUID, dict[str, Any]]:
    everybody = set(world.names) | {v.owner_id for v in world.videos} | {s.user_id for s in world.searches}
    return {person: user(world, days, person) for person in everybody}


def user(world: World, days: int, person: UUID) -> dict[str, Any]:
    own = [video for video in world.videos if video.owner_id == person]
    ready = [video for video in own if video.status == "READY"]
    asked = [search for search in world.searches if search.user_id == person]
    recent = [search for search in asked if world.within(search.created_at, days)]
    moments = [m for video in own for m in (video.created_at, video.updated_at)] + [s.created_at for s in asked]
    return {
        "user_id": person,
        "full_name": world.names.get(person),
        "videos_total": len(own),
        "videos_ready": len(ready),
        "hours_ready": hours(ready),
        "last_activity": max(moments, default=None),
        "searches_7d": len(recent),
        "avg_latency_ms_7d": mean(search.latency_ms for search in recent),
    }


def measured(world: World, days: int, *statuses: str) -> list[Video]:
    return [
        video
        for video in world.videos
        if video.status in statuses
        and video.processing_duration_ms is not None
        and world.within(video.processing_finished_at, days)
    ]


def with_queue_time(world: World, days: int) -> list[Video]:
    return [video for video in measured(world, days, "READY", "FAILED") if video.queue_s is not None]


def processing_latency(world: World, days: int) -> dict[str, Any]:
    rows = with_queue_time(world, days)
    times = [float(video.processing_duration_ms or 0) for video in rows]
    waits = [((video.queue_s or 0) * 1000, video.processing_duration_ms or 0) for video in rows]
    return {
        "videos_measured": len(rows),
        "avg_processing_ms": mean(times),
        **{f"p{p}_processing_ms": percentile(times, p) for p in (50, 95, 99)},
        "avg_queue_ms": mean(wait for wait, _ in waits),
        "avg_total_ms": mean(wait + time for wait, time in waits),
    }


def rtf_distribution(world: World, days: int) -> dict[str, Any]:
    rows = [video for video in measured(world, days, "READY") if video.duration_s]
    factors = known(video.rtf for video in rows)
    return {
        "videos_measured": len(rows),
        "avg_rtf": mean(factors),
        **{f"p{p}_rtf": percentile(factors, p) for p in (50, 95, 99)},
        "avg_video_duration_s": mean(video.duration_s for video in rows),
        "avg_processing_duration_s": mean((video.processing_duration_ms or 0) / 1000 for video in rows),
    }


def queue_analysis(world: World, days: int) -> dict[str, Any]:
    rows = with_queue_time(world, days)
    waits = known(video.queue_s for video in rows)
    times = [(video.processing_duration_ms or 0) / 1000 for video in rows]
    total = sum(waits) + sum(times)
    return {
        "videos_measured": len(rows),
        "avg_queue_time_s": mean(waits),
        "avg_processing_time_s": mean(times),
        "avg_total_time_s": total / len(rows) if rows else None,
        "queue_time_pct": 100 * sum(waits) / total if total else None,
        "processing_time_pct": 100 * sum(times) / total if total else None,
    }


def failures_by_stage(world: World, days: int) -> list[dict[str, Any]]:
    failed = [v for v in world.videos if v.status == "FAILED" and world.within(v.ended_at, days)]
    counts = Counter(video.processing_stage or "unknown" for video in failed)
    return [
        {"processing_stage": stage, "failure_count": count, "failure_pct": 100 * count / len(failed)}
        for stage, count in sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    ]


def throughput_v2(world: World, days: int) -> list[dict[str, Any]]:
    per_day: defaultdict[Any, list[Video]] = defaultdict(list)
    for video in world.videos:
        if video.status in ("READY", "FAILED") and world.within(video.ended_at, days):
            per_day[utc_day(video.ended_at)].append(video)
    result = []
    for day in sorted(per_day, reverse=True):
        ready = [video for video in per_day[day] if video.status == "READY"]
        times = known(video.processing_duration_ms for video in ready)
        result.append(
            {
                "day": day,
                "videos_ready": len(ready),
                "videos_failed": len(per_day[day]) - len(ready),
                "hours_ready": hours(ready),
                "avg_processing_s": mean(time / 1000 for time in times),
                "avg_rtf": mean(video.rtf for video in ready),
            }
        )
    return result


def known(values: Any) -> list[float]:
    return [value for value in values if value is not None]


def mean(values: Any) -> float | None:
    numbers = known(values)
    return fmean(numbers) if numbers else None


def percentile(values: list[float], percent: int) -> float | None:
    return float(np.percentile(values, percent, method="linear")) if values else None


def hours(videos: list[Video]) -> float:
    return sum(known(video.duration_s for video in videos)) / 3600


def utc_day(moment: datetime) -> Any:
    return moment.astimezone(UTC).date()
