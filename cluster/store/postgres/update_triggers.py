"""Writes to ``videos`` that its triggers must not see: they would move ``updated_at``, and with it the figures."""

from collections.abc import Iterator
from contextlib import contextmanager

from psycopg import Connection, errors, sql
from psycopg.rows import DictRow

from cluster.contracts.errors import DatabaseUnavailable

LOCK_WAIT_S = 5.0

# The triggers that an UPDATE would fire, foreign keys' own excepted, with the word that enables each again.
_UPDATE_TRIGGERS = """
SELECT tgname AS name,
       CASE tgenabled WHEN 'A' THEN 'ENABLE ALWAYS TRIGGER' ELSE 'ENABLE TRIGGER' END AS enable
FROM pg_catalog.pg_trigger
WHERE tgrelid = 'public.videos'::regclass AND NOT tgisinternal AND tgenabled IN ('O', 'A')
  AND tgtype & 16 <> 0
"""


@contextmanager
def without_update_triggers(connection: Connection[DictRow]) -> Iterator[None]:
    """Disables them until the end of the block (a rollback ends it too); no other session can write meanwhile.

    By ALTER TABLE, which the table's owner may do; ``session_replication_role`` would need a superuser.

    Raises:
        DatabaseUnavailable: another session holds the table.
    """
    triggers = hold_if_triggered(connection)
    for trigger in triggers:
        _alter_videos(connection, "DISABLE TRIGGER", trigger["name"])
    yield
    for trigger in triggers:
        _alter_videos(connection, trigger["enable"], trigger["name"])


def hold_if_triggered(connection: Connection[DictRow]) -> list[DictRow]:
    """Keep all other writers from ``videos`` until the transaction ends, where an UPDATE would fire triggers.

    Before any row is locked, since a session that has locked rows and waits for the table can wait for another one that
    waits for a row. One that keeps rows of the table locked is not waited for long: all other writers wait behind this
    one meanwhile. Returns the triggers, each with its name and the words that enable it again.

    Raises:
        DatabaseUnavailable: another session holds the table.
    """
    triggers = connection.execute(_UPDATE_TRIGGERS).fetchall()
    if triggers:
        connection.execute(f"SET LOCAL lock_timeout = {round(LOCK_WAIT_S * 1000)}")
        try:
            connection.execute("LOCK TABLE public.videos IN SHARE ROW EXCLUSIVE MODE")
        except errors.LockNotAvailable as error:
            raise DatabaseUnavailable(
                "another session holds the table videos: try again when its transaction, which pg_stat_activity shows, "
                "ends"
            ) from error
        connection.execute("SET LOCAL lock_timeout TO DEFAULT")
    return triggers


def _alter_videos(connection: Connection[DictRow], action: str, trigger: str) -> None:
    connection.execute(sql.SQL("ALTER TABLE public.videos {} {}").format(sql.SQL(action), sql.Identifier(trigger)))
