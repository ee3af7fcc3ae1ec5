"""Another session that keeps a table locked: it is not waited for so long that all others stop."""

import threading
from collections.abc import Iterator

import pytest
from psycopg import Connection
from psycopg.rows import DictRow

from cluster.contracts.errors import ConfigurationError, DatabaseUnavailable
from cluster.store.postgres import migrations, update_triggers
from cluster.store.postgres.backfill import backfill_finish_times
from cluster.store.postgres.connections import connect, open_pool
from cluster.store.postgres.migrations import apply_migrations, pending_migrations
from cluster.store.videos.deletion import forget
from tests.support.existing_database import changes_between, clip, take_snapshot


@pytest.fixture
def writer(existing_url: str) -> Iterator[Connection[DictRow]]:
    """A session of the existing system that wrote to videos and does not end its transaction."""
    with connect(existing_url, name="writer", statement_timeout_s=0) as connection:
        connection.execute("UPDATE videos SET location_name = location_name WHERE id = %s", (clip(1),))
        yield connection
        connection.rollback()


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (migrations, update_triggers):
        monkeypatch.setattr(module, "LOCK_WAIT_S", 0.2)
    monkeypatch.setattr(migrations, "LOCK_PAUSE_S", 0.1)


def test_migration_gives_up_a_table_that_is_held(
    existing_url: str, writer: Connection[DictRow], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(migrations, "LOCK_TRIES", 2)
    with pytest.raises(ConfigurationError, match=r"migration 0\d\d_\w+\.sql cannot be applied while another session"):
        apply_migrations(existing_url)
    writer.rollback()
    apply_migrations(existing_url)
    assert pending_migrations(existing_url) == []


def test_migration_waits_for_a_transaction_to_end(existing_url: str, writer: Connection[DictRow]) -> None:
    end = threading.Timer(1.0, writer.rollback)
    end.start()
    apply_migrations(existing_url)
    end.join()
    assert pending_migrations(existing_url) == []


def test_backfill_and_forgetting_leave_a_held_table(existing_url: str, writer: Connection[DictRow]) -> None:
    writer.rollback()
    apply_migrations(existing_url)
    before = take_snapshot(existing_url)
    writer.execute("UPDATE videos SET location_name = location_name WHERE id = %s", (clip(1),))
    with open_pool(existing_url, max_size=2, name="tests") as pool:
        for write in (lambda: backfill_finish_times(pool, dry_run=False), lambda: forget(pool, [clip(10)])):
            with pytest.raises(DatabaseUnavailable, match="another session holds the table videos"):
                write()
        writer.rollback()
        assert changes_between(before, take_snapshot(existing_url)) == []
        assert backfill_finish_times(pool, dry_run=False) == 12
