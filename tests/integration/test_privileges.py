"""Who may call the functions that read everybody's rows, what these can be tricked into, and who may touch tables."""

from collections.abc import Iterator
from contextlib import ExitStack

import psycopg
import pytest
from database_roles import as_role, ordinary_role

from cluster.store.database import connect
from cluster.store.migrations import apply_migrations

CALLS = [
    "get_admin_overview_metrics()",
    "get_throughput_timeseries(30)",
    "get_search_timeseries(30)",
    "get_admin_users_list(7, 50, 0, 'last_activity')",
    "get_admin_user_detail('00000000-0000-0000-0000-00000000000a', 7)",
    "get_admin_processing_latency(30)",
    "get_admin_rtf_distribution(30)",
    "get_admin_queue_analysis(30)",
    "get_admin_failures_by_stage(30)",
    "get_admin_throughput_timeseries_v2(30)",
    "heimdex_user_activity(7, NULL)",
    "heimdex_users_total()",
]
FORBIDDEN = psycopg.errors.InsufficientPrivilege
OUTSIDERS = ("anon", "authenticated")
BASE_TABLES = ("user_profiles", "videos", "video_scenes", "search_queries")

FUNCTIONS = """
SELECT oid, proname, oid::regprocedure::text AS signature FROM pg_proc AS p WHERE pronamespace = 'public'::regnamespace
AND NOT EXISTS (SELECT FROM pg_depend WHERE classid = 'pg_proc'::regclass AND objid = p.oid AND deptype = 'e')
"""
RELATIONS = """
SELECT relname, relkind::text AS kind FROM pg_class AS c
WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'p', 'v', 'm', 'f', 'S')
AND NOT EXISTS (SELECT FROM pg_depend WHERE classid = 'pg_class'::regclass AND objid = c.oid AND deptype = 'e')
"""
RIGHTS = {"S": "USAGE, SELECT, UPDATE"}
TABLE_RIGHTS = "SELECT, INSERT, UPDATE, DELETE, TRUNCATE, REFERENCES, TRIGGER"


@pytest.fixture
def supabase_url(bare_database_url: str) -> Iterator[str]:
    """A database with Supabase's roles, which by default may execute every new function."""
    with ExitStack() as stack:
        for role in ("anon", "authenticated", "service_role"):
            stack.enter_context(ordinary_role(bare_database_url, role))
        with connect(bare_database_url) as connection:
            for objects, right in (("FUNCTIONS", "EXECUTE"), ("TABLES", "ALL"), ("SEQUENCES", "ALL")):
                connection.execute(
                    f"ALTER DEFAULT PRIVILEGES IN SCHEMA public GRANT {right} ON {objects} "
                    "TO anon, authenticated, service_role"
                )
        apply_migrations(bare_database_url)
        yield bare_database_url


@pytest.mark.parametrize("call", CALLS)
def test_a_role_without_a_grant_cannot_call_it(database_url: str, call: str) -> None:
    with ordinary_role(database_url) as role:
        with connect(database_url) as connection:
            connection.execute(f'GRANT SELECT ON ALL TABLES IN SCHEMA public TO "{role}"')
        with (
            connect(as_role(database_url, role)) as connection,
            pytest.raises(FORBIDDEN, match="for function"),
        ):
            connection.execute(f"SELECT * FROM {call}")


def test_of_supabases_roles_only_the_service_may_call_them(supabase_url: str) -> None:
    for role in OUTSIDERS:
        with connect(as_role(supabase_url, role), autocommit=True) as connection:
            for call in CALLS:
                with pytest.raises(psycopg.errors.InsufficientPrivilege, match="permission denied for function"):
                    connection.execute(f"SELECT * FROM {call}")
    with connect(as_role(supabase_url, "service_role")) as connection:
        for call in CALLS:
            connection.execute(f"SELECT * FROM {call}").fetchall()


def test_no_function_is_forgotten(database_url: str) -> None:
    with connect(database_url) as connection:
        functions = connection.execute(FUNCTIONS).fetchall()
    assert sorted(row["proname"] for row in functions) == sorted(call.partition("(")[0] for call in CALLS)


def test_of_all_roles_only_the_service_may_execute_any_function(supabase_url: str) -> None:
    with ordinary_role(supabase_url) as ordinary, connect(supabase_url) as connection:
        functions = connection.execute(FUNCTIONS).fetchall()
        assert len(functions) >= len(CALLS)
        for function in functions:
            for role, may in (*((outsider, False) for outsider in (*OUTSIDERS, ordinary)), ("service_role", True)):
                answer = connection.execute(
                    "SELECT has_function_privilege(%s, %s::oid, 'EXECUTE') AS may", (role, function["oid"])
                ).fetchone()
                assert answer == {"may": may}, (role, function["signature"])


def test_all_tables_are_closed_to_the_roles_of_a_web_page(supabase_url: str) -> None:
    with connect(supabase_url) as connection:
        relations = connection.execute(RELATIONS).fetchall()
        assert {*BASE_TABLES, "video_leases", "video_stage_runs", "video_lease_tokens"} <= {
            row["relname"] for row in relations
        }
        for relation in relations:
            rights = RIGHTS.get(relation["kind"], TABLE_RIGHTS)
            kind = "sequence" if relation["kind"] == "S" else "table"
            for role in OUTSIDERS:
                answer = connection.execute(
                    f"SELECT has_{kind}_privilege(%s, %s, %s) AS may", (role, f"public.{relation['relname']}", rights)
                ).fetchone()
                assert answer == {"may": False}, (role, relation["relname"])
    for role in OUTSIDERS:
        with connect(as_role(supabase_url, role), autocommit=True) as connection:
            for relation in relations:
                with pytest.raises(FORBIDDEN):
                    connection.execute(f"SELECT * FROM public.{relation['relname']}")


def test_tables_that_were_there_before_keep_the_rules_that_were_made_for_them(bare_database_url: str) -> None:
    apply_migrations(bare_database_url)
    with ordinary_role(bare_database_url, "anon"):
        with connect(bare_database_url) as connection:
            connection.execute("GRANT SELECT ON user_profiles, videos, video_scenes, search_queries TO anon")
            connection.execute("DROP TABLE heimdex_migrations")
        apply_migrations(bare_database_url)
        with connect(as_role(bare_database_url, "anon")) as connection:
            for table in BASE_TABLES:
                assert connection.execute(f"SELECT * FROM {table}").fetchall() == []


def test_all_run_with_the_callers_rights_and_a_pinned_search_path(database_url: str) -> None:
    with connect(database_url) as connection:
        rows = connection.execute(
            "SELECT proname, prosecdef, provolatile, proconfig FROM pg_proc "
            "WHERE pronamespace = 'public'::regnamespace AND proname = ANY(%s)",
            [[call.partition("(")[0] for call in CALLS]],
        ).fetchall()
    assert len(rows) == len(CALLS)
    for row in rows:
        assert not row["prosecdef"]
        assert row["provolatile"] == "s"
        assert 'search_path=""' in row["proconfig"], row["proname"]


def test_tables_of_the_same_name_elsewhere_are_not_read(database_url: str) -> None:
    with connect(database_url) as connection:
        connection.execute("CREATE TEMPORARY TABLE videos AS SELECT * FROM public.videos")
        connection.execute(
            "INSERT INTO pg_temp.videos (id, owner_id, status, updated_at) "
            "VALUES (gen_random_uuid(), gen_random_uuid(), 'READY', now())"
        )
        connection.execute("SET search_path = pg_temp, public")
        assert connection.execute("SELECT videos_total AS n FROM get_admin_overview_metrics()").fetchall() == [{"n": 0}]
        assert connection.execute("SELECT * FROM get_throughput_timeseries(7)").fetchall() == []
