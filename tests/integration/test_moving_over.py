"""A database of this product from before ``video_processing``: moved over by the migrations, nothing lost."""

import hashlib
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from cluster.store.postgres.admin_functions import replaced_functions
from cluster.store.postgres.connections import connect, open_pool
from cluster.store.postgres.migrations import _FORMER_EDITIONS, all_migrations, apply_migrations
from cluster.store.queue.reprocessing import retry
from cluster.store.queue.submissions import quarantine
from cluster.store.queue.video_queue import VideoQueue
from cluster.store.videos.progress import count_by_status
from tests.integration.test_migrations import FOLDER, run_with_psql, schema
from tests.support.database_roles import as_role, ordinary_role
from tests.support.existing_database import changes_between, take_snapshot

FORMER = Path(__file__).parents[1] / "former_migrations"
FORMER_COLUMNS = {
    "available_at", "due_at", "priority", "attempt", "failures", "crashes", "interruptions", "language", "error_type",
    "file_size_bytes", "fps", "forgotten_at",
}  # fmt: skip
OWNER = UUID(int=9)
ROWS = """
INSERT INTO videos (id, owner_id, storage_path, filename, status, queued_at, available_at, due_at, priority, attempt,
    failures, crashes, interruptions, language, error_type, error_message, file_size_bytes, fps, forgotten_at,
    processing_stage, updated_at)
SELECT ('20000000-0000-0000-0000-' || lpad(n::text, 12, '0'))::uuid, '00000000-0000-0000-0000-000000000009',
       n || '.mp4', n || '.mp4',
       (enum_range(NULL::video_status))[n], m, CASE WHEN n <= 2 THEN m END, m - interval '1 s', n, n - 1, 0, n - 2, 1,
       'de', CASE WHEN n > 3 THEN 'InvalidVideo' END, CASE WHEN n > 3 THEN 'broken' END, n * 1000, 25,
       CASE WHEN n = 3 THEN m END, 'metadata', m
FROM generate_series(1, 5) AS n, (SELECT timestamptz '2026-01-02 03:04:05+00' AS m) AS clock;
INSERT INTO video_leases SELECT id, 7, 'first', clock_timestamp() + interval '1 hour' FROM videos
WHERE status = 'PROCESSING';
"""


def text_of(name: str) -> bytes:
    """A migration as it was before it was edited."""
    former = FORMER / name
    return (former if former.exists() else FOLDER / name).read_bytes()


def apply_former(url: str, last: int = 29) -> None:
    """Apply the former editions up to a number, recorded as the runner did."""
    with connect(url, autocommit=True) as connection:
        connection.execute(
            "CREATE TABLE heimdex_migrations (number integer PRIMARY KEY, name text NOT NULL, sha256 text NOT NULL, "
            "applied_at timestamptz NOT NULL DEFAULT clock_timestamp())"
        )
        for migration in all_migrations():
            if migration.number <= last:
                connection.execute(text_of(migration.name))
                connection.execute(
                    "INSERT INTO heimdex_migrations (number, name, sha256) VALUES (%s, %s, %s)",
                    (migration.number, migration.name, hashlib.sha256(text_of(migration.name)).hexdigest()),
                )


def read(url: str, query: str) -> list[Any]:
    with connect(url) as connection:
        return connection.execute(query.encode()).fetchall()


@pytest.fixture
def former_url(bare_database_url: str) -> str:
    apply_former(bare_database_url)
    with connect(bare_database_url) as connection:
        connection.execute(
            "CREATE FUNCTION touch() RETURNS trigger LANGUAGE plpgsql AS "
            "$$ BEGIN NEW.updated_at = now(); RETURN NEW; END $$"
        )
        connection.execute("CREATE TRIGGER touch BEFORE UPDATE ON videos FOR EACH ROW EXECUTE FUNCTION touch()")
        connection.execute(ROWS.encode())
    return bare_database_url


def test_every_value_moves_and_no_time_changes(former_url: str) -> None:
    former = {row["id"]: row for row in read(former_url, "SELECT * FROM videos")}
    apply_migrations(former_url)
    videos = {row["id"]: row for row in read(former_url, "SELECT * FROM videos")}
    moved = {row["video_id"]: row for row in read(former_url, "SELECT * FROM video_processing")}
    assert videos.keys() == moved.keys() == former.keys()
    for key, before in former.items():
        after = {**moved[key], **videos[key]}
        kept = before.keys() - {"status", "available_at", "processing_finished_at"}
        assert {name: after[name] for name in kept} == {name: before[name] for name in kept}
        waits = before["status"] == "PENDING"
        assert after["available_at"] == (before["available_at"] if waits else None)
        assert (after["cancelled_at"] is not None) == (before["status"] == "CANCELLED")
    assert FORMER_COLUMNS.isdisjoint(next(iter(videos.values())))
    assert read(former_url, "SELECT tgenabled::text AS t FROM pg_trigger WHERE tgname = 'touch'") == [{"t": "O"}]


def test_a_cancelled_row_has_failed_and_counts_as_cancelled(former_url: str) -> None:
    apply_migrations(former_url)
    assert read(former_url, "SELECT enum_range(NULL::video_status)::text AS states") == [
        {"states": "{PENDING,PROCESSING,READY,FAILED}"}
    ]
    (row,) = read(
        former_url,
        "SELECT status::text, processing_finished_at = updated_at AS ended, error_message, "
        "cancelled_at = updated_at AS at FROM videos JOIN video_processing ON video_id = id "
        "WHERE cancelled_at IS NOT NULL",
    )
    assert row == {"status": "FAILED", "ended": True, "error_message": "broken", "at": True}


def test_the_queue_goes_on_where_it_was(former_url: str) -> None:
    apply_migrations(former_url)
    with open_pool(former_url, max_size=2, name="tests") as pool:
        counts = {"PENDING": 1, "PROCESSING": 1, "READY": 0, "FAILED": 1, "CANCELLED": 1}
        assert count_by_status(pool) == counts  # the READY one is forgotten
        queue = VideoQueue(pool, "second", 60.0)
        (video,) = queue.claim(9)
        assert (video.attempt, video.language) == (1, "de")
        (failed,) = quarantine(pool, 9)[0]
        assert (failed.attempts, failed.crashes, failed.error_type) == (3, 2, "InvalidVideo")
        cancelled = UUID("20000000-0000-0000-0000-000000000005")
        assert set(retry(pool, [failed.id, cancelled])) == {failed.id, cancelled}


def test_the_schema_is_that_of_a_new_database(former_url: str, database_url: str) -> None:
    apply_migrations(former_url)
    assert schema(former_url) == schema(database_url)


def test_every_former_edition_is_accepted_and_its_text_kept() -> None:
    texts = {int(file.name[:3]): file.read_bytes() for file in FORMER.glob("*.sql")}
    assert {number: hashlib.sha256(text).hexdigest() for number, text in texts.items()} == _FORMER_EDITIONS


def test_no_file_was_edited_unnoticed() -> None:
    """Databases refuse an edited file: put the change into a new one, or keep the former text here and accept it."""
    recorded = [line.split() for line in (FORMER / "SHA256SUMS").read_text().splitlines()]
    assert {name: sha256 for sha256, name in recorded} == {m.name: m.sha256 for m in all_migrations()}


@pytest.mark.parametrize("last", [29, *(m.number for m in all_migrations() if m.number > 29)])
def test_former_database_of_any_number_becomes_a_new_one(bare_database_url: str, database_url: str, last: int) -> None:
    apply_former(bare_database_url, last)
    assert [m.number for m in apply_migrations(bare_database_url)] == [
        m.number for m in all_migrations() if m.number > last
    ]
    assert schema(bare_database_url) == schema(database_url)
    assert replaced_functions(bare_database_url) == []


@pytest.mark.parametrize("last", [22, 24, 25])
def test_an_older_database_moves_over_too(bare_database_url: str, database_url: str, last: int) -> None:
    apply_former(bare_database_url, last)
    with connect(bare_database_url) as connection:
        connection.execute(
            "INSERT INTO videos (owner_id, storage_path, filename, queued_at, available_at, language) "
            "VALUES (%s, 'a', 'a', now(), now(), 'fr')",
            (OWNER,),
        )
    apply_migrations(bare_database_url)
    assert schema(bare_database_url) == schema(database_url)
    assert read(bare_database_url, "SELECT language, due_at IS NOT NULL AS due, crashes FROM video_processing") == [
        {"language": "fr", "due": True, "crashes": 0}
    ]


def test_all_files_run_twice_in_order_over_it(former_url: str, database_url: str) -> None:
    for migration in [*all_migrations(), *all_migrations()]:
        run_with_psql(former_url, FOLDER / migration.name)
    assert schema(former_url) == schema(database_url)
    assert read(former_url, "SELECT count(*) AS n FROM video_processing") == [{"n": 5}]


def test_a_view_keeps_the_fifth_state_and_nothing_else(former_url: str) -> None:
    with connect(former_url) as connection:
        connection.execute("CREATE VIEW shown AS SELECT id, status FROM videos")
    apply_migrations(former_url)
    states = read(former_url, "SELECT DISTINCT status::text AS s FROM shown ORDER BY 1")
    assert [row["s"] for row in states] == ["FAILED", "PENDING", "PROCESSING", "READY"]
    indexes = "SELECT count(*) AS n FROM pg_indexes WHERE indexname = 'idx_videos_processing_stage'"
    assert read(former_url, indexes) == [{"n": 1}]


def test_an_adopted_database_keeps_its_own_columns(existing_url: str) -> None:
    """One that the former release adopted: its width and height are not ours, though of the same name."""
    before = take_snapshot(existing_url)
    apply_former(existing_url)
    apply_migrations(existing_url)
    assert changes_between(before, take_snapshot(existing_url)) == []
    assert read(existing_url, "SELECT count(*) AS n FROM video_processing") == [{"n": 0}]


def test_a_strict_database_gets_nothing_but_tables_of_ours(existing_url: str) -> None:
    before = take_snapshot(existing_url)
    apply_migrations(existing_url)
    assert changes_between(before, take_snapshot(existing_url)) == []
    with connect(existing_url) as connection:
        open_to = connection.execute(
            "SELECT c.relname, r.rolname FROM pg_class AS c CROSS JOIN pg_roles AS r "
            "WHERE c.relnamespace = 'public'::regnamespace AND c.relkind = 'r' "
            "AND r.rolname IN ('anon', 'authenticated') "
            "AND c.relname ~ '^(video_(processing|owners|leases|stage|transcripts)|search_(models|changes|indexes|voc)|"
            "scene_(embeddings|meanings)|forgotten|cluster|heimdex)' "
            "AND has_table_privilege(r.oid, c.oid, 'SELECT, INSERT, UPDATE, DELETE')"
        ).fetchall()
    assert open_to == []


def test_no_file_ever_adds_to_videos_but_the_timing(existing_url: str) -> None:
    """Not even for a moment, since others read while the files are applied."""
    before = take_snapshot(existing_url)
    for migration in all_migrations():
        run_with_psql(existing_url, FOLDER / migration.name)
        after = take_snapshot(existing_url)
        assert (after.columns["videos"], after.statuses) == (before.columns["videos"], before.statuses), migration.name


def test_a_role_that_owns_nothing_else_may_move_it(bare_database_url: str) -> None:
    with ordinary_role(bare_database_url) as owner:
        with connect(bare_database_url) as connection:
            connection.execute("CREATE EXTENSION vector")
            connection.execute(f'ALTER SCHEMA public OWNER TO "{owner}"')
        apply_former(as_role(bare_database_url, owner))
        assert apply_migrations(as_role(bare_database_url, owner))
