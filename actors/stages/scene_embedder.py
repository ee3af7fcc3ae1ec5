"""Describes scenes: an embedding and zero-shot tags from the key frame, the words spoken meanwhile, and what they mean.

Key frames of many videos share the vision model's batches, and texts the text model's. Loading both is
``cluster.models``'.
"""

import math
from bisect import bisect_left
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from operator import itemgetter
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from cluster.contracts.errors import ConfigurationError
from cluster.contracts.media import DetectedScene, SceneBlock
from cluster.contracts.results import SceneDescription, Transcript
from cluster.contracts.search import TextEncoder
from cluster.models.labels import LabelGroup
from cluster.models.vision import VisionModel

Item = TypeVar("Item")

PROMPT = "a photo of {}"
"""The prompt for a label; CLIP was trained on captions, not on bare words (Radford et al. 2021, 3.1.4)."""


@dataclass(frozen=True)
class ScenesOfVideo:
    """One video's share of a batch: its scenes in blocks, read once, and its transcript."""

    blocks: Iterable[SceneBlock]
    transcript: Transcript


@dataclass(frozen=True)
class SceneModels:
    """The loaded models that describe a scene."""

    vision: VisionModel
    text: TextEncoder


class SceneEmbedder:
    """Holds loaded models and the embedded labels.

    Args:
        groups: labels that exclude one another; the best of each group may become a tag.
        key_frame_px: short side that key frames have been cut to.
        batch_size: key frames per call of the model.

    Raises:
        ConfigurationError: key frames are smaller than the model's input.
    """

    def __init__(self, models: SceneModels, groups: Sequence[LabelGroup], key_frame_px: int, batch_size: int) -> None:
        model = models.vision
        if key_frame_px < model.image_size_px:
            raise ConfigurationError(
                f"HEIMDEX_KEY_FRAME_PX is {key_frame_px}, smaller than the input of {model.name}: "
                f"set it to at least {model.image_size_px}"
            )
        self.models = models
        self._batch_size = batch_size
        self._groups = [(group, model.encode_texts([PROMPT.format(label) for label in group])) for group in groups]

    def describe(self, videos: Sequence[ScenesOfVideo]) -> list[list[SceneDescription]]:
        """Describe every scene of every video, a list per video in the order given.

        The model's batches run across the videos; on a GPU at most three batches of key frames are held at a time, of
        which one is computed, one is ready and one is read; elsewhere one.
        """
        descriptions: list[list[SceneDescription]] = [[] for _ in videos]
        spoken = [SpokenWords(video.transcript) for video in videos]
        read: deque[list[tuple[int, int, str]]] = deque()  # of which video, which scene, and the words in it

        def key_frames() -> Iterator[list[NDArray[np.uint8]]]:
            for batch in _batches(_scenes(videos), self._batch_size):
                read.append([(n, scene.index, spoken[n].within(*span)) for n, scene, span in batch])
                yield [scene.key_frame for _, scene, _ in batch]

        for embeddings in self.models.vision.encode_batches(key_frames()):
            tags = self._tags(embeddings)
            for (video, index, words), embedding, seen in zip(read.popleft(), embeddings, tags, strict=True):
                descriptions[video].append(self._describe(index, embedding, seen, words))
        return self._with_meanings(descriptions)

    def _with_meanings(self, videos: list[list[SceneDescription]]) -> list[list[SceneDescription]]:
        texts = [scene.combined_text for scenes in videos for scene in scenes if scene.combined_text]
        meanings = iter(self.models.text.encode(texts))
        return [
            [replace(scene, meaning=next(meanings)) if scene.combined_text else scene for scene in scenes]
            for scenes in videos
        ]

    def _describe(
        self, index: int, embedding: NDArray[np.float32], tags: tuple[str, ...], words: str
    ) -> SceneDescription:
        summary = ", ".join(tags)
        return SceneDescription(
            index=index,
            transcript_segment=words,
            tags=tags,
            visual_summary=summary,
            combined_text="\n".join(part for part in (words, summary) if part),
            embedding=embedding,
            vision_model=self.models.vision.key,
            meaning=None,
            text_model=self.models.text.key,
        )

    def _tags(self, embeddings: NDArray[np.float32]) -> list[tuple[str, ...]]:
        """Of each of the embeddings, float32[n, dimensions]: every group's best label, if the model is sure enough."""
        scale = self.models.vision.label_scale
        tags: list[tuple[str, ...]] = [()] * len(embeddings)
        for labels, label_embeddings in self._groups:
            shares = scale.shares(embeddings @ label_embeddings.T)
            for number, best in enumerate(shares.argmax(axis=1)):
                if shares[number, best] >= scale.threshold:
                    tags[number] += (labels[best],)
        return tags


class SpokenWords:
    """A transcript's words, to be asked for by time."""

    def __init__(self, transcript: Transcript) -> None:
        middles = sorted((((word.start_s + word.end_s) / 2, word.text) for word in transcript.words), key=itemgetter(0))
        self._middles_s = [middle_s for middle_s, _ in middles]
        self._texts = [text for _, text in middles]

    def within(self, start_s: float, end_s: float) -> str:
        """The words whose middle is in ``[start_s, end_s)``, as text."""
        first, last = (bisect_left(self._middles_s, edge_s) for edge_s in (start_s, end_s))
        return "".join(self._texts[first:last]).strip()


def _scenes(videos: Sequence[ScenesOfVideo]) -> Iterator[tuple[int, DetectedScene, tuple[float, float]]]:
    """Every scene, of which video, and the span whose words are its own: every word of a video is in some scene."""
    for position, video in enumerate(videos):
        for block in video.blocks:
            for scene in block.scenes:
                is_last = block.decoded_duration_s is not None and scene is block.scenes[-1]
                start_s = scene.start_s if scene.index else -math.inf
                yield position, scene, (start_s, math.inf if is_last else scene.end_s)


def _batches(items: Iterable[Item], size: int) -> Iterator[list[Item]]:
    batch: list[Item] = []
    for item in items:
        batch.append(item)
        if len(batch) == size:
            yield batch
            batch = []
    if batch:
        yield batch
