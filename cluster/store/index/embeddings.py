"""The vectors of scenes that are there already: which scenes lack one of a model, and writing it beside the others.

Vectors of new scenes come with the scenes (``scenes``); whose vectors are searched is ``model_registry``'.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from uuid import UUID

import numpy as np
from numpy.typing import NDArray
from pgvector import Vector
from psycopg import Connection, sql
from psycopg.rows import DictRow, class_row

from cluster.contracts.errors import ConfigurationError
from cluster.contracts.search import Retriever
from cluster.store.index.outbox import NEXT_VERSION
from cluster.store.index.scene_text import SCENE_TEXT
from cluster.store.index.vector_tables import SPACES, Keys, VectorTable, find_tables, rows_of
from cluster.store.postgres.connections import Pool
from cluster.store.postgres.plausible_times import plausible

_CAN_BE_EMBEDDED = {
    Retriever.PICTURE: sql.SQL("s.key_frame_url <> ''"),
    Retriever.MEANING: sql.SQL(f"{SCENE_TEXT} <> ''"),
}
"""Condition on a scene without which no vector of it can be lacking."""

_MADE = sql.SQL(f"(extract(epoch FROM coalesce({plausible('s.created_at')}, 'epoch')) * 1000000)::bigint")

_PAGE = sql.SQL(
    f"""
-- In the order of their ids, so that one pass sees each scene once, whatever becomes of it.
SELECT s.id AS scene_id, s.video_id, {{made}} AS made,
       CASE WHEN {{no_picture}} THEN s.key_frame_url END AS key_frame_url,
       CASE WHEN {{no_meaning}} THEN {SCENE_TEXT} END AS text
FROM video_scenes AS s
WHERE s.id > %(after)s AND s.id <= %(until)s AND ({{no_picture}} OR {{no_meaning}})
ORDER BY s.id
LIMIT %(limit)s
"""
)

_TOUCH_FOLLOWED = f"""
-- An index that holds vectors of the model, in a search engine beside Postgres, is to get these too.
WITH locked AS (
    SELECT c.video_id FROM search_changes AS c
    WHERE c.video_id IN (SELECT s.video_id FROM video_scenes AS s WHERE s.id = ANY (%(scenes)s))
      AND EXISTS (SELECT FROM search_indexes AS i WHERE %(model)s IN (i.vision_model, i.text_model))
    ORDER BY c.video_id FOR UPDATE
)
UPDATE search_changes AS c
SET {NEXT_VERSION}
FROM locked WHERE c.video_id = locked.video_id
"""

_SCENE_AS_IT_WAS = sql.SQL(
    """
-- Deletions lock scenes in any order: locked ones are not waited for, or each might wait for the other.
FROM video_scenes AS s WHERE s.id = %s AND {made} = %s FOR KEY SHARE SKIP LOCKED
ON CONFLICT DO NOTHING
"""
).format(made=_MADE)


@dataclass(frozen=True)
class IdRange:
    """Scenes by their ids: all behind ``after``, up to and with ``until``."""

    after: UUID
    until: UUID

    def split(self, parts: int) -> list["IdRange"]:
        """So many ranges that are as wide as each other, and hold all of this one together."""
        edges = [self.after.int + (self.until.int - self.after.int) * part // parts for part in range(parts + 1)]
        return [IdRange(UUID(int=after), UUID(int=until)) for after, until in pairwise(edges)]


EVERY_ID = IdRange(UUID(int=0), UUID(int=2**128 - 1))


@dataclass(frozen=True)
class LackingScene:
    """A scene and what of it is to be embedded; None: nothing.

    ``made``: when its row was written, in microseconds. A video that is processed again has other scenes of the same
    ids.
    """

    scene_id: UUID
    video_id: UUID
    made: int
    key_frame_url: str | None
    text: str | None


@dataclass(frozen=True)
class SceneVector:
    """What a model made of a scene: float32, L2-normalised."""

    scene_id: UUID
    made: int
    embedding: NDArray[np.float32]


class SceneVectors:
    """The vectors of all scenes, by the models of ``keys``."""

    def __init__(self, pool: Pool, keys: Keys) -> None:
        self._pool = pool
        self._keys = dict(keys)

    def count_lacking(self) -> int:
        """Number of scenes that lack a vector."""
        with self._pool.connection() as connection:
            return count_lacking(connection, self._keys)

    def lacking(self, ids: IdRange, page_size: int) -> Iterator[LackingScene]:
        """The scenes of a range that lack a vector, read page by page while they are asked for."""
        after = ids.after
        while True:
            page = self._page(IdRange(after, ids.until), page_size)
            yield from page
            if len(page) < page_size:
                return
            after = page[-1].scene_id

    def _page(self, ids: IdRange, limit: int) -> list[LackingScene]:
        values = {"after": ids.after, "until": ids.until, "limit": limit}
        with self._pool.connection() as connection, connection.cursor(row_factory=class_row(LackingScene)) as cursor:
            tables = find_tables(connection, self._keys)
            lacks = {by: _lacks(by, self._keys, tables) for by in SPACES}
            statement = _PAGE.format(
                made=_MADE, no_picture=lacks[Retriever.PICTURE], no_meaning=lacks[Retriever.MEANING]
            )
            return cursor.execute(statement, values).fetchall()

    def write(self, by: Retriever, vectors: Sequence[SceneVector]) -> int:
        """Write vectors of the space's model in one transaction; returns how many are new.

        Left out are scenes that are gone, or no longer those that were embedded, or have the vector by now.

        Raises:
            ConfigurationError: the model is no longer in use, so there is no table of its vectors.
        """
        # Two who write the same ones meet them in the same order.
        ordered = sorted(vectors, key=lambda vector: vector.scene_id)
        with self._pool.connection() as connection, connection.cursor() as cursor:
            # First, so that nothing is waited for while scenes are held.
            cursor.execute(_TOUCH_FOLLOWED, {"scenes": [v.scene_id for v in ordered], "model": self._keys[by]})
            statement = self._table(connection, by).insert(sql.SQL("s.id"), sql.Placeholder(), _SCENE_AS_IT_WAS)
            cursor.executemany(statement, [(Vector(v.embedding), v.scene_id, v.made) for v in ordered])
            return max(0, cursor.rowcount)

    def _table(self, connection: Connection[DictRow], by: Retriever) -> VectorTable:
        table = find_tables(connection, {by: self._keys[by]}).get(by)
        if table is None:
            raise ConfigurationError(
                f"the vectors of the {by} model {self._keys[by]} were dropped meanwhile: start `heimdex reembed` again"
            )
        return table


def count_lacking(connection: Connection[DictRow], keys: Keys) -> int:
    """Number of scenes that lack a vector of one of these models, within the caller's transaction."""
    tables = find_tables(connection, keys)
    statement = sql.SQL("SELECT count(*) AS scenes FROM video_scenes AS s WHERE {} OR {}").format(
        *(_lacks(by, keys, tables) for by in SPACES)
    )
    row = connection.execute(statement, {}).fetchone()
    return 0 if row is None else int(row["scenes"])


def _lacks(by: Retriever, keys: Keys, tables: Mapping[Retriever, VectorTable]) -> sql.Composable:
    """Whether scene ``s`` can be embedded in the space and was not by its model; of a space without one, false."""
    if by not in keys:
        return sql.SQL("false")
    return sql.SQL("({source} AND NOT EXISTS (SELECT FROM {vectors} AS e WHERE e.scene_id = s.id))").format(
        source=_CAN_BE_EMBEDDED[by], vectors=rows_of(tables, by)
    )
