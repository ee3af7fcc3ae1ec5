"""Writes to ``videos`` that its triggers must not see: they would move ``updated_at``, and with it the figures."""

from collections.abc import Iterator
from contextlib import contextmanager

from psycopg import Connection, sql
from psycopg.rows import DictRow

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
    """
    triggers = connection.execute(_UPDATE_TRIGGERS).fetchall()
    for trigger in triggers:
        _alter_videos(connection, "DISABLE TRIGGER", trigger["name"])
    yield
    for trigger in triggers:
        _alter_videos(connection, trigger["enable"], trigger["name"])


def _alter_videos(connection: Connection[DictRow], action: str, trigger: str) -> None:
    connection.execute(sql.SQL("ALTER TABLE public.videos {} {}").format(sql.SQL(action), sql.Identifier(trigger)))
