"""OpenSearch's way of finding scenes: BM25 by its analyzers, and Lucene's HNSW with the scope as its filter."""

import re
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from uuid import UUID

from cluster.contracts.errors import EngineTimeout
from cluster.contracts.search import Clause, Match, QueryVector, RankedScene, Retriever, Scope, WordsQuery
from cluster.store.opensearch.client import TIMEOUT_S, engine_errors
from cluster.store.opensearch.documents import ANALYZERS, MODEL_FIELDS, TYPED, stemmed

if TYPE_CHECKING:  # the client takes a fifth of a second to import, also for commands that ask no OpenSearch
    from opensearchpy import OpenSearch

MOST_CLAUSES = 1000
"""Most clauses of one query; OpenSearch itself allows 1024."""
LANGUAGES_KNOWN_S = 10.0
"""Time for which a language that first appears may stay unknown: until then its words are found as typed."""
MOST_EXPANSIONS = 1000
"""Words that a prefix (``light*``) may expand to."""
ANSWER_SLACK_S = 0.5
"""Time that the engine is waited for beyond its own time limit."""
_WORD = re.compile(r"[A-Za-z0-9]+|\w")
_WILDCARDS = re.compile(r"[*?\\]")
"""Matches that are at most a token each."""
_LEAST_CANDIDATES, _MOST_CANDIDATES = 100, 1000

Query = dict[str, Any]


class OpenSearchIndex:
    """The scenes behind an alias. Safe to share between threads."""

    def __init__(self, client: "OpenSearch", alias: str, timeout_s: float = TIMEOUT_S) -> None:
        self._client = client
        self._alias = alias
        self._timeout_s = timeout_s
        self._languages = _Languages(client, alias)

    def words(self, query: WordsQuery, scope: Scope, limit: int) -> list[RankedScene]:
        """See :class:`SearchIndex`.

        A query of more clauses than OpenSearch takes is asked in parts, of which each scene's best counts; a single
        alternative that is too long for that is looked for as it was typed only.
        """
        if not query:
            return []
        best: dict[UUID, RankedScene] = {}
        for search in self.words_searches(query, scope, limit):
            for scene in self._ranked(search):
                if scene.scene_id not in best or best[scene.scene_id].score < scene.score:
                    best[scene.scene_id] = scene
        return sorted(best.values(), key=lambda scene: -scene.score)[:limit]

    def words_searches(self, query: WordsQuery, scope: Scope, limit: int) -> list[Query]:
        """What is sent to find words: the bodies of one search, seldom of more."""
        languages = self._languages.get()
        parts = _in_parts([_alternative(clauses, languages) for clauses in query.alternatives])
        return [
            _search({"bool": {"filter": _filter(scope), "must": {"dis_max": {"queries": queries}}}}, limit)
            for queries in parts
        ]

    def nearest(self, by: Retriever, vector: QueryVector, scope: Scope, limit: int) -> list[RankedScene]:
        """See :class:`SearchIndex`. Approximate where plenty of scenes are in the scope, else exact."""
        # Lucene's score of a cosine is (1 + cosine) / 2.
        ranked = self._ranked(nearest_search(by, vector, scope, limit))
        return [RankedScene(scene.scene_id, 2 * scene.score - 1) for scene in ranked]

    def _ranked(self, search: Query) -> list[RankedScene]:
        """Raises EngineTimeout; the engine itself stops what it was asked for then."""
        limit = f"{round(self._timeout_s * 1000)}ms"
        with engine_errors():
            found = self._client.search(
                index=self._alias,
                body=search,
                params={"timeout": limit, "cancel_after_time_interval": limit},
                request_timeout=self._timeout_s + ANSWER_SLACK_S,
            )
        if found["timed_out"]:
            raise EngineTimeout("OpenSearch took too long and was stopped")
        return [RankedScene(UUID(hit["fields"]["scene_id"][0]), hit["sort"][0]) for hit in found["hits"]["hits"]]


def nearest_search(by: Retriever, vector: QueryVector, scope: Scope, limit: int) -> Query:
    """What is sent to find the nearest vectors: the body of a search."""
    conditions = [*_filter(scope), {"term": {MODEL_FIELDS[by]: vector.model}}]
    candidates = min(_MOST_CANDIDATES, max(_LEAST_CANDIDATES, 2 * limit))
    knn = {"vector": vector.embedding.tolist(), "k": candidates, "filter": {"bool": {"filter": conditions}}}
    return _search({"knn": {by.value: knn}}, limit)


def _search(query: Query, limit: int) -> Query:
    return {
        "size": limit,
        "query": query,
        "sort": [{"_score": "desc"}, {"video_id": "asc"}, {"index": "asc"}],
        "track_total_hits": False,
        "_source": False,
        "docvalue_fields": ["scene_id"],
    }


def _filter(scope: Scope) -> list[Query]:
    conditions: list[Query] = [{"term": {"owner_id": str(scope.owner_id)}}]
    if scope.since is not None:
        conditions.append({"range": {"created_at": {"gte": scope.since.isoformat()}}})
    return conditions + [_has_tag(tag) for tag in scope.tags]


def _has_tag(wanted: str) -> Query:
    """A tag, or a word in one, begins with it, as ``scene_text.TAG_FITS`` has it."""
    within = "* " + _WILDCARDS.sub(r"\\\g<0>", wanted) + "*"
    begins = {"prefix": {"tags": {"value": wanted, "case_insensitive": True}}}
    return {"bool": {"should": [begins, {"wildcard": {"tags": {"value": within, "case_insensitive": True}}}]}}


@dataclass(frozen=True)
class _Alternative:
    """Queries of which any may fit, and how many of OpenSearch's clauses they become at most."""

    queries: list[Query]
    cost: int


def _alternative(clauses: Sequence[Clause], languages: Sequence[str]) -> _Alternative:
    """One alternative of the query: as typed, and as stemmed in each of the languages."""
    words = sum(len(_WORD.findall(clause.text)) for clause in clauses)
    queries = [_typed(clauses), *(_stemmed(stemmed(language), clauses) for language in languages)]
    cost = words + len(languages) * (2 * words + 1)
    return _Alternative(queries, cost) if cost <= MOST_CLAUSES else _Alternative(queries[:1], words)


def _typed(clauses: Sequence[Clause]) -> Query:
    return {
        "bool": {
            "must": [_clause(TYPED, clause, "none") for clause in clauses if not clause.negated],
            "must_not": [_clause(TYPED, clause, "none") for clause in clauses if clause.negated],
        }
    }


def _stemmed(field: str, clauses: Sequence[Clause]) -> Query:
    """A language's stop words fit anything, so one of the other words has to fit something."""
    wanted = [clause for clause in clauses if not clause.negated]
    some = [
        _clause(TYPED, clause, "none") if clause.match is Match.PREFIX else {"match": {field: {"query": clause.text}}}
        for clause in wanted
    ]
    return {
        "bool": {
            "must": [_clause(field, clause, "all") for clause in wanted],
            "filter": {"bool": {"should": some}},
            "must_not": [_clause(field, clause, "none") for clause in clauses if clause.negated],
        }
    }


def _clause(field: str, clause: Clause, without_words: str) -> Query:
    """``without_words``: whether a clause of which nothing is left to look for fits ``all`` or ``none``."""
    if clause.match is Match.PREFIX:  # of words as they were typed, whatever the language
        beginning = {"value": clause.text.lower(), "rewrite": f"top_terms_boost_{MOST_EXPANSIONS}"}
        return {"constant_score": {"filter": {"prefix": {TYPED: beginning}}}}
    if clause.match is Match.PHRASE:
        return {"match_phrase": {field: {"query": clause.text, "zero_terms_query": without_words}}}
    return {"match": {field: {"query": clause.text, "operator": "and", "zero_terms_query": without_words}}}


def _in_parts(alternatives: Sequence[_Alternative]) -> list[list[Query]]:
    """All the alternatives' queries, as few lists of them as OpenSearch takes."""
    parts: list[list[Query]] = []
    room = 0
    for alternative in alternatives:
        if not parts or alternative.cost > room:
            parts.append([])
            room = MOST_CLAUSES
        parts[-1] += alternative.queries
        room -= alternative.cost
    return parts


class _Languages:
    """Those that the scenes of an index are in, and that it has stemmed; asked for now and then."""

    def __init__(self, client: "OpenSearch", alias: str) -> None:
        self._client = client
        self._alias = alias
        self._lock = threading.Lock()
        self._known: list[str] = []
        self._until_s = 0.0

    def get(self) -> list[str]:
        with self._lock:
            if time.monotonic() >= self._until_s:
                self._known = self._ask()
                self._until_s = time.monotonic() + LANGUAGES_KNOWN_S
            return self._known

    def _ask(self) -> list[str]:
        body = {"size": 0, "aggs": {"spoken": {"terms": {"field": "language", "size": 200}}}}
        with engine_errors():
            answer = self._client.search(index=self._alias, body=body)
        spoken = [bucket["key"] for bucket in answer["aggregations"]["spoken"]["buckets"]]
        return [language for language in spoken if language in ANALYZERS]
