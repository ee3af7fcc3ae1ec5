"""What is known about a media file and what is taken out of it.

Times are seconds from the first displayed picture, intervals are half-open. Arrays are numpy; nothing here decodes.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

SPEECH_RATE_HZ = 16_000
"""Sample rate that Whisper and the voice activity detector work at."""


@dataclass(frozen=True)
class LocalVideo:
    """A video file on the node that fetched it.

    ``temporary`` files lie in a directory of their own that finalizing removes; a file that the user named by a
    local path is read where it lies and never removed.
    """

    path: Path
    size_bytes: int
    temporary: bool


@dataclass(frozen=True)
class MediaWarning:
    """Something of a video that was left out, or that is not as its file says: a stable code and one sentence."""

    code: str
    message: str


@dataclass(frozen=True)
class MediaInfo:
    """What the probe says of a file, after rotation has been applied to the size.

    ``duration_s`` is the extent of the picture stream as far as headers tell (None when they do not: it is then
    known once the pictures have been decoded). ``start_s`` is the first picture's presentation time, which every
    other time is counted from.
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
    sound_index: int | None = None
    """The stream of sound that belongs to the pictures."""
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

    The last block carries ``decoded_duration_s``: the end of the last picture shown.
    """

    scenes: tuple[DetectedScene, ...]
    decoded_duration_s: float | None = None
