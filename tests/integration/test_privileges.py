"""Who may call functions that read all owners' rows, and who may touch tables. What tricks they withstand."""

from collections.abc import Iterator

import psycopg
import pytest

from cluster.store.postgres.connections import connect
from cluster.store.postgres.migrations import apply_migrations
from tests.chaos.rights import FUNCTIONS, OUTSIDERS, check, supabase_roles
from tests.support.database_roles import as_role, ordinary_role

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
MAKES_TABLES = "heimdex_vector_table"
INDEXES_TEXT = "heimdex_text_index"
KEEPS_AUDIT = "heimdex_keep_audit_log"
OF_ROLES = [
    "heimdex_grant_roles",
    "heimdex_check_source",
    "heimdex_check_ledger",
    "heimdex_check_lease",
    "heimdex_clear_forgotten",
]
OF_VALUES = ["heimdex_plausible_time", "heimdex_plausible_seconds", "heimdex_plausible_ms"]
OTHERS = [MAKES_TABLES, INDEXES_TEXT, KEEPS_AUDIT, *OF_ROLES, *OF_VALUES]
FORBIDDEN = psycopg.errors.InsufficientPrivilege
BASE_TABLES = ("user_profiles", "videos", "video_scenes", "search_queries")


@pytest.fixture
def supabase_url(bare_database_url: str) -> Iterator[str]:
    """A database with Supabase's roles, which by default may execute every new function."""
    with supabase_roles(bare_database_url):
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
    expected = [*(call.partition("(")[0] for call in CALLS), *OTHERS]
    assert sorted(row["name"] for row in functions) == sorted(expected)


def test_only_service_role_may_execute_or_touch_anything(supabase_url: str) -> None:
    counts = check(supabase_url)
    assert counts.violations == []
    assert counts.functions == len(CALLS) + len(OTHERS)
    assert counts.relations > len(BASE_TABLES)
    assert counts.roles == 4


def test_a_function_or_table_that_is_left_open_is_found(supabase_url: str) -> None:
    with connect(supabase_url) as connection:
        connection.execute("GRANT EXECUTE ON FUNCTION heimdex_users_total TO anon")
        connection.execute("GRANT INSERT ON videos TO authenticated")
    assert check(supabase_url).violations == [
        "anon may execute heimdex_users_total()",
        "authenticated may use videos",
    ]


def test_existing_tables_keep_their_row_security_rules(bare_database_url: str) -> None:
    apply_migrations(bare_database_url)
    with ordinary_role(bare_database_url, "anon"):
        with connect(bare_database_url) as connection:
            connection.execute("GRANT SELECT ON user_profiles, videos, video_scenes, search_queries TO anon")
            connection.execute("DROP TABLE heimdex_migrations")
        apply_migrations(bare_database_url)
        with connect(as_role(bare_database_url, "anon")) as connection:
            for table in BASE_TABLES:
                assert connection.execute(f"SELECT * FROM {table}").fetchall() == []


def test_functions_have_callers_rights_and_fixed_search_path(database_url: str) -> None:
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
