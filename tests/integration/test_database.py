"""Sessions and the pool, on a real Postgres."""

import socket
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import psycopg
import pytest

from cluster.contracts.errors import ConfigurationError, DatabaseUnavailable, TransientFailure
from cluster.store.postgres.connections import Pool, connect, open_pool, place

NOBODY_LISTENS = "postgresql://someone:s3cret@127.0.0.1:1/videos"


def test_sessions_are_in_utc_and_named(pool: Pool, database_url: str) -> None:
    with pool.connection() as connection:
        row = connection.execute(
            "SELECT current_setting('TimeZone') AS zone, current_setting('application_name') AS name"
        ).fetchone()
    assert row == {"zone": "UTC", "name": "tests"}
    with connect(database_url, name="alone") as connection:
        when = connection.execute("SELECT timestamptz '2025-01-02 03:04:05+02' AS t").fetchall()[0]["t"]
    assert when == datetime(2025, 1, 2, 1, 4, 5, tzinfo=UTC)
    assert when.utcoffset().total_seconds() == 0


def test_vectors_go_in_and_come_out_as_arrays(pool: Pool) -> None:
    vector = np.array([1.0, -2.5, 3.0], dtype=np.float32)
    with pool.connection() as connection:
        found = connection.execute("SELECT %s::vector AS v", [vector]).fetchall()[0]["v"]
    np.testing.assert_array_equal(found.to_numpy(), vector)


def test_a_database_without_the_vector_extension_can_be_opened(bare_database_url: str) -> None:
    with open_pool(bare_database_url, max_size=1, name="tests") as opened, opened.connection() as connection:
        assert connection.execute("SELECT 1 AS one").fetchall() == [{"one": 1}]


@pytest.mark.parametrize("reach", [connect, lambda url: open_pool(url, max_size=1, name="tests")])
def test_unreachable_server_is_transient_without_password(reach) -> None:
    with pytest.raises(DatabaseUnavailable, match=r"127\.0\.0\.1:1/videos cannot be reached") as caught:
        reach(NOBODY_LISTENS)
    assert isinstance(caught.value, TransientFailure)
    assert "s3cret" not in f"{caught.value}{caught.value.__cause__}"


def test_server_lost_at_session_start_is_database_unavailable(tmp_path: Path) -> None:
    welcome = b"R" + (8).to_bytes(4) + bytes(4) + b"Z" + (5).to_bytes(4) + b"I"
    with socket.socket(socket.AF_UNIX) as listening, ThreadPoolExecutor(1) as threads:
        listening.bind(str(tmp_path / ".s.PGSQL.5432"))
        listening.listen()
        connecting = threads.submit(connect, f"postgresql://someone@/videos?host={tmp_path}&port=5432")
        session, _ = listening.accept()
        with session:
            session.recv(4096)
            session.sendall(welcome)
            session.recv(4096)  # the first statement
        with pytest.raises(DatabaseUnavailable, match="cannot be reached"):
            connecting.result(timeout=10)


def test_value_that_is_no_url_is_refused_without_quoting_it() -> None:
    with pytest.raises(ConfigurationError, match="postgresql://user:password@host") as caught:
        connect("postgres//someone:s3cret@db")
    assert "s3cret" not in str(caught.value)
    assert caught.value.__suppress_context__


def test_the_place_of_a_database_has_neither_user_nor_password() -> None:
    assert place("postgresql://someone:s3cret@db.example:6543/videos") == "db.example:6543/videos"
    assert place("postgresql://u@/heimdex?host=%2Frun%2Fpg&port=5432") == "/run/pg:5432/heimdex"


def test_session_lost_in_a_transaction_is_replaced(pool: Pool, database_url: str) -> None:
    def cut_off() -> None:
        with pool.connection() as connection:
            with connect(database_url) as other:
                other.execute("SELECT pg_terminate_backend(%s, 5000)", [connection.info.backend_pid])
            connection.execute("SELECT 1")

    with pytest.raises(DatabaseUnavailable, match="is away"):
        cut_off()
    with pool.connection() as connection:
        assert connection.execute("SELECT 1 AS one").fetchall() == [{"one": 1}]


def test_ended_idle_session_is_replaced_before_it_is_lent(pool: Pool, database_url: str) -> None:
    with pool.connection() as connection:
        ended = connection.info.backend_pid
    with connect(database_url) as other:
        other.execute("SELECT pg_terminate_backend(%s, 5000)", [ended])
    with pool.connection() as connection:
        assert connection.info.backend_pid != ended


def test_a_pool_without_a_free_session_says_so_in_time(database_url: str) -> None:
    def borrow_two(opened: Pool) -> None:
        with opened.connection(), opened.connection(timeout=0.05):
            pass

    with open_pool(database_url, max_size=1, name="tests") as opened, pytest.raises(DatabaseUnavailable):
        borrow_two(opened)


def test_failing_statement_keeps_its_error_and_rolls_back(pool: Pool) -> None:
    def write_and_fail() -> None:
        with pool.connection() as connection:
            connection.execute("CREATE TABLE gone ()")
            connection.execute("SELECT 1 / 0")

    with pytest.raises(psycopg.errors.DivisionByZero):
        write_and_fail()
    with pool.connection() as connection:
        assert connection.execute("SELECT to_regclass('gone') AS t").fetchall() == [{"t": None}]


def test_what_takes_too_long_is_a_database_that_does_not_answer(pool: Pool) -> None:
    def wait() -> None:
        with pool.connection() as connection:
            connection.execute("SET LOCAL statement_timeout = 20")
            connection.execute("SELECT pg_sleep(10)")

    with pytest.raises(DatabaseUnavailable, match="takes too long"):
        wait()
    with pool.connection() as connection:
        assert connection.execute("SELECT 1 AS n").fetchall() == [{"n": 1}]


def test_statement_without_a_request_for_it_has_a_time_limit(pool: Pool, database_url: str) -> None:
    show = "SELECT current_setting('statement_timeout') AS t"
    with pool.connection() as connection:
        assert connection.execute(show).fetchall() == [{"t": "1min"}]
    with connect(database_url, statement_timeout_s=0) as connection:
        assert connection.execute(show).fetchall() == [{"t": "0"}]
