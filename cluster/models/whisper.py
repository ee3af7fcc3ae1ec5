"""A loaded Whisper that recognises words: stretches of sound of like length at once, each as if alone.

Owns the calls of the model and how much context a stretch gets. Leaves finding and loading the model to ``speech``,
what becomes of doubtful words to ``actors.stages.recognizer``.

What is recognised in a stretch depends on it alone. Stretches that share a call have the same context, so none is
padded for another; words are aligned for each separately, because CTranslate2 normalises the weights of a padded batch
over the longest text in it, which moves times by up to a second. Nothing is sampled: CTranslate2 seeds its random
numbers once per thread, so a sampled text would depend on all that was recognised before it.
"""

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

from cluster.contracts.media import SPEECH_RATE_HZ
from cluster.contracts.results import Word
from cluster.models.speech_context import ContextRule, context_rule

FRAMES_PER_S = 100
PROBE_FRAMES = 100
"""A second of silence, which suffices to measure how wide the encoder is."""
PREPENDED, APPENDED = "\"'“¿([{-", "\"'.。,，!！?？:：”)]}、"
"""Punctuation that belongs to the word behind it, and to the one before it; as faster-whisper has it."""

Samples = NDArray[np.float32]


@dataclass(frozen=True)
class Recognition:
    """The words in a stretch of sound, with times in it.

    ``mean_log_probability``: per token, of the text as decoded. ``no_speech_probability``: that nothing is said.
    Whisper's word times leave no gaps: a word begins where the one before it ended.
    """

    words: tuple[Word, ...]
    mean_log_probability: float
    no_speech_probability: float

    @property
    def text(self) -> str:
        """All words, as written."""
        return "".join(word.text for word in self.words)


class SpeechModel:
    """Asks ``model``, with beams of ``beam_size``."""

    def __init__(self, model: WhisperModel, beam_size: int) -> None:
        self._model = model
        self._beam_size = beam_size
        self._tokenizer = cache(self._made_tokenizer)
        self._log_mel: Callable[[Sequence[Samples]], Any] | None = None
        if self._on_gpu:
            from cluster.models.log_mel import LogMel

            self._log_mel = LogMel(model.feature_extractor, "cuda")
        self.context: ContextRule = context_rule(self._width(), self.is_multilingual)

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

    def recognise(
        self, stretches: Sequence[Samples], context_s: float, language: str, prompt: str = ""
    ) -> list[Recognition]:
        """The words in each of ``stretches``, none longer than ``context_s``, which all are padded to.

        ``prompt``: what was said before, in words of which more are expected.
        """
        return self.recognise_features(self._features(stretches, context_s), language, prompt)

    def recognise_features(
        self, features: ctranslate2.StorageView, language: str, prompt: str = ""
    ) -> list[Recognition]:
        """The words in stretches whose features, float32[stretch, mel, frame], are computed already."""
        count, _, frames = features.shape
        tokenizer, encoded = self._tokenizer(language), self._encoded(features)
        results = self._model.model.generate(
            ctranslate2.StorageView.from_array(encoded),
            [self._model.get_prompt(tokenizer, tokenizer.encode(prompt), without_timestamps=True)] * count,
            beam_size=self._beam_size,
            max_length=self._model.max_length,
            return_scores=True,
            return_no_speech_prob=True,
            suppress_blank=True,
            suppress_tokens=library.get_suppressed_tokens(tokenizer, [-1]),
        )
        return [
            Recognition(
                self._aligned(encoded[number : number + 1], result.sequences_ids[0], frames, tokenizer),
                _mean_log_probability(result),
                float(result.no_speech_prob),
            )
            for number, result in enumerate(results)
        ]

    def _aligned(self, encoded: Any, tokens: Sequence[int], frames: int, tokenizer: Tokenizer) -> tuple[Word, ...]:
        """The words of one stretch with their times; ``encoded``: float[1, ...]."""
        spoken = [token for token in tokens if token < tokenizer.eot]
        view = ctranslate2.StorageView.from_array(encoded)
        [words] = self._model.find_alignment(tokenizer, [spoken], view, frames)
        library.merge_punctuations(words, PREPENDED, APPENDED)
        return tuple(
            Word(float(word["start"]), float(word["end"]), word["word"], float(word["probability"]))
            for word in words
            if word["word"].strip()
        )

    def _encoded(self, features: ctranslate2.StorageView) -> Any:
        """What words are read from: an array or, on a GPU, a tensor there, of shape [stretch, ...].

        A CPU encodes them one after the other: several at once no longer fit into its caches, and take longer each.
        """
        if self._on_gpu:
            import torch

            return torch.as_tensor(self._model.model.encode(features), device="cuda")
        encode = self._model.model.encode
        return np.concatenate(
            [np.asarray(encode(ctranslate2.StorageView.from_array(one[None]))) for one in np.asarray(features)]
        )

    def _features(self, stretches: Sequence[Samples], context_s: float) -> ctranslate2.StorageView:
        """Log-mel spectrograms, float32[stretch, mel, frame]; zeros behind the sound, as faster-whisper pads it.

        A zero is a quiet sound, silence is less. Of the real voices' words 0.121 differ with zeros and 0.127 with
        silence, of those of synthetic voices 0.014 and 0.022 (tiny.en, 2026-11-29).
        """
        length, frames = round(context_s * SPEECH_RATE_HZ), round(context_s * FRAMES_PER_S)
        sounds = [samples[:length] for samples in stretches]
        frame_counts = [len(sound) * FRAMES_PER_S // SPEECH_RATE_HZ for sound in sounds]
        if self._log_mel is not None:
            on_gpu = self._log_mel([_padded(sound, length) for sound in sounds])
            for number, count in enumerate(frame_counts):
                on_gpu[number, :, count:] = 0.0
            return ctranslate2.StorageView.from_array(on_gpu)
        features = np.zeros((len(sounds), self._model.model.n_mels, frames), np.float32)
        for number, (sound, count) in enumerate(zip(sounds, frame_counts, strict=True)):
            features[number, :, :count] = self._model.feature_extractor(sound)[:, :count]
        return ctranslate2.StorageView.from_array(features)

    @property
    def _on_gpu(self) -> bool:
        return bool(self._model.model.device == "cuda")

    def _width(self) -> int:
        silence = np.zeros((1, self._model.model.n_mels, PROBE_FRAMES), np.float32)
        shape: Sequence[int] = self._model.model.encode(ctranslate2.StorageView.from_array(silence)).shape
        return shape[-1]

    def _made_tokenizer(self, language: str) -> Tokenizer:
        return Tokenizer(self._model.hf_tokenizer, self.is_multilingual, task="transcribe", language=language)


def _padded(samples: Samples, length: int) -> Samples:
    window = np.zeros(length, np.float32)
    window[: len(samples)] = samples
    return window


def _mean_log_probability(result: Any) -> float:
    """Per token, the end of the text included, as Whisper counts it."""
    length = len(result.sequences_ids[0])
    return float(result.scores[0]) * length / (length + 1)
