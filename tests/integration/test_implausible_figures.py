"""Values that no clock, file or search can have, in rows of an existing database: the admin figures answer without."""

from collections.abc import Iterator
from typing import Any
from uuid import UUID

import pytest
from psycopg import sql
from starlette.testclient import TestClient

from cluster.store.postgres.connections import Pool, connect, open_pool
from cluster.store.postgres.migrations import apply_migrations
from cluster.store.videos.progress import recent_times
from tests.support.api_client import ADMIN, ApiMaker, headers
from tests.support.existing_database import CARA

IMPOSSIBLE_TIMES = ["0044-03-15 BC", "1969-12-31", "-infinity", "infinity", "294276-12-31", "3000-01-01"]
IMPOSSIBLE_SECONDS = ["NaN", "Infinity", "-Infinity", "1e308", "-1e308", "5e-324", "1e-300", "1e10", "-5", "0"]
IMPOSSIBLE_MS = ["2147483647", "-2147483648", "-1"]
IMPOSSIBLE = {
    ("videos", "duration_s"): IMPOSSIBLE_SECONDS,
    ("videos", "queued_at"): IMPOSSIBLE_TIMES,
    ("videos", "processing_started_at"): IMPOSSIBLE_TIMES,
    ("videos", "processing_finished_at"): IMPOSSIBLE_TIMES,
    ("videos", "processing_duration_ms"): IMPOSSIBLE_MS,
    ("search_queries", "latency_ms"): IMPOSSIBLE_MS,
    ("search_queries", "results_count"): ["-2147483648"],
}
TOTALS = {
    "videos_ready_total",
    "videos_failed_total",
    "videos_total",
    "failure_rate_pct",
    "videos_ready",
    "total_users",
}
RECENT = ("recent_videos", "recent_searches")
WHOLE_RANGE = "range=365d"
PATHS = [
    "/v1/admin/overview",
    *(
        f"/v1/admin/{path}?{WHOLE_RANGE}"
        for path in (
            "timeseries/throughput",
            "timeseries/throughput-v2",
            "timeseries/search",
            "users",
            f"users/{CARA}",
            "performance/latency",
            "performance/rtf",
            "performance/queue",
            "failures/by-stage",
        )
    ),
]
USER = f"/v1/admin/users/{CARA}?{WHOLE_RANGE}"

VIDEOS = """
-- Two READY ones and a FAILED one of the first user, like others in all but one column.
INSERT INTO videos (id, owner_id, storage_path, filename, status, duration_s, created_at, updated_at, queued_at,
                    processing_started_at, processing_finished_at, processing_duration_ms, processing_stage)
SELECT ('00000000-0000-4000-8000-00000000000' || n)::uuid, %(user)s, 'a.mp4', 'a.mp4',
       (ARRAY['READY', 'READY', 'FAILED'])[n]::video_status, 60, date_trunc('day', now()), date_trunc('day', now()),
       date_trunc('day', now()) - interval '32 s', date_trunc('day', now()) - interval '30 s',
       date_trunc('day', now()), 30000, 'indexing'
FROM generate_series(1, 3) AS n
"""
SEARCHES = """
INSERT INTO search_queries (id, user_id, query_text, results_count, latency_ms, created_at)
SELECT ('00000000-0000-4000-8000-00000000001' || n)::uuid, %(user)s, 'sea', 3, 40, date_trunc('day', now())
FROM generate_series(1, 2) AS n
"""
ADDED = sql.SQL("id::text ~ '^00000000-0000-4000-8000-'")


@pytest.fixture
def odd(existing_url: str) -> Iterator[Pool]:
    apply_migrations(existing_url)
    with open_pool(existing_url, max_size=4, name="tests") as pool:
        yield pool


@pytest.fixture
def api(make_api: ApiMaker, odd: Pool) -> TestClient:
    return make_api(pool=odd)


def execute(pool: Pool, statement: str, **values: object) -> None:
    with pool.connection() as connection:
        connection.execute(statement.encode(), values or None)


def add(pool: Pool) -> None:
    """The rows above."""
    execute(pool, VIDEOS, user=CARA)
    execute(pool, SEARCHES, user=CARA)


def put(pool: Pool, table: str, column: str, value: str | None) -> None:
    """The value in a column of those rows; no trigger sees the change, so no time moves with it."""
    statement = sql.SQL("UPDATE {} SET {} = %s WHERE {}").format(sql.Identifier(table), sql.Identifier(column), ADDED)
    with pool.connection() as connection:
        triggers = sql.SQL("ALTER TABLE {} {} TRIGGER USER")
        connection.execute(triggers.format(sql.Identifier(table), sql.SQL("DISABLE")))
        connection.execute(statement, (value,))
        connection.execute(triggers.format(sql.Identifier(table), sql.SQL("ENABLE")))


def get(api: TestClient, path: str) -> Any:
    answer = api.get(path, headers=headers(ADMIN))
    assert answer.status_code == 200, (path, answer.text)
    return answer.json()


def figures(api: TestClient) -> dict[str, Any]:
    return {path: get(api, path) for path in PATHS}


def without_totals(given: Any) -> Any:
    """``given`` without how many rows there are, and without these."""
    if isinstance(given, dict):
        return {key: without_totals(value) for key, value in given.items() if key not in TOTALS and key not in RECENT}
    return [without_totals(value) for value in given] if isinstance(given, list) else given


@pytest.mark.parametrize(("table", "column"), IMPOSSIBLE)
def test_impossible_values_count_and_are_shown_as_unknown(api: TestClient, odd: Pool, table: str, column: str) -> None:
    add(odd)
    put(odd, table, column, None)
    unknown = figures(api)
    for value in IMPOSSIBLE[table, column]:
        put(odd, table, column, value)
        assert figures(api) == unknown, value
        assert recent_times(odd)["videos"] == 0


def test_rows_with_impossible_times_change_no_figure(api: TestClient, odd: Pool) -> None:
    before = without_totals(figures(api))
    add(odd)
    put(odd, "videos", "duration_s", None)
    for moment in IMPOSSIBLE_TIMES:
        for column in ("created_at", "updated_at", "queued_at", "processing_started_at", "processing_finished_at"):
            put(odd, "videos", column, moment)
        put(odd, "search_queries", "created_at", moment)
        after = figures(api)
        assert without_totals(after) == before, moment
        assert [video["updated_at"] for video in after[USER]["recent_videos"]][-3:] == [None] * 3
        assert [search["created_at"] for search in after[USER]["recent_searches"]][-2:] == [None] * 2


def test_impossible_creation_of_row_is_no_activity(api: TestClient, odd: Pool) -> None:
    add(odd)
    usual = figures(api)
    for moment in IMPOSSIBLE_TIMES:
        put(odd, "videos", "created_at", moment)
        assert figures(api) == usual, moment


def test_rows_without_possible_times_hide_no_recent_ones(api: TestClient, odd: Pool) -> None:
    recent = get(api, USER)
    execute(
        odd,
        "INSERT INTO videos (owner_id, storage_path, created_at, updated_at) "
        "SELECT %(user)s, 'a.mp4', '-infinity', 'infinity' FROM generate_series(1, 30)",
        user=CARA,
    )
    execute(
        odd,
        "INSERT INTO search_queries (user_id, query_text, created_at) "
        "SELECT %(user)s, 'sea', 'infinity' FROM generate_series(1, 60)",
        user=CARA,
    )
    shown = get(api, USER)
    for name in RECENT:
        assert shown[name][: len(recent[name])] == recent[name]
    assert shown["last_activity"] == recent["last_activity"]


def test_texts_of_any_length_are_shown_up_to_a_bound(api: TestClient, odd: Pool) -> None:
    add(odd)
    for table, column in (
        ("videos", "filename"),
        ("videos", "storage_path"),
        ("videos", "error_message"),
        ("search_queries", "query_text"),
    ):
        put(odd, table, column, "long " * 1_000_000)
    put(odd, "videos", "processing_stage", "long " * 20_000)  # an index holds no more
    execute(odd, "UPDATE user_profiles SET full_name = repeat('long ', 1000000) WHERE user_id = %(user)s", user=CARA)
    for path in [*PATHS, "/v1/admin/failures/quarantine"]:
        assert len(str(get(api, path))) < 50_000, path
    assert get(api, USER)["full_name"] == "long " * 200


def test_no_half_of_a_password_is_shown_where_a_text_is_cut(api: TestClient, odd: Pool) -> None:
    add(odd)
    put(odd, "videos", "error_message", "x" * 980 + " https://user:secret-and-long@example.org/a.mp4")
    shown = str([get(api, USER), get(api, "/v1/admin/failures/quarantine")])
    assert "x" * 980 in shown
    assert "user" not in shown.replace("user_id", "")


def test_stages_of_any_number_are_bounded_in_the_figures(api: TestClient, odd: Pool) -> None:
    execute(
        odd,
        "INSERT INTO videos (owner_id, storage_path, status, processing_stage) "
        "SELECT %(user)s, 'a.mp4', 'FAILED', 'stage ' || n FROM generate_series(1, 300) AS n",
        user=CARA,
    )
    rows = get(api, f"/v1/admin/failures/by-stage?{WHOLE_RANGE}")["data"]
    assert len(rows) == 100
    assert sum(row["failure_pct"] for row in rows) < 50


@pytest.mark.parametrize("kind", ["numeric", "double precision", "bigint", "smallint", "real"])
def test_numbers_of_any_type_are_read(make_api: ApiMaker, existing_url: str, kind: str) -> None:
    extremes = {
        "numeric": ["NaN", "1e400", "-1e400", "Infinity", "12.5"],
        "double precision": ["NaN", "1e308", "-1e308", "Infinity", "12.5"],
        "bigint": ["9223372036854775807", "-9223372036854775808"],
        "smallint": ["32767", "-32768"],
        "real": ["NaN", "3e38", "Infinity", "12.5"],
    }
    changed = [("search_queries", "latency_ms"), ("search_queries", "results_count")]
    if kind not in ("bigint", "smallint"):  # 040 compares durations with infinity
        changed.append(("videos", "duration_s"))
    with connect(existing_url) as connection:
        for table, column in changed:
            connection.execute(f"ALTER TABLE {table} ALTER {column} TYPE {kind}".encode())
    apply_migrations(existing_url)
    with open_pool(existing_url, max_size=4, name="tests") as pool:
        api = make_api(pool=pool)
        add(pool)
        for value in extremes[kind]:
            for table, column in changed:
                put(pool, table, column, value)
            assert set(figures(api)) == set(PATHS)


def test_processing_time_of_the_rules_bounds_is_counted(api: TestClient, odd: Pool) -> None:
    add(odd)
    put(odd, "videos", "processing_duration_ms", None)
    measured = get(api, f"/v1/admin/performance/latency?{WHOLE_RANGE}")["videos_measured"]
    for value in ("0", "2073600000"):
        put(odd, "videos", "processing_duration_ms", value)
        assert get(api, f"/v1/admin/performance/latency?{WHOLE_RANGE}")["videos_measured"] == measured + 3


def test_duration_is_shown_within_the_rules_bounds(api: TestClient, odd: Pool) -> None:
    add(odd)
    for value, shown in {"0.000000001": 1e-9, "10000000": 1e7, "0.0000000009": None, "10000001": None}.items():
        put(odd, "videos", "duration_s", value)
        videos = {UUID(video["id"]): video["duration_s"] for video in get(api, USER)["recent_videos"]}
        assert videos[UUID("00000000-0000-4000-8000-000000000001")] == shown, value
