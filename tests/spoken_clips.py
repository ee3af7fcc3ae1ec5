"""The sound of real files, and the demo's narration, for what listens."""

from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from actors.stages.audio_reader import speech_windows
from actors.stages.media_file import open_media
from actors.stages.stream_choice import sound_stream
from cluster.demo import clips

Samples = NDArray[np.int16]


@cache
def sound_of(path: Path) -> Samples:
    """int16[n], mono, at the rate that speech is recognised at."""
    with open_media(path, max_pixels=1_000_000) as media:
        stream = sound_stream(media.container)
        assert stream is not None
        [window] = speech_windows(media, stream, 0.0, 60.0)
    return window.samples


def narration() -> Samples:
    """Three of the demo's clips one after the other: over a minute of speech."""
    return np.concatenate([sound_of(clip) for clip in clips()[:3]])
