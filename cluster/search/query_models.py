"""The models that read queries: always those whose vectors are searched.

How they become others is ``cluster.search.active_models``'; what is done with a query's vectors is
``cluster.search.service``'s.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Protocol
from uuid import UUID

import numpy as np
from numpy.typing import NDArray

from cluster.contracts.errors import MalformedResult
from cluster.contracts.search import ModelKeys, QueryVector, Retriever, TextEncoder
from cluster.search.active_models import ActiveModel, ModelName
from cluster.store.index.model_registry import SearchModels, State
from cluster.store.index.vector_tables import SPACES, flaw_of
from cluster.store.postgres.connections import Pool

CACHED_QUERIES = 32
"""Of each owner, by each model: as many as a user pages through at a time."""
CACHED_OWNERS = 256

Embedding = NDArray[np.float32]
Picture = NDArray[np.uint8]


class VisionEncoder(Protocol):
    """What search needs of a vision model: words and pictures in one space."""

    @property
    def key(self) -> str:
        """What stored embeddings of the same model are filed under."""
        ...

    @property
    def dimensions(self) -> int:
        """Number of components of an embedding."""
        ...

    def encode_texts(self, texts: Sequence[str]) -> Embedding:
        """Embeddings of the texts: float32[n, dimensions], L2-normalised."""
        ...

    def encode_images(self, pixels: Sequence[Picture]) -> Embedding:
        """Embeddings of RGB pictures (height, width, 3; uint8): float32[n, dimensions], L2-normalised."""
        ...


class PictureQueries:
    """What is asked of the pictures' space, by one model; what an owner asked lately is remembered for that owner."""

    def __init__(self, model: VisionEncoder) -> None:
        self.key, self.dimensions = model.key, model.dimensions
        self._model = model
        self._seen = _OwnersQueries(model.encode_texts)

    def encode_text(self, text: str, owner_id: UUID) -> QueryVector:
        """What the owner's text says is to be seen."""
        return self._vector(self._seen.encoded(text, owner_id))

    def like(self, picture: Picture) -> QueryVector:
        """What looks like the picture."""
        return self._vector(self._model.encode_images([picture])[0])

    def _vector(self, embedding: Embedding) -> QueryVector:
        return _query_vector(Retriever.PICTURE, self.key, self.dimensions, embedding)


class MeaningQueries:
    """What is asked of the meanings' space, by one model; what an owner asked lately is remembered for that owner."""

    def __init__(self, model: TextEncoder) -> None:
        self.key, self.dimensions = model.key, model.dimensions
        self._meant = _OwnersQueries(model.encode_queries)

    def meaning(self, text: str, owner_id: UUID) -> QueryVector:
        """What the owner's text means."""
        return _query_vector(Retriever.MEANING, self.key, self.dimensions, self._meant.encoded(text, owner_id))


@dataclass(frozen=True)
class ModelLoaders:
    """Which models are configured, and how a model is loaded by its name."""

    vision: ModelName
    load_vision: Callable[[ModelName], VisionEncoder]
    text: ModelName
    load_text: Callable[[ModelName], TextEncoder]

    @staticmethod
    def on_cpu(vision: ModelName, text: ModelName, threads: int | None = None) -> "ModelLoaders":
        """The real ones. ``threads``: torch's in this process; None leaves them alone."""

        # Torch is imported with the first model that is loaded, and not above: it takes seconds.
        def load_vision(model: ModelName) -> VisionEncoder:
            from cluster.models.vision import load_vision_model

            return load_vision_model(model.name, model.pretrained, "cpu", threads)

        def load_text(model: ModelName) -> TextEncoder:
            from cluster.models.text import load_text_model

            return load_text_model(model.name, "cpu", threads, model.key)

        return ModelLoaders(vision, load_vision, text, load_text)


@dataclass(frozen=True)
class LoadedModels:
    """The models whose vectors are searched now, and their keys: who asks all of one answer of this asks no mixture.

    A model of a space that is not asked is not loaded; its key is known all the same, or empty where nothing has been
    embedded yet.
    """

    keys: ModelKeys
    by_space: Mapping[Retriever, PictureQueries | MeaningQueries]

    @property
    def pictures(self) -> PictureQueries:
        """The model of the pictures' space, which has to be loaded."""
        model = self.by_space[Retriever.PICTURE]
        assert isinstance(model, PictureQueries)
        return model

    @property
    def meanings(self) -> MeaningQueries:
        """The model of the meanings' space, which has to be loaded."""
        model = self.by_space[Retriever.MEANING]
        assert isinstance(model, MeaningQueries)
        return model


class QueryModels:
    """The models of the spaces that are asked, both unless some are named; safe to share between threads.

    ``ahead``: a model that is about to become active is loaded beforehand. ``searching``: the pool by which each search
    asks which models are active; None: ``pool``, which the tables of the first ones are made by.

    Raises:
        ConfigurationError: the scenes that are stored were embedded by other models, or one cannot be loaded.
    """

    def __init__(
        self,
        pool: Pool,
        loaders: ModelLoaders,
        *,
        spaces: Collection[Retriever] = SPACES,
        ahead: bool = False,
        searching: Pool | None = None,
    ) -> None:
        first, self._models = SearchModels(pool), SearchModels(searching or pool)
        self._spaces: dict[Retriever, ActiveModel[PictureQueries] | ActiveModel[MeaningQueries]] = {}
        if Retriever.PICTURE in spaces:
            self._spaces[Retriever.PICTURE] = ActiveModel(
                first, Retriever.PICTURE, loaders.vision, lambda model: PictureQueries(loaders.load_vision(model))
            )
        if Retriever.MEANING in spaces:
            self._spaces[Retriever.MEANING] = ActiveModel(
                first, Retriever.MEANING, loaders.text, lambda model: MeaningQueries(loaders.load_text(model))
            )
        self._ahead = ahead

    def current(self) -> LoadedModels:
        """Those whose vectors are searched now."""
        stand = self._models.by_state()
        if self._ahead:
            for space in self._spaces.values():
                space.load_ahead(stand)
        loaded = {by: space.current(stand) for by, space in self._spaces.items()}
        keys = {by: model.key for by, model in (stand[State.ACTIVE] | loaded).items()}
        return LoadedModels(ModelKeys(keys.get(Retriever.PICTURE, ""), keys.get(Retriever.MEANING, "")), loaded)


def _query_vector(by: Retriever, key: str, dimensions: int, embedding: Embedding) -> QueryVector:
    """Raises MalformedResult for a vector that nothing can be near to: engines answer such with errors or by chance."""
    flaw = flaw_of(embedding, dimensions)
    if flaw is not None:
        raise MalformedResult(f"the {by} model {key} made {flaw} of the query")
    return QueryVector(key, embedding)


class _OwnersQueries:
    """The embeddings of the latest queries of each owner. Safe to share between threads.

    Another owner's are never used: a search that is answered sooner would reveal that another owner had asked the same.
    """

    def __init__(self, encode: Callable[[Sequence[str]], Embedding]) -> None:
        self._encode = encode
        self._cache_of = lru_cache(CACHED_OWNERS)(self._new_cache)

    def encoded(self, text: str, owner_id: UUID) -> Embedding:
        """The embedding of the owner's text."""
        return self._cache_of(owner_id)(text)

    def _new_cache(self, _owner_id: UUID) -> Callable[[str], Embedding]:
        @lru_cache(CACHED_QUERIES)
        def encoded(text: str) -> Embedding:
            embedding: Embedding = self._encode([text])[0]
            return embedding

        return encoded
