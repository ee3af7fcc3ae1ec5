"""The functions of the figures: whether they are ours is known by what they are, and what is not is restored."""

import pytest

from cluster.cli.doctor import _functions
from cluster.store.metrics import figures
from cluster.store.postgres.admin_functions import EXPECTED, changed_functions, restore_functions
from cluster.store.postgres.connections import connect, open_pool
from cluster.store.postgres.migrations import apply_migrations
from tests.integration.test_privileges import CALLS, OF_VALUES
from tests.support.api_client import Heimdex
from tests.support.existing_database import restore_existing_functions, take_snapshot

CHANGES = [
    "ALTER FUNCTION get_admin_overview_metrics() SECURITY DEFINER",
    "ALTER FUNCTION get_admin_overview_metrics() RESET search_path",
    "DROP FUNCTION get_admin_overview_metrics()",
    "GRANT EXECUTE ON FUNCTION get_admin_overview_metrics() TO PUBLIC",
    "ALTER FUNCTION get_admin_overview_metrics() VOLATILE",
]


def changed(url: str) -> list[str]:
    with connect(url) as connection:
        return changed_functions(connection)


def test_every_function_of_the_migrations_is_known(database_url: str) -> None:
    expected = {*(call.partition("(")[0] for call in CALLS), *OF_VALUES}
    assert {signature.partition("(")[0] for signature in EXPECTED} == expected
    assert changed(database_url) == []
    assert restore_functions(database_url) == []


@pytest.mark.parametrize("change", CHANGES)
def test_a_function_that_was_changed_is_restored(database_url: str, change: str) -> None:
    with connect(database_url) as connection:
        connection.execute(change.encode())
    assert changed(database_url) == ["get_admin_overview_metrics()"]
    assert restore_functions(database_url) == ["get_admin_overview_metrics()"]
    assert changed(database_url) == []


def test_a_variant_with_other_arguments_is_dropped(database_url: str) -> None:
    with connect(database_url) as connection:
        connection.execute(
            "CREATE FUNCTION get_admin_user_detail(text, integer) RETURNS integer LANGUAGE sql AS 'SELECT 1'"
        )
    assert restore_functions(database_url) == ["get_admin_user_detail(text,integer)"]
    assert changed(database_url) == []


def test_existing_systems_later_files_are_detected_and_undone(existing_url: str) -> None:
    apply_migrations(existing_url)
    before = take_snapshot(existing_url)
    assert changed(existing_url) == []
    restore_existing_functions(existing_url)
    found = changed(existing_url)
    assert "get_admin_user_detail(text,integer)" in found
    assert len(found) == 10
    assert not _functions(existing_url).ok
    assert restore_functions(existing_url) == found
    assert _functions(existing_url).ok
    with open_pool(existing_url, max_size=1, name="tests") as pool:
        assert figures.get_overview(pool)["videos_total"] == 48
        assert figures.get_processing_latency(pool, 30)["videos_measured"] == 12
    with connect(existing_url) as connection:
        may = connection.execute(
            "SELECT bool_or(has_function_privilege(r.rolname, p.oid, 'EXECUTE')) AS may "
            "FROM pg_proc AS p, pg_roles AS r WHERE p.pronamespace = 'public'::regnamespace "
            "AND p.proname ~ '^(get_|heimdex_)' AND r.rolname IN ('anon', 'authenticated')"
        ).fetchall()
    assert may == [{"may": False}]
    assert take_snapshot(existing_url) == before


def test_migrate_says_what_it_restored(heimdex: Heimdex, database_url: str) -> None:
    with connect(database_url) as connection:
        connection.execute("ALTER FUNCTION get_search_timeseries(integer) SECURITY DEFINER")
    done = heimdex("migrate")
    assert done.returncode == 0
    assert b"restored get_search_timeseries(integer)" in done.stdout
    assert b"restored" not in heimdex("migrate").stdout
