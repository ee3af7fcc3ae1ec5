"""Which track of a file the media reader gives to speech recognition."""

from pathlib import Path

import numpy as np

from actors.stages.media_reader import MediaReader
from cluster.contracts.media import SPEECH_RATE_HZ, LocalVideo, MediaInfo, MediaLimits
from tests.support.track_files import track_of

LIMITS = MediaLimits(max_duration_s=600, max_pixels=1_000_000, max_fps=60, max_streams=16, max_bytes=10**8)


def probe(path: Path, language: str | None = None) -> tuple[MediaReader, LocalVideo, MediaInfo]:
    """The survey of a file, and the reader that made it."""
    reader = MediaReader(LIMITS)
    video = LocalVideo(path=path, size_bytes=path.stat().st_size, temporary=False)
    return reader, video, reader.probe(video, language)


def heard_track(path: Path, language: str | None = None) -> int | None:
    """The number of the track whose tone is transcribed."""
    reader, video, info = probe(path, language)
    samples = [window.samples for window in reader.read_speech(video, info)]
    return track_of(np.concatenate([np.zeros(0, np.int16), *samples]), SPEECH_RATE_HZ)
