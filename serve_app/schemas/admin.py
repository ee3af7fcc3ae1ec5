"""The JSON of the admin figures and of errors; the examples are what the OpenAPI document shows.

Fields are named exactly as the database functions name their columns. A figure that no data supports is null.
"""

from datetime import date, datetime
from typing import Any, Literal
from uuid import UUID

from pydantic import BaseModel, ConfigDict

from cluster.contracts.videos import VideoStatus
from cluster.store.search.embedding_jobs import JobState


def example(**values: Any) -> ConfigDict:
    """Model configuration that shows ``values`` as the model's example."""
    return ConfigDict(json_schema_extra={"examples": [values]})


class Problem(BaseModel):
    """Why a request was not answered: one sentence."""

    model_config = example(detail="range must be 1d to 365d, for example 30d")
    detail: str


class Overview(BaseModel):
    """Totals over all time, searches over the last 7 and 30 days."""

    model_config = example(
        videos_ready_total=145,
        videos_failed_total=5,
        videos_total=160,
        failure_rate_pct=3.33,
        hours_ready_total=7.25,
        searches_7d=42,
        avg_search_latency_ms_7d=38.5,
        searches_30d=180,
        avg_search_latency_ms_30d=41.2,
    )
    videos_ready_total: int
    videos_failed_total: int
    videos_total: int
    failure_rate_pct: float
    hours_ready_total: float
    searches_7d: int
    avg_search_latency_ms_7d: float | None
    searches_30d: int
    avg_search_latency_ms_30d: float | None


class ThroughputDay(BaseModel):
    """Videos that became READY on a UTC day, by ``updated_at``."""

    day: date
    videos_ready: int
    hours_ready: float | None


class ThroughputSeries(BaseModel):
    """Days in ascending order."""

    model_config = example(data=[{"day": "2025-12-22", "videos_ready": 38, "hours_ready": 7.2}])
    data: list[ThroughputDay]


class SearchDay(BaseModel):
    """Searches of a UTC day."""

    day: date
    searches: int
    avg_latency_ms: float | None


class SearchSeries(BaseModel):
    """Days in ascending order."""

    model_config = example(data=[{"day": "2025-12-22", "searches": 12, "avg_latency_ms": 38.5}])
    data: list[SearchDay]


class UserSummary(BaseModel):
    """What a user has stored and searched; the ``_7d`` figures cover the range that was asked for."""

    user_id: UUID
    full_name: str | None
    videos_total: int
    videos_ready: int
    hours_ready: float | None
    last_activity: datetime | None
    searches_7d: int
    avg_latency_ms_7d: float | None


class UsersPage(BaseModel):
    """One page of users."""

    items: list[UserSummary]
    page: int
    page_size: int
    total_users: int


class RecentVideo(BaseModel):
    """A video that a user worked with lately."""

    id: UUID
    filename: str | None
    status: VideoStatus
    duration_s: float | None
    updated_at: datetime | None
    error_message: str | None


class RecentSearch(BaseModel):
    """A search of a user."""

    query_text: str | None
    created_at: datetime | None
    latency_ms: int | None
    results_count: int | None
    video_id: UUID | None


class UserDetail(UserSummary):
    """A user with up to 20 recent videos and 50 recent searches, latest first."""

    recent_videos: list[RecentVideo]
    recent_searches: list[RecentSearch]


class ProcessingLatency(BaseModel):
    """Processing and queue time of finished videos, in milliseconds."""

    model_config = example(
        videos_measured=150,
        avg_processing_ms=45230.5,
        p50_processing_ms=42000.0,
        p95_processing_ms=78000.0,
        p99_processing_ms=95000.0,
        avg_queue_ms=1250.3,
        avg_total_ms=46480.8,
    )
    videos_measured: int
    avg_processing_ms: float | None
    p50_processing_ms: float | None
    p95_processing_ms: float | None
    p99_processing_ms: float | None
    avg_queue_ms: float | None
    avg_total_ms: float | None


class RtfDistribution(BaseModel):
    """Real-time factor: processing time over video duration; below 1 is faster than real time."""

    model_config = example(
        videos_measured=150,
        avg_rtf=1.85,
        p50_rtf=1.75,
        p95_rtf=2.80,
        p99_rtf=3.20,
        avg_video_duration_s=180.5,
        avg_processing_duration_s=334.0,
    )
    videos_measured: int
    avg_rtf: float | None
    p50_rtf: float | None
    p95_rtf: float | None
    p99_rtf: float | None
    avg_video_duration_s: float | None
    avg_processing_duration_s: float | None


class QueueAnalysis(BaseModel):
    """Waiting against processing."""

    model_config = example(
        videos_measured=150,
        avg_queue_time_s=1.25,
        avg_processing_time_s=45.2,
        avg_total_time_s=46.45,
        queue_time_pct=2.7,
        processing_time_pct=97.3,
    )
    videos_measured: int
    avg_queue_time_s: float | None
    avg_processing_time_s: float | None
    avg_total_time_s: float | None
    queue_time_pct: float | None
    processing_time_pct: float | None


class StageFailures(BaseModel):
    """Failures in one stage."""

    processing_stage: str
    failure_count: int
    failure_pct: float


class FailuresByStage(BaseModel):
    """The stage with most failures first; a failure whose stage is not known counts as "unknown"."""

    model_config = example(
        data=[
            {"processing_stage": "transcription", "failure_count": 8, "failure_pct": 53.3},
            {"processing_stage": "scene_detection", "failure_count": 4, "failure_pct": 26.7},
            {"processing_stage": "downloading", "failure_count": 3, "failure_pct": 20.0},
        ]
    )
    data: list[StageFailures]


class PreciseThroughputDay(BaseModel):
    """Videos that finished on a UTC day, by ``processing_finished_at``."""

    day: date
    videos_ready: int
    videos_failed: int
    hours_ready: float | None
    avg_processing_s: float | None
    avg_rtf: float | None


class PreciseThroughputSeries(BaseModel):
    """The latest day first."""

    model_config = example(
        data=[
            {
                "day": "2025-12-23",
                "videos_ready": 45,
                "videos_failed": 2,
                "hours_ready": 8.5,
                "avg_processing_s": 42.3,
                "avg_rtf": 1.75,
            }
        ]
    )
    data: list[PreciseThroughputDay]


class EmbeddingJob(BaseModel):
    """A job that embeds what lacks vectors. The counts are those of its end; ``lost``: its process is gone."""

    model_config = example(
        id="5f0c7a52-6f4e-4a3a-9d0e-0f4f6f1f8c11",
        state="failed",
        requested_at="2026-01-01T12:00:00Z",
        started_at="2026-01-01T12:00:02Z",
        finished_at="2026-01-01T12:00:42Z",
        progress="6000 of 9000 scenes, 300 a second, about 10 s left",
        error_message="2 scenes have no vector of these models",
        scenes_embedded=8998,
        scenes_failed=2,
        scenes_lacking=2,
    )
    id: UUID
    state: JobState
    requested_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    progress: str | None
    error_message: str | None
    scenes_embedded: int | None
    scenes_failed: int | None
    scenes_lacking: int | None


class NoEmbeddingJob(BaseModel):
    """No job was ever requested."""

    id: None = None
    state: Literal["idle"] = "idle"
