"""Search as the commands and the HTTP side offer it: words, meanings and pictures, fused, and every search on record.

Owns the fusion, for whatever index is underneath. Finding is ``cluster.store.search_index``'s, encoding the query the
models'. Above ``cluster.store``, below ``serve_app`` and the commands.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Protocol
from uuid import UUID

import numpy as np
from numpy.typing import NDArray

from cluster.contracts.search import By, QueryVector, RankedScene, Scope, WordsQuery, parse_words
from cluster.store.database import Pool
from cluster.store.found_scenes import SceneRow, read_scenes, record_search
from cluster.store.indexed_models import check_models
from cluster.store.search_index import SearchIndex, vector_of
from cluster.store.vocabulary import Vocabulary

FUSION_K = 60
"""Constant of reciprocal rank fusion, as its authors found it best."""
LIST_DEPTH = 100
"""How far down each list fusion looks at least."""
MAX_DEPTH = 1000
"""How far down pages lead."""
CACHED_QUERIES = 1024

Embedding = NDArray[np.float32]
Picture = NDArray[np.uint8]


class VisionEncoder(Protocol):
    """What search needs of a vision model: words and pictures in one space."""

    @property
    def key(self) -> str:
        """What stored embeddings of the same model are filed under."""
        ...

    def encode_texts(self, texts: Sequence[str]) -> Embedding:
        """Embeddings of the texts: float32[n, 512], L2-normalised."""
        ...

    def encode_images(self, pixels: Sequence[Picture]) -> Embedding:
        """Embeddings of RGB pictures (height, width, 3; uint8): float32[n, 512], L2-normalised."""
        ...


class TextEncoder(Protocol):
    """What search needs of a text model."""

    key: str

    def encode(self, texts: Sequence[str]) -> Embedding:
        """Embeddings of the texts: float32[n, 384], L2-normalised."""
        ...


@dataclass(frozen=True)
class SearchRequest:
    """What is looked for: ``text``, a ``picture`` (RGB), or both, where the picture stands for what is to be seen."""

    scope: Scope
    text: str = ""
    picture: Picture | None = field(default=None, repr=False, compare=False)
    by: frozenset[By] = frozenset(By)
    limit: int = 10
    offset: int = 0


@dataclass(frozen=True)
class FusedScene:
    """A scene's place in each list that has it, from 1, and its score in all together.

    ``similarities``: the cosine in the lists that measure by it.
    """

    scene_id: UUID
    ranks: Mapping[By, int]
    similarities: Mapping[By, float]
    score: float


@dataclass(frozen=True)
class SceneHit:
    """A scene that was found, and why."""

    scene: SceneRow
    match: FusedScene


@dataclass(frozen=True)
class SearchResults:
    """The best scenes, best first, and how long finding them took.

    ``corrected``: the words that were searched in place of ``query``, which had none that fits. ``more``: whether there
    are further ones behind these.
    """

    query: str
    hits: list[SceneHit]
    latency_ms: int
    corrected: str | None = None
    more: bool = False


Weights = Mapping[By, float]
USUAL_WEIGHTS: Weights = {By.WORDS: 1.0, By.MEANING: 0.5, By.PICTURE: 1.0}
"""Words and meaning read the same text: counted whole, they would outvote what is to be seen."""


def fuse(lists: Mapping[By, Sequence[RankedScene]], weights: Weights = USUAL_WEIGHTS) -> list[FusedScene]:
    """Fuse ranked lists by weighted reciprocal rank: score = sum over lists of weight / (60 + rank), best first.

    Cormack, Clarke, Buettcher: Reciprocal rank fusion outperforms Condorcet and individual rank learning methods, SIGIR
    2009. Only ranks count, so the lists' measures need not be comparable. At equal score the scene that words found
    comes first: in pictures and meanings there is always a nearest one, in words only what fits.
    """
    ranks: dict[UUID, dict[By, int]] = {}
    similarities: dict[UUID, dict[By, float]] = {}
    for by, scenes in lists.items():
        for rank, scene in enumerate(scenes, 1):
            ranks.setdefault(scene.scene_id, {})[by] = rank
            if by is not By.WORDS:
                similarities.setdefault(scene.scene_id, {})[by] = scene.score
    fused = [
        FusedScene(
            scene_id,
            places,
            similarities.get(scene_id, {}),
            sum(weights[by] / (FUSION_K + rank) for by, rank in places.items()),
        )
        for scene_id, places in ranks.items()
    ]
    return sorted(fused, key=lambda scene: (-scene.score, By.WORDS not in scene.ranks, str(scene.scene_id)))


class SearchService:
    """Searches one owner's scenes; safe to share between threads.

    Raises:
        ConfigurationError: the scenes that are stored were embedded by other models.
    """

    def __init__(
        self, index: SearchIndex, vision: VisionEncoder, text: TextEncoder, pool: Pool, weights: Weights = USUAL_WEIGHTS
    ) -> None:
        self._index = index
        self._vision = vision
        self._pool = pool
        self._weights = weights
        self._keys = {By.PICTURE: vision.key, By.MEANING: text.key}
        self._vocabulary = Vocabulary(pool)
        self._seen = _cached(vision.encode_texts)
        self._meant = _cached(text.encode)
        check_models(pool, self._keys)

    def search(self, request: SearchRequest) -> SearchResults:
        """The best of the owner's scenes; the search is recorded as the owner's.

        Raises:
            DatabaseUnavailable: Postgres is away.
        """
        began = time.monotonic()
        words, corrected = parse_words(request.text), None
        depth = min(MAX_DEPTH, max(request.offset + request.limit + 1, LIST_DEPTH))
        lists: dict[By, list[RankedScene]] = {}
        if self._counts(By.WORDS, request) and words:
            lists[By.WORDS], words, corrected = self._by_words(words, request.scope, depth)
        for by, vector in self._vectors(request, words.plain or request.text.strip()).items():
            lists[by] = self._index.nearest(by, vector, request.scope, depth)
        return self._answer(request, fuse(lists, self._weights), words, corrected, began)

    def similar(self, scene_id: UUID, scope: Scope, limit: int) -> list[SceneHit] | None:
        """The scenes whose pictures are nearest to that of one of the owner's; None when there is no such scene."""
        vector = vector_of(self._pool, scene_id, scope.owner_id, By.PICTURE, self._keys[By.PICTURE])
        if vector is None:
            return None
        near = self._index.nearest(By.PICTURE, vector, scope, limit + 1)
        others = [scene for scene in near if scene.scene_id != scene_id][:limit]
        return self._hits(fuse({By.PICTURE: others}), WordsQuery(()))

    def _counts(self, by: By, request: SearchRequest) -> bool:
        return by in request.by and self._weights[by] > 0

    def _by_words(
        self, words: WordsQuery, scope: Scope, depth: int
    ) -> tuple[list[RankedScene], WordsQuery, str | None]:
        """What fits the words; where nothing does, what fits those that were probably meant."""
        found = self._index.words(words, scope, depth)
        if found:
            return found, words, None
        corrections = self._vocabulary.corrections(scope.owner_id, words.words)
        if not corrections:
            return [], words, None
        meant = words.corrected(corrections)
        found = self._index.words(meant, scope, depth)
        return found, meant if found else words, str(meant) if found else None

    def _vectors(self, request: SearchRequest, text: str) -> dict[By, QueryVector]:
        """What is asked of the lists that measure by nearness."""
        embeddings: dict[By, Embedding] = {}
        if text and self._counts(By.MEANING, request):
            embeddings[By.MEANING] = self._meant(text)
        if self._counts(By.PICTURE, request):
            if request.picture is not None:
                embeddings[By.PICTURE] = self._vision.encode_images([request.picture])[0]
            elif text:
                embeddings[By.PICTURE] = self._seen(text)
        return {by: QueryVector(self._keys[by], embedding) for by, embedding in embeddings.items()}

    def _answer(
        self, request: SearchRequest, fused: list[FusedScene], words: WordsQuery, corrected: str | None, began: float
    ) -> SearchResults:
        end = request.offset + request.limit
        hits = self._hits(fused[request.offset : end], words)
        latency_ms = round((time.monotonic() - began) * 1000)
        query = request.text or "(picture)"
        record_search(self._pool, request.scope.owner_id, query, len(hits), latency_ms)
        return SearchResults(request.text, hits, latency_ms, corrected, more=len(fused) > end and end < MAX_DEPTH)

    def _hits(self, matches: Sequence[FusedScene], words: WordsQuery) -> list[SceneHit]:
        scenes = read_scenes(self._pool, [match.scene_id for match in matches], words)
        return [SceneHit(scenes[match.scene_id], match) for match in matches if match.scene_id in scenes]


def _cached(encode: Callable[[Sequence[str]], Embedding]) -> Callable[[str], Embedding]:
    @lru_cache(CACHED_QUERIES)
    def cached(text: str) -> Embedding:
        embedding: Embedding = encode([text])[0]
        return embedding

    return cached
