"""Latency of a search by HTTP, and the shares of the models and of the bare engine in it.

Query by query in turn: the engine's three lists without anything around them, the two models alone, the whole request,
and the same request once more, for which the models need not be asked. What a query reads from disk, all find read.
"""

import http.client
import json
import statistics
import time
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from urllib.parse import urlencode
from uuid import UUID

import numpy as np

from cluster.contracts.search import QueryVector, Retriever, Scope, TextEncoder, parse_words
from cluster.search.query_models import VisionEncoder
from cluster.search.service import LIST_DEPTH
from serve_app.development_tokens import mint_token
from tests.benchmarks.made_scenes import MOST, Scenery, VectorSpace
from tests.benchmarks.search_engines import Asked, SearchEngine
from tests.benchmarks.search_server import SECRET

WHOLE, AGAIN, MODELS, BARE = "whole", "again", "models", "bare"
REACH = 2.0
_WARM_UP = 20
_COMMON_PLACES = (0, 10, 30, 100)
_TIMES = 5
_TOKEN_LIFETIME = timedelta(hours=6)


@dataclass(frozen=True)
class Latencies:
    """Time of each part of each query, in ms: by part one figure a query, in the queries' order."""

    ms: Mapping[str, Sequence[float]]

    def percentiles(self, part: str) -> tuple[float, float, float]:
        """The 50th, 95th and 99th."""
        p50, p95, p99 = np.percentile(self.ms[part], [50, 95, 99])
        return float(p50), float(p95), float(p99)

    def ratio(self, part: str) -> float:
        """The 95th percentile of a part over that of the bare lists."""
        return self.percentiles(part)[1] / self.percentiles(BARE)[1]


class SearchClient:
    """Asks the HTTP application for one owner, over a connection that stays."""

    def __init__(self, port: int, owner: UUID) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", port)
        self._headers = {"Authorization": f"Bearer {mint_token(SECRET, owner, _TOKEN_LIFETIME)}"}

    def close(self) -> None:
        self._connection.close()

    def search(self, query: str) -> int:
        """Number of scenes found."""
        self._connection.request("GET", f"/v1/search?{urlencode({'q': query})}", headers=self._headers)
        response = self._connection.getresponse()
        body = response.read()
        if response.status != 200:
            raise SystemExit(f"{query!r} was answered with {response.status}: {body.decode()}")
        return len(json.loads(body)["items"])


@dataclass(frozen=True)
class Parties:
    """The parties to a measurement."""

    engine: SearchEngine
    client: SearchClient
    vision: VisionEncoder
    text: TextEncoder
    spaces: Mapping[Retriever, VectorSpace]

    def asked(self, query: str) -> Asked:
        """The form of a query that the engine gets."""
        keys = {Retriever.MEANING: self.text.key, Retriever.PICTURE: self.vision.key}
        vectors = {by: QueryVector(keys[by], space.asked_by(query)) for by, space in self.spaces.items()}
        return Asked(parse_words(query), vectors, Scope(MOST))


def measure_latency(parties: Parties, queries: Sequence[str], say: Callable[[str], None]) -> Latencies:
    """Each query once in each way, after the engine has read once what it needs for all."""
    for query in queries[:_WARM_UP]:
        for way in _around(parties, query).values():
            way()
    queries = queries[_WARM_UP:]
    for query in queries:
        for way in _bare(parties, query).values():
            way()
    ms: dict[str, list[float]] = defaultdict(list)
    for number, query in enumerate(queries):
        bare, around = _bare(parties, query), _around(parties, query)
        # In turn the one and the other first, since what was asked just before is found a little faster.
        for part, way in {**around, **bare}.items() if number % 2 else {**bare, **around}.items():
            ms[part].append(_ms(way))
        ms[BARE].append(sum(ms[part][-1] for part in bare))
        if number % 100 == 99:
            say(f"{number + 1} of {len(queries)} queries")
    return Latencies(ms)


def _around(parties: Parties, query: str) -> dict[str, Callable[[], object]]:
    """Calls that are timed beside the engine, by name."""
    search = partial(parties.client.search, query)
    return {MODELS: partial(_encode, parties, query), WHOLE: search, AGAIN: search}


def _bare(parties: Parties, query: str) -> dict[str, Callable[[], object]]:
    """The engine's three lists."""
    asked = parties.asked(query)
    return {f"{BARE}: {by}": parties.engine.bare(by, asked, LIST_DEPTH) for by in Retriever}


@dataclass(frozen=True)
class CommonWord:
    """A word that very many scenes have: what it costs alone."""

    word: str
    scenes: int
    words_ms: float
    request_ms: float


def measure_common_words(parties: Parties, scenery: Scenery) -> list[CommonWord]:
    """Some of the most frequent ones, the median of a few times each."""
    return [_common(parties, scenery.words[place]) for place in _COMMON_PLACES]


def _common(parties: Parties, word: str) -> CommonWord:
    asked = parties.asked(word)
    count = parties.engine.count(asked)
    words, search = parties.engine.bare(Retriever.WORDS, asked, LIST_DEPTH), partial(parties.client.search, word)
    words()
    search()
    return CommonWord(word, count, *(statistics.median(_ms(way) for _ in range(_TIMES)) for way in (words, search)))


def _encode(parties: Parties, query: str) -> None:
    parties.text.encode([query])
    parties.vision.encode_texts([query])


def _ms(work: Callable[[], object]) -> float:
    began_s = time.perf_counter()
    work()
    return (time.perf_counter() - began_s) * 1000
