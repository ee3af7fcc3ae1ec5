"""The backfill of finish times, on rows from before the timing columns."""

from typing import Any

import pytest
from psycopg import Connection

from cluster.contracts.errors import ConfigurationError
from cluster.store.metrics import figures
from cluster.store.postgres import backfill
from cluster.store.postgres.backfill import backfill_finish_times
from cluster.store.postgres.connections import Pool, connect, open_pool
from tests.support.database_roles import as_role, ordinary_role

OLD_ROWS = """
INSERT INTO videos (owner_id, storage_path, filename, status, duration_s, created_at, updated_at, queued_at,
                    processing_started_at, processing_finished_at, processing_duration_ms)
SELECT gen_random_uuid(), 'a', n || '.mp4', (enum_range(NULL::video_status))[1 + n % 4], 60,
       now() - interval '9 days', now() - n * interval '1 hour', NULL, NULL,
       CASE WHEN n % 8 = 3 THEN now() - interval '1 minute' END, NULL
FROM generate_series(1, 80) AS n
"""
# Of 80 videos 20 are READY and 20 FAILED; ten READY ones have a finish time.
TO_FILL = 30

TOUCHING_TRIGGER = """
CREATE FUNCTION touch() RETURNS trigger LANGUAGE plpgsql AS
    $$ BEGIN NEW.updated_at := clock_timestamp(); RETURN NEW; END $$;
CREATE TRIGGER touch_always BEFORE UPDATE ON videos FOR EACH ROW EXECUTE FUNCTION touch();
CREATE TRIGGER touch_everywhere BEFORE UPDATE ON videos FOR EACH ROW EXECUTE FUNCTION touch();
CREATE TRIGGER touch_never BEFORE UPDATE ON videos FOR EACH ROW EXECUTE FUNCTION touch();
ALTER TABLE videos ENABLE ALWAYS TRIGGER touch_everywhere;
ALTER TABLE videos DISABLE TRIGGER touch_never;
"""


@pytest.fixture
def old_rows(pool: Pool) -> None:
    with pool.connection() as connection:
        connection.execute(OLD_ROWS)


def everything_but_the_finish_time(connection: Connection[Any]) -> Any:
    return connection.execute(
        "SELECT to_jsonb(v) - 'processing_finished_at' AS v FROM videos AS v ORDER BY id"
    ).fetchall()


def finish_times(connection: Connection[Any]) -> dict[Any, Any]:
    rows = connection.execute("SELECT id, processing_finished_at AS t FROM videos").fetchall()
    return {row["id"]: row["t"] for row in rows}


def trigger_states(connection: Connection[Any]) -> Any:
    return connection.execute(
        "SELECT tgname, tgenabled FROM pg_trigger WHERE tgrelid = 'videos'::regclass ORDER BY tgname"
    ).fetchall()


@pytest.mark.usefixtures("old_rows")
def test_a_dry_run_counts_and_changes_nothing(pool: Pool) -> None:
    with pool.connection() as connection:
        before = finish_times(connection)
        assert backfill_finish_times(pool, dry_run=True) == TO_FILL
        assert finish_times(connection) == before


@pytest.mark.usefixtures("old_rows")
@pytest.mark.parametrize("batch_rows", [7, 10, 10_000])
def test_backfill_sets_updated_at_and_changes_nothing_else(
    pool: Pool, monkeypatch: pytest.MonkeyPatch, batch_rows: int
) -> None:
    monkeypatch.setattr(backfill, "BATCH_ROWS", batch_rows)
    with pool.connection() as connection:
        rest, before = everything_but_the_finish_time(connection), finish_times(connection)
    assert backfill_finish_times(pool, dry_run=False) == TO_FILL
    with pool.connection() as connection:
        assert everything_but_the_finish_time(connection) == rest
        after = finish_times(connection)
        for row in connection.execute("SELECT id, status, updated_at FROM videos").fetchall():
            ended = row["status"] in ("READY", "FAILED")
            assert after[row["id"]] == (before[row["id"]] or (row["updated_at"] if ended else None))
    assert backfill_finish_times(pool, dry_run=False) == 0
    assert backfill_finish_times(pool, dry_run=True) == 0


@pytest.mark.usefixtures("old_rows")
def test_filled_rows_count_for_throughput_and_no_duration(pool: Pool) -> None:
    before = figures.get_throughput_v2(pool, 30)
    backfill_finish_times(pool, dry_run=False)
    assert figures.get_throughput_v2(pool, 30) == before
    assert sum(row["videos_ready"] + row["videos_failed"] for row in before) == 40
    assert figures.get_processing_latency(pool, 30)["videos_measured"] == 0
    assert figures.get_queue_analysis(pool, 30)["videos_measured"] == 0


@pytest.mark.usefixtures("old_rows")
def test_triggers_on_updated_at_are_silent_and_restored(pool: Pool) -> None:
    with pool.connection() as connection:
        connection.execute(TOUCHING_TRIGGER)
    with pool.connection() as connection:
        rest, states = everything_but_the_finish_time(connection), trigger_states(connection)
    assert backfill_finish_times(pool, dry_run=False) == TO_FILL
    with pool.connection() as connection:
        assert everything_but_the_finish_time(connection) == rest
        assert trigger_states(connection) == states
        connection.execute("UPDATE videos SET filename = 'renamed.mp4'")
        assert everything_but_the_finish_time(connection) != rest


@pytest.mark.usefixtures("old_rows")
def test_the_tables_owner_may_do_it_without_being_a_superuser(pool: Pool, database_url: str) -> None:
    with pool.connection() as connection:
        connection.execute(TOUCHING_TRIGGER)
        rest = everything_but_the_finish_time(connection)
    with ordinary_role(database_url) as role:
        with pool.connection() as connection:
            connection.execute(f'ALTER TABLE videos OWNER TO "{role}"')
        with open_pool(as_role(database_url, role), max_size=1, name="tests") as owners:
            assert backfill_finish_times(owners, dry_run=False) == TO_FILL
    with pool.connection() as connection:
        assert everything_but_the_finish_time(connection) == rest


@pytest.mark.usefixtures("old_rows")
def test_role_that_cannot_silence_triggers_changes_nothing(pool: Pool, database_url: str) -> None:
    with pool.connection() as connection:
        connection.execute(TOUCHING_TRIGGER)
        before = finish_times(connection)
    with ordinary_role(database_url) as role:
        with pool.connection() as connection:
            connection.execute(f'GRANT ALL ON videos TO "{role}"')
        with (
            open_pool(as_role(database_url, role), max_size=1, name="tests") as guests,
            pytest.raises(ConfigurationError, match="owner of the table videos"),
        ):
            backfill_finish_times(guests, dry_run=False)
    with pool.connection() as connection:
        assert finish_times(connection) == before


@pytest.mark.usefixtures("old_rows")
def test_batch_that_moves_updated_at_is_rolled_back(pool: Pool) -> None:
    with pool.connection() as connection:
        connection.execute("ALTER TABLE videos RENAME TO real_videos")
        connection.execute("CREATE VIEW videos AS SELECT * FROM real_videos")
        connection.execute(TOUCHING_TRIGGER.split("CREATE TRIGGER")[0])
        connection.execute("CREATE TRIGGER hidden BEFORE UPDATE ON real_videos FOR EACH ROW EXECUTE FUNCTION touch()")
        before = finish_times(connection)
    with pytest.raises(ConfigurationError, match="rolled back"):
        backfill_finish_times(pool, dry_run=False)
    with pool.connection() as connection:
        assert finish_times(connection) == before


def test_a_database_without_the_columns_is_told_to_migrate(bare_database_url: str) -> None:
    with connect(bare_database_url) as connection:
        connection.execute("CREATE TABLE videos (id uuid, status text, updated_at timestamptz)")
    with (
        open_pool(bare_database_url, max_size=1, name="tests") as opened,
        pytest.raises(ConfigurationError, match="heimdex migrate"),
    ):
        backfill_finish_times(opened, dry_run=True)
