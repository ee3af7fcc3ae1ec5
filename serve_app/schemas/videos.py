"""The JSON of a user's videos, and of what admins see and do about videos that failed."""

from datetime import datetime
from typing import Annotated, Any, Literal, Self
from uuid import UUID

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from cluster.contracts.stages import Outcome, Stage
from cluster.contracts.videos import Language, VideoStatus
from serve_app.schemas.admin import example
from serve_app.schemas.strict_values import Id, few_mistakes

MAX_IDS = 1000
Ids = Annotated[list[Id], Field(min_length=1, max_length=MAX_IDS), few_mistakes(Id, MAX_IDS)]


class AcceptedVideos(BaseModel):
    """The ids of the submitted videos, in the order of the body."""

    model_config = example(ids=["5f0c7a52-6f4e-4a3a-9d0e-0f4f6f1f8c11"])
    ids: list[UUID]


class VideoWarning(BaseModel):
    """Something of a video that was left out, or that is not as its file says."""

    code: str
    message: str


class Video(BaseModel):
    """A video and the state of its processing; ``rtf`` is processing time over duration."""

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
    warnings: list[VideoWarning]
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


class SpokenWord(BaseModel):
    """A word; ``text`` keeps the blank before it, so that the words joined are the text, in every language."""

    start_s: float
    end_s: float
    text: str
    probability: float = Field(ge=0, le=1)


class SpokenSegment(BaseModel):
    """A sentence or phrase, with its words."""

    start_s: float
    end_s: float
    text: str
    words: list[SpokenWord]


class VideoTranscript(BaseModel):
    """All that was said in a video. ``language`` is an ISO 639-1 code, null when nothing was said.

    ``source``: who made the transcript; one that an existing Heimdex made names no model. ``times``: estimated where
    only the text was stored.
    """

    model_config = example(
        language="en",
        model="small@1",
        source="heimdex-cluster",
        times="measured",
        duration_s=8.0,
        segments=[
            {
                "start_s": 0.5,
                "end_s": 1.25,
                "text": "The tide",
                "words": [
                    {"start_s": 0.5, "end_s": 0.75, "text": " The", "probability": 0.98},
                    {"start_s": 0.75, "end_s": 1.25, "text": " tide", "probability": 0.95},
                ],
            }
        ],
    )
    language: str | None
    model: str | None
    source: Literal["heimdex-cluster", "existing"]
    times: Literal["measured", "estimated"]
    duration_s: float | None
    segments: list[SpokenSegment]


class QuarantinedVideo(BaseModel):
    """A video that FAILED, and why: ``stage`` is where, ``uri`` comes without what may be secret."""

    id: UUID
    owner_id: UUID
    filename: str | None
    uri: str
    stage: str | None
    error_type: str | None
    error_message: str | None
    attempts: int
    crashes: int
    failed_at: datetime


class Quarantine(BaseModel):
    """One page of the videos that FAILED, latest first."""

    model_config = example(
        items=[
            {
                "id": "5f0c7a52-6f4e-4a3a-9d0e-0f4f6f1f8c11",
                "owner_id": "9b2c1f52-1a4e-4a3a-9d0e-0f4f6f1f8c22",
                "filename": "talk.mp4",
                "uri": "https://example.org/talk.mp4",
                "stage": "transcription",
                "error_type": "WorkerLost",
                "error_message": "the worker died while it transcribed",
                "attempts": 3,
                "crashes": 3,
                "failed_at": "2026-01-01T12:00:00Z",
            }
        ],
        page=1,
        page_size=50,
        total_videos=1,
    )
    items: list[QuarantinedVideo]
    page: int
    page_size: int
    total_videos: int


def _one_is_given(schema: dict[str, Any]) -> None:
    """At least one of the fields, and not null: an empty body must not retry the videos of all owners."""
    schema["examples"] = [{"stage": "transcription"}, {"all": True}]
    given = {"not": {"type": "null"}}
    schema["anyOf"] = [{"required": [name], "properties": {name: given}} for name in schema["properties"]]


def _true_itself(value: object) -> object:
    if value is not None and value is not True:  # pydantic takes 1 for true
        raise ValueError("must be true")
    return value


class Choice(BaseModel):
    """Which FAILED videos: those that failed in ``stage``, those of ``ids``, or, with ``all``, every owner's.

    One of them must be given. ``all`` changes nothing beside another.
    """

    model_config = ConfigDict(extra="forbid", json_schema_extra=_one_is_given)
    stage: Stage | None = None
    ids: Ids | None = None
    all: Annotated[Literal[True] | None, BeforeValidator(_true_itself)] = None

    @model_validator(mode="after")
    def _refuse_nothing(self) -> Self:
        if self.stage is None and self.ids is None and self.all is None:
            raise ValueError('give "stage", "ids", or "all": true')
        return self


class ChosenVideos(BaseModel):
    """Which videos."""

    model_config = {**example(ids=["5f0c7a52-6f4e-4a3a-9d0e-0f4f6f1f8c11"]), "extra": "forbid"}
    ids: Ids


class Reprocessing(BaseModel):
    """How a video is processed again; ``language``: of the speech, as before where it is left out."""

    model_config = {**example(language="de"), "extra": "forbid"}
    language: Language | None = None


class Retried(BaseModel):
    """How many videos wait to be tried again."""

    model_config = example(retried=3)
    retried: int


class Cancelled(BaseModel):
    """The videos that were cancelled; what had ended before is not among them."""

    model_config = example(cancelled=["5f0c7a52-6f4e-4a3a-9d0e-0f4f6f1f8c11"])
    cancelled: list[UUID]
