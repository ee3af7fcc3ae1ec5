"""The strict fixture is as strict as it says, and its snapshot sees every change."""

import psycopg
import pytest
from psycopg import Connection
from psycopg.rows import DictRow

from cluster.store.postgres.connections import connect
from tests.support.existing_database import (
    ANNA,
    STRANGER,
    changes_between,
    clip,
    restore_existing_functions,
    take_snapshot,
)

REFUSED = [
    ("INSERT INTO user_profiles (user_id) VALUES (%(stranger)s)", psycopg.errors.NotNullViolation),
    ("INSERT INTO videos (owner_id, storage_path) VALUES (%(stranger)s, 'a')", psycopg.errors.ForeignKeyViolation),
    (
        "INSERT INTO search_queries (user_id, query_text) VALUES (%(stranger)s, 'a')",
        psycopg.errors.ForeignKeyViolation,
    ),
    ("INSERT INTO auth.users VALUES (%(stranger)s)", psycopg.errors.InsufficientPrivilege),
    ("SET session_replication_role = replica", psycopg.errors.InsufficientPrivilege),
    ("CREATE EXTENSION pg_trgm", psycopg.errors.Error),
    ("SELECT * FROM get_admin_processing_latency(30)", psycopg.errors.GroupingError),
    ("SELECT * FROM get_admin_failures_by_stage(30)", psycopg.errors.AmbiguousColumn),
]


@pytest.fixture
def existing(existing_url: str) -> "psycopg.Connection[DictRow]":
    return connect(existing_url, autocommit=True)


@pytest.mark.parametrize(("statement", "error"), REFUSED)
def test_the_owner_may_not(existing: Connection[DictRow], statement: str, error: type[psycopg.Error]) -> None:
    with existing, pytest.raises(error):
        existing.execute(statement, {"stranger": STRANGER})


def test_rows_are_of_every_kind(existing: Connection[DictRow]) -> None:
    with existing:
        rows = existing.execute(
            "SELECT status::text, count(*) AS n, count(*) FILTER (WHERE filename IS NULL) AS unnamed, "
            "count(processing_finished_at) AS timed FROM videos GROUP BY 1 ORDER BY 1"
        ).fetchall()
        widths = existing.execute("SELECT DISTINCT vector_dims(embedding) AS n FROM video_scenes").fetchall()
    assert [(row["status"], row["n"], row["unnamed"], row["timed"]) for row in rows] == [
        ("FAILED", 12, 4, 6), ("PENDING", 12, 4, 0), ("PROCESSING", 12, 4, 0), ("READY", 12, 4, 6)
    ]  # fmt: skip
    assert widths == [{"n": 1536}]


def test_new_tables_are_open_to_the_web_by_default(existing: Connection[DictRow]) -> None:
    with existing:
        existing.execute("CREATE TABLE made_later (id bigserial PRIMARY KEY)")
        may = existing.execute("SELECT has_table_privilege('anon', 'made_later', 'INSERT') AS may").fetchall()
    assert may == [{"may": True}]


def test_a_snapshot_sees_every_change(existing_url: str) -> None:
    before = take_snapshot(existing_url)
    restore_existing_functions(existing_url)
    assert changes_between(before, take_snapshot(existing_url)) == []
    with connect(existing_url) as connection:
        connection.execute("UPDATE videos SET filename = 'x' WHERE id = %s", (clip(1),))
        connection.execute("ALTER TABLE videos ADD COLUMN due_at timestamptz")
        connection.execute("ALTER TYPE video_status ADD VALUE 'CANCELLED'")
        connection.execute("UPDATE user_profiles SET job_title = 'cutter' WHERE user_id = %s", (ANNA,))
        connection.execute("DELETE FROM scene_exports")
        connection.execute("INSERT INTO videos (owner_id, storage_path) VALUES (%s, 'new.mp4')", (ANNA,))
    after = take_snapshot(existing_url)
    found = changes_between(before, after, {"videos.updated_at", "user_profiles.updated_at"})
    assert [line.split()[0] for line in found] == [
        *["scene_exports"] * 12, "user_profiles.job_title", "video_status", "videos", "videos.filename"
    ]  # fmt: skip
