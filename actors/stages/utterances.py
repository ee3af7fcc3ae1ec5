"""Utterances: the stretches of speech in a video's sound, each recognised by itself.

Owns where an utterance begins and ends, found by voice detection. Leaves the words in it to ``recognizer``.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from faster_whisper.vad import VadOptions, get_speech_timestamps
from numpy.typing import NDArray

from cluster.contracts.media import SPEECH_RATE_HZ, SpeechWindow
from cluster.models import speech_context

PAD_S = 0.4
"""How much of the sound around an utterance goes with it, as faster-whisper has it."""
LONGEST_S = speech_context.LONGEST_S - 2 * PAD_S
"""Longer speech is cut at its quietest moment."""
PAUSE_S = 0.3
"""Between two pieces of an utterance; a stop within a word is shorter."""

Samples = NDArray[np.float32]


@dataclass(frozen=True)
class Utterance:
    """A stretch of speech without a long pause.

    ``samples``: float32[n], mono, ``SPEECH_RATE_HZ``, in [-1, 1]; they begin at ``start_s`` of the video.
    ``spoken_s``: how much of it is speech; the rest is the sound around it.
    """

    start_s: float
    spoken_s: float
    samples: Samples

    @property
    def duration_s(self) -> float:
        """Length in seconds."""
        return len(self.samples) / SPEECH_RATE_HZ


def utterances(window: SpeechWindow) -> Iterator[Utterance]:
    """The speech in ``window``; none where nothing is said."""
    audio = window.samples.astype(np.float32) / 32768.0
    return _cut(audio, window.start_s, VadOptions(max_speech_duration_s=LONGEST_S, speech_pad_ms=0))


def pieces(utterance: Utterance) -> Iterator[Utterance]:
    """``utterance`` cut at each of its pauses."""
    options = VadOptions(min_silence_duration_ms=round(PAUSE_S * 1000), speech_pad_ms=0)
    return _cut(utterance.samples, utterance.start_s, options)


def _cut(audio: Samples, start_s: float, options: VadOptions) -> Iterator[Utterance]:
    """What lies between two utterances is shared."""
    pad = round(PAD_S * SPEECH_RATE_HZ)
    spans = [(span["start"], span["end"]) for span in get_speech_timestamps(audio, options)]
    for number, (begin, end) in enumerate(spans):
        before = spans[number - 1][1] if number else 0
        after = spans[number + 1][0] if number + 1 < len(spans) else len(audio)
        first = max(begin - pad, (before + begin) // 2 if number else 0)
        last = min(end + pad, (end + after) // 2 if number + 1 < len(spans) else len(audio))
        yield Utterance(start_s + first / SPEECH_RATE_HZ, (end - begin) / SPEECH_RATE_HZ, audio[first:last])
