"""The tables of vectors: one per model, as wide as its vectors, with an index of its own.

``heimdex_vector_table`` (051) makes them, ``scene_vector_tables`` records them. Writing vectors is ``scenes`` and
``embeddings``', which model is searched ``model_registry``'.
"""

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import psycopg
from numpy.typing import NDArray
from psycopg import Connection, sql
from psycopg.errors import InsufficientPrivilege, LockNotAvailable
from psycopg.rows import DictRow

from cluster.contracts.errors import ConfigurationError, DatabaseUnavailable
from cluster.contracts.search import Retriever
from cluster.store.postgres.connections import Pool

Keys = Mapping[Retriever, str]
"""The key of the model in each space that is looked at."""

SHARED = {Retriever.PICTURE: "scene_embeddings", Retriever.MEANING: "scene_meanings"}
"""The tables of migrations 023 and 026, whose rows name their model: several models may be in them."""
SPACES = tuple(SHARED)
MOST_WHOLE = 2000
"""Longest vector that pgvector indexes in single precision; longer ones are stored in half precision."""
MOST_INDEXED = 4000
"""Longest vector that pgvector indexes at all; longer ones are compared one by one."""
MOST_DIMENSIONS = 16000
"""Longest vector that pgvector and OpenSearch store."""

_FIND = """
SELECT space, model, dimensions, relation FROM scene_vector_tables
WHERE (space, model) IN (SELECT * FROM unnest(%s::text[], %s::text[]))
"""


@dataclass(frozen=True)
class VectorTable:
    """The table with the vectors of one model: ``relation`` in schema public, ``dimensions`` numbers each."""

    model: str
    dimensions: int
    relation: str

    @property
    def name(self) -> sql.Identifier:
        """The table as SQL names it."""
        return sql.Identifier(self.relation)

    @property
    def shared(self) -> bool:
        """Whether its rows name their model, since other models' may be among them."""
        return self.relation in SHARED.values()

    @property
    def kind(self) -> sql.SQL:
        """The type of its vectors."""
        return sql.SQL("vector") if self.dimensions <= MOST_WHOLE else sql.SQL("halfvec")

    @property
    def indexed(self) -> bool:
        """Whether it has a vector index."""
        return self.dimensions <= MOST_INDEXED

    @property
    def rows(self) -> sql.Composable:
        """What to select from: ``scene_id`` and ``embedding`` of the model's vectors."""
        if not self.shared:
            return self.name
        return sql.SQL("(SELECT scene_id, embedding FROM {} WHERE model = {})").format(self.name, self._key)

    def insert(self, scene_id: sql.Composable, embedding: sql.Composable, source: sql.Composable) -> sql.Composed:
        """The statement that inserts a vector per row of ``source``, the rest of a SELECT."""
        key = (sql.SQL(", model"), sql.SQL(", {}").format(self._key)) if self.shared else (sql.SQL(""), sql.SQL(""))
        return sql.SQL("INSERT INTO {} (scene_id, embedding{}) SELECT {}, {}{} {}").format(
            self.name, key[0], scene_id, embedding, key[1], source
        )

    @property
    def _key(self) -> sql.Literal:
        return sql.Literal(self.model.replace("%", "%%"))  # a statement with parameters reads %% as %


_FORGET = "DELETE FROM scene_vector_tables WHERE space = %(space)s AND model = %(model)s"

_DELETE_SOME = sql.SQL(
    """
DELETE FROM {vectors} WHERE ctid = ANY (ARRAY(
    SELECT e.ctid FROM {vectors} AS e WHERE e.model = %(model)s LIMIT %(limit)s
))
"""
)
_DELETED_AT_ONCE = 5000

# Dropping a table that refers to scenes locks these: all searches would queue behind it while it waits.
_WAIT_SHORTLY = "SET LOCAL lock_timeout = '1s'"
_DROP_TRIES, _DROP_PAUSE_S = 100, 0.5

_DESCRIBED = """
SELECT t.space AS by, t.model, m.state, t.dimensions, t.relation AS "table",
       round(pg_total_relation_size(format('public.%I', t.relation)::regclass) / 1e6, 1)::float8 AS megabytes
FROM scene_vector_tables AS t LEFT JOIN search_models AS m USING (space, model)
ORDER BY t.space, t.model
"""

NO_ROWS = sql.SQL("(SELECT NULL::uuid AS scene_id, NULL::vector AS embedding WHERE false)")
"""An empty table to select from where a model has none."""


def find_tables(connection: Connection[DictRow], keys: Keys) -> dict[Retriever, VectorTable]:
    """The tables of these models, of those that have one."""
    rows = connection.execute(_FIND, (list(keys), list(keys.values()))).fetchall()
    return {Retriever(row["space"]): VectorTable(row["model"], row["dimensions"], row["relation"]) for row in rows}


def rows_of(tables: Mapping[Retriever, VectorTable], by: Retriever) -> sql.Composable:
    """What to select the vectors of a space's model from."""
    return tables[by].rows if by in tables else NO_ROWS


def make_table(connection: Connection[DictRow], by: Retriever, model: str, dimensions: int) -> VectorTable:
    """The table of a model, made if there is none, within the caller's transaction.

    Making one waits for all transactions that write scenes.

    Raises:
        ConfigurationError: the stored vectors of the model have another length, or Postgres cannot store such ones.
    """
    if not 1 <= dimensions <= MOST_DIMENSIONS:
        raise ConfigurationError(
            f"the {by} model {model} gives {dimensions} numbers, and vectors are stored of 1 to {MOST_DIMENSIONS}: "
            "choose another model"
        )
    try:
        row = connection.execute(
            "SELECT public.heimdex_vector_table(%s, %s, %s) AS relation", (by.value, model, dimensions)
        ).fetchone()
    except psycopg.errors.UndefinedObject as error:
        raise ConfigurationError(
            f"the {by} model {model} gives {dimensions} numbers, and more than {MOST_WHOLE} need pgvector 0.7 or "
            "newer: update pgvector on the server, or choose another model"
        ) from error
    except psycopg.DataError as error:
        raise ConfigurationError(
            f"the {by} model {model} cannot be used: {error.diag.message_primary}; choose another model, or bring back "
            "the files that it had"
        ) from error
    assert row is not None
    return VectorTable(model, dimensions, row["relation"])


def drop_vectors(pool: Pool, by: Retriever, table: VectorTable, *, in_use: bool) -> int:
    """Drop a model's vectors with their table, or empty one of migrations 023 and 026; returns how many there were.

    ``in_use``: another model's vectors in the same table are searched, so these are deleted from among them.

    Raises:
        DatabaseUnavailable: others read scenes all the time.
        ConfigurationError: the session is not the tables' owner.
    """
    deleted = _delete_vectors(pool, table) if in_use else 0
    for _ in range(_DROP_TRIES):
        try:
            with pool.connection() as connection:
                connection.execute(_WAIT_SHORTLY)
                dropped = 0 if in_use else _drop_table(connection, table)
                connection.execute(_FORGET, {"space": by.value, "model": table.model})
                return deleted + dropped
        except LockNotAvailable:
            time.sleep(_DROP_PAUSE_S)  # searches pass
        except InsufficientPrivilege as error:
            raise ConfigurationError(
                f"vectors are dropped as the owner of table {table.relation}: run `heimdex reembed --drop-old` where "
                "HEIMDEX_MIGRATE_DATABASE_URL is set"
            ) from error
    raise DatabaseUnavailable(
        f"table {table.relation} cannot be dropped while others read scenes: run `heimdex reembed --drop-old` again"
    )


def _delete_vectors(pool: Pool, table: VectorTable) -> int:
    deleted, count = 0, -1
    while count:  # by and by: nothing is locked, and no transaction kept open, for long
        with pool.connection() as connection:
            values = {"model": table.model, "limit": _DELETED_AT_ONCE}
            count = connection.execute(_DELETE_SOME.format(vectors=table.name), values).rowcount
        deleted += count
    with pool.autocommitted() as connection:
        connection.execute(sql.SQL("VACUUM (ANALYZE) {}").format(table.name))
    return deleted


def _drop_table(connection: Connection[DictRow], table: VectorTable) -> int:
    row = connection.execute(sql.SQL("SELECT count(*) AS vectors FROM {}").format(table.name)).fetchone()
    statement = sql.SQL("TRUNCATE {}") if table.shared else sql.SQL("DROP TABLE {}")
    connection.execute(statement.format(table.name))
    return 0 if row is None else int(row["vectors"])


def described_tables(pool: Pool) -> list[dict[str, Any]]:
    """For people: each model with vectors, its state, their length, and the size of their table with its index."""
    with pool.connection() as connection:
        return connection.execute(_DESCRIBED).fetchall()


def flaw_of(vector: NDArray[np.float32], dimensions: int) -> str | None:
    """Why a vector cannot be searched; None where it can."""
    if vector.shape != (dimensions,):
        return f"a vector of {vector.size} numbers instead of {dimensions}"
    if not np.isfinite(vector).all():
        return "a vector with numbers that are not finite"
    if not vector.any():
        return "a vector of zeros, which points nowhere"
    return None
