"""The ten admin figures: each endpoint asks one database function and names its columns in JSON."""

import re
from enum import StrEnum
from typing import Annotated

from fastapi import Path, Query
from pydantic import AfterValidator, WithJsonSchema

from cluster.store.metrics import figures
from serve_app.error_responses import NotFound
from serve_app.parts import Page, PageSize, Parts
from serve_app.schemas.admin import (
    FailuresByStage,
    Overview,
    PreciseThroughputSeries,
    ProcessingLatency,
    QueueAnalysis,
    RtfDistribution,
    SearchSeries,
    ThroughputSeries,
    UserDetail,
    UsersPage,
)
from serve_app.schemas.strict_values import Id

MAX_DAYS = 365
RANGE_PATTERN = "^([1-9][0-9]?|[12][0-9]{2}|3[0-5][0-9]|36[0-5])d$"


class Bucket(StrEnum):
    """How a time series is parted."""

    DAY = "day"


class UserSort(StrEnum):
    """What the list of users is sorted by, highest first."""

    LAST_ACTIVITY = "last_activity"
    HOURS_READY = "hours_ready"
    VIDEOS_READY = "videos_ready"
    SEARCHES_7D = "searches_7d"


def _in_range(text: str) -> str:
    if not re.fullmatch(r"[1-9][0-9]{0,2}d", text) or int(text[:-1]) > MAX_DAYS:
        raise ValueError(f"must be 1d to {MAX_DAYS}d, for example 30d")
    return text


Range = Annotated[
    str,
    AfterValidator(_in_range),
    WithJsonSchema({"type": "string", "pattern": RANGE_PATTERN, "examples": ["30d"]}),
    Query(alias="range", description=f"How far back, in days: 1d to {MAX_DAYS}d."),
]
BucketQuery = Annotated[Bucket, Query(alias="bucket", description="How the series is parted; days are UTC.")]


def _days(range_: str) -> int:
    return int(range_.removesuffix("d"))


def overview(parts: Parts) -> Overview:
    """Totals of videos and searches."""
    return Overview.model_validate(figures.get_overview(parts.pool))


def throughput(parts: Parts, range_: Range = "30d", _bucket: BucketQuery = Bucket.DAY) -> ThroughputSeries:
    """Videos that became ready, day by day, by the time of their last change (approximate)."""
    return ThroughputSeries.model_validate({"data": figures.get_throughput(parts.pool, _days(range_))})


def precise_throughput(parts: Parts, range_: Range = "30d") -> PreciseThroughputSeries:
    """Videos that finished, day by day, by the time of their end."""
    return PreciseThroughputSeries.model_validate({"data": figures.get_throughput_v2(parts.pool, _days(range_))})


def searches(parts: Parts, range_: Range = "30d", _bucket: BucketQuery = Bucket.DAY) -> SearchSeries:
    """Searches and their latency, day by day."""
    return SearchSeries.model_validate({"data": figures.get_searches(parts.pool, _days(range_))})


def users(
    parts: Parts,
    range_: Range = "7d",
    page: Page = 1,
    page_size: PageSize = 50,
    sort: Annotated[UserSort, Query(description="Sorted by, highest first.")] = UserSort.LAST_ACTIVITY,
) -> UsersPage:
    """Users with what they stored and searched."""
    items, total = figures.get_users(parts.pool, _days(range_), page_size, (page - 1) * page_size, sort)
    return UsersPage.model_validate({"items": items, "page": page, "page_size": page_size, "total_users": total})


def user_detail(
    user_id: Annotated[Id, Path(description="The user's id.")], parts: Parts, range_: Range = "7d"
) -> UserDetail:
    """One user with recent videos and searches."""
    user = figures.get_user(parts.pool, user_id, _days(range_))
    if user is None:
        raise NotFound("There is no such user.")
    return UserDetail.model_validate(user)


def processing_latency(parts: Parts, range_: Range = "30d") -> ProcessingLatency:
    """Processing and queue time of finished videos."""
    return ProcessingLatency.model_validate(figures.get_processing_latency(parts.pool, _days(range_)))


def rtf_distribution(parts: Parts, range_: Range = "30d") -> RtfDistribution:
    """Processing time over video duration."""
    return RtfDistribution.model_validate(figures.get_rtf_distribution(parts.pool, _days(range_)))


def queue_analysis(parts: Parts, range_: Range = "30d") -> QueueAnalysis:
    """Waiting against processing."""
    return QueueAnalysis.model_validate(figures.get_queue_analysis(parts.pool, _days(range_)))


def failures_by_stage(parts: Parts, range_: Range = "30d") -> FailuresByStage:
    """Which stages fail."""
    return FailuresByStage.model_validate({"data": figures.get_failures_by_stage(parts.pool, _days(range_))})
