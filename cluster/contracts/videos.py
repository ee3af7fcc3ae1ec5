"""A video as the queue knows it: what was submitted and from where, what was claimed, and its status."""

import json
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Annotated, Any
from uuid import UUID

import pydantic
from pydantic_core import PydanticCustomError

from cluster.contracts.languages import language_code, language_pattern
from cluster.contracts.stages import Setbacks, Stage


class VideoStatus(StrEnum):
    """The database's enum ``video_status``."""

    PENDING = "PENDING"
    PROCESSING = "PROCESSING"
    READY = "READY"
    FAILED = "FAILED"
    CANCELLED = "CANCELLED"
    """By its owner, an admin or a command: the error message says by which."""


class Origin(StrEnum):
    """Where a submission came from: it decides which URIs are fetched for it."""

    HTTP = "http"
    COMMAND = "command"
    MANIFEST = "manifest"
    ADOPTED = "adopted"
    """A row of ``videos`` that this cluster did not write: its path is what a user of the database wrote there."""

    @property
    def by_operator(self) -> bool:
        """Whether the operator submitted it; else its URI was chosen by a user."""
        return self in {Origin.COMMAND, Origin.MANIFEST}


SETTLED = frozenset({VideoStatus.READY, VideoStatus.FAILED, VideoStatus.CANCELLED})
"""Statuses that no longer change automatically."""
LOWEST_PRIORITY, HIGHEST_PRIORITY = -10, 10
PRIORITY_STEP_S = 600
"""Seconds of waiting that one step of priority is worth."""
URGENT_AHEAD = 2.0
"""Videos' worth of run that an owner may be ahead of the others while videos of its go first as urgent."""


def _storable(uri: str) -> str:
    if "\0" in uri:
        raise ValueError("must not contain control characters")
    return uri


def _storable_metadata(metadata: dict[str, Any] | None) -> dict[str, Any] | None:
    """Refuse what the database cannot hold or should not: more than ``MAX_METADATA_BYTES``, numbers that are none."""
    if metadata is None:
        return None
    try:
        text = json.dumps(metadata, allow_nan=False)
    except ValueError:
        raise ValueError("holds a number that JSON does not have") from None
    if "\\u0000" in text or "\0" in "".join(metadata):
        raise ValueError("must not contain control characters")
    if len(text) > MAX_METADATA_BYTES:
        raise ValueError(f"takes more than {MAX_METADATA_BYTES} bytes as JSON")
    return metadata


def _whole_number(value: object) -> object:
    if isinstance(value, bool | str | bytes):  # pydantic by default takes false for 0, and "5" for 5
        raise PydanticCustomError("int_parsing", "must be a whole number")
    return value


def _language(written: str) -> str:
    try:
        return language_code(written)
    except ValueError as error:
        raise PydanticCustomError("language", "{sentence}", {"sentence": str(error)}) from None


Language = Annotated[
    str,
    pydantic.AfterValidator(_language),
    pydantic.WithJsonSchema({"type": "string", "pattern": language_pattern(), "examples": ["en"]}),
]
"""A language as people write it; read, it is a code in ``languages.SPOKEN``."""
MAX_URI = 4096
MAX_METADATA_BYTES = 16 * 1024


class Submission(pydantic.BaseModel):
    """One video to be processed, as a manifest row or an HTTP body states it."""

    model_config = pydantic.ConfigDict(extra="forbid", frozen=True)

    uri: Annotated[str, pydantic.AfterValidator(_storable)] = pydantic.Field(min_length=1, max_length=MAX_URI)
    language: Language | None = None
    """Of the speech; None: detect it."""
    priority: Annotated[int, pydantic.BeforeValidator(_whole_number)] = pydantic.Field(
        default=0, ge=LOWEST_PRIORITY, le=HIGHEST_PRIORITY
    )
    """Each step up counts as ten minutes of waiting."""


class DetailedSubmission(Submission):
    """A submission by the operator, with what else is known of it. HTTP bodies have none of this."""

    metadata: Annotated[dict[str, Any] | None, pydantic.AfterValidator(_storable_metadata)] = None
    """What a manifest says of the video beside what is needed to process it, by column."""
    content_mark: str | None = None
    """Which content the file had; equal for the same. None: not known."""


@dataclass(frozen=True)
class ClaimedVideo:
    """A video under a lease. Every write about it must match ``lease_token``.

    ``attempt`` counts claims from 1; ``setbacks`` say how those before this one ended. ``stored`` are the stages whose
    results an earlier attempt left behind. ``claimed_at`` is the database's clock at the claim, in whole milliseconds
    and not before ``queued_at``; processing begins later, with the first worker.
    """

    id: UUID
    owner_id: UUID
    uri: str
    filename: str
    language: str | None
    attempt: int
    lease_token: int
    queued_at: datetime
    claimed_at: datetime
    priority: int = 0
    origin: Origin = Origin.COMMAND
    setbacks: Setbacks = field(default_factory=Setbacks)
    stored: frozenset[Stage] = frozenset()

    @property
    def due_at(self) -> datetime:
        """Key that orders an owner's videos: the time since which it waits, with its priority counted as waiting."""
        return self.queued_at - timedelta(seconds=PRIORITY_STEP_S * self.priority)
