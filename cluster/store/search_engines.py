"""Which engine finds the scenes, from the settings' address: Postgres itself, or the OpenSearch there."""

from cluster.contracts.search import EngineAddress
from cluster.store.database import Pool
from cluster.store.opensearch import open_client
from cluster.store.opensearch_documents import IndexedModels
from cluster.store.opensearch_index import OpenSearchIndex
from cluster.store.search_index import PostgresSearchIndex, SearchIndex
from cluster.store.search_indexes import alias_of


def open_index(pool: Pool, engine: EngineAddress | None, models: IndexedModels) -> SearchIndex:
    """The index that holds vectors of these models."""
    if engine is None:
        return PostgresSearchIndex(pool)
    return OpenSearchIndex(open_client(engine), alias_of(engine.prefix, models))
