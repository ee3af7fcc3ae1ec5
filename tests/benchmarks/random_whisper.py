"""A Whisper of any size with random weights: as much work as the real one, where no model hub can be reached.

Its words are nonsense; its run time is realistic, as long as the number of tokens is given.
"""

import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from ctranslate2.specs import WhisperSpec
from numpy.typing import NDArray

Weights = NDArray[np.float16]

FRAMES, TOKENS = 1500, 448
"""Positions of encoder and decoder, in every Whisper."""


@dataclass(frozen=True)
class Size:
    """Of a published model. The vocabulary is the English one of the files that are given."""

    width: int
    heads: int
    encoder_layers: int
    decoder_layers: int
    mels: int


SIZES = {
    "tiny": Size(384, 6, 4, 4, 80),
    "small": Size(768, 12, 12, 12, 80),
    "large-v3-turbo": Size(1280, 20, 32, 4, 128),
}


def write_random_whisper(folder: Path, size: Size, vocabulary_from: Path) -> None:
    """Write a CTranslate2 model in float16 to ``folder``, with the tokenizer of the model in ``vocabulary_from``."""
    vocabulary = (vocabulary_from / "vocabulary.txt").read_text(encoding="utf-8").removesuffix("\n").split("\n")
    made = _Made(size, np.random.default_rng(0))
    spec = WhisperSpec(size.encoder_layers, size.heads, size.decoder_layers, size.heads)
    made.fill_encoder(spec.encoder)
    made.fill_decoder(spec.decoder, len(vocabulary))
    spec.register_vocabulary(vocabulary)
    layers, heads = range(size.decoder_layers // 2, size.decoder_layers), range(size.heads)
    spec.config.alignment_heads = [[layer, head] for layer in layers for head in heads][:8]
    spec.config.suppress_ids, spec.config.suppress_ids_begin, spec.config.lang_ids = [], [], []
    spec.validate()
    folder.mkdir(parents=True)
    spec.save(str(folder))
    shutil.copy(vocabulary_from / "tokenizer.json", folder)
    (folder / "preprocessor_config.json").write_text(json.dumps({"feature_size": size.mels}))


class _Made:
    """Random weights of the right shapes, small enough to keep everything finite."""

    def __init__(self, size: Size, rng: np.random.Generator) -> None:
        self._size = size
        self._rng = rng

    def fill_encoder(self, spec: Any) -> None:
        width = self._size.width
        self._linear(spec.conv1, width, self._size.mels, 3)
        self._linear(spec.conv2, width, width, 3)
        spec.position_encodings.encodings = self._weights(FRAMES, width)
        self._norm(spec.layer_norm)
        for layer in spec.layer:
            self._attention(layer.self_attention, (3 * width, width))
            self._feed_forward(layer.ffn)

    def fill_decoder(self, spec: Any, vocabulary: int) -> None:
        width = self._size.width
        spec.embeddings.weight = self._weights(vocabulary, width)
        spec.position_encodings.encodings = self._weights(TOKENS, width)
        self._norm(spec.layer_norm)
        spec.projection.weight = self._weights(vocabulary, width)
        for layer in spec.layer:
            self._attention(layer.self_attention, (3 * width, width))
            self._attention(layer.attention, (width, 2 * width, width))
            self._feed_forward(layer.ffn)

    def _attention(self, spec: Any, outputs: tuple[int, ...]) -> None:
        self._norm(spec.layer_norm)
        for linear, output in zip(spec.linear, outputs, strict=True):
            self._linear(linear, output, self._size.width)

    def _feed_forward(self, spec: Any) -> None:
        self._norm(spec.layer_norm)
        self._linear(spec.linear_0, 4 * self._size.width, self._size.width)
        self._linear(spec.linear_1, self._size.width, 4 * self._size.width)

    def _linear(self, spec: Any, output: int, *inputs: int) -> None:
        spec.weight, spec.bias = self._weights(output, *inputs), self._weights(output)

    def _norm(self, spec: Any) -> None:
        spec.gamma, spec.beta = np.ones(self._size.width, np.float16), np.zeros(self._size.width, np.float16)

    def _weights(self, *shape: int) -> Weights:
        return (self._rng.standard_normal(shape, np.float32) * 0.02).astype(np.float16)
