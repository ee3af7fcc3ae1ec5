"""The JSON of a user's videos and of the search in them."""

from datetime import datetime
from uuid import UUID

from pydantic import BaseModel, Field

from cluster.contracts.stages import Outcome
from cluster.contracts.videos import VideoStatus
from serve_app.schemas import example


class AcceptedVideos(BaseModel):
    """The ids of the submitted videos, in the order of the body."""

    model_config = example(ids=["5f0c7a52-6f4e-4a3a-9d0e-0f4f6f1f8c11"])
    ids: list[UUID]


class Video(BaseModel):
    """A video and how its processing stands; ``rtf`` is processing time over duration."""

    id: UUID
    uri: str | None
    filename: str | None
    status: VideoStatus
    processing_stage: str | None
    error_type: str | None
    error_message: str | None
    duration_s: float | None
    queue_ms: float | None
    processing_ms: int | None
    rtf: float | None
    created_at: datetime | None
    updated_at: datetime | None


class VideosPage(BaseModel):
    """One page of the user's videos, latest first."""

    items: list[Video]
    page: int
    page_size: int
    total_videos: int


class StageRun(BaseModel):
    """A stage of the latest attempt: how long it waited for a worker and how long it ran."""

    name: str
    attempt: int
    outcome: Outcome
    wait_ms: float | None
    run_ms: float | None


class Scene(BaseModel):
    """A scene ``[start_s, end_s)`` of a video."""

    index: int
    start_s: float
    end_s: float
    transcript_segment: str | None
    visual_summary: str | None
    tags: list[str]
    thumbnail_url: str | None


class VideoDetail(Video):
    """A video with its stages and scenes."""

    language: str | None
    width: int | None
    height: int | None
    fps: float | None
    file_size_bytes: int | None
    words: int | None
    stages: list[StageRun]
    scenes: list[Scene]


class SceneHit(BaseModel):
    """A scene that was found; the ranks (from 1) say in which list, null where it was not in it."""

    video_id: UUID
    filename: str | None
    uri: str | None
    scene_index: int
    start_s: float
    end_s: float
    transcript_segment: str | None
    tags: list[str]
    thumbnail_url: str | None
    words_rank: int | None
    picture_rank: int | None
    picture_similarity: float | None = Field(description="Cosine of the query's and the picture's embedding.")
    score: float = Field(description="Reciprocal rank fusion of both lists; comparable within one answer only.")


class FoundScenes(BaseModel):
    """The scenes that fit a query best, best first."""

    query: str
    latency_ms: int
    items: list[SceneHit]
