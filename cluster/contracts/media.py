"""What is known about a media file and what is taken out of it.

Times are seconds from the file's start as players show it, intervals are half-open. Arrays are numpy; nothing here
decodes.
"""

from dataclasses import dataclass
from pathlib import Path
from uuid import UUID

import numpy as np
from numpy.typing import NDArray

SPEECH_RATE_HZ = 16_000
"""Sample rate that Whisper and the voice activity detector work at."""


@dataclass(frozen=True)
class LocalVideo:
    """A video file on the node that fetched it.

    ``temporary`` files are in a directory of their own that finalizing removes; a file that the user named by a
    local path is read where it is and never removed. ``modified_ns``: of such a file, its time stamp when it was
    found, in nanoseconds since 1970: it may still be written. ``owner_id``: whose video it is, where that is known.
    """

    path: Path
    size_bytes: int
    temporary: bool
    modified_ns: int | None = None
    owner_id: UUID | None = None


@dataclass(frozen=True)
class MediaWarning:
    """Something of a video that was left out, or that is not as its file says: a stable code and one sentence."""

    code: str
    message: str


@dataclass(frozen=True)
class ClockShift:
    """From its packet number ``from_packet`` on, what a stream's time-stamps are shifted by on the file's one clock."""

    stream: int
    from_packet: int
    shift_s: float


@dataclass(frozen=True)
class FilePart:
    """A stretch of a file's bytes that is read as a file of its own; most files are one.

    ``pictures`` and ``sound`` are the indexes of its streams in use, in the order in which they follow one another.
    Its time-stamps are shifted by ``shift_s``, and by what ``shifts`` adds to that. ``probe_bytes``: so much is
    read on opening to find streams that begin late; 0: as much as is usual.
    """

    begin: int = 0
    end: int | None = None
    pictures: tuple[int, ...] = (0,)
    sound: tuple[int, ...] = ()
    shift_s: float = 0.0
    shifts: tuple[ClockShift, ...] = ()
    probe_bytes: int = 0


WHOLE_FILE = FilePart()


@dataclass(frozen=True)
class Timeline:
    """A file's one clock, as its packets state it; the same for every pass over the file.

    ``sound_end_s`` is where the sound ends. ``stated_s`` is how far the header says that the file reaches, None where
    it says nothing that the packets could be held to; ``stated_of_pictures``: whether it says so of the pictures.
    """

    parts: tuple[FilePart, ...] = (WHOLE_FILE,)
    sound_end_s: float = 0.0
    stated_s: float | None = None
    stated_of_pictures: bool = False


@dataclass(frozen=True)
class MediaInfo:
    """What the probe says of a file, after rotation has been applied to the size.

    ``duration_s`` is the time from the file's start to the end of the stream that ends last, as its packets state it;
    None when they have no times. ``start_s`` is the file's start on its one clock: every other time is counted from it.
    """

    duration_s: float | None
    start_s: float
    fps: float
    width: int
    height: int
    rotation_deg: int
    video_codec: str
    audio_codec: str | None
    size_bytes: int
    timeline: Timeline = Timeline()
    warnings: tuple[MediaWarning, ...] = ()


@dataclass(frozen=True)
class MediaLimits:
    """What a file may be at most before anything of it is decoded."""

    max_duration_s: float
    max_pixels: int
    max_fps: float
    max_streams: int
    max_bytes: int


@dataclass(frozen=True)
class SpeechWindow:
    """A stretch of a video's sound, cut at a quiet place; windows of a video tile its sound in order.

    ``samples``: int16[n], mono, ``SPEECH_RATE_HZ``. ``start_s`` is the first sample's time in the video.
    """

    start_s: float
    samples: NDArray[np.int16]

    @property
    def duration_s(self) -> float:
        """Length of the window in seconds."""
        return len(self.samples) / SPEECH_RATE_HZ


@dataclass(frozen=True)
class DetectedScene:
    """A scene ``[start_s, end_s)`` and its best picture.

    ``key_frame``: uint8[height, width, 3], RGB, upright, its short side the configured key-frame size
    (or the video's own, when that is smaller; less for pictures more than eight times as long as wide).
    """

    index: int
    start_s: float
    end_s: float
    key_frame_s: float
    key_frame: NDArray[np.uint8]


@dataclass(frozen=True)
class SceneBlock:
    """Consecutive scenes of one video. A video's scenes travel in blocks, so that no process holds them all.

    The last block carries ``decoded_duration_s``, the end of the last scene and thus of the file, and ``warnings``.
    """

    scenes: tuple[DetectedScene, ...]
    decoded_duration_s: float | None = None
    warnings: tuple[MediaWarning, ...] = ()
