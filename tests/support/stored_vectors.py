"""The vectors in a database, whichever tables they are in."""

from uuid import UUID

import numpy as np
from numpy.typing import NDArray
from psycopg import sql

from cluster.contracts.search import Retriever
from cluster.store.index.vector_tables import find_tables, rows_of
from cluster.store.postgres.connections import Pool


def stored_vectors(pool: Pool, by: Retriever, model: str) -> dict[UUID, NDArray[np.float32]]:
    """Those of a model, by their scenes; none where it has no table."""
    with pool.connection() as connection:
        rows = rows_of(find_tables(connection, {by: model}), by)
        statement = sql.SQL("SELECT scene_id, embedding::vector AS embedding FROM {}").format(rows)
        found = connection.execute(statement, {}).fetchall()
    return {row["scene_id"]: row["embedding"].to_numpy() for row in found}
