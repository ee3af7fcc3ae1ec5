"""Search as the commands and the HTTP side offer it: words and pictures, fused, and every search on record.

Owns the fusion, for whatever index is underneath. Finding is ``cluster.store.search_index``'s, encoding the
query the vision model's. Above ``cluster.store``, below ``serve_app`` and the commands.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Protocol
from uuid import UUID

import numpy as np
from numpy.typing import NDArray

from cluster.store.database import Pool
from cluster.store.search_index import RankedScene, SceneRow, SearchIndex, read_scenes, record_search

FUSION_K = 60
"""Constant of reciprocal rank fusion, as its authors found it best."""
LIST_DEPTH = 100
"""How far down each list fusion looks at least."""
CACHED_QUERIES = 1024


class TextEncoder(Protocol):
    """What search needs of a vision model: words in the space of its pictures."""

    @property
    def key(self) -> str:
        """What stored embeddings of the same model are filed under."""
        ...

    def encode_texts(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Embeddings of the texts: float32[n, 512], L2-normalised."""
        ...


@dataclass(frozen=True)
class FusedScene:
    """A scene's place in each list, from 1 (None: not in it), and the score of both together."""

    scene_id: UUID
    words_rank: int | None
    picture_rank: int | None
    picture_similarity: float | None
    score: float


@dataclass(frozen=True)
class SceneHit:
    """A scene that was found, and why."""

    scene: SceneRow
    match: FusedScene


@dataclass(frozen=True)
class SearchResults:
    """The best scenes, best first, and how long finding them took."""

    query: str
    hits: list[SceneHit]
    latency_ms: int


def fuse(words: Sequence[RankedScene], picture: Sequence[RankedScene]) -> list[FusedScene]:
    """Fuse two ranked lists by reciprocal rank: score = sum over lists of 1 / (60 + rank), best first.

    Cormack, Clarke, Buettcher: Reciprocal rank fusion outperforms Condorcet and individual rank learning
    methods, SIGIR 2009. Only ranks count, so the lists' measures need not be comparable. At equal score the
    scene that words found comes first: in pictures there is always a nearest one, in words only what fits.
    """
    words_ranks = {scene.scene_id: rank for rank, scene in enumerate(words, 1)}
    picture_ranks = {scene.scene_id: rank for rank, scene in enumerate(picture, 1)}
    similarities = {scene.scene_id: scene.score for scene in picture}
    fused = [
        FusedScene(
            scene_id=scene_id,
            words_rank=words_ranks.get(scene_id),
            picture_rank=picture_ranks.get(scene_id),
            picture_similarity=similarities.get(scene_id),
            score=sum(1 / (FUSION_K + ranks[scene_id]) for ranks in (words_ranks, picture_ranks) if scene_id in ranks),
        )
        for scene_id in words_ranks | picture_ranks
    ]
    return sorted(fused, key=lambda scene: (-scene.score, scene.words_rank is None, str(scene.scene_id)))


class SearchService:
    """Searches one owner's scenes; safe to share between threads."""

    def __init__(self, index: SearchIndex, encoder: TextEncoder, pool: Pool) -> None:
        self._index = index
        self._encoder = encoder
        self._pool = pool
        # The name under which scenes are written with this model's embeddings.
        self._model = encoder.key
        self._embedding = lru_cache(CACHED_QUERIES)(self._encode)

    def search(self, owner_id: UUID, query: str, limit: int) -> SearchResults:
        """The ``limit`` best of the owner's scenes; the search is recorded as the owner's.

        Raises:
            DatabaseUnavailable: Postgres is away.
        """
        began = time.monotonic()
        depth = max(limit, LIST_DEPTH)
        fused = fuse(
            self._index.words(query, owner_id, depth),
            self._index.picture(self._embedding(query), self._model, owner_id, depth),
        )[:limit]
        scenes = read_scenes(self._pool, [match.scene_id for match in fused])
        hits = [SceneHit(scenes[match.scene_id], match) for match in fused if match.scene_id in scenes]
        latency_ms = round((time.monotonic() - began) * 1000)
        record_search(self._pool, owner_id, query, len(hits), latency_ms)
        return SearchResults(query, hits, latency_ms)

    def _encode(self, query: str) -> NDArray[np.float32]:
        embedding: NDArray[np.float32] = self._encoder.encode_texts([query])[0]
        return embedding
