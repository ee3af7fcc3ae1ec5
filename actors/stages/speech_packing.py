"""Utterances of many videos, put together into the windows that Whisper takes.

Whisper computes 30 s whatever is in them: a short clip alone would pay for all of it. Owns what an utterance is, how
windows are filled and whose a word is by its time. Leaves hearing the words to ``transcriber``.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
from faster_whisper.vad import VadOptions, get_speech_timestamps
from numpy.typing import NDArray

from cluster.contracts.media import SPEECH_RATE_HZ, SpeechWindow

WINDOW_S = 30.0
"""What Whisper computes at once."""
GAP_S = 0.5
"""Silence between two utterances in a window, beside what each keeps around it."""
PAD_S = 0.4
"""How much of the sound around an utterance goes with it, as faster-whisper has it."""
LONGEST_S = WINDOW_S - 2 * PAD_S
"""Longer speech is cut at its quietest moment."""
OPEN_WINDOWS = 4
"""How many windows wait to be filled at once: more leave less empty, and hold more sound."""

Samples = NDArray[np.float32]


@dataclass(frozen=True)
class Utterance:
    """A stretch of speech without a long pause. ``owner`` is whoever wants to know what is said in it.

    ``samples``: float32[n], mono, ``SPEECH_RATE_HZ``, in [-1, 1]; they begin at ``start_s`` of the video and hold the
    speech from ``onset_s`` on, counted from their own beginning.
    """

    owner: int
    start_s: float
    onset_s: float
    samples: Samples

    @property
    def duration_s(self) -> float:
        """Length in seconds."""
        return len(self.samples) / SPEECH_RATE_HZ


def utterances(owner: int, window: SpeechWindow) -> Iterator[Utterance]:
    """The speech in ``window``, found by voice detection; none where nobody speaks."""
    audio = window.samples.astype(np.float32) / 32768.0
    found = get_speech_timestamps(audio, VadOptions(max_speech_duration_s=LONGEST_S, speech_pad_ms=0))
    spans = [(span["start"], span["end"]) for span in found]
    for number, (begin, end) in enumerate(spans):
        # What lies between two utterances is shared.
        before = spans[number - 1][1] if number else 0
        after = spans[number + 1][0] if number + 1 < len(spans) else len(audio)
        first = max(begin - round(PAD_S * SPEECH_RATE_HZ), (before + begin) // 2 if number else 0)
        last = min(end + round(PAD_S * SPEECH_RATE_HZ), (end + after) // 2 if number + 1 < len(spans) else len(audio))
        start_s = window.start_s + first / SPEECH_RATE_HZ
        yield Utterance(owner, start_s, (begin - first) / SPEECH_RATE_HZ, audio[first:last])


@dataclass
class PackedWindow:
    """Utterances one after the other, with gaps; ``starts_s`` says where in the window each begins."""

    utterances: list[Utterance] = field(default_factory=list)
    starts_s: list[float] = field(default_factory=list)
    end_s: float = 0.0

    def add(self, utterance: Utterance) -> bool:
        """Whether there was room for it."""
        start_s = self.end_s + GAP_S if self.utterances else 0.0
        if start_s + utterance.duration_s > WINDOW_S:
            return False
        self.utterances.append(utterance)
        self.starts_s.append(start_s)
        self.end_s = start_s + utterance.duration_s
        return True

    @property
    def samples(self) -> Samples:
        """float32[``WINDOW_S`` x ``SPEECH_RATE_HZ``]: the whole window, silent where there is nothing."""
        whole = np.zeros(round(WINDOW_S * SPEECH_RATE_HZ), np.float32)
        for start_s, utterance in zip(self.starts_s, self.utterances, strict=True):
            first = round(start_s * SPEECH_RATE_HZ)
            piece = utterance.samples[: len(whole) - first]
            whole[first : first + len(piece)] = piece
        return whole

    def place_of(self, end_s: float) -> int:
        """The number of the utterance that a word belongs to which ends then.

        Whisper's word times have no gaps: a word begins where the one before it ended, so only its end tells.
        """
        onsets_s = [start + said.onset_s for start, said in zip(self.starts_s, self.utterances, strict=True)]
        return max(0, sum(end_s >= onset_s for onset_s in onsets_s) - 1)


class Packer:
    """Fills windows with utterances as they come: each goes into the first open window that has room."""

    def __init__(self) -> None:
        self._open: list[PackedWindow] = []

    def add(self, utterance: Utterance) -> PackedWindow | None:
        """The window that is closed for it, if one is."""
        if any(window.add(utterance) for window in self._open):
            return None
        self._open.append(PackedWindow())
        self._open[-1].add(utterance)
        return self._open.pop(0) if len(self._open) > OPEN_WINDOWS else None

    def close(self) -> Sequence[PackedWindow]:
        """The windows that are still open."""
        left, self._open = self._open, []
        return left
