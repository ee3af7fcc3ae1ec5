"""Sound -> words with times, by Whisper, for several videos at once.

Owns the language of a video, whose words are whose, and times that fit together. Leaves the sound to
``media_reader``, putting utterances together to ``speech_packing``, asking the model to ``cluster.models.whisper``.

What is heard in a window that several videos share must be beyond doubt; else each of its utterances is heard again by
itself, so that nobody's words depend on the neighbours. One transcription at a time per process: the model's own
threads use the device.
"""

import math
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import ctranslate2

from actors.stages.speech_packing import PackedWindow, Packer, Utterance, utterances
from cluster.contracts.errors import ConfigurationError, DeviceFailure, HeimdexError, InvalidVideo
from cluster.contracts.media import SpeechWindow
from cluster.contracts.results import Segment, Transcript, Word
from cluster.models.read_ahead import read_ahead
from cluster.models.speech import load_speech_model, model_version
from cluster.models.whisper import Heard, SpeechModel, repeats_itself

WINDOWS_PER_CALL = {"cpu": 8, "cuda": 16}
"""Windows whose words are written at once; by device, since a CPU takes longer again for more."""
SENTENCE_WORDS = 6
"""Shorter texts are those that Whisper is known to make of noises: "Thank you", "Thanks for watching"."""
LEAST_SPEECH_S = 0.3
"""Shorter utterances may be no more than a noise: that nothing is heard in them is no doubt."""
SENTENCE_ENDS = (".", "?", "!", "。", "？", "！")
PAUSE_S = 1.0
"""Words further apart are of two segments."""


@dataclass(frozen=True)
class SoundOfVideo:
    """One video's share of a batch: its sound, read once, and its language, ISO 639; None to detect it."""

    windows: Iterable[SpeechWindow]
    language: str | None


@dataclass
class _Hearing:
    """What has been found out about a video so far."""

    language: str | None
    spoken_s: float = 0.0
    said: list[tuple[float, list[Word]]] = field(default_factory=list)
    """The words of each utterance and when it begins, in the order in which they were heard."""
    error: HeimdexError | None = None


@dataclass(frozen=True)
class HeardVideo:
    """``transcript``, or why there is none. ``spoken_s``: how much speech was in it, which is what it cost."""

    transcript: Transcript | HeimdexError
    spoken_s: float


class Transcriber:
    """A loaded Whisper. ``model_name`` is what transcripts name as their model."""

    def __init__(self, model_name: str, device: str, compute_type: str, threads: int, beam_size: int = 5) -> None:
        """Loads the model; raises ``ConfigurationError`` as ``load_speech_model`` does."""
        self.model_name = f"{model_name}@{model_version(model_name)}"
        self._model = SpeechModel(load_speech_model(model_name, device, compute_type, threads), beam_size)
        self._windows_per_call = WINDOWS_PER_CALL["cuda" if device.startswith("cuda") else "cpu"]
        ctranslate2.set_random_seed(0)  # retries at a higher temperature sample; the same sound gives the same text

    def transcribe(self, windows: Iterable[SpeechWindow], language: str | None) -> Transcript:
        """Everything said in one video; see ``transcribe_all``, whose error for the video is raised."""
        (heard,) = self.transcribe_all([SoundOfVideo(windows, language)])
        if isinstance(heard.transcript, HeimdexError):
            raise heard.transcript
        return heard.transcript

    def transcribe_all(self, videos: Sequence[SoundOfVideo]) -> list[HeardVideo]:
        """Everything said in each of ``videos``, in the order given.

        A transcript's language is None when nothing was said. A video's error is ``ConfigurationError`` when the model
        is English-only and another language is asked for, ``InvalidVideo`` when no Whisper knows the language.
        """
        hearings = [_Hearing(video.language) for video in videos]
        for language, batch in read_ahead(self._batches(self._utterances(videos, hearings))):
            with _device_errors():
                for window, heard in zip(batch, self._model.hear([w.samples for w in batch], language), strict=True):
                    for utterance, words in self._parted(window, heard, language):
                        hearings[utterance.owner].said.append((utterance.start_s, words))
        return [self._heard(hearing) for hearing in hearings]

    # Who is heard together

    def _batches(self, spoken: Iterable[tuple[Utterance, str]]) -> Iterator[tuple[str, list[PackedWindow]]]:
        """Windows of one language, as many as are computed at once."""
        packers: dict[str, Packer] = defaultdict(Packer)
        closed: dict[str, list[PackedWindow]] = defaultdict(list)
        for utterance, language in spoken:
            window = packers[language].add(utterance)
            if window is not None:
                closed[language].append(window)
            if len(closed[language]) == self._windows_per_call:
                yield language, closed.pop(language)
        for language, packer in packers.items():
            left = [*closed[language], *packer.close()]
            for first in range(0, len(left), self._windows_per_call):
                yield language, left[first : first + self._windows_per_call]

    def _utterances(
        self, videos: Sequence[SoundOfVideo], hearings: Sequence[_Hearing]
    ) -> Iterator[tuple[Utterance, str]]:
        for owner, (video, hearing) in enumerate(zip(videos, hearings, strict=True)):
            for window in video.windows:
                for utterance in utterances(owner, window):
                    try:
                        language = self._language(utterance, hearing)
                    except (ConfigurationError, InvalidVideo) as error:
                        hearing.error = error
                        break
                    hearing.spoken_s += utterance.duration_s
                    yield utterance, language
                if hearing.error is not None:
                    break

    def _language(self, utterance: Utterance, hearing: _Hearing) -> str:
        """The video's language; detected in its first utterance, unless it is given."""
        if hearing.language is None:
            with _device_errors():
                hearing.language = self._model.detect_language(utterance.samples)
        if hearing.language in self._model.languages:
            return hearing.language
        if not self._model.is_multilingual:
            raise ConfigurationError(
                f"the speech model {self.model_name} knows only English, the video asks for {hearing.language}: "
                "set HEIMDEX_WHISPER_MODEL to a multilingual model"
            )
        raise InvalidVideo(f"the speech model {self.model_name} does not know the language {hearing.language}")

    # Whose words they are

    def _parted(self, window: PackedWindow, heard: Heard, language: str) -> Iterator[tuple[Utterance, list[Word]]]:
        """Each utterance's words, in the video's time."""
        parts: list[list[Word]] = [[] for _ in window.utterances]
        for word in heard.words:
            parts[window.place_of(word.end_s)].append(word)
        doubtful = heard.is_doubtful or _loops(["".join(word.text for word in words) for words in parts])
        for utterance, start_s, words in zip(window.utterances, window.starts_s, parts, strict=True):
            missing = not words and utterance.duration_s - utterance.onset_s > LEAST_SPEECH_S
            if doubtful or missing:
                alone = self._model.hear_alone(utterance.samples, language)
                yield utterance, _in_video(alone, utterance.start_s, utterance)
            else:
                yield utterance, _in_video(words, utterance.start_s - start_s, utterance)

    def _heard(self, hearing: _Hearing) -> HeardVideo:
        if hearing.error is not None:
            return HeardVideo(hearing.error, hearing.spoken_s)
        segments: list[Segment] = []
        for _, words in sorted(hearing.said, key=lambda said: said[0]):
            segments += _segments(_in_order(words, after_s=segments[-1].end_s if segments else 0.0))
        spoken = hearing.language if segments else None
        return HeardVideo(Transcript(spoken, tuple(segments), self.model_name), hearing.spoken_s)


@contextmanager
def _device_errors() -> Iterator[None]:
    """CTranslate2 has no exception type of its own for CUDA: its messages all begin with the name."""
    try:
        yield
    except RuntimeError as error:
        if str(error).startswith(("CUDA", "cuBLAS", "cuDNN")):
            raise DeviceFailure(f"the GPU reported an error: {error}") from error
        raise


def _loops(texts: Sequence[str]) -> bool:
    """Whether what was heard in the utterances of a window repeats itself.

    The same sentence may well have been said in several: in the videos of a series, say. It counts once, unless it is
    so short that Whisper may have made it up for each of them, or said twice in one utterance: hearing a sentence in
    one after the other, Whisper goes on with it once more.
    """
    words = [tuple(re.findall(r"\w+", text.lower())) for text in texts]
    short = [said for said in words if len(said) < SENTENCE_WORDS]
    long = dict.fromkeys(said for said in words if len(said) >= SENTENCE_WORDS)
    return any(map(_says_it_twice, long)) or repeats_itself(" ".join(" ".join(said) for said in (*short, *long)))


def _says_it_twice(words: Sequence[str]) -> bool:
    lengths = range(SENTENCE_WORDS, len(words) // 2 + 1)
    return any(words[:length] == words[length : 2 * length] for length in lengths)


def _in_video(words: Sequence[Word], offset_s: float, utterance: Utterance) -> list[Word]:
    """``words`` in the video's time: rising, and within the utterance."""
    latest_s = max(0.0, utterance.start_s + utterance.duration_s)
    at_s = max(0.0, utterance.start_s)
    placed = []
    for word in words:
        start_s = _between(at_s, word.start_s + offset_s, latest_s)
        at_s = _between(start_s, word.end_s + offset_s, latest_s)
        placed.append(Word(start_s, at_s, word.text, _between(0.0, word.probability, 1.0)))
    return placed


def _between(low: float, value: float, high: float) -> float:
    """``value`` clamped; a value that is no number becomes ``low``."""
    return min(max(low, value), high) if math.isfinite(value) else low


def _in_order(words: Sequence[Word], after_s: float) -> list[Word]:
    """Drop nothing, move what begins before the segment ahead of it has ended: no moment has two words."""
    return [Word(max(after_s, w.start_s), max(after_s, w.end_s), w.text, w.probability) for w in words]


def _segments(words: Sequence[Word]) -> Iterator[Segment]:
    """Words up to the end of a sentence, or to a pause."""
    said: list[Word] = []
    for word in words:
        if said and (said[-1].text.endswith(SENTENCE_ENDS) or word.start_s - said[-1].end_s > PAUSE_S):
            yield _segment(said)
            said = []
        said.append(word)
    if said:
        yield _segment(said)


def _segment(words: Sequence[Word]) -> Segment:
    return Segment(words[0].start_s, words[-1].end_s, "".join(word.text for word in words).strip(), tuple(words))
