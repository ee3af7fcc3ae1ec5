"""Sound -> words with times, by Whisper.

Owns voice detection, the language of a video, the gates against made-up text, and times that fit together.
Leaves the sound to ``media_reader``, the model's files to ``cluster.models.speech``.

One transcription at a time per process: the model's own threads use the device.
"""

import logging
import math
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import ctranslate2
import faster_whisper.transcribe as whisper
import numpy as np
from faster_whisper.vad import VadOptions, collect_chunks, get_speech_timestamps
from numpy.typing import NDArray

from cluster.contracts.errors import ConfigurationError, DeviceFailure, InvalidVideo
from cluster.contracts.media import SPEECH_RATE_HZ, SpeechWindow
from cluster.contracts.results import Segment, Transcript, Word
from cluster.models.speech import load_speech_model, model_version

logger = logging.getLogger(__name__)

NO_SPEECH_THRESHOLD = 0.6
LOG_PROB_THRESHOLD = -1.0
COMPRESSION_RATIO_THRESHOLD = 2.4
"""Whisper's own gates (Radford et al., 2022, section 4.5): silence, guessing, text that repeats itself."""
TEMPERATURES = (0.0, 0.2, 0.4, 0.6)


class Transcriber:
    """A loaded Whisper. ``model_name`` is what transcripts name as their model."""

    def __init__(self, model_name: str, device: str, compute_type: str, threads: int, beam_size: int = 5) -> None:
        """Loads the model; raises ``ConfigurationError`` as ``load_speech_model`` does."""
        self.model_name = f"{model_name}@{model_version(model_name)}"
        self._model = load_speech_model(model_name, device, compute_type, threads)
        self._beam_size = beam_size
        ctranslate2.set_random_seed(0)  # retries at a higher temperature sample; the same sound gives the same text

    def transcribe(self, windows: Iterable[SpeechWindow], language: str | None) -> Transcript:
        """Everything said in ``windows``; ``language`` is an ISO 639 code, None to detect it from the first
        speech.

        The transcript's language is None when nothing was said. Raises ``ConfigurationError`` when the model
        is English-only and another language is asked for, ``InvalidVideo`` when no Whisper knows the
        language.
        """
        segments: list[Segment] = []
        spoken: str | None = None
        for window in windows:
            with _device_errors():
                found, detected = self._transcribe_window(window, language)
            if found:
                segments.extend(_in_order(found, after_s=segments[-1].end_s if segments else 0.0))
                language = spoken = detected
        return Transcript(language=spoken, segments=tuple(segments), model=self.model_name)

    def _check_language(self, language: str) -> None:
        if language in self._model.supported_languages:
            return
        if not self._model.model.is_multilingual:
            raise ConfigurationError(
                f"the speech model {self.model_name} knows only English, the video asks for {language}: "
                "set HEIMDEX_WHISPER_MODEL to a multilingual model"
            )
        raise InvalidVideo(f"the speech model {self.model_name} does not know the language {language}")

    def _transcribe_window(self, window: SpeechWindow, language: str | None) -> tuple[list[Segment], str]:
        audio = window.samples.astype(np.float32) / 32768.0
        chunks = get_speech_timestamps(audio, VadOptions())
        if not chunks:
            return [], ""
        if language is not None:
            self._check_language(language)
        # What transcribe(vad_filter=True) does, but asked first whether there is any speech: the library's
        # language detection fails on none.
        spoken: NDArray[np.float32] = np.concatenate(collect_chunks(audio, chunks)[0])
        found, info = self._model.transcribe(
            spoken,
            language=language,
            beam_size=self._beam_size,
            temperature=TEMPERATURES,
            word_timestamps=True,
            condition_on_previous_text=False,
            no_speech_threshold=NO_SPEECH_THRESHOLD,
            log_prob_threshold=LOG_PROB_THRESHOLD,
            compression_ratio_threshold=COMPRESSION_RATIO_THRESHOLD,
        )
        restored = whisper.restore_speech_timestamps(found, chunks, SPEECH_RATE_HZ)
        kept = (segment for segment in restored if not _repeats_itself(segment))
        segments = [_segment(segment, window) for segment in kept]
        return [segment for segment in segments if segment is not None], info.language


@contextmanager
def _device_errors() -> Iterator[None]:
    """CTranslate2 has no exception type of its own for CUDA: its messages all begin with the name."""
    try:
        yield
    except RuntimeError as error:
        if str(error).startswith(("CUDA", "cuBLAS", "cuDNN")):
            raise DeviceFailure(f"the GPU reported an error: {error}") from error
        raise


def _repeats_itself(segment: whisper.Segment) -> bool:
    """Whether every retry ended in a loop: such text was not said."""
    looped = bool(segment.compression_ratio > COMPRESSION_RATIO_THRESHOLD)
    if looped:
        logger.info("left out text that repeats itself at %.1f s of a window", segment.start)
    return looped


def _segment(segment: whisper.Segment, window: SpeechWindow) -> Segment | None:
    """``segment`` in the video's time, its words rising and inside it; None when it holds no word."""
    earliest, latest = max(0.0, window.start_s), max(0.0, window.start_s + window.duration_s)
    words: list[Word] = []
    at_s = earliest
    for word in segment.words or []:
        if not word.word.strip():
            continue
        start_s = _between(at_s, window.start_s + float(word.start), latest)
        at_s = _between(start_s, window.start_s + float(word.end), latest)
        words.append(Word(start_s, at_s, word.word, _between(0.0, float(word.probability), 1.0)))
    if not words:
        return None
    return Segment(words[0].start_s, words[-1].end_s, segment.text.strip(), tuple(words))


def _between(low: float, value: float, high: float) -> float:
    """``value`` clamped; a value that is no number becomes ``low``."""
    return min(max(low, value), high) if math.isfinite(value) else low


def _in_order(segments: list[Segment], after_s: float) -> list[Segment]:
    """Drop nothing, move what begins before the segment ahead of it has ended: no moment has two words."""
    ordered = []
    for segment in segments:
        words = tuple(
            Word(max(after_s, word.start_s), max(after_s, word.end_s), word.text, word.probability)
            for word in segment.words
        )
        ordered.append(Segment(words[0].start_s, words[-1].end_s, segment.text, words))
        after_s = words[-1].end_s
    return ordered
