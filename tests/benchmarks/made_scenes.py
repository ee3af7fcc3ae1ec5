"""Scenes by the million for the search benchmarks: what they say, what that means and what they show, and queries.

Words are as frequent as in English: the bundled text model knows its own from the most frequent on. Vectors form
clusters as real ones do: topics, some of them popular, around them videos, around these their scenes, in few
dimensions of many, with noise in all of them. They are the same whenever they are made.
"""

import re
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from uuid import UUID

import numpy as np
from numpy.typing import NDArray

from cluster.contracts.search import Retriever
from cluster.models.sources import BUNDLED
from cluster.models.text_files import model_directory
from tests.support.vector_lengths import EMBEDDING_DIM, MEANING_DIM

MOST, TENTH, HUNDREDTH = (UUID(int=number) for number in (1, 2, 3))
"""Owners of 89, 10 and 1 % of the videos."""
SCENES_PER_VIDEO = 10
SEED = 11

_VIDEOS_AT_ONCE = 1000
_TOPICS = 3000
_WORDS_PER_TOPIC = 20
_WORDS_PER_SCENE = 25
_LONGEST_QUERY = 4
_ON_TOPIC, _ON_TOPIC_WHEN_ASKED = 0.5, 0.8
"""Share of the words that are the topic's own, in scenes and in queries."""
_STOP_WORDS = 200
"""So many of the most frequent words say nothing of a topic."""

_DIMENSIONS = 32
_MIDDLE, _VIDEO, _SCENE, _NOISE = 0.8, 0.6, 0.35, 0.3
"""Distances of all from the origin, of videos from their topic, of scenes from their video, and of the noise, where
topics are 1 apart from their middle.
"""

Floats = NDArray[np.float32]
Numbers = NDArray[np.int64]


class VectorSpace:
    """The vector space of one model."""

    def __init__(self, width: int) -> None:
        rng = np.random.default_rng([SEED, width])
        self.width = width
        self._basis = rng.normal(size=(_DIMENSIONS, width)) / np.sqrt(width)
        self._topics = rng.normal(size=(_TOPICS, _DIMENSIONS))
        middle = rng.normal(size=width)
        self._middle = middle * (_MIDDLE * np.sqrt(_DIMENSIONS) / np.linalg.norm(middle))

    def of_videos(self, topics: Numbers, rng: np.random.Generator, scenes: int = SCENES_PER_VIDEO) -> Floats:
        """So many scenes of a video of each topic: float32[topics * scenes, width], L2-normalised."""
        videos = self._topics[topics] + _VIDEO * rng.normal(size=(len(topics), _DIMENSIONS))
        latent = np.repeat(videos, scenes, axis=0)
        latent += _SCENE * rng.normal(size=latent.shape)
        rows = latent @ self._basis + self._middle
        rows += rng.normal(size=rows.shape) * (_NOISE * np.sqrt(_DIMENSIONS / self.width))
        rows /= np.linalg.norm(rows, axis=1, keepdims=True)
        return rows.astype(np.float32)

    def asked_by(self, text: str) -> Floats:
        """The vector of a query: like a scene that is not there, always the same for the same text."""
        rng = np.random.default_rng([SEED, zlib.crc32(text.encode())])
        return self.of_videos(_draw(rng, _POPULARITY, 1), rng, scenes=1)[0]


def vector_spaces() -> dict[Retriever, VectorSpace]:
    """Those of the two lists that measure by nearness."""
    return {Retriever.MEANING: VectorSpace(MEANING_DIM), Retriever.PICTURE: VectorSpace(EMBEDDING_DIM)}


@dataclass(frozen=True)
class MadeScenes:
    """Some videos with their scenes, video by video: ids and owners of the videos, the rest of the scenes."""

    videos: list[UUID]
    owners: list[UUID]
    scenes: list[UUID]
    texts: list[str]
    vectors: dict[Retriever, Floats]


class Scenery:
    """So many scenes, and what is asked of them."""

    def __init__(self, scenes: int) -> None:
        self.scenes = scenes
        self.words = english_words()
        self.spaces = vector_spaces()
        self._frequency = _zipf(len(self.words))
        rng = np.random.default_rng(SEED)
        self._of_topics = rng.integers(_STOP_WORDS, len(self.words), size=(_TOPICS, _WORDS_PER_TOPIC))

    def __iter__(self) -> Iterator[MadeScenes]:
        """All of them, a few thousand at a time."""
        videos = self.scenes // SCENES_PER_VIDEO
        for first in range(0, videos, _VIDEOS_AT_ONCE):
            yield self._made(first, min(_VIDEOS_AT_ONCE, videos - first))

    def _made(self, first: int, count: int) -> MadeScenes:
        rng = np.random.default_rng([SEED, first])
        topics = _draw(rng, _POPULARITY, count)
        said = self._spoken(np.repeat(topics, SCENES_PER_VIDEO), _WORDS_PER_SCENE, _ON_TOPIC, rng)
        return MadeScenes(
            videos=_ids(rng, count),
            owners=[_owner_of(number) for number in range(first, first + count)],
            scenes=_ids(rng, count * SCENES_PER_VIDEO),
            texts=[" ".join(map(self.words.__getitem__, row)) for row in said.tolist()],
            vectors={by: space.of_videos(topics, rng) for by, space in self.spaces.items()},
        )

    def queries(self, count: int) -> list[str]:
        """Different ones, of one to four words each."""
        rng = np.random.default_rng([SEED, SEED])
        queries: dict[str, None] = {}
        while len(queries) < count:
            row = self._spoken(_draw(rng, _POPULARITY, 1), _LONGEST_QUERY, _ON_TOPIC_WHEN_ASKED, rng)[0]
            words = dict.fromkeys(self.words[number] for number in row[: rng.integers(1, _LONGEST_QUERY + 1)])
            queries[" ".join(words)] = None
        return list(queries)

    def _spoken(self, topics: Numbers, words: int, on_topic: float, rng: np.random.Generator) -> Numbers:
        """The numbers of so many words on each topic: int64[topics, words]."""
        shape = (len(topics), words)
        own = self._of_topics[topics[:, None], _draw(rng, _zipf(_WORDS_PER_TOPIC), shape)]
        return np.where(rng.random(shape) < on_topic, own, _draw(rng, self._frequency, shape))


def english_words() -> list[str]:
    """Those of three letters and more that the bundled text model knows, the most frequent ones first."""
    lines = (model_directory(BUNDLED) / "vocab.txt").read_text(encoding="utf-8").splitlines()
    return [line for line in lines if re.fullmatch("[a-z]{3,}", line)]


def _zipf(count: int) -> NDArray[np.float64]:
    """The probability that one of the first is drawn, of so many with the frequencies of Zipf and Mandelbrot."""
    shares = 1 / (np.arange(count) + 2.7)
    return np.cumsum(shares) / shares.sum()


_POPULARITY = _zipf(_TOPICS)


def _draw(rng: np.random.Generator, cumulated: NDArray[np.float64], shape: int | tuple[int, ...]) -> Numbers:
    return np.searchsorted(cumulated, rng.random(shape))


def _ids(rng: np.random.Generator, count: int) -> list[UUID]:
    return [UUID(bytes=rng.bytes(16)) for _ in range(count)]


def _owner_of(video: int) -> UUID:
    place = video % 100
    return HUNDREDTH if place == 0 else TENTH if place <= 10 else MOST
