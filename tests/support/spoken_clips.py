"""The sound of real files, the demo's narration and real voices, for tests of what is recognised in speech."""

import csv
import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
from faster_whisper.audio import decode_audio
from numpy.typing import NDArray

from actors.stages.media_reader import MediaReader
from actors.stages.utterances import utterances
from cluster.contracts.media import SPEECH_RATE_HZ, LocalVideo, MediaLimits, SpeechWindow
from cluster.demo import clips, truth

Samples = NDArray[np.int16]

SHARED_MEDIA = Path(__file__).parents[3] / "shared" / "media"
REAL_VOICES = SHARED_MEDIA / "speech"


@dataclass(frozen=True)
class Spoken:
    """A stretch of sound, int16[n], mono, at the rate that speech is recognised at, and the words in it."""

    name: str
    samples: Samples
    words: str


def plain_words(text: str) -> list[str]:
    """Neither case nor punctuation counts."""
    return re.findall(r"[a-z0-9']+", text.lower())


@cache
def sound_of(path: Path) -> Samples:
    """int16[n], mono, at the rate that speech is recognised at."""
    limits = MediaLimits(max_duration_s=60, max_pixels=1_000_000, max_fps=60, max_streams=4, max_bytes=10**8)
    reader = MediaReader(limits)
    video = LocalVideo(path, path.stat().st_size, temporary=False)
    [window] = reader.read_speech(video, reader.probe(video))
    return window.samples


@cache
def recording_of(path: Path) -> Samples:
    """The same of a file without pictures."""
    return np.round(decode_audio(str(path), SPEECH_RATE_HZ) * 32767.0).astype(np.int16)


def narration() -> Samples:
    """Three of the demo's clips one after the other: over a minute of speech."""
    return np.concatenate([sound_of(clip) for clip in clips()[:3]])


@cache
def sentences() -> list[Spoken]:
    """Each sentence of three of the demo's clips."""
    return [
        Spoken(f"{clip.stem} {scene.start_s:.0f} s", _between(sound_of(clip), scene.start_s, scene.end_s), scene.words)
        for clip in clips()[:3]
        for scene in truth(clip).scenes
    ]


@cache
def real_voices() -> list[Spoken]:
    """The utterances in ``REAL_VOICES``, with what a larger Whisper recognises in them; none where it is missing."""
    if not REAL_VOICES.is_dir():
        return []
    with (REAL_VOICES / "reference.tsv").open() as lines:
        rows = list(csv.DictReader(lines, delimiter="\t"))
    return [Spoken(row["file"], recording_of(REAL_VOICES / row["file"]), row["text"]) for row in rows]


def speech_of(spoken: Spoken) -> Samples:
    """Without the silence around it."""
    silence = np.zeros(3 * SPEECH_RATE_HZ, np.int16)  # speech ends where silence follows it
    [said] = utterances(SpeechWindow(0.0, np.concatenate([spoken.samples, silence])))
    return (said.samples * 32768.0).astype(np.int16)


def _between(samples: Samples, start_s: float, end_s: float) -> Samples:
    return samples[round(start_s * SPEECH_RATE_HZ) : round(end_s * SPEECH_RATE_HZ)]
