"""OpenSearch as the benchmarks see it: the product builds its index of what is in Postgres, and asks it; so do they."""

import http.client
import json
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any
from urllib.parse import urlsplit

from cluster.contracts.search import EngineAddress, ModelKeys, Retriever
from cluster.store.index.outbox import page_of_videos
from cluster.store.opensearch.client import open_client
from cluster.store.opensearch.documents import index_body, read_documents
from cluster.store.opensearch.index import OpenSearchIndex, nearest_search
from cluster.store.opensearch.rebuild import SCENES_PER_PAGE, SENDERS, SearchIndexes, alias_of
from cluster.store.opensearch.sync import MOST_BYTES
from cluster.store.postgres.connections import Pool
from cluster.store.search.postgres_index import SearchIndex
from tests.benchmarks.made_scenes import Scenery, vector_spaces
from tests.benchmarks.rounds import Comparison, Side, Spent, in_turn
from tests.benchmarks.search_engines import Asked, Filled, PostgresEngine

BULK_REACH = 0.8
_TIMEOUT_S = 600.0

Say = Callable[[str], None]


class OpenSearchEngine:
    """One node beside the Postgres that holds the truth."""

    name = "OpenSearch"

    def __init__(
        self, postgres: PostgresEngine, pool: Pool, database_url: str, engine_url: str, models: Mapping[Retriever, str]
    ) -> None:
        self.address = EngineAddress(engine_url)
        self._postgres = postgres
        self._pool = pool
        self._keys = ModelKeys(models[Retriever.PICTURE], models[Retriever.MEANING])
        self._client = open_client(self.address, _TIMEOUT_S)
        self._indexes = SearchIndexes(pool, database_url, self._client, self.address)
        self._index = OpenSearchIndex(self._client, alias_of(self.address.prefix, self._keys))
        self.index: SearchIndex = self._index
        place = urlsplit(engine_url)
        assert place.hostname is not None
        self._connection = http.client.HTTPConnection(place.hostname, place.port, timeout=_TIMEOUT_S)

    def close(self) -> None:
        """End the sessions."""
        self._connection.close()
        self._client.close()

    def fill(self, scenery: Scenery, say: Say) -> Filled:
        """See :class:`SearchEngine`."""
        filled = self._postgres.store(scenery, say)
        self.note_changes()
        began_s = time.monotonic()
        name = self._indexes.rebuild(self._keys, lambda copied, total: say(f"{copied:,} of {total:,} videos indexed"))
        spent_s = time.monotonic() - began_s
        (row,) = self._client.cat.indices(index=name, format="json", bytes="b")
        filled.indexes["its index"] = (spent_s, int(row["store.size"]))
        return filled

    def note_changes(self) -> None:
        """As the writer of scenes does; these were copied into Postgres."""
        with self._pool.connection() as connection:
            connection.execute(
                "INSERT INTO search_changes (video_id, version, most_scenes) SELECT video_id, "
                "nextval('search_versions'), count(*) FROM video_scenes GROUP BY video_id ON CONFLICT DO NOTHING"
            )

    def bare(self, by: Retriever, asked: Asked, limit: int) -> Callable[[], int]:
        """See :class:`SearchEngine`."""
        if by is Retriever.WORDS:
            (search,) = self._index.words_searches(asked.words, asked.scope, limit)
        else:
            search = nearest_search(by, asked.vectors[by], asked.scope, limit)
        return partial(self._found, json.dumps(search))

    def count(self, asked: Asked) -> int:
        """See :class:`SearchEngine`."""
        (search,) = self._index.words_searches(asked.words, asked.scope, 0)
        return int(self._answer(json.dumps({**search, "track_total_hits": True}))["total"]["value"])

    def _found(self, body: str) -> int:
        return len(self._answer(body)["hits"])

    def _answer(self, body: str) -> dict[str, Any]:
        path = f"/{alias_of(self.address.prefix, self._keys)}/_search"
        self._connection.request("POST", path, body, {"Content-Type": "application/json"})
        hits: dict[str, Any] = json.loads(self._connection.getresponse().read())["hits"]
        return hits

    def compare_bulk(self, rounds: int, say: Say) -> Comparison:
        """All that Postgres holds, indexed by the product, against ready-made documents that are sent as they are."""
        bodies, count = self._rendered()
        bare = partial(self._send_all, bodies)
        for warm in (self._build, bare, self._build, bare):  # until Java has compiled what is hot
            warm()
        ours, theirs = in_turn([Side("heimdex", self._build), Side("OpenSearch alone", bare)], rounds, say)
        fastest = [count / min(spent.wall_s for spent in side) for side in (ours, theirs)]
        return Comparison(
            title=f"Indexing {count:,} scenes in OpenSearch",
            ours="heimdex",
            against="OpenSearch's bulk, documents ready-made",
            measure="wall",
            reach=BULK_REACH,
            of_ours=ours,
            of_theirs=theirs,
            gate=f"{count:,} documents against {count:,}",
            details=[f"the fastest round: {fastest[0]:,.0f} scenes a second against {fastest[1]:,.0f}"],
        )

    def _build(self) -> Spent:
        """Into a new index, from when the first page is read to when the last one is answered."""
        index = self._indexes.begin("bulk-bench", self._keys)
        began_s = time.monotonic()
        self._indexes.copy(index, lambda *_: None)
        spent_s = time.monotonic() - began_s
        self._drop(index.name)
        with self._pool.connection() as connection:
            connection.execute("DELETE FROM search_indexes WHERE name = %s", (index.name,))
        return Spent(spent_s, float("nan"))

    def _send_all(self, bodies: list[str]) -> Spent:
        lengths = {by: space.width for by, space in vector_spaces().items()}
        self._client.indices.create(index="bulk-bench-bare", body=index_body(1, lengths))
        began_s = time.monotonic()
        with ThreadPoolExecutor(SENDERS) as senders:
            for answer in senders.map(lambda body: self._client.bulk(body=body), bodies):
                assert answer["errors"] is False
        spent_s = time.monotonic() - began_s
        self._drop("bulk-bench-bare")
        return Spent(spent_s, float("nan"))

    def _drop(self, name: str) -> None:
        self._client.indices.delete(index=name)

    def _rendered(self) -> tuple[list[str], int]:
        """All documents in as many requests as the product sends, and how many they are."""
        bodies, count, last = [], 0, None
        while page := page_of_videos(self._pool, last, SCENES_PER_PAGE):
            last = page[-1]
            with self._pool.connection() as connection:
                documents = [one for some in read_documents(connection, page, self._keys) for one in some]
            count += len(documents)
            lines: list[str] = []
            for document in documents:
                action: dict[str, Any] = {"index": {"_index": "bulk-bench-bare", "_id": document.id}}
                lines.append(f"{json.dumps(action)}\n{document.body}\n")
            assert sum(map(len, lines)) < 2 * MOST_BYTES
            bodies.append("".join(lines))
        return bodies, count
