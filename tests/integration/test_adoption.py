"""A database that an existing Heimdex filled: taken over without losing or rewriting a row."""

from collections.abc import Iterator
from typing import Any

import psycopg
import pytest
from psycopg import Connection

from cluster.store.metrics import figures
from cluster.store.postgres.backfill import backfill_finish_times
from cluster.store.postgres.connections import connect, open_pool
from cluster.store.postgres.migrations import all_migrations, apply_migrations
from tests.support.database_roles import as_role, ordinary_role

# Other column orders, more columns, a trigger, row-level security, policies, tables and functions of its own.
EXISTING = """
CREATE TYPE video_status AS ENUM ('PENDING', 'PROCESSING', 'READY', 'FAILED');
CREATE TABLE user_profiles (user_id uuid PRIMARY KEY, full_name text, industry text,
    marketing_consent boolean NOT NULL DEFAULT false, created_at timestamptz DEFAULT now());
CREATE TABLE videos (
    owner_id uuid NOT NULL REFERENCES user_profiles (user_id), id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    storage_path text NOT NULL, status video_status NOT NULL DEFAULT 'PENDING', frame_rate float8,
    width integer, filename text, duration_s float8, error_message text, exif_metadata jsonb,
    created_at timestamptz NOT NULL DEFAULT now(), updated_at timestamptz NOT NULL DEFAULT now());
CREATE TABLE video_scenes (id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    video_id uuid NOT NULL REFERENCES videos (id) ON DELETE CASCADE, index integer NOT NULL, start_s float8,
    end_s float8, transcript_segment text, visual_summary text, combined_text text, embedding vector(4),
    thumbnail_url text, tags text[], created_at timestamptz DEFAULT now(), UNIQUE (video_id, index));
CREATE TABLE search_queries (id uuid PRIMARY KEY DEFAULT gen_random_uuid(), user_id uuid NOT NULL,
    query_text text, video_id uuid REFERENCES videos (id), results_count integer, latency_ms integer,
    language text, created_at timestamptz NOT NULL DEFAULT now());
CREATE TABLE scene_exports (id bigint GENERATED ALWAYS AS IDENTITY,
    scene_id uuid REFERENCES video_scenes (id));
CREATE INDEX idx_videos_status ON videos (status);

CREATE FUNCTION update_updated_at_column() RETURNS trigger LANGUAGE plpgsql AS
    $$ BEGIN NEW.updated_at = now(); RETURN NEW; END $$;
CREATE TRIGGER update_videos_updated_at BEFORE UPDATE ON videos
    FOR EACH ROW EXECUTE FUNCTION update_updated_at_column();
ALTER TABLE videos ENABLE ROW LEVEL SECURITY;
CREATE POLICY own_videos ON videos FOR SELECT USING (owner_id::text = current_setting('request.sub', true));

CREATE FUNCTION get_admin_overview_metrics() RETURNS json LANGUAGE sql SECURITY DEFINER AS
    $$ SELECT '{}'::json $$;
CREATE FUNCTION get_throughput_timeseries(days_back bigint, bucket text DEFAULT 'day')
    RETURNS TABLE (bucket_start timestamptz) LANGUAGE sql SECURITY DEFINER AS $$ SELECT now() $$;
CREATE FUNCTION get_admin_users_list(days_back integer, page integer, size integer, sort text)
    RETURNS TABLE (who uuid) LANGUAGE sql AS $$ SELECT NULL::uuid $$;
CREATE FUNCTION get_admin_processing_latency(days integer) RETURNS SETOF numeric LANGUAGE sql AS
    $$ SELECT 1.0 $$;

INSERT INTO user_profiles (user_id, full_name, industry)
SELECT lpad(to_hex(n), 32, '0')::uuid, 'Person ' || n, 'film' FROM generate_series(1, 5) AS n;
INSERT INTO videos
    (owner_id, storage_path, filename, status, duration_s, frame_rate, error_message, updated_at)
SELECT lpad(to_hex(1 + n % 5), 32, '0')::uuid, 'videos/' || n, n || '.mp4',
       (enum_range(NULL::video_status))[1 + n % 4],
       CASE WHEN n % 7 > 0 THEN 36 END, 29.97, CASE WHEN n % 4 = 3 THEN 'Whisper timed out' END,
       now() - n * interval '5 hours'
FROM generate_series(1, 60) AS n;
INSERT INTO video_scenes (video_id, index, start_s, end_s, transcript_segment, embedding, tags)
SELECT id, n, n, n + 1, 'hello', '[1,2,3,4]', '{sea}' FROM videos, generate_series(0, 2) AS n;
INSERT INTO scene_exports (scene_id) SELECT id FROM video_scenes;
INSERT INTO search_queries (user_id, query_text, results_count, latency_ms, created_at)
SELECT lpad(to_hex(1 + n % 5), 32, '0')::uuid, 'query ' || n, n, 10 * n, now() - n * interval '9 hours'
FROM generate_series(1, 40) AS n;
"""
TABLES = ["user_profiles", "videos", "video_scenes", "search_queries", "scene_exports"]


@pytest.fixture
def owner_url(bare_database_url: str) -> Iterator[str]:
    """The existing database, entered as its owner, who is no superuser."""
    with ordinary_role(bare_database_url) as owner:
        with connect(bare_database_url) as connection:
            connection.execute("CREATE EXTENSION vector")
            connection.execute(f'ALTER SCHEMA public OWNER TO "{owner}"')
        with connect(as_role(bare_database_url, owner)) as connection:
            connection.execute(EXISTING)
        yield as_role(bare_database_url, owner)


def columns(connection: Connection[Any]) -> dict[str, list[str]]:
    rows = connection.execute(
        "SELECT table_name, array_agg(column_name::text ORDER BY ordinal_position) AS names "
        "FROM information_schema.columns WHERE table_name = ANY(%s) GROUP BY table_name",
        [TABLES],
    ).fetchall()
    return {row["table_name"]: row["names"] for row in rows}


def contents(connection: Connection[Any], of: dict[str, list[str]]) -> dict[str, Any]:
    """Each table's rows in those columns, hashed, with the place (ctid) that a rewritten row would leave."""
    result = {}
    for table, names in of.items():
        chosen = psycopg.sql.SQL(", ").join(map(psycopg.sql.Identifier, names))
        statement = psycopg.sql.SQL("SELECT ctid::text, md5(ROW({})::text) AS hash FROM {} ORDER BY ctid")
        result[table] = connection.execute(statement.format(chosen, psycopg.sql.Identifier(table))).fetchall()
    return result


def rules(connection: Connection[Any]) -> Any:
    return connection.execute(
        "SELECT tgname AS name, tgenabled::text AS what FROM pg_trigger WHERE NOT tgisinternal "
        "AND tgname NOT LIKE 'heimdex_%%' "
        "UNION ALL SELECT policyname, qual FROM pg_policies WHERE policyname NOT LIKE 'heimdex_%%' "
        "UNION ALL SELECT relname, relrowsecurity::text FROM pg_class WHERE relname = ANY(%s) "
        "UNION ALL SELECT indexname, indexdef FROM pg_indexes WHERE indexname = 'idx_videos_status' "
        "ORDER BY 1",
        [TABLES],
    ).fetchall()


def test_every_row_column_trigger_and_policy_is_as_before(owner_url: str) -> None:
    with connect(owner_url) as connection:
        shape = columns(connection)
        before, rules_before = contents(connection, shape), rules(connection)
    assert {table: len(rows) for table, rows in before.items()} == {
        "user_profiles": 5, "videos": 60, "video_scenes": 180, "search_queries": 40, "scene_exports": 180
    }  # fmt: skip
    assert apply_migrations(owner_url) == all_migrations()
    with connect(owner_url) as connection:
        assert contents(connection, shape) == before
        assert rules(connection) == rules_before
        after = columns(connection)
    assert {table: names[: len(shape[table])] for table, names in after.items()} == shape


def test_the_functions_are_right_at_once(owner_url: str) -> None:
    apply_migrations(owner_url)
    with open_pool(owner_url, max_size=2, name="tests") as pool:
        # Of 60 videos 15 have each status; READY are n = 2, 6, ... 58, of which 14 and 42 have no duration.
        overview = figures.get_overview(pool)
        assert (
            overview["videos_ready_total"],
            overview["videos_failed_total"],
            overview["videos_total"],
        ) == (15, 15, 60)
        assert overview["failure_rate_pct"] == 50
        assert overview["hours_ready_total"] == pytest.approx(13 * 36 / 3600)
        # Within 7 days: searches n = 1 ... 18 (9 n <= 168 h), of 10 n ms.
        assert (overview["searches_7d"], overview["avg_search_latency_ms_7d"]) == (18, 95.0)
        assert sum(row["videos_ready"] for row in figures.get_throughput(pool, 30)) == 15
        assert figures.get_processing_latency(pool, 30)["videos_measured"] == 0
        failures = figures.get_failures_by_stage(pool, 30)
        assert failures == [{"processing_stage": "unknown", "failure_count": 15, "failure_pct": 100.0}]
        users, total = figures.get_users(pool, 7, 2, 0, "last_activity")
        assert (total, [row["videos_total"] for row in users]) == (5, [12, 12])
        before = figures.get_throughput_v2(pool, 30)
        assert backfill_finish_times(pool, dry_run=False) == 30
        assert figures.get_throughput_v2(pool, 30) == before


def test_the_old_functions_are_gone_with_all_their_variants(owner_url: str) -> None:
    apply_migrations(owner_url)
    with connect(owner_url) as connection:
        rows = connection.execute(
            "SELECT proname, count(*) AS n FROM pg_proc WHERE proname ~ '^get_' "
            "AND pronamespace = 'public'::regnamespace GROUP BY proname"
        ).fetchall()
    assert len(rows) == 10
    assert {row["n"] for row in rows} == {1}


def test_migration_keeps_values_of_existing_timing_columns(owner_url: str) -> None:
    with connect(owner_url) as connection:
        connection.execute("ALTER TABLE videos ADD COLUMN processing_stage text, ADD COLUMN queued_at timestamptz")
        connection.execute("UPDATE videos SET processing_stage = 'transcription', queued_at = created_at")
        shape = columns(connection)
        before = contents(connection, shape)
    apply_migrations(owner_url)
    with connect(owner_url) as connection:
        assert contents(connection, shape) == before
