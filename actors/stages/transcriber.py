"""Sound -> words with times, by Whisper, for several videos at once.

Owns the language of a video, which utterances are recognised in one call, and the segments of a transcript. Leaves the
sound to ``media_reader``, where speech is to ``utterances``, the words in it to ``recognizer``.

Utterances of like length share a call, whichever videos they are of; each is recognised as if alone, so the words of a
video never depend on its neighbours. One transcription at a time per process: the model's own threads use the device.
"""

import itertools
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import numpy as np

from actors.stages.recognizer import Recognizer
from actors.stages.utterances import Utterance, utterances
from cluster.contracts.errors import ConfigurationError, DeviceFailure, HeimdexError, InvalidVideo
from cluster.contracts.media import SpeechWindow
from cluster.contracts.results import Segment, Transcript, Word
from cluster.models.read_ahead import read_ahead
from cluster.models.speech import load_speech_model, model_version
from cluster.models.whisper import SpeechModel

UTTERANCES_PER_CALL = {"cpu": 8, "cuda": 16}
"""Utterances whose words are decoded at once; by device, since a CPU takes longer again for more."""
LANGUAGE_S = 30.0
"""Speech that a language is detected in: as much as the model takes at once."""
SENTENCE_ENDS = (".", "?", "!", "。", "？", "！")
PAUSE_S = 1.0
"""Words further apart are of two segments."""


@dataclass(frozen=True)
class SoundOfVideo:
    """One video's share of a batch: its sound, read once, and its language, ISO 639; None to detect it."""

    windows: Iterable[SpeechWindow]
    language: str | None


@dataclass
class _Progress:
    """What has been recognised in a video so far."""

    language: str | None
    spoken_s: float = 0.0
    words: list[tuple[float, list[Word]]] = field(default_factory=list)
    """The words of each utterance and when it begins, in the order in which they were recognised."""
    error: HeimdexError | None = None


@dataclass(frozen=True)
class _Item:
    """An utterance on its way to the model; ``owner`` is the number of its video."""

    owner: int
    utterance: Utterance


@dataclass(frozen=True)
class _Batch:
    """Utterances of one language that need the same context."""

    language: str
    context_s: float
    items: list[_Item]


@dataclass(frozen=True)
class TranscribedVideo:
    """``transcript``, or why there is none. ``spoken_s``: how much speech was in it, which is what it cost."""

    transcript: Transcript | HeimdexError
    spoken_s: float


class Transcriber:
    """A loaded Whisper. ``model_name`` is what transcripts name as their model."""

    def __init__(self, model_name: str, device: str, compute_type: str, threads: int, beam_size: int = 5) -> None:
        """Loads the model; raises ``ConfigurationError`` as ``load_speech_model`` does."""
        self.model_name = f"{model_name}@{model_version(model_name)}"
        self._model = SpeechModel(load_speech_model(model_name, device, compute_type, threads), beam_size)
        self._recognizer = Recognizer(self._model)
        self._utterances_per_call = UTTERANCES_PER_CALL["cuda" if device.startswith("cuda") else "cpu"]

    def transcribe(self, windows: Iterable[SpeechWindow], language: str | None) -> Transcript:
        """Everything said in one video; see ``transcribe_all``, whose error for the video is raised."""
        [video] = self.transcribe_all([SoundOfVideo(windows, language)])
        if isinstance(video.transcript, HeimdexError):
            raise video.transcript
        return video.transcript

    def transcribe_all(self, videos: Sequence[SoundOfVideo]) -> list[TranscribedVideo]:
        """Everything said in each of ``videos``, in the order given.

        A transcript's language is None when nothing was said. A video's error is ``ConfigurationError`` when the model
        is English-only and another language is asked for, ``InvalidVideo`` when no Whisper knows the language.
        """
        progress = [_Progress(video.language) for video in videos]
        for batch in read_ahead(self._batches(self._spoken(videos, progress))):
            said = [item.utterance for item in batch.items]
            with _device_errors():
                recognised = self._recognizer.recognise(said, batch.context_s, batch.language)
            for item, words in zip(batch.items, recognised, strict=True):
                progress[item.owner].words.append((item.utterance.start_s, words))
        return [self._transcribed(video) for video in progress]

    def _batches(self, spoken: Iterable[tuple[_Item, str]]) -> Iterator[_Batch]:
        """Utterances of one language and of like length, as many as are computed at once."""
        waiting: dict[tuple[str, float], list[_Item]] = defaultdict(list)
        for item, language in spoken:
            key = (language, self._model.context.context_s(item.utterance.duration_s))
            waiting[key].append(item)
            if len(waiting[key]) == self._utterances_per_call:
                yield _Batch(*key, waiting.pop(key))
        for key, items in waiting.items():
            yield _Batch(*key, items)

    def _spoken(self, videos: Sequence[SoundOfVideo], progress: Sequence[_Progress]) -> Iterator[tuple[_Item, str]]:
        """Every utterance of every video with its language, as far as the model knows that."""
        for owner, (video, seen) in enumerate(zip(videos, progress, strict=True)):
            said = (utterance for window in video.windows for utterance in utterances(window))
            first = _first_speech(said, least_s=0.0 if seen.language else LANGUAGE_S)
            if not first:
                continue
            try:
                language = self._known(seen.language or self._detected(first))
            except (ConfigurationError, InvalidVideo) as error:
                seen.error = error
                continue
            seen.language = language
            for utterance in itertools.chain(first, said):
                seen.spoken_s += utterance.duration_s
                yield _Item(owner, utterance), language

    def _detected(self, said: Sequence[Utterance]) -> str:
        with _device_errors():
            return self._model.detect_language(np.concatenate([utterance.samples for utterance in said]))

    def _known(self, language: str) -> str:
        if language in self._model.languages:
            return language
        if not self._model.is_multilingual:
            raise ConfigurationError(
                f"the speech model {self.model_name} knows only English, the video asks for {language}: "
                "set HEIMDEX_WHISPER_MODEL to a multilingual model"
            )
        raise InvalidVideo(f"the speech model {self.model_name} does not know the language {language}")

    def _transcribed(self, seen: _Progress) -> TranscribedVideo:
        if seen.error is not None:
            return TranscribedVideo(seen.error, seen.spoken_s)
        segments: list[Segment] = []
        for _, words in sorted(seen.words, key=lambda said: said[0]):
            segments += _segments(_in_order(words, after_s=segments[-1].end_s if segments else 0.0))
        language = seen.language if segments else None
        return TranscribedVideo(Transcript(language, tuple(segments), self.model_name), seen.spoken_s)


@contextmanager
def _device_errors() -> Iterator[None]:
    """CTranslate2 has no exception type of its own for CUDA: its messages all begin with the name."""
    try:
        yield
    except RuntimeError as error:
        if str(error).startswith(("CUDA", "cuBLAS", "cuDNN")):
            raise DeviceFailure(f"the GPU reported an error: {error}") from error
        raise


def _first_speech(said: Iterator[Utterance], least_s: float) -> list[Utterance]:
    """The first utterances, together ``least_s`` long if there is so much: one word does not identify the language."""
    first: list[Utterance] = []
    for utterance in said:
        first.append(utterance)
        if sum(one.duration_s for one in first) >= least_s:
            break
    return first


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
