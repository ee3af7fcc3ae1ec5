"""A server that does not answer is given up by the client, whatever the server's own limits are."""

import time
from typing import LiteralString

import pytest
from psycopg import OperationalError

from cluster.contracts.errors import DatabaseUnavailable, StatementTimeout
from cluster.store.postgres import connections
from cluster.store.postgres.connections import Pool, connect, open_pool
from tests.support.stopped_process import stopped


@pytest.fixture(autouse=True)
def brief_slack(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "ANSWER_SLACK_S", 1.0)


def backend_of(pool: Pool) -> int:
    with pool.connection() as connection:
        return connection.info.backend_pid


def ask(pool: Pool, statement: LiteralString) -> None:
    with pool.connection() as connection:
        connection.execute(statement)


def stop_and_ask(pool: Pool) -> None:
    with pool.connection() as connection, stopped(connection.info.backend_pid):
        connection.execute("SELECT 1")


def test_session_whose_backend_is_stopped_is_given_up(database_url: str) -> None:
    with connect(database_url, statement_timeout_s=1.0) as connection:
        began_s = time.monotonic()
        with stopped(connection.info.backend_pid), pytest.raises(OperationalError, match="no answer within 2 s"):
            connection.execute("SELECT 1")
        assert connection.closed
        assert 1.9 < time.monotonic() - began_s < 20


def test_pool_takes_another_session_for_a_stopped_one(database_url: str) -> None:
    with open_pool(database_url, max_size=1, name="silent", statement_timeout_s=1.0) as pool:
        pid = backend_of(pool)
        with pytest.raises(DatabaseUnavailable, match="no answer within 2 s"):
            stop_and_ask(pool)
        assert backend_of(pool) != pid


def test_stopped_session_that_is_borrowed_is_replaced(database_url: str) -> None:
    with open_pool(database_url, max_size=1, name="silent", statement_timeout_s=1.0) as pool:
        pid = backend_of(pool)
        with stopped(pid), pool.connection() as connection:
            assert connection.info.backend_pid != pid


def test_servers_own_limit_comes_first(database_url: str) -> None:
    with open_pool(database_url, max_size=1, name="silent", statement_timeout_s=1.0) as pool:
        pid = backend_of(pool)
        with pytest.raises(StatementTimeout):
            ask(pool, "SELECT pg_sleep(60)")
        assert backend_of(pool) == pid


def test_session_without_a_limit_waits_as_long_as_it_takes(database_url: str) -> None:
    with connect(database_url, statement_timeout_s=0) as connection:
        connection.execute("SELECT pg_sleep(3)")
        assert list(connection.notifies(timeout=0.1)) == []
