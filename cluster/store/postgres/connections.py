"""Access to Postgres: sessions, the pool, and what an error of the connection means.

Every session is in UTC, has a statement timeout, which the client keeps too, compiles nothing and knows pgvector.
Behind a transaction pooler no session is kept: there the same holds for each transaction, nothing is prepared, and
locks last as long as a transaction. Single statements (``autocommitted``) have the server's own settings there, and
the client's limit. The
server that runs when no other is configured is ``cluster.store.postgres.embedded``'s; what is in the database is the
other modules'.
"""

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from enum import StrEnum
from functools import partial
from typing import Any

import psycopg
from pgvector.psycopg import register_vector
from psycopg import Connection, OperationalError
from psycopg.abc import RV, PQGen
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from psycopg.errors import IdleInTransactionSessionTimeout, QueryCanceled
from psycopg.rows import DictRow, dict_row
from psycopg.types import TypeInfo
from psycopg_pool import ConnectionPool, PoolClosed

from cluster.contracts.database_url import DatabaseUrl
from cluster.contracts.errors import ConfigurationError, DatabaseUnavailable, StatementTimeout
from cluster.store.postgres.embedded import EmbeddedPostgres, running_url, running_urls
from cluster.store.postgres.plausible_times import AnyTime

__all__ = [
    "EmbeddedPostgres",
    "Encryption",
    "Pool",
    "advisory_lock",
    "connect",
    "encryption_of",
    "is_connection_lost",
    "open_pool",
    "place",
    "running_url",
    "running_urls",
]

CONNECT_TIMEOUT_S = 10
STATEMENT_TIMEOUT_S = 60.0
ANSWER_SLACK_S = 5.0
"""How much longer than its own limit a statement's answer is waited for: a server that is stopped keeps no limit."""
UNACKNOWLEDGED_S = 30
"""Time after which the kernel gives a connection up whose peer acknowledges nothing."""

_SCHEMAS = """
SELECT set_config('search_path', concat_ws(', ', 'public', nullif(current_setting('search_path'), ''), (
    SELECT quote_ident(n.nspname) FROM pg_catalog.pg_extension AS x
    JOIN pg_catalog.pg_namespace AS n ON n.oid = x.extnamespace WHERE x.extname = 'vector'
)), false)
"""

IDLE_IN_TRANSACTION_S = 20.0
"""A process that was stopped in the middle of a transaction keeps what it locked from others no longer than this."""

# admin_shutdown, crash_shutdown, cannot_connect_now, database_dropped, idle_in_transaction_session_timeout; class 08 is
# the connection itself.
_SESSION_LOST = {"57P01", "57P02", "57P03", "57P04", "25P03"}


def connect(
    url: str,
    *,
    name: str = "heimdex",
    autocommit: bool = False,
    statement_timeout_s: float = STATEMENT_TIMEOUT_S,
    needs_session: bool = False,
) -> Connection[DictRow]:
    """A session of its own, for what must not borrow from a pool (migrations, LISTEN). 0 s: no timeout.

    ``needs_session``: past a transaction pooler, where a direct URL is known. Through a pooler, the timeouts hold for
    the first transaction.

    Raises DatabaseUnavailable when Postgres cannot be reached, ConfigurationError when ``url`` is none.
    """
    way = DatabaseUrl.read(url)
    if needs_session and way.direct is not None:
        way = DatabaseUrl(way.direct)
    try:
        connection = Session.connect(_conninfo(way.url, name), **_options(way))
        try:
            _prepare_session(connection, statement_timeout_s, pooled=way.pooled)
            if way.pooled and not autocommit:
                _begin_pooled(connection, statement_timeout_s)
        except BaseException:
            connection.close()
            raise
    except OperationalError as error:
        raise DatabaseUnavailable(f"Postgres at {place(url)} cannot be reached: {_reason(error)}") from error
    if autocommit:
        connection.autocommit = True
    return connection


@contextmanager
def advisory_lock(url: str, key: int, *, name: str, wait: bool = False) -> Iterator[bool]:
    """Hold a lock of the whole database; yields whether it is held, which it always is with ``wait``.

    It ends with its connection. Behind a transaction pooler the connection holds a transaction, which takes one of the
    pooler's sessions.
    """
    way = DatabaseUrl.read(url)
    in_transaction = way.pooled and way.direct is None
    function = "pg_advisory" + ("_xact" if in_transaction else "") + "_lock"
    with connect(
        url, name=name, autocommit=not in_transaction, statement_timeout_s=0, needs_session=True
    ) as connection:
        if wait:
            connection.execute(f"SELECT {function}(%s)", [key])
            yield True
        else:
            row = connection.execute(f"SELECT {function.replace('pg_', 'pg_try_')}(%s) AS held", [key]).fetchone()
            yield row is not None and bool(row["held"])


def open_pool(
    url: str,
    *,
    min_size: int = 1,
    max_size: int,
    name: str,
    statement_timeout_s: float = STATEMENT_TIMEOUT_S,
    answer_slack_s: float | None = None,
) -> "Pool":
    """An open pool of sessions named ``name`` (seen in pg_stat_activity), each checked when it is borrowed.

    An answer is waited for ``answer_slack_s`` longer than a statement may take, ``ANSWER_SLACK_S`` by default.

    Close it, or use it in a ``with``. Raises as :func:`connect`: at once, not after the pool's own retries.
    Sessions opened before the vector extension exists do not know vectors: migrate first.
    """
    connect(url, name=name).close()
    way = DatabaseUrl.read(url)
    pool = Pool(
        _conninfo(way.url, name),
        connection_class=Session,
        kwargs=_options(way),
        min_size=min_size,
        max_size=max_size,
        name=name,
        configure=partial(
            _prepare_session,
            statement_timeout_s=statement_timeout_s,
            pooled=way.pooled,
            answer_slack_s=answer_slack_s,
        ),
        check=ConnectionPool.check_connection,
        timeout=CONNECT_TIMEOUT_S,
        reconnect_timeout=CONNECT_TIMEOUT_S,  # the pool's default pauses ever longer, for up to five minutes
        open=False,
    )
    if way.pooled:
        pool.begin = partial(_begin_pooled, statement_timeout_s=statement_timeout_s)
    pool.open()
    return pool


class Session(Connection[DictRow]):
    """A connection that waits for no answer for longer than ``answer_timeout_s``; None: however long it takes."""

    answer_timeout_s: float | None = STATEMENT_TIMEOUT_S + ANSWER_SLACK_S

    def wait(self, gen: PQGen[RV], interval: float = 0.1, timeout: float | None = None) -> RV:
        """Wait for what ``gen`` waits for. Closed, since what state it is in is unknown, when no answer comes in time.

        Raises OperationalError then.
        """
        if timeout is not None or self.answer_timeout_s is None:
            return super().wait(gen, interval, timeout)
        limit_s, end_s = self.answer_timeout_s, time.monotonic() + self.answer_timeout_s
        try:
            return super().wait(gen, interval, limit_s)
        except OperationalError as error:
            if self.closed or time.monotonic() < end_s:
                raise
            self.pgconn.finish()
            raise OperationalError(f"no answer within {limit_s:g} s") from error


class Pool(ConnectionPool[Connection[DictRow]]):
    """A pool that raises DatabaseUnavailable when the connection failed, or took too long, and not the statement."""

    begin: Callable[[Connection[DictRow]], None] | None = None
    """Called at the beginning of each transaction, where a pooler keeps no session."""

    @contextmanager
    def connection(self, timeout: float | None = None) -> Iterator[Connection[DictRow]]:
        """One transaction: committed at the end of the block, rolled back by an exception."""
        with self._session(timeout) as connection:
            if self.begin is not None:
                self.begin(connection)
            yield connection

    @contextmanager
    def _session(self, timeout: float | None = None) -> Iterator[Connection[DictRow]]:
        borrowed: Connection[DictRow] | None = None
        try:
            with super().connection(timeout) as borrowed:
                yield borrowed
        except PoolClosed:
            raise
        except QueryCanceled as error:
            raise StatementTimeout(f"Postgres at {self._place} takes too long: {_one_line(error)}") from error
        except (OperationalError, IdleInTransactionSessionTimeout) as error:
            if borrowed is None or borrowed.closed or is_connection_lost(error):
                raise DatabaseUnavailable(f"Postgres at {self._place} is away: {_one_line(error)}") from error
            raise

    @property
    def _place(self) -> str:
        return place(self.conninfo) if isinstance(self.conninfo, str) else "?"

    @contextmanager
    def autocommitted(self) -> Iterator[Connection[DictRow]]:
        """A session in which each statement is committed by the server at once: no process can stop in between."""
        with self._session() as connection:
            connection.autocommit = True
            try:
                yield connection
            finally:
                if not connection.closed:
                    connection.autocommit = False


def is_connection_lost(error: psycopg.Error) -> bool:
    """Whether the server said that the session is over, so that the statement may succeed in a new one."""
    state = error.sqlstate or ""
    return state.startswith("08") or state in _SESSION_LOST


class Encryption(StrEnum):
    """What protects the connection to the server, in words."""

    LOCAL = "this machine only"
    NONE = "not encrypted"
    UNPROVEN = "encrypted; who the server is, is not verified: sslmode=verify-full would"
    UNPROVEN_NAME = "encrypted; the certificate's authority is verified, its host name is not"
    VERIFIED = "encrypted, the server's certificate and name are verified (sslmode=verify-full)"


def encryption_of(url: str) -> Encryption:
    """How a connection by this URL is protected. Raises as :func:`connect`."""
    with connect(url, name="heimdex-doctor") as connection:
        host = connection.info.hostaddr or connection.info.host
        if host.startswith("/") or (host in ("", "127.0.0.1", "::1") and not connection.pgconn.ssl_in_use):
            return Encryption.LOCAL
        if not connection.pgconn.ssl_in_use:
            return Encryption.NONE
        mode = connection.info.get_parameters().get("sslmode") or os.environ.get("PGSSLMODE")
    verified = {"verify-ca": Encryption.UNPROVEN_NAME, "verify-full": Encryption.VERIFIED}
    return verified.get(mode or "", Encryption.UNPROVEN)


def place(url: str) -> str:
    """Host, port and database of a connection URL, without user or password: safe to print."""
    parts = _parse(url)
    host = parts.get("host") or parts.get("hostaddr") or "localhost"
    return f"{host}:{parts.get('port', 5432)}/{parts.get('dbname', '')}"


def _conninfo(url: str, name: str) -> str:
    parts = _parse(url)
    # Without these a machine that vanished (no FIN, no RST) would hold its session for two hours.
    keepalive = {"keepalives_idle": 30, "keepalives_interval": 10, "keepalives_count": 3}
    limits = {"connect_timeout": CONNECT_TIMEOUT_S, "tcp_user_timeout": UNACKNOWLEDGED_S * 1000}
    defaults: dict[str, Any] = {**limits, **keepalive}
    return make_conninfo(**{**defaults, **parts, "application_name": name})


def _options(way: DatabaseUrl) -> dict[str, Any]:
    """A pooler hands the next transaction to a session that knows nothing of what was prepared in another."""
    return {"row_factory": dict_row, **({"prepare_threshold": None} if way.pooled else {})}


def _parse(url: str) -> dict[str, Any]:
    try:
        return dict(conninfo_to_dict(DatabaseUrl.read(url).url))
    except psycopg.ProgrammingError:
        # libpq's own text would quote the URL, password and all.
        raise ConfigurationError(
            "the database URL cannot be read; it looks like postgresql://user:password@host:5432/database"
        ) from None


def _prepare_session(
    connection: "Session",
    statement_timeout_s: float = STATEMENT_TIMEOUT_S,
    *,
    pooled: bool = False,
    answer_slack_s: float | None = None,
) -> None:
    """UTC, the timeouts, no compiling, the schemas and pgvector; of a pooled session only the last, which the client
    keeps.

    Schema public comes first, where the tables are, also where the role has a schema of its own, and pgvector's last. A
    server that has a compiler would take a tenth of a second over each claim, since many videos wait.
    By SET, since connection poolers in front of Postgres refuse the ``options`` parameter.
    """
    slack_s = ANSWER_SLACK_S if answer_slack_s is None else answer_slack_s
    connection.answer_timeout_s = statement_timeout_s + slack_s if statement_timeout_s else None
    if not pooled:
        connection.execute(_settings("SET", statement_timeout_s))
        connection.execute(_SCHEMAS)
    connection.adapters.register_loader("timestamptz", AnyTime)
    if TypeInfo.fetch(connection, "vector") is not None:
        register_vector(connection)
    connection.commit()


def _begin_pooled(connection: Connection[Any], statement_timeout_s: float) -> None:
    """The settings of one transaction, behind a pooler: the next one may be in another session."""
    connection.execute(_settings("SET LOCAL", statement_timeout_s))


def _settings(command: str, statement_timeout_s: float) -> bytes:
    """One message without a snapshot, so that the isolation level of the transaction can still be set."""
    values = {
        "TimeZone": "'UTC'",
        "DateStyle": "'ISO'",
        "jit": "off",
        "statement_timeout": round(statement_timeout_s * 1000),
        "idle_in_transaction_session_timeout": round(IDLE_IN_TRANSACTION_S * 1000 if statement_timeout_s else 0),
    }
    return "; ".join(f"{command} {setting} = {value}" for setting, value in values.items()).encode()


_FOREIGN = "its certificate is not of the authority in sslrootcert: give the right file, or look into who answers there"
_UNTRUSTED = {
    "certificate verify failed": _FOREIGN,
    "signature failure": _FOREIGN,  # an authority of the same name
    "does not match host name": "its certificate is for another host: use the name that is in it",
    "root certificate file": "set sslrootcert to the file with the certificate of the server's authority",
    "server does not support SSL": "the URL demands TLS: switch it on at the server, or change sslmode",
}
"""libpq's messages on a server that cannot be trusted, which have no type, and what to do about it."""


def _reason(error: Exception) -> str:
    text = _one_line(error)
    hints = [hint for said, hint in _UNTRUSTED.items() if said in text]
    return "; ".join([text, *hints])


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())
