"""What the model stages make of a video: words with times, described scenes, and how a stage run was measured."""

from dataclasses import dataclass
from uuid import UUID

import numpy as np
from numpy.typing import NDArray

from cluster.contracts.stages import Blame


@dataclass(frozen=True)
class Word:
    """A spoken word with its time in the video, in seconds; ``probability`` in [0, 1].

    ``text`` keeps the blank before it, as Whisper writes it: words joined are the text, in every language.
    """

    start_s: float
    end_s: float
    text: str
    probability: float


@dataclass(frozen=True)
class Segment:
    """A sentence or phrase as Whisper parts them."""

    start_s: float
    end_s: float
    text: str
    words: tuple[Word, ...]


@dataclass(frozen=True)
class Transcript:
    """All that was said in a video. ``language`` is an ISO 639-1 code, None when nothing was said."""

    language: str | None
    segments: tuple[Segment, ...]
    model: str

    @property
    def words(self) -> list[Word]:
        """Every word in order of time."""
        return [word for segment in self.segments for word in segment.words]


@dataclass(frozen=True)
class TranscriptSource:
    """Who made a transcript, and whether its times are measured.

    ``existing``: another system, before this cluster knew the database; its transcripts name no model.
    """

    existing: bool = False
    timed: bool = True

    @property
    def name(self) -> str:
        """As JSON has it."""
        return "existing" if self.existing else "heimdex-cluster"


@dataclass(frozen=True)
class SceneDescription:
    """What was said and seen in the scene of the same ``index``; the scene's picture is not carried along.

    ``embedding``: float32, L2-normalised, of the key frame, as long as the vision model makes them. ``visual_summary``
    says the tags in words. ``meaning``: the same of ``combined_text`` by the text model; None where that is empty.
    """

    index: int
    transcript_segment: str
    tags: tuple[str, ...]
    visual_summary: str
    combined_text: str
    embedding: NDArray[np.float32]
    vision_model: str
    meaning: NDArray[np.float32] | None
    text_model: str


@dataclass(frozen=True)
class WrittenScene:
    """A scene as it is stored: its times, what was said and seen, and where its pictures are stored."""

    id: UUID
    start_s: float
    end_s: float
    key_frame_s: float
    thumbnail_url: str
    key_frame_url: str
    description: SceneDescription


@dataclass(frozen=True)
class StageFailure:
    """Why a stage run failed: the error's type name, one sentence, and what the failure counts as.

    ``retry_after_s``: of a postponement, how soon another attempt is of use.
    """

    error_type: str
    message: str
    blame: Blame
    retry_after_s: float | None = None


@dataclass(frozen=True)
class StageReport:
    """How one item fared in one call of a worker, as measured by that worker.

    ``run_s`` is the item's own share of the call: a call that served a batch is divided over its items.
    ``resource_s`` is that share times the fraction of the device that the worker holds (CPUs or GPUs).
    """

    run_s: float
    batch_size: int
    node: str
    worker: str
    device: str
    resource_s: float
    failure: StageFailure | None = None
