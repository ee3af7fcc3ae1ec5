"""Which models' vectors are searched: what one model embeds means nothing to another.

In each space (meanings, pictures) one model is active: queries are compared with its vectors only, and new scenes are
embedded by it. Another may be ``filling``: its vectors are made beside the active one's. The one that was active before
is ``previous`` for as long as its vectors are kept. Each has a table of its own (``vector_tables``), so vectors may
have any length, and a search reads none but those of its model.

The vectors themselves are written by ``scenes`` and ``embeddings``.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum

from psycopg import Connection
from psycopg.rows import DictRow

from cluster.contracts.audit import Action, ObjectKind
from cluster.contracts.errors import ConfigurationError
from cluster.contracts.search import ModelKeys, Retriever
from cluster.store.index.embeddings import count_lacking
from cluster.store.index.vector_tables import SPACES, VectorTable, drop_vectors, make_table
from cluster.store.postgres.audit_log import Trail
from cluster.store.postgres.connections import Pool, advisory_lock

_OPTIONS = {Retriever.PICTURE: "--vision", Retriever.MEANING: "--text"}
SETTINGS = {
    Retriever.PICTURE: "HEIMDEX_CLIP_MODEL and HEIMDEX_CLIP_PRETRAINED",
    Retriever.MEANING: "HEIMDEX_TEXT_MODEL",
}
"""The settings that name a space's model."""

_ADVISORY_LOCK = 0x7265656D626564  # "reembed"; one per database

# Shared by all who write scenes, alone for the switch. A lock of the table and not of its rows: these would let writers
# that come one after the other keep the switch waiting indefinitely, and hand an empty answer to one that waited.
_KEEP = "LOCK TABLE search_models IN ROW SHARE MODE"
_CHANGE = "LOCK TABLE search_models IN EXCLUSIVE MODE"

_MAY_TAKE_LONG = "SET LOCAL idle_in_transaction_session_timeout = '3min'"

_ADOPT = """
-- The first model of a space, unless all vectors that there are were made by others.
INSERT INTO search_models (space, model, name, pretrained, state)
SELECT %(space)s, %(model)s, %(name)s, %(pretrained)s, 'active'
WHERE NOT EXISTS (SELECT FROM search_models WHERE space = %(space)s AND state = 'active')
  AND (NOT EXISTS (SELECT FROM scene_vector_tables WHERE space = %(space)s)
       OR EXISTS (SELECT FROM scene_vector_tables WHERE space = %(space)s AND model = %(model)s))
ON CONFLICT DO NOTHING
"""

_IN_USE = """
SELECT coalesce((SELECT model FROM search_models WHERE space = %(space)s AND state = 'active'),
                (SELECT min(model) FROM scene_vector_tables WHERE space = %(space)s)) AS model
"""

_BY_STATE = """
SELECT m.space, m.model, m.name, m.pretrained, m.state, t.dimensions
FROM search_models AS m JOIN scene_vector_tables AS t USING (space, model)
"""

_BEGIN = """
INSERT INTO search_models (space, model, name, pretrained, state)
VALUES (%(space)s, %(model)s, %(name)s, %(pretrained)s, 'filling')
ON CONFLICT (space, model) DO UPDATE
SET state = 'filling', name = excluded.name, pretrained = excluded.pretrained, changed_at = clock_timestamp()
WHERE search_models.state <> 'active'
"""

# The spaces that were switched last, together: their active rows are of the same moment.
_LAST_SWITCHED = """
SELECT p.space, p.model FROM search_models AS p
JOIN search_models AS a ON a.space = p.space AND a.state = 'active'
WHERE p.state = 'previous' AND a.changed_at = (
    SELECT max(n.changed_at) FROM search_models AS n WHERE n.state = 'active' AND EXISTS (
        SELECT FROM search_models AS o WHERE o.space = n.space AND o.state = 'previous'))
"""

_TAKE_OUT = """
DELETE FROM search_models WHERE space = ANY (%(spaces)s::text[]) AND state = 'active'
RETURNING space, model, name, pretrained
"""
_FORGET_EARLIER = """
DELETE FROM search_models WHERE space = ANY (%(spaces)s::text[]) AND state = 'previous' AND state <> %(state)s
"""
_ACTIVATE = """
UPDATE search_models AS m SET state = 'active', changed_at = now()
FROM unnest(%(spaces)s::text[], %(models)s::text[]) AS chosen (space, model)
WHERE m.space = chosen.space AND m.model = chosen.model AND m.state = %(state)s
"""
_PUT_BACK = """
INSERT INTO search_models (space, model, name, pretrained, state, changed_at)
VALUES (%(space)s, %(model)s, %(name)s, %(pretrained)s, 'previous', now())
"""

_OLD = """
-- The tables of a space whose models are not searched, and whether the active one's vectors are in the same table.
SELECT t.space, t.model, t.dimensions, t.relation,
       t.relation = (SELECT o.relation FROM scene_vector_tables AS o
                     WHERE o.space = a.space AND o.model = a.model) AS is_searched
FROM scene_vector_tables AS t
JOIN search_models AS a ON a.space = t.space AND a.state = 'active' AND a.model <> t.model
ORDER BY t.space, t.model
"""


@dataclass(frozen=True)
class IndexedModel:
    """A model by what its vectors are filed under, and by how it is loaded."""

    key: str
    name: str
    pretrained: str | None
    dimensions: int


Models = dict[Retriever, IndexedModel]


class State(StrEnum):
    """What the vectors of a model are to searches: those that are asked, those to come, those that were."""

    ACTIVE = "active"
    FILLING = "filling"
    PREVIOUS = "previous"


class SearchModels:
    """Reads and changes which models of both spaces are in use."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    def active(self) -> Models:
        """The model of each space that has one."""
        return self.by_state()[State.ACTIVE]

    def keys(self) -> ModelKeys:
        """By whose vectors scenes are found now. Raises as :func:`keys_of`."""
        return keys_of(self.active())

    def by_state(self) -> dict[State, Models]:
        """All models by state, at one moment."""
        with self._pool.connection() as connection:
            rows = connection.execute(_BY_STATE).fetchall()
        models: dict[State, Models] = {state: {} for state in State}
        for row in rows:
            model = IndexedModel(row["model"], row["name"], row["pretrained"], row["dimensions"])
            models[State(row["state"])][Retriever(row["space"])] = model
        return models

    def adopt(self, by: Retriever, model: IndexedModel) -> None:
        """Make sure that ``model`` is the active one of its space: the first one becomes it.

        Raises:
            ConfigurationError: another one is, or all vectors that are stored were made by another one; or its own
                that are stored have another length.
        """
        values = _values(by, model)
        with self._pool.connection() as connection:
            connection.execute(_ADOPT, values)
            row = connection.execute(_IN_USE, values).fetchone()
            other = row and row["model"]
            if other in (None, model.key):
                make_table(connection, by, model.key, model.dimensions)
                return
            raise ConfigurationError(
                f"all scenes are indexed by {by} with {other}, not with {model.key}: set {SETTINGS[by]} to that model "
                f"again, or embed them again: `heimdex reembed {_OPTIONS[by]} MODEL`"
            )

    def begin(self, by: Retriever, model: IndexedModel) -> None:
        """Note that vectors of ``model`` are being made, in place of one not finished. The active one stays that.

        Raises:
            ConfigurationError: its vectors cannot be stored, or those of its that are have another length.
        """
        with self._pool.connection() as connection:
            connection.execute(_CHANGE)
            connection.execute(
                "DELETE FROM search_models WHERE space = %s AND state = 'filling' AND model <> %s", (by, model.key)
            )
            make_table(connection, by, model.key, model.dimensions)
            connection.execute(_BEGIN, _values(by, model))

    def switch(
        self, models: Mapping[Retriever, str], last: Callable[[], object] = lambda: None, *, allow_missing: bool = False
    ) -> int:
        """Search by ``models``, by their keys, from now on, if no scene lacks a vector of theirs, or ``allow_missing``.

        One transaction, for the length of which no scenes are written: ``last`` is called within, to embed what came
        meanwhile. Returns how many scenes lack a vector; unless it is 0 or allowed, nothing was changed.

        Raises:
            ConfigurationError: something else is filled by now, or nothing.
        """
        with self._pool.connection() as connection:
            connection.execute(_CHANGE)
            connection.execute(_MAY_TAKE_LONG)
            last()
            lacking = count_lacking(connection, models)
            trail = Trail()
            if not lacking or allow_missing:
                _make_active(connection, models, State.FILLING, trail)
        trail.log()
        return lacking

    def rollback(self) -> Models:
        """Search by the models from before the last switch; returns them. Rolled back again, it is undone.

        Scenes that were written since lack vectors of theirs.

        Raises:
            ConfigurationError: there was no switch, or the old vectors were dropped.
        """
        with self._pool.connection() as connection:
            connection.execute(_CHANGE)
            models = {Retriever(row["space"]): str(row["model"]) for row in connection.execute(_LAST_SWITCHED)}
            if not models:
                raise ConfigurationError(
                    "there are no previous models: nothing was embedded again, or the old vectors were dropped"
                )
            trail = Trail()
            _make_active(connection, models, State.PREVIOUS, trail)
        trail.log()
        active = self.active()
        return {by: active[by] for by in models}

    def drop_old(self) -> int:
        """Drop the vectors of all models but the active ones, also of one that was not finished; returns how many.

        Their tables are dropped. From a table of migrations 023 and 026 that the active model shares, the others'
        vectors are deleted by and by, and what the vector index gives back, it does when it is vacuumed: that is done
        here, and takes its time. Goes on where it was when it was interrupted.
        """
        with self._pool.connection() as connection:
            connection.execute(_CHANGE)
            connection.execute("DELETE FROM search_models WHERE state <> 'active'")
            old = connection.execute(_OLD).fetchall()
            trail = Trail()
            trail.note(connection, Action.DROP_VECTORS, ObjectKind.MODEL, [row["model"] for row in old])
        trail.log()
        dropped = 0
        for row in old:
            table = VectorTable(row["model"], row["dimensions"], row["relation"])
            dropped += drop_vectors(self._pool, Retriever(row["space"]), table, in_use=row["is_searched"])
        return dropped


def keys_of(models: Models) -> ModelKeys:
    """The keys of a model of each space.

    Raises:
        ConfigurationError: there is none of one of the spaces.
    """
    if set(models) != set(SPACES):
        raise ConfigurationError("no models are in use yet: `heimdex up` loads them")
    return ModelKeys(models[Retriever.PICTURE].key, models[Retriever.MEANING].key)


def active_while_written(connection: Connection[DictRow]) -> dict[Retriever, str]:
    """The keys of the active models, which stay active until the caller's transaction is over."""
    connection.execute(_KEEP)
    rows = connection.execute("SELECT space, model FROM search_models WHERE state = 'active'").fetchall()
    return {Retriever(row["space"]): str(row["model"]) for row in rows}


@contextmanager
def changing_alone(url: str) -> Iterator[None]:
    """Exclude other sessions that embed again, roll back or drop vectors in this database.

    Raises:
        ConfigurationError: another session does.
    """
    with advisory_lock(url, _ADVISORY_LOCK, name="heimdex reembed lock") as held:
        if not held:
            raise ConfigurationError("another `heimdex reembed` works on this database: wait for its end, or end it")
        yield


def _make_active(connection: Connection[DictRow], models: Mapping[Retriever, str], those: State, trail: Trail) -> None:
    """Within the caller's transaction, and all at its one moment (``now()``): see ``_LAST_SWITCHED``."""
    chosen = {"spaces": list(models), "models": list(models.values()), "state": those}
    before = connection.execute(_TAKE_OUT, chosen).fetchall()
    connection.execute(_FORGET_EARLIER, chosen)
    if connection.execute(_ACTIVATE, chosen).rowcount != len(models):
        raise ConfigurationError("the vectors that were made are of no model that is being filled: begin again")
    for row in before:
        connection.execute(_PUT_BACK, row)
    former = {row["space"]: row["model"] for row in before}
    trail.note(connection, Action.CHANGE_MODELS, ObjectKind.MODEL, models.values(), {"in_place_of": former})


def _values(by: Retriever, model: IndexedModel) -> dict[str, object]:
    return {"space": by, "model": model.key, "name": model.name, "pretrained": model.pretrained}
