"""The stages of a video's way: their names, their order, who runs them and how long they may take.

Owns the names that appear in SQL, in JSON and in the ledger. The way itself is walked in ``actors.attempt.pipeline``.
"""

from dataclasses import dataclass
from enum import StrEnum


class Stage(StrEnum):
    """A stage that runs and has a row in the ledger."""

    DOWNLOADING = "downloading"
    METADATA = "metadata"
    TRANSCRIPTION = "transcription"
    SCENE_DETECTION = "scene_detection"
    SCENE_PROCESSING = "scene_processing"
    INDEXING = "indexing"
    FINALIZING = "finalizing"


QUEUED = "queued"
"""``processing_stage`` of a video that waits for its first or next attempt."""
COMPLETED = "completed"
"""``processing_stage`` of a READY video."""
FAILED_BEFORE_ANY_STAGE = "failed"
"""``processing_stage`` of a video that failed before a stage began; never written over the name of a stage."""

REQUIRES: dict[Stage, tuple[Stage, ...]] = {
    Stage.DOWNLOADING: (),
    Stage.METADATA: (Stage.DOWNLOADING,),
    Stage.TRANSCRIPTION: (Stage.METADATA,),
    Stage.SCENE_DETECTION: (Stage.METADATA,),
    Stage.SCENE_PROCESSING: (Stage.TRANSCRIPTION, Stage.SCENE_DETECTION),
    Stage.INDEXING: (Stage.SCENE_PROCESSING,),
    Stage.FINALIZING: (Stage.INDEXING,),
}
"""The DAG: a stage is ready when all that it requires have finished."""


class WorkerKind(StrEnum):
    """A pool of equal workers; each kind holds what its stages need loaded."""

    FETCHER = "fetcher"
    """One on each node of media workers: it downloads beside their decoding."""
    MEDIA = "media"
    TRANSCRIBER = "transcriber"
    EMBEDDER = "embedder"
    WRITER = "writer"


FETCH_CALL = "fetch"
"""The call that brings a file to the node where it is decoded."""


@dataclass(frozen=True)
class Deadline:
    """Deadline of one call of a stage: a fixed part, and for each of its videos a part that grows with it.

    ``per_video_s``: seconds for each second of video while the call's speed is unknown (``actors.workers.deadlines``
    measures it); ``least_per_video_s``: what a second of video is always given.
    """

    fixed_s: float
    per_video_s: float
    least_per_video_s: float = 0.0

    def added_s(self, duration_s: float | None) -> float:
        """Seconds that a video of ``duration_s`` adds to the fixed part; nothing while its duration is unknown."""
        return self.per_video_s * (duration_s or 0.0)


DEADLINES: dict[Stage, Deadline] = {
    Stage.DOWNLOADING: Deadline(3600.0, 0.0),
    Stage.METADATA: Deadline(600.0, 0.0),
    Stage.TRANSCRIPTION: Deadline(300.0, 20.0, 1.0),
    Stage.SCENE_DETECTION: Deadline(300.0, 10.0, 1.0),
    Stage.SCENE_PROCESSING: Deadline(300.0, 2.0),
    Stage.INDEXING: Deadline(300.0, 0.5),
    Stage.FINALIZING: Deadline(60.0, 0.0),
}


class Blame(StrEnum):
    """Cause that the failure of an attempt is counted under; errors and crashes count apart."""

    VIDEO = "video"
    """The video is unreadable: never tried again."""
    ERROR = "error"
    """Something failed and was reported."""
    CRASH = "crash"
    """The worker's process went down with it, perhaps because of this video."""
    INTERRUPTION = "interruption"
    """A node, a scheduler, the database or the space on a disk: not the video's doing."""
    POSTPONEMENT = "postponement"
    """The video's source is not ready yet: counted by time."""


@dataclass(frozen=True)
class Setbacks:
    """How many attempts at a video ended in an error, in a crash, by an interruption; and how long its source was
    waited for, in seconds.
    """

    errors: int = 0
    crashes: int = 0
    interruptions: int = 0
    postponed_s: float = 0.0

    def plus(self, blame: Blame) -> "Setbacks":
        """One more of the kind."""
        return Setbacks(
            self.errors + (blame in (Blame.VIDEO, Blame.ERROR)),
            self.crashes + (blame is Blame.CRASH),
            self.interruptions + (blame is Blame.INTERRUPTION),
            self.postponed_s,
        )


@dataclass(frozen=True)
class RetryRule:
    """Rule for whether a failed attempt is followed by another one, and how soon.

    Errors, crashes and interruptions are counted apart, each up to its own limit; what a source was waited for is
    limited by its sum. After all crashes but the last, a video runs alone: no other video shares its worker, so that
    the one at fault is found and the others come through.
    """

    max_errors: int = 3
    max_crashes: int = 3
    max_interruptions: int = 20
    first_delay_s: float = 2.0
    max_delay_s: float = 300.0
    max_postponed_s: float = 6 * 3600.0
    max_postponement_s: float = 3600.0

    def is_final(self, setbacks: Setbacks, blame: Blame) -> bool:
        """Whether no attempt follows; ``setbacks`` include the one that was just blamed."""
        spent = {
            Blame.VIDEO: True,
            Blame.ERROR: setbacks.errors >= self.max_errors,
            Blame.CRASH: setbacks.crashes >= self.max_crashes,
            Blame.INTERRUPTION: setbacks.interruptions >= self.max_interruptions,
            Blame.POSTPONEMENT: setbacks.postponed_s >= self.max_postponed_s,
        }
        return spent[blame]

    def runs_alone(self, setbacks: Setbacks) -> bool:
        """Whether the next attempt shares no worker with another video."""
        return 0 < setbacks.crashes >= self.max_crashes - 1

    def delay_s(self, setbacks: Setbacks, jitter: float) -> float:
        """Seconds to wait before the next attempt; ``jitter`` in [0, 1) spreads retries.

        Exponential back-off with equal jitter: half of the delay is fixed, half is random
        (https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/).
        """
        ended = setbacks.errors + setbacks.crashes + setbacks.interruptions
        delay = min(self.max_delay_s, self.first_delay_s * 2.0 ** (ended - 1))
        return delay / 2 + delay / 2 * jitter

    def postponement_s(self, setbacks: Setbacks, retry_after_s: float, jitter: float) -> float:
        """Seconds until a source that was not ready is asked again: not before it said, up to ``max_postponement_s``.

        The longer it was waited for, the longer the waits: at least a quarter of the time so far. ``jitter`` in [0, 1)
        spreads videos of one server over a tenth more.
        """
        wanted_s = max(1.0, retry_after_s, setbacks.postponed_s / 4)
        return min(wanted_s, self.max_postponement_s) * (1 + jitter / 10)


class Outcome(StrEnum):
    """How a stage run ended (``RUNNING``: it has not)."""

    RUNNING = "running"
    COMPLETED = "completed"
    FAILED = "failed"
    SKIPPED = "skipped"
    LOST = "lost"
