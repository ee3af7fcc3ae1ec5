"""A loaded Whisper that is asked for words: whole windows of several speakers at once, or one stretch by itself.

Owns the calls of the model and the gates of what is heard by itself. Leaves finding and loading the model to
``speech``, what belongs into a window to whoever asks.
"""

import logging
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import ctranslate2
import faster_whisper.transcribe as library
import numpy as np
from faster_whisper import WhisperModel
from faster_whisper.tokenizer import Tokenizer
from numpy.typing import NDArray

from cluster.contracts.results import Word

logger = logging.getLogger(__name__)

FRAMES = 3000
"""Frames of a window of 30 s."""
ENCODED_AT_ONCE = 2
"""Windows that a CPU encodes at once: more of them no longer fit into its caches, and take longer each. Words are
written for all windows at once, which goes faster the more there are."""
NO_SPEECH_THRESHOLD = 0.6
LOG_PROB_THRESHOLD = -1.0
COMPRESSION_RATIO_THRESHOLD = 2.4
"""Whisper's own gates (Radford et al., 2022, section 4.5): silence, guessing, text that repeats itself."""
TEMPERATURES = (0.0, 0.2, 0.4, 0.6)
PREPENDED, APPENDED = "\"'“¿([{-", "\"'.。,，!！?？:：”)]}、"
"""Punctuation that belongs to the word behind it, and to the one before it; as faster-whisper has it."""

Samples = NDArray[np.float32]


@dataclass(frozen=True)
class Heard:
    """The words in a window, with times in it, and how sure the model was of each on the average.

    Whisper's word times leave no gaps: a word begins where the one before it ended.
    """

    words: tuple[Word, ...]
    mean_log_probability: float

    @property
    def is_doubtful(self) -> bool:
        """Whether the words may be guessed."""
        return self.mean_log_probability < LOG_PROB_THRESHOLD


def repeats_itself(text: str) -> bool:
    """Whether a text is in a loop: such text was not said."""
    return bool(library.get_compression_ratio(text) > COMPRESSION_RATIO_THRESHOLD) if text else False


class SpeechModel:
    """Asks ``model``, with beams of ``beam_size``."""

    def __init__(self, model: WhisperModel, beam_size: int) -> None:
        self._model = model
        self._beam_size = beam_size
        self._tokenizer = cache(self._made_tokenizer)
        self._log_mel: Callable[[Sequence[Samples]], Any] | None = None
        if model.model.device == "cuda":
            from cluster.models.log_mel import LogMel

            self._log_mel = LogMel(model.feature_extractor, "cuda")

    @property
    def is_multilingual(self) -> bool:
        """Whether it knows more than English."""
        return bool(self._model.model.is_multilingual)

    @property
    def languages(self) -> Collection[str]:
        """The ISO 639 codes that it knows."""
        languages: list[str] = self._model.supported_languages
        return languages

    def detect_language(self, samples: Samples) -> str:
        """The ISO 639 code of what is spoken in ``samples``; float32[n], mono, 16 kHz, as everywhere here."""
        if not self.is_multilingual:
            return "en"
        language: str = self._model.detect_language(samples)[0]
        return language

    def hear(self, windows: Sequence[Samples], language: str) -> list[Heard]:
        """The words in windows of 30 s each, all computed at once."""
        return self.hear_features(self._features(windows), language)

    def hear_features(self, features: ctranslate2.StorageView, language: str) -> list[Heard]:
        """The words in windows whose features, float32[window, mel, ``FRAMES``], are there already."""
        count = features.shape[0]
        tokenizer, encoded = self._tokenizer(language), self._encoded(features)
        results = self._model.model.generate(
            encoded,
            [[*tokenizer.sot_sequence, tokenizer.no_timestamps]] * count,
            beam_size=self._beam_size,
            max_length=self._model.max_length,
            return_scores=True,
            suppress_blank=True,
            suppress_tokens=library.get_suppressed_tokens(tokenizer, [-1]),
        )
        spoken = [[token for token in result.sequences_ids[0] if token < tokenizer.eot] for result in results]
        aligned = self._model.find_alignment(tokenizer, spoken, encoded, [FRAMES] * count)
        return [
            Heard(_words(words), _mean_log_probability(result)) for words, result in zip(aligned, results, strict=True)
        ]

    def hear_alone(self, samples: Samples, language: str) -> list[Word]:
        """The words in one stretch of speech, tried at rising temperatures until they pass the gates."""
        segments, _ = self._model.transcribe(
            samples,
            language=language,
            beam_size=self._beam_size,
            temperature=TEMPERATURES,
            word_timestamps=True,
            condition_on_previous_text=False,
            no_speech_threshold=NO_SPEECH_THRESHOLD,
            log_prob_threshold=LOG_PROB_THRESHOLD,
            compression_ratio_threshold=COMPRESSION_RATIO_THRESHOLD,
        )
        return [word for segment in segments if not _repeats_itself(segment) for word in _words_of(segment)]

    def _encoded(self, features: ctranslate2.StorageView) -> ctranslate2.StorageView:
        """What words are read from: float32[window, ...]. On a CPU few windows at a time."""
        if self._model.model.device == "cuda":
            return self._model.model.encode(features)
        made = np.asarray(features)
        parts = [made[first : first + ENCODED_AT_ONCE] for first in range(0, len(made), ENCODED_AT_ONCE)]
        encoded = [self._model.model.encode(ctranslate2.StorageView.from_array(part)) for part in parts]
        return ctranslate2.StorageView.from_array(np.concatenate([np.asarray(part) for part in encoded]))

    def _features(self, windows: Sequence[Samples]) -> ctranslate2.StorageView:
        if self._log_mel is not None:
            return ctranslate2.StorageView.from_array(self._log_mel(windows))
        features = [self._model.feature_extractor(samples, padding=0)[:, :FRAMES] for samples in windows]
        return ctranslate2.StorageView.from_array(np.stack(features))

    def _made_tokenizer(self, language: str) -> Tokenizer:
        return Tokenizer(self._model.hf_tokenizer, self.is_multilingual, task="transcribe", language=language)


def _words(aligned: list[dict[str, Any]]) -> tuple[Word, ...]:
    library.merge_punctuations(aligned, PREPENDED, APPENDED)
    return tuple(
        Word(float(word["start"]), float(word["end"]), word["word"], float(word["probability"]))
        for word in aligned
        if word["word"].strip()
    )


def _mean_log_probability(result: Any) -> float:
    """Per token, the end of the text included, as Whisper counts it."""
    length = len(result.sequences_ids[0])
    return float(result.scores[0]) * length / (length + 1)


def _repeats_itself(segment: library.Segment) -> bool:
    """Whether every try ended in a loop: such text was not said."""
    looped = bool(segment.compression_ratio > COMPRESSION_RATIO_THRESHOLD)
    if looped:
        logger.info("left out text that repeats itself")
    return looped


def _words_of(segment: library.Segment) -> list[Word]:
    return [
        Word(float(word.start), float(word.end), word.word, float(word.probability))
        for word in segment.words or []
        if word.word.strip()
    ]
