"""The sound of real files, and the demo's narration, for what listens."""

from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from actors.stages.media_reader import MediaReader
from cluster.contracts.media import LocalVideo, MediaLimits
from cluster.demo import clips
from cluster.storage import FetchLimits

Samples = NDArray[np.int16]


@cache
def sound_of(path: Path) -> Samples:
    """int16[n], mono, at the rate that speech is recognised at."""
    limits = MediaLimits(max_duration_s=60, max_pixels=1_000_000, max_fps=60, max_streams=4, max_bytes=10**8)
    reader = MediaReader(limits, FetchLimits(10**8, 10.0), path.parent)
    video = LocalVideo(path, path.stat().st_size, temporary=False)
    [window] = reader.read_speech(video, reader.probe(video))
    return window.samples


def narration() -> Samples:
    """Three of the demo's clips one after the other: over a minute of speech."""
    return np.concatenate([sound_of(clip) for clip in clips()[:3]])
