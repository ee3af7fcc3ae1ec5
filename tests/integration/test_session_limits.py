"""A process that stopped in the middle of a transaction holds no other session up for long."""

import pytest
from psycopg.errors import LockNotAvailable

from cluster.contracts.errors import DatabaseUnavailable
from cluster.store.postgres import connections
from cluster.store.postgres.connections import Pool, connect, open_pool


def test_idle_transaction_is_ended_and_releases_its_locks(database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "IDLE_IN_TRANSACTION_S", 0.3)

    def stop_in_the_middle() -> None:
        with open_pool(database_url, max_size=1, name="stopped") as pool, pool.connection() as stopped:
            stopped.execute("LOCK TABLE videos")
            with connect(database_url, statement_timeout_s=10) as other:
                other.execute("LOCK TABLE videos")  # waits until the server has ended the other session
            stopped.execute("SELECT 1")

    with pytest.raises(DatabaseUnavailable, match="is away"):
        stop_in_the_middle()


def test_only_who_may_wait_for_ever_may_idle_for_ever(database_url: str) -> None:
    show = "SELECT current_setting('idle_in_transaction_session_timeout') AS t"
    with connect(database_url) as ordinary, connect(database_url, statement_timeout_s=0) as patient:
        assert ordinary.execute(show).fetchall() == [{"t": f"{connections.IDLE_IN_TRANSACTION_S:.0f}s"}]
        assert patient.execute(show).fetchall() == [{"t": "0"}]


def test_statement_error_is_not_taken_for_database_away(pool: Pool) -> None:
    """psycopg has one kind for both: OperationalError."""
    with pool.connection() as holding:
        holding.execute("LOCK TABLE videos")
        with pytest.raises(LockNotAvailable), pool.connection() as other:
            other.execute("LOCK TABLE videos NOWAIT")
