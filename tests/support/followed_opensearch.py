"""An index in the real OpenSearch for one test, brought in line with Postgres and refreshed before each search."""

import itertools
from collections.abc import Iterator
from contextlib import contextmanager

from opensearchpy import OpenSearch

from cluster.contracts.search import EngineAddress, ModelKeys, QueryVector, RankedScene, Retriever, Scope, WordsQuery
from cluster.store.index.outbox import SearchChanges
from cluster.store.index.vector_tables import make_table
from cluster.store.opensearch.client import open_client
from cluster.store.opensearch.index import OpenSearchIndex
from cluster.store.opensearch.rebuild import SearchIndexes, alias_of
from cluster.store.opensearch.sync import IndexFollower
from cluster.store.postgres.connections import Pool
from tests.support.searchable import TEXT, VISION

MODELS = ModelKeys(VISION.key, TEXT.key)
_numbers = itertools.count(1)


class FollowedOpenSearch:
    """Implements ``SearchIndex``."""

    def __init__(self, pool: Pool, database_url: str, client: OpenSearch, address: EngineAddress) -> None:
        self.pool = pool
        self.client = client
        self.address = address
        self.alias = alias_of(address.prefix, MODELS)
        self.indexes = SearchIndexes(pool, database_url, client, address)
        self.follower = IndexFollower(pool, client)
        self.changes = SearchChanges(pool)

    def words(self, query: WordsQuery, scope: Scope, limit: int) -> list[RankedScene]:
        return self._in_line().words(query, scope, limit)

    def nearest(self, by: Retriever, vector: QueryVector, scope: Scope, limit: int) -> list[RankedScene]:
        return self._in_line().nearest(by, vector, scope, limit)

    def _in_line(self) -> OpenSearchIndex:
        with self.pool.connection() as connection:
            rows = connection.execute("SELECT video_id FROM search_changes WHERE version <> indexed_version")
            changed = [row["video_id"] for row in rows]
        assert self.follower.follow_all(changed) == {}
        return self.searched()

    def searched(self) -> OpenSearchIndex:
        """The index with all that was written so far; the languages are asked for again."""
        self.client.indices.refresh(index=self.alias)
        return OpenSearchIndex(self.client, self.alias)


@contextmanager
def followed_opensearch(pool: Pool, database_url: str, opensearch_url: str) -> Iterator[FollowedOpenSearch]:
    """With an empty index that is searched, for vectors as long as the models make; all of it is removed at the end."""
    address = EngineAddress(opensearch_url, prefix=f"test{next(_numbers)}")
    client = open_client(address)
    followed = FollowedOpenSearch(pool, database_url, client, address)
    with pool.connection() as connection:
        make_table(connection, Retriever.PICTURE, VISION.key, VISION.dimensions)
        make_table(connection, Retriever.MEANING, TEXT.key, TEXT.dimensions)
    followed.indexes.ensure(MODELS)
    try:
        yield followed
    finally:
        client.indices.delete(index=f"{address.prefix}-*")
        client.close()
