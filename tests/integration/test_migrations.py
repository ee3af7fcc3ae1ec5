"""The numbered files: applied in order, once, whole, and also by psql."""

import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from cluster.contracts.errors import ConfigurationError
from cluster.store.postgres.connections import connect
from cluster.store.postgres.embedded import binary
from cluster.store.postgres.migrations import all_migrations, apply_migrations, pending_migrations

FOLDER = Path(__file__).parents[2] / "sql" / "migrations"

TIMING_COLUMNS = [
    ("processing_duration_ms", "integer"),
    ("processing_finished_at", "timestamp with time zone"),
    ("processing_stage", "text"),
    ("processing_started_at", "timestamp with time zone"),
    ("queued_at", "timestamp with time zone"),
]
TIMING_INDEXES = {
    "processing_duration_ms": "(processing_duration_ms) WHERE (processing_duration_ms IS NOT NULL)",
    "processing_finished_at": "(processing_finished_at) WHERE (processing_finished_at IS NOT NULL)",
    "processing_stage": "(processing_stage) WHERE (status = 'FAILED'::video_status)",
}
# Everything that a migration may make, without object ids.
SCHEMA = """
SELECT 'column' AS kind, table_name || '.' || column_name AS name, data_type || is_nullable AS what
FROM information_schema.columns WHERE table_schema = 'public'
UNION ALL SELECT 'index', indexname, indexdef FROM pg_indexes WHERE schemaname = 'public'
UNION ALL SELECT 'constraint', conrelid::regclass || '.' || conname, pg_get_constraintdef(oid)
FROM pg_constraint WHERE connamespace = 'public'::regnamespace AND contype <> 'n'
UNION ALL SELECT 'function', oid::regprocedure::text,
       md5(pg_get_functiondef(oid)) || coalesce(proacl::text, '')
FROM pg_proc WHERE pronamespace = 'public'::regnamespace AND proname ~ '^(get|heimdex)_'
ORDER BY 1, 2
"""


def run_with_psql(url: str, file: Path) -> None:
    command = [str(binary("psql")), url, "-X", "-q", "-v", "ON_ERROR_STOP=1", "-f", str(file)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{file.name}: {done.stderr}"


def schema(url: str) -> list[Any]:
    with connect(url) as connection:
        rows = connection.execute(SCHEMA).fetchall()
    return [row for row in rows if "heimdex_migrations" not in row["name"]]


def test_migration_files_keep_the_names_that_others_rely_on() -> None:
    migrations = all_migrations()
    assert [m.name for m in migrations] == sorted(file.name for file in FOLDER.iterdir() if file.suffix == ".sql")
    numbers = [m.number for m in migrations]
    assert numbers[:4] == [1, 18, 19, 20]
    assert numbers == sorted(set(numbers))
    names = {m.name for m in migrations}
    assert {"019_add_video_processing_timing.sql", "020_add_admin_performance_rpc_functions.sql"} <= names


def test_migrations_are_applied_in_order_and_once(
    bare_database_url: str,
) -> None:
    migrations = all_migrations()
    assert pending_migrations(bare_database_url) == migrations
    assert apply_migrations(bare_database_url) == migrations
    assert pending_migrations(bare_database_url) == []
    assert apply_migrations(bare_database_url) == []
    with connect(bare_database_url) as connection:
        rows = connection.execute("SELECT number, name, sha256 FROM heimdex_migrations ORDER BY applied_at").fetchall()
    assert rows == [{"number": m.number, "name": m.name, "sha256": m.sha256} for m in migrations]


def test_looking_for_pending_ones_changes_nothing(bare_database_url: str) -> None:
    before = schema(bare_database_url)
    pending_migrations(bare_database_url)
    assert schema(bare_database_url) == before == []


def test_several_that_migrate_at_once_apply_each_file_once(bare_database_url: str) -> None:
    with ThreadPoolExecutor(4) as threads:
        applied = list(threads.map(apply_migrations, [bare_database_url] * 4))
    assert sorted(len(each) for each in applied) == [0, 0, 0, len(all_migrations())]


def test_migration_file_run_twice_by_psql_makes_the_same(bare_database_url: str, database_url: str) -> None:
    for migration in all_migrations():
        run_with_psql(bare_database_url, FOLDER / migration.name)
        once = schema(bare_database_url)
        run_with_psql(bare_database_url, FOLDER / migration.name)
        assert schema(bare_database_url) == once, migration.name
    assert schema(bare_database_url) == schema(database_url)
    assert len(apply_migrations(bare_database_url)) == len(all_migrations())
    assert schema(bare_database_url) == schema(database_url)


def test_a_file_that_changed_after_it_was_applied_is_refused(database_url: str) -> None:
    with connect(database_url) as connection:
        connection.execute("UPDATE heimdex_migrations SET sha256 = 'another' WHERE number = 19")
    for look in (apply_migrations, pending_migrations):
        with pytest.raises(ConfigurationError, match=r"019_add_video_processing_timing\.sql was changed"):
            look(database_url)


def test_a_file_that_fails_is_named_and_leaves_nothing_behind(bare_database_url: str) -> None:
    with connect(bare_database_url) as connection:
        connection.execute("CREATE TABLE videos (id uuid PRIMARY KEY)")
    with pytest.raises(ConfigurationError, match=r"001_base_tables\.sql cannot be applied: .*owner_id"):
        apply_migrations(bare_database_url)
    with connect(bare_database_url) as connection:
        assert connection.execute("SELECT to_regclass('user_profiles') AS t").fetchall() == [{"t": None}]
        assert connection.execute("SELECT count(*) AS n FROM heimdex_migrations").fetchall() == [{"n": 0}]


def test_timing_columns_and_indexes_match_the_specification(database_url: str) -> None:
    with connect(database_url) as connection:
        columns = connection.execute(
            "SELECT column_name, data_type, is_nullable FROM information_schema.columns "
            "WHERE table_name = 'videos' AND column_name = ANY(%s) ORDER BY column_name",
            [[name for name, _ in TIMING_COLUMNS]],
        ).fetchall()
        indexes = connection.execute(
            "SELECT indexname, indexdef FROM pg_indexes WHERE indexname = ANY(%s)",
            [[f"idx_videos_{name}" for name in TIMING_INDEXES]],
        ).fetchall()
    assert columns == [{"column_name": n, "data_type": t, "is_nullable": "YES"} for n, t in TIMING_COLUMNS]
    assert {row["indexname"]: row["indexdef"] for row in indexes} == {
        f"idx_videos_{name}": f"CREATE INDEX idx_videos_{name} ON public.videos USING btree {what}"
        for name, what in TIMING_INDEXES.items()
    }
