"""Brings a database to the shape that this version needs, from the numbered files in ``sql/migrations``.

What the files say is theirs; here is only the order, one transaction per file, the record of what was
applied, and the lock that lets two start at once.
"""

import hashlib
import re
import time
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.resources import files
from typing import LiteralString

import psycopg
from psycopg import Connection, errors
from psycopg.rows import DictRow

from cluster.contracts.counts import counted
from cluster.contracts.errors import ConfigurationError, DatabaseUnavailable
from cluster.store.postgres.connections import advisory_lock, connect, is_connection_lost

_ADVISORY_LOCK = 0x6865696D646578  # "heimdex"; one per database
_FILE_NAME = re.compile(r"(\d{3})_\w+\.sql")

_FORMER_EDITIONS = {
    18: "eaa0ce84d89dbde556cec345f506dcb3ec885f01349d6dbb07cc569433acf1ae",
    20: "57cde77584f28e2f37e35553b2272c13fd9e2c193e968f8fe969e1f70b802473",
    22: "5844e605f073cbdc6514ddd4f069e1e28380e12d663d7084de09e1323a93b2f3",
    24: "bfac6978d91bb32f10b625784afacc15f12554274ec0ecad00a54b94073ac71c",
    25: "8b55eb4aeaf00d04670dd9358269a4f56a7802918289cecf44597278b31a8343",
    27: "69e483672401acb49122ecb7a473e08e44a03163be83a62b05460d28270d624a",
    30: "e34cd7721b7ebda6f24d19bc50e09d66200fc5988af72efbb4cdedbdb5c992c9",
    31: "c9550987f8542d130c0e9e7f4b77aced03637848421e05a248373eeafe043bd7",
}
"""The SHA-256 of files as they were before they were edited; a database to which those were applied is accepted.

022, 024, 025 and 027 added columns to ``videos`` and a state to its enum, which 030 moves to tables of ours. 018, 020
and 031 now keep a function that a view reads, and define the same functions. 030 differs in its comments alone.
"""

_RECORD_TABLE: LiteralString = """
CREATE TABLE IF NOT EXISTS public.heimdex_migrations (
    number     integer     PRIMARY KEY,
    name       text        NOT NULL,
    sha256     text        NOT NULL,
    applied_at timestamptz NOT NULL DEFAULT clock_timestamp()
)
"""

LOCK_WAIT_S = 5.0
"""A table that others use is not waited for longer at once: all who ask for it meanwhile wait behind the migration."""
LOCK_TRIES = 12
LOCK_PAUSE_S = 1.0


@dataclass(frozen=True)
class Migration:
    number: int
    name: str
    """The file's name."""
    sha256: str
    """Of the file's bytes, in hexadecimal."""
    text: str


def all_migrations() -> list[Migration]:
    """Every migration of this version, in the order of their numbers."""
    found = []
    for file in files("sql").joinpath("migrations").iterdir():
        match = _FILE_NAME.fullmatch(file.name)
        if match:
            content = file.read_bytes()
            found.append(Migration(int(match[1]), file.name, hashlib.sha256(content).hexdigest(), content.decode()))
    found.sort(key=lambda migration: migration.number)
    numbers = [migration.number for migration in found]
    if len(set(numbers)) != len(numbers):
        raise ConfigurationError(f"two migrations have the same number: {[migration.name for migration in found]}")
    return found


def pending_migrations(url: str) -> list[Migration]:
    """What :func:`apply_migrations` would apply; changes nothing. Any role may ask. Raises as it does."""
    with connect(url, name="heimdex migrate") as connection:
        return _pending(connection)


def refuse_unmigrated(url: str) -> None:
    """For what does not migrate. Raises ConfigurationError when migrations are pending, and as it does.

    Another process that migrates the database is waited for.
    """
    pending = pending_migrations(url)
    if pending:
        with advisory_lock(url, _ADVISORY_LOCK, name="heimdex migrate lock", wait=True):
            pending = pending_migrations(url)
    if pending:
        raise ConfigurationError(
            f"the database lacks {counted(len(pending), 'migration')}: run `heimdex migrate` first"
        )


def apply_migrations(url: str) -> list[Migration]:
    """Applies what is pending, each file in its own transaction, and returns it.

    Waits for another process that migrates the same database. Raises ConfigurationError when an applied file
    has changed since, when the server is too old or the database too new, when a file fails, or when the role may not
    make tables.
    """
    with connect(url, name="heimdex migrate", autocommit=True, statement_timeout_s=0, needs_session=True) as connection:
        _refuse_old_server(connection)
        with advisory_lock(url, _ADVISORY_LOCK, name="heimdex migrate lock", wait=True):
            if not _has_record(connection):
                with _named(connection, "migrations"):
                    connection.execute(_RECORD_TABLE)
            pending = _pending(connection)
            for migration in pending:
                _apply(connection, migration)
            if pending:
                grant_rights(connection)
    return pending


def apply_again(url: str, numbers: Collection[int]) -> None:
    """Run migrations of these numbers once more, all or none; each is safe to run again. Raises ConfigurationError."""
    with connect(url, name="heimdex migrate", autocommit=True, statement_timeout_s=0, needs_session=True) as connection:
        lock = advisory_lock(url, _ADVISORY_LOCK, name="heimdex migrate lock", wait=True)
        with lock, connection.transaction():
            connection.execute(_may_take_long())
            for migration in all_migrations():
                if migration.number in numbers:
                    with _named(connection, f"migration {migration.name}"):
                        connection.execute(migration.text.encode())
            grant_rights(connection)


def grant_rights(connection: Connection[DictRow]) -> None:
    """Give the roles of 045 their rights: what a migration makes again has lost them."""
    with _named(connection, "the rights of the database's roles"), connection.transaction():
        connection.execute(_may_take_long())
        connection.execute(
            "DO $$ BEGIN IF to_regprocedure('public.heimdex_grant_roles(text)') IS NOT NULL THEN "
            "PERFORM public.heimdex_grant_roles(); END IF; END $$"
        )


def _apply(connection: Connection[DictRow], migration: Migration) -> None:
    record = "INSERT INTO public.heimdex_migrations (number, name, sha256) VALUES (%s, %s, %s)"
    with _named(connection, f"migration {migration.name}"):
        for tries_left in reversed(range(LOCK_TRIES)):
            try:
                with connection.transaction():
                    connection.execute(_may_take_long())
                    # Bytes, since the text is no literal; without parameters it may hold many statements.
                    connection.execute(migration.text.encode())
                    connection.execute(record, [migration.number, migration.name, migration.sha256])
                return
            except (errors.LockNotAvailable, errors.DeadlockDetected):
                if not tries_left:
                    raise
                time.sleep(LOCK_PAUSE_S)


def _may_take_long() -> bytes:
    """Timeouts of one transaction, since a pooler keeps none of the session's.

    "already exists, skipping" is the normal case.
    """
    return (
        "SET LOCAL client_min_messages = warning; SET LOCAL statement_timeout = 0; "
        f"SET LOCAL idle_in_transaction_session_timeout = 0; SET LOCAL lock_timeout = {round(LOCK_WAIT_S * 1000)}"
    ).encode()


@contextmanager
def _named(connection: Connection[DictRow], what: str) -> Iterator[None]:
    """An error names what could not be applied."""
    try:
        yield
    except (errors.LockNotAvailable, errors.DeadlockDetected) as error:
        raise ConfigurationError(
            f"{what} cannot be applied while another session holds what it changes: end that session, which "
            "pg_stat_activity shows, or wait for it, and try again"
        ) from error
    except psycopg.OperationalError as error:
        if connection.closed or is_connection_lost(error):
            raise DatabaseUnavailable(f"Postgres went away during {what}") from error
        raise
    except psycopg.Error as error:
        reason = error.diag.message_primary or str(error)
        raise ConfigurationError(f"{what} cannot be applied: {reason}") from error


def _pending(connection: Connection[DictRow]) -> list[Migration]:
    if not _has_record(connection):
        return all_migrations()
    try:
        rows = connection.execute("SELECT number, sha256 FROM public.heimdex_migrations").fetchall()
    except errors.InsufficientPrivilege as error:
        raise ConfigurationError(
            f"the role {connection.info.user} may not read heimdex_migrations: `heimdex migrate` gives the rights again"
        ) from error
    applied = {row["number"]: row["sha256"] for row in rows}
    migrations = all_migrations()
    newest, known = max(applied, default=0), migrations[-1].number
    if newest > known:
        raise ConfigurationError(
            f"the database was migrated to {newest:03d} by a newer version, this one knows {known:03d} at most: "
            "install the newer version here"
        )
    for migration in migrations:
        accepted = (migration.sha256, _FORMER_EDITIONS.get(migration.number))
        if applied.get(migration.number, migration.sha256) not in accepted:
            raise ConfigurationError(
                f"migration {migration.name} was changed after it was applied to this database: "
                "restore the file, and put the change into a new migration"
            )
    return [migration for migration in migrations if migration.number not in applied]


def _has_record(connection: Connection[DictRow]) -> bool:
    rows = connection.execute("SELECT to_regclass('public.heimdex_migrations') IS NOT NULL AS found").fetchall()
    return bool(rows[0]["found"])


def _refuse_old_server(connection: Connection[DictRow]) -> None:
    version = connection.info.server_version
    if version < 150000:
        raise ConfigurationError(f"PostgreSQL 15 or newer is needed, this server is {version // 10000}")
