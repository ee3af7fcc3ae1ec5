"""Utterances: the stretches of speech in a video's sound, each recognised on its own, none of two videos.

Owns where an utterance begins and ends, found by voice detection, and when its words are said. Leaves the words in it
to ``recognizer``.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from faster_whisper.vad import VadOptions, get_speech_timestamps
from numpy.typing import NDArray

from cluster.contracts.media import SPEECH_RATE_HZ, SpeechWindow
from cluster.contracts.results import Word
from cluster.models import speech_context

PAD_S = 0.4
"""Seconds of the sound around an utterance that go with it, as faster-whisper has it."""
WHOLE_S = speech_context.LONGEST_S
LONGEST_S = WHOLE_S - 2 * PAD_S
"""Longer speech is cut at its quietest moment."""
PAUSE_S = 0.3
"""Between two pieces of an utterance; a stop within a word is shorter."""

Samples = NDArray[np.float32]


@dataclass(frozen=True)
class Part:
    """Speech within an utterance: it begins at ``at_s`` of the utterance's sound and at ``start_s`` of the video.

    ``onset_s``: when the speech itself begins, counted in the utterance's sound.
    """

    at_s: float
    onset_s: float
    start_s: float


@dataclass(frozen=True)
class Utterance:
    """Speech of one video that is recognised at once; long pauses between its parts are left out.

    ``samples``: float32[n], mono, ``SPEECH_RATE_HZ``, in [-1, 1]. ``spoken_s``: how much of it is speech; the rest is
    the sound around it.
    """

    parts: tuple[Part, ...]
    spoken_s: float
    samples: Samples

    @property
    def start_s(self) -> float:
        """When it begins in the video."""
        return self.parts[0].start_s

    @property
    def duration_s(self) -> float:
        """Length in seconds."""
        return len(self.samples) / SPEECH_RATE_HZ

    def in_video(self, words: Iterable[Word]) -> Iterator[Word]:
        """``words`` with the video's times. Each is of the part in whose speech it ends.

        Whisper's word times have no gaps: a word begins where the one before it ended, so only its end counts.
        """
        ends_s = [*(part.at_s for part in self.parts[1:]), self.duration_s]
        for word in words:
            number = max(0, sum(word.end_s >= part.onset_s for part in self.parts) - 1)
            part = self.parts[number]
            start_s, end_s = (
                part.start_s - part.at_s + min(max(part.at_s, time_s), ends_s[number])
                for time_s in (word.start_s, word.end_s)
            )
            yield replace(word, start_s=start_s, end_s=end_s)


def utterances(window: SpeechWindow) -> Iterator[Utterance]:
    """The speech in ``window``, in stretches of up to ``WHOLE_S``; none where nothing is said.

    Sentences that follow each other help to recognise each other, so they stay together.
    """
    audio = window.samples.astype(np.float32) / 32768.0
    cut = _cut(audio, window.start_s, VadOptions(max_speech_duration_s=LONGEST_S, speech_pad_ms=0))
    together: list[Utterance] = []
    for one in cut:
        if together and sum(other.duration_s for other in together) + one.duration_s > WHOLE_S:
            yield _joined(together)
            together = []
        together.append(one)
    if together:
        yield _joined(together)


def pieces(utterance: Utterance) -> Iterator[Utterance]:
    """``utterance`` cut at each of its pauses; the times of the pieces count from its beginning."""
    options = VadOptions(min_silence_duration_ms=round(PAUSE_S * 1000), speech_pad_ms=0)
    return _cut(utterance.samples, 0.0, options)


def _joined(said: Sequence[Utterance]) -> Utterance:
    parts: list[Part] = []
    at_s = 0.0
    for one in said:
        [part] = one.parts
        parts.append(Part(at_s, at_s + part.onset_s, part.start_s))
        at_s += one.duration_s
    samples = np.concatenate([one.samples for one in said])
    return Utterance(tuple(parts), sum(one.spoken_s for one in said), samples)


def _cut(audio: Samples, start_s: float, options: VadOptions) -> Iterator[Utterance]:
    """The pause between two utterances is shared."""
    pad = round(PAD_S * SPEECH_RATE_HZ)
    spans = [(span["start"], span["end"]) for span in get_speech_timestamps(audio, options)]
    for number, (begin, end) in enumerate(spans):
        before = spans[number - 1][1] if number else 0
        after = spans[number + 1][0] if number + 1 < len(spans) else len(audio)
        first = max(begin - pad, (before + begin) // 2 if number else 0)
        last = min(end + pad, (end + after) // 2 if number + 1 < len(spans) else len(audio))
        part = Part(0.0, (begin - first) / SPEECH_RATE_HZ, start_s + first / SPEECH_RATE_HZ)
        yield Utterance((part,), (end - begin) / SPEECH_RATE_HZ, audio[first:last])
