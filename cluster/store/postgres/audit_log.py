"""The audit log: who did what to which object, written in the transaction that does it, and logged once that is done.

Rows are added and never changed; a trigger sees to that. Those past their time are removed by the scheduler.
"""

import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from psycopg import Connection
from psycopg.rows import DictRow, class_row
from psycopg.types.json import Jsonb

from cluster.contracts.audit import Action, Actor, ObjectKind, command_line
from cluster.store.postgres.connections import Pool

logger = logging.getLogger("heimdex.audit")

LEAST_DAYS = 30
"""The table keeps every row at least so long."""
REMOVED_AT_ONCE = 10_000

_WRITE = """
-- Nothing is read back: the endpoints' role may add rows, and no more.
INSERT INTO audit_log (at, actor_kind, actor, action, object_kind, object, details)
SELECT now(), %(kind)s, %(actor)s, %(action)s, %(object_kind)s, object, %(details)s
FROM unnest(%(objects)s::text[]) AS object
"""

_READ = """
SELECT id, at, actor_kind, actor, action, object_kind, object, details FROM audit_log
WHERE (%(since)s::timestamptz IS NULL OR at >= %(since)s) AND (%(object)s::text IS NULL OR object = %(object)s)
ORDER BY id DESC LIMIT %(limit)s
"""

_LATEST = "SELECT details FROM audit_log WHERE action = %s AND object = %s ORDER BY id DESC LIMIT 1"

_REMOVE = """
DELETE FROM audit_log WHERE at < clock_timestamp() - %(age)s
AND id IN (SELECT id FROM audit_log ORDER BY id LIMIT %(most)s)
"""


@dataclass
class Trail:
    """What one actor does, as it is written down. ``log`` it when its transaction is committed."""

    actor: Actor = field(default_factory=command_line)
    _lines: list[str] = field(default_factory=list)

    def note(
        self,
        connection: Connection[DictRow],
        action: Action,
        kind: ObjectKind,
        objects: Iterable[object],
        details: Mapping[str, Any] | None = None,
    ) -> None:
        """Write down within the caller's transaction that the actor does this to each of the objects."""
        chosen = [str(one) for one in objects]
        if not chosen:
            return
        values = {
            "kind": self.actor.kind,
            "actor": self.actor.name,
            "action": action,
            "object_kind": kind,
            "objects": chosen,
            "details": Jsonb(dict(details or {})),
        }
        connection.execute(_WRITE, values)
        moment = connection.execute("SELECT now() AS at").fetchone()
        assert moment is not None
        self._lines += [
            f"audit: actor={self.actor} action={action} object={kind}:{one} time={moment['at'].isoformat()}"
            for one in chosen
        ]

    def log(self) -> None:
        """One line for each object; nothing is logged of what was rolled back."""
        lines, self._lines = self._lines, []
        for line in lines:
            logger.info("%s", line)


def note(
    pool: Pool,
    actor: Actor,
    action: Action,
    kind: ObjectKind,
    objects: Iterable[object],
    details: Mapping[str, Any] | None = None,
) -> None:
    """Write down an action that changes nothing in the database itself, in a transaction of its own."""
    trail = Trail(actor)
    with pool.connection() as connection:
        trail.note(connection, action, kind, objects, details)
    trail.log()


@dataclass(frozen=True)
class AuditRow:
    """An entry as it is stored; ``at`` is aware and in UTC."""

    id: int
    at: datetime
    actor_kind: str
    actor: str
    action: str
    object_kind: str
    object: str
    details: dict[str, Any]


def read_audit_log(
    pool: Pool, limit: int, *, since: datetime | None = None, object_id: str | None = None
) -> list[AuditRow]:
    """The latest entries, latest first."""
    values = {"limit": limit, "since": since, "object": object_id}
    with pool.connection() as connection, connection.cursor(row_factory=class_row(AuditRow)) as cursor:
        return cursor.execute(_READ, values).fetchall()


def latest_details(pool: Pool, action: Action, object_id: str) -> dict[str, Any] | None:
    """The details of the latest such entry; None where there is none."""
    with pool.connection() as connection:
        row = connection.execute(_LATEST, (action, object_id)).fetchone()
    return None if row is None else row["details"]


def remove_old_entries(pool: Pool, days: int) -> int:
    """Remove entries older than so many days, of which there are at least ``LEAST_DAYS``; returns how many."""
    values = {"age": timedelta(days=max(days, LEAST_DAYS) + 1), "most": REMOVED_AT_ONCE}
    removed = 0
    while True:
        with pool.connection() as connection:
            count = connection.execute(_REMOVE, values).rowcount
        removed += count
        if count < REMOVED_AT_ONCE:
            return removed
