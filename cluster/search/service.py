"""Search as the commands and the HTTP side offer it: words, meanings and pictures, fused, and every search on record.

Owns what is asked of which list, for whatever index is underneath. Finding is that of
``cluster.store.search.postgres_index``, encoding the query the models', fusing the lists ``fusion``'s. Above
``cluster.store``, below ``serve_app`` and the commands.
"""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from uuid import UUID

from cluster.contracts.errors import EngineTimeout, SearchRefused, SearchTooSlow, StatementTimeout
from cluster.contracts.events import Event
from cluster.contracts.search import (
    QueryVector,
    RankedScene,
    Retriever,
    Scope,
    WordsQuery,
    check_terms,
    parse_words,
)
from cluster.search.fusion import EQUAL, FULL_LIST, FusedScene, Weights, floors_of, fuse
from cluster.search.query_models import LoadedModels, Picture, QueryModels
from cluster.security.event_log import EventLog
from cluster.store.index.vocabulary import Vocabulary
from cluster.store.postgres.connections import Pool
from cluster.store.search.engines import IndexOpener
from cluster.store.search.hits import SceneRow, is_own_scene, read_scenes, record_search
from cluster.store.search.postgres_index import SearchIndex, vector_of

logger = EventLog(__name__)

LIST_DEPTH = FULL_LIST
"""Ranks of each list that fusion looks at; deeper ones come behind all of these."""
MAX_DEPTH = 1000
"""Deepest rank that pages lead to."""
MAX_QUERY = 1000
"""Letters of a query."""
MAX_BEGINNING = 1000
"""Words that the beginnings of one query (``light*``) may have between them."""
THREADS = 8
"""Lists that are asked for at once, beside those of words."""


@dataclass(frozen=True)
class SearchRequest:
    """What is looked for: ``text``, a ``picture`` (RGB), or both, where the picture says what is to be seen."""

    scope: Scope
    text: str = ""
    picture: Picture | None = field(default=None, repr=False, compare=False)
    by: frozenset[Retriever] = frozenset(Retriever)
    limit: int = 10
    offset: int = 0


@dataclass(frozen=True)
class SceneHit:
    """A scene that was found, and why."""

    scene: SceneRow
    match: FusedScene

    @property
    def ranks_text(self) -> str:
        """The lists that have the scene, and its rank in each: words 1, picture 3."""
        return ", ".join(f"{by} {self.match.ranks[by]}" for by in Retriever if by in self.match.ranks)


@dataclass(frozen=True)
class SearchResults:
    """The best scenes, best first, and how long finding them took.

    ``corrected``: the words that were searched in place of ``query``, which had none that fits. ``more``: whether there
    are further ones behind these. ``stands_out``: whether any scene does, on whichever page; where none does, these are
    only the nearest.
    """

    query: str
    hits: list[SceneHit]
    latency_ms: int
    corrected: str | None = None
    more: bool = False
    stands_out: bool = False


Near = Future[tuple[QueryVector, list[RankedScene]]]
"""A list that is being asked for: what was asked, and the list."""


def spaces_of(request: SearchRequest, weights: Weights) -> frozenset[Retriever]:
    """The lists of vectors that the request is answered by, each of which needs its model."""
    text = _query_text(request, parse_words(request.text))
    asked = {Retriever.MEANING: bool(text), Retriever.PICTURE: bool(text) or request.picture is not None}
    return frozenset(by for by in request.by if asked.get(by, False) and weights[by] > 0)


def _query_text(request: SearchRequest, words: WordsQuery) -> str:
    """What the models read: the words that are wanted, without operators."""
    return words.plain or request.text.strip()


@dataclass(frozen=True)
class _Asked:
    """What answers one search: the models of one moment, and the index that has their vectors."""

    index: SearchIndex
    models: LoadedModels


class SearchService:
    """Searches one owner's scenes; safe to share between threads."""

    def __init__(self, open_index: IndexOpener, models: QueryModels, pool: Pool, weights: Weights = EQUAL) -> None:
        self._open_index = open_index
        self._models = models
        self._pool = pool
        self._weights = weights
        self._vocabulary = Vocabulary(pool)
        self._threads = ThreadPoolExecutor(THREADS, "search")

    def search(self, request: SearchRequest) -> SearchResults:
        """The best of the owner's scenes; the search is recorded as the owner's.

        Raises:
            SearchRefused: the text asks for more than a search may cost.
            SearchTooSlow: a statement, or the search engine, was stopped at its time limit.
            DatabaseUnavailable: Postgres is away.
            SearchUnavailable: the search engine beside it is.
        """
        words = parse_words(request.text)
        check_terms(words)
        with _stopped_in_time():
            return self._search(request, words)

    def _search(self, request: SearchRequest, words: WordsQuery) -> SearchResults:
        began = time.monotonic()
        asked, corrected = self._asked(), None
        self._check_beginnings(words, request.scope)
        near = self._near(asked, request, words)  # as if nothing were misspelt, while the words are looked for
        first: dict[Retriever, list[RankedScene]] = {}
        if words and Retriever.WORDS in request.by and self._weights[Retriever.WORDS] > 0:
            words, corrected, first[Retriever.WORDS] = self._by_words(asked, words, request.scope)
        if corrected is not None:
            near = self._near(asked, request, words)
        fused = self._fused(asked, request, words, first, near)
        end = request.offset + request.limit
        hits = self._hits(request.scope.owner_id, fused[request.offset : end], words)
        latency_ms = round((time.monotonic() - began) * 1000)
        record_search(self._pool, request.scope.owner_id, request.text or "(picture)", len(hits), latency_ms)
        more = len(fused) > end and end < MAX_DEPTH
        stands_out = any(scene.stands_out for scene in fused)
        return SearchResults(request.text, hits, latency_ms, corrected, more, stands_out)

    def _check_beginnings(self, words: WordsQuery, scope: Scope) -> None:
        if self._vocabulary.begin_more_than(scope.owner_id, words.beginnings, MAX_BEGINNING):
            stars = ", ".join(f"{beginning}*" for beginning in words.beginnings)
            raise SearchRefused(f"{stars}: more than {MAX_BEGINNING} words begin so; type more letters.")

    def similar(self, scene_id: UUID, scope: Scope, limit: int) -> list[SceneHit] | None:
        """The scenes whose pictures are nearest to that of one of the owner's; None when there is no such scene.

        None are near a scene that has no vector, as scenes of an existing database whose picture cannot be read.
        Raises as :meth:`search`.
        """
        with _stopped_in_time():
            return self._similar(scene_id, scope, limit)

    def _similar(self, scene_id: UUID, scope: Scope, limit: int) -> list[SceneHit] | None:
        asked = self._asked()
        vector = vector_of(self._pool, scene_id, scope.owner_id, Retriever.PICTURE, asked.models.keys.vision)
        if vector is None:
            return [] if is_own_scene(self._pool, scene_id, scope.owner_id) else None
        near = asked.index.nearest(Retriever.PICTURE, vector, scope, limit + 1)
        others = [scene for scene in near if scene.scene_id != scene_id][:limit]
        return self._hits(scope.owner_id, fuse({Retriever.PICTURE: others}), WordsQuery(()))

    def _asked(self) -> "_Asked":
        models = self._models.current()
        return _Asked(self._open_index(models.keys), models)

    def _by_words(
        self, asked: "_Asked", words: WordsQuery, scope: Scope
    ) -> tuple[WordsQuery, str | None, list[RankedScene]]:
        """The words, and what fits; where nothing does, those that were meant instead, also as one types them."""
        found = asked.index.words(words, scope, LIST_DEPTH)
        corrections = {} if found else self._vocabulary.corrections(scope.owner_id, words.words)
        if corrections:
            meant = words.corrected(corrections)
            found = asked.index.words(meant, scope, LIST_DEPTH)
            if found:
                return meant, str(meant), found
        return words, None, found

    def _fused(
        self,
        asked: "_Asked",
        request: SearchRequest,
        words: WordsQuery,
        first: dict[Retriever, list[RankedScene]],
        near: Mapping[Retriever, Near],
    ) -> list[FusedScene]:
        """As many as the request needs, and more if there are any. Which come first never depends on how many.

        ``first``: what fits the words, where they count; ``near``: the other lists.
        """
        found = {by: one.result() for by, one in near.items()}
        first |= {by: scenes for by, (_, scenes) in found.items()}
        weights, floors = self._weights, floors_of(asked.models.keys)
        fused = fuse(first, weights, floors)
        if request.offset + request.limit < len(fused) or all(len(scenes) < LIST_DEPTH for scenes in first.values()):
            return fused
        deep = {by: asked.index.nearest(by, vector, request.scope, MAX_DEPTH) for by, (vector, _) in found.items()}
        if Retriever.WORDS in first:
            deep[Retriever.WORDS] = asked.index.words(words, request.scope, MAX_DEPTH)
        known = {scene.scene_id for scene in fused}
        return fused + [scene for scene in fuse(deep, weights, floors) if scene.scene_id not in known]

    def _near(self, asked: "_Asked", request: SearchRequest, words: WordsQuery) -> dict[Retriever, Near]:
        """The lists that measure by nearness, each on its way in a thread of its own."""
        text, owner_id = _query_text(request, words), request.scope.owner_id
        spaces = spaces_of(request, self._weights)
        encoders: dict[Retriever, Callable[[], QueryVector]] = {}
        if Retriever.MEANING in spaces:
            encoders[Retriever.MEANING] = partial(asked.models.meanings.meaning, text, owner_id)
        if Retriever.PICTURE in spaces and request.picture is not None:
            encoders[Retriever.PICTURE] = partial(asked.models.pictures.like, request.picture)
        elif Retriever.PICTURE in spaces:
            encoders[Retriever.PICTURE] = partial(asked.models.pictures.encode_text, text, owner_id)
        return {
            by: self._threads.submit(_nearest, asked.index, by, encode, request.scope)
            for by, encode in encoders.items()
        }

    def _hits(self, owner_id: UUID, matches: Sequence[FusedScene], words: WordsQuery) -> list[SceneHit]:
        scenes = read_scenes(self._pool, owner_id, [match.scene_id for match in matches], words)
        return [SceneHit(scenes[match.scene_id], match) for match in matches if match.scene_id in scenes]


@contextmanager
def _stopped_in_time() -> Iterator[None]:
    try:
        yield
    except (StatementTimeout, EngineTimeout) as error:
        logger.warning(Event.SEARCH_STOPPED, error=error)
        raise SearchTooSlow("The search took too long and was stopped: ask for fewer words, or rarer ones.") from error


def _nearest(
    index: SearchIndex, by: Retriever, encode: Callable[[], QueryVector], scope: Scope
) -> tuple[QueryVector, list[RankedScene]]:
    vector = encode()
    return vector, index.nearest(by, vector, scope, LIST_DEPTH)
