"""Which engine finds the scenes, from the settings' address: Postgres itself, or the OpenSearch there."""

from collections.abc import Callable
from functools import lru_cache

from cluster.contracts.search import EngineAddress, ModelKeys
from cluster.store.opensearch.client import TIMEOUT_S, open_client
from cluster.store.opensearch.index import OpenSearchIndex
from cluster.store.opensearch.rebuild import alias_of
from cluster.store.postgres.connections import Pool
from cluster.store.search.postgres_index import PostgresSearchIndex, SearchIndex

IndexOpener = Callable[[ModelKeys], SearchIndex]
"""Opens the index of the vectors of some models."""


def index_opener(pool: Pool, engine: EngineAddress | None = None, timeout_s: float = TIMEOUT_S) -> IndexOpener:
    """Indexes of Postgres, or of the engine beside it, which may take ``timeout_s`` for each list."""
    if engine is None:
        in_postgres = PostgresSearchIndex(pool)
        return lambda _: in_postgres
    client, prefix = open_client(engine), engine.prefix

    @lru_cache(8)
    def opened(models: ModelKeys) -> SearchIndex:
        return OpenSearchIndex(client, alias_of(prefix, models), timeout_s)

    return opened
