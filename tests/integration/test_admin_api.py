"""The ten admin figures on real rows: the JSON is the specification's in keys and types, empty or not."""

from datetime import date, datetime
from typing import Any

import pytest
from starlette.testclient import TestClient

from cluster.store.postgres.connections import Pool
from serve_app.route_table import ADMIN_ROUTES
from serve_app.routes import admin
from tests.support.api_client import ADMIN, ALICE, BOB, ApiMaker, headers

# The examples of the specification; those of Phase 1 spelled out from its table of columns.
VIDEO = {
    "id": "uuid",
    "filename": "a.mp4",
    "status": "READY",
    "duration_s": 180.5,
    "updated_at": "time",
    "error_message": "why",
}
SEARCH = {"query_text": "q", "created_at": "time", "latency_ms": 12, "results_count": 3, "video_id": "uuid"}
USER = {
    "user_id": "uuid",
    "full_name": "Alice",
    "videos_total": 3,
    "videos_ready": 2,
    "hours_ready": 1.5,
    "last_activity": "time",
    "searches_7d": 4,
    "avg_latency_ms_7d": 38.5,
}
EXAMPLES: dict[str, Any] = {
    "/v1/admin/overview": {
        "videos_ready_total": 145,
        "videos_failed_total": 5,
        "videos_total": 160,
        "failure_rate_pct": 3.3,
        "hours_ready_total": 7.25,
        "searches_7d": 42,
        "avg_search_latency_ms_7d": 38.5,
        "searches_30d": 180,
        "avg_search_latency_ms_30d": 41.2,
    },
    "/v1/admin/timeseries/throughput": {"data": [{"day": "day", "videos_ready": 45, "hours_ready": 8.5}]},
    "/v1/admin/timeseries/search": {"data": [{"day": "day", "searches": 12, "avg_latency_ms": 38.5}]},
    "/v1/admin/users": {"items": [USER], "page": 1, "page_size": 50, "total_users": 2},
    f"/v1/admin/users/{ALICE}": {**USER, "recent_videos": [VIDEO], "recent_searches": [SEARCH]},
    "/v1/admin/performance/latency": {
        "videos_measured": 150,
        "avg_processing_ms": 45230.5,
        "p50_processing_ms": 42000.0,
        "p95_processing_ms": 78000.0,
        "p99_processing_ms": 95000.0,
        "avg_queue_ms": 1250.3,
        "avg_total_ms": 46480.8,
    },
    "/v1/admin/performance/rtf": {
        "videos_measured": 150,
        "avg_rtf": 1.85,
        "p50_rtf": 1.75,
        "p95_rtf": 2.80,
        "p99_rtf": 3.20,
        "avg_video_duration_s": 180.5,
        "avg_processing_duration_s": 334.0,
    },
    "/v1/admin/performance/queue": {
        "videos_measured": 150,
        "avg_queue_time_s": 1.25,
        "avg_processing_time_s": 45.2,
        "avg_total_time_s": 46.45,
        "queue_time_pct": 2.7,
        "processing_time_pct": 97.3,
    },
    "/v1/admin/failures/by-stage": {
        "data": [{"processing_stage": "transcription", "failure_count": 8, "failure_pct": 53.3}]
    },
    "/v1/admin/timeseries/throughput-v2": {
        "data": [
            {
                "day": "day",
                "videos_ready": 45,
                "videos_failed": 2,
                "hours_ready": 8.5,
                "avg_processing_s": 42.3,
                "avg_rtf": 1.75,
            }
        ]
    },
}
RANGED = [path for path in EXAMPLES if path != "/v1/admin/overview"]

USERS = "INSERT INTO user_profiles (user_id, full_name) VALUES (%(alice)s, 'Alice'), (%(bob)s, 'Bob')"
VIDEOS = """
INSERT INTO videos (owner_id, storage_path, filename, status, duration_s, queued_at, processing_started_at,
                    processing_finished_at, processing_duration_ms, processing_stage, error_message)
SELECT %(owner)s, 's3://bucket/a.mp4', 'a.mp4', %(status)s::video_status, %(duration)s,
       moment - interval '10 s', moment - interval '8 s', moment, 8000, %(stage)s, %(error)s
FROM (SELECT clock_timestamp() AS moment) AS clock
"""
SEARCHES = """
INSERT INTO search_queries (user_id, video_id, query_text, results_count, latency_ms)
SELECT %(owner)s, (SELECT id FROM videos WHERE owner_id = %(owner)s LIMIT 1), 'red circle', 3, 20
"""


@pytest.fixture
def rows(pool: Pool) -> None:
    """Two people; Alice with two READY videos (4 s, 16 s), two failures and a search, Bob with nothing."""
    with pool.connection() as connection:
        connection.execute(USERS, {"alice": ALICE, "bob": BOB})
        for status, stage, duration, error in (
            ("READY", "completed", 4.0, None),
            ("READY", "completed", 16.0, None),
            ("FAILED", "transcription", 5.0, "no speech model"),
            ("FAILED", None, None, "unknown"),
        ):
            connection.execute(
                VIDEOS,
                {"owner": ALICE, "status": status, "stage": stage, "duration": duration, "error": error},
            )
        connection.execute(SEARCHES, {"owner": ALICE})


def get(api: TestClient, path: str, **parameters: Any) -> Any:
    response = api.get(path, params=parameters, headers=headers(ADMIN))
    assert response.status_code == 200, response.text
    return response.json()


def kind(value: Any) -> Any:
    """The structure of a JSON value: its keys and types, of a list its first item's."""
    if isinstance(value, dict):
        return {key: kind(item) for key, item in value.items()}
    if isinstance(value, list):
        return [kind(item) for item in value[:1]]
    return type(value)


def without_nulls(wanted: Any, given: Any) -> Any:
    """``wanted`` with null wherever ``given`` has null, which every key may have."""
    if isinstance(wanted, dict) and isinstance(given, dict):
        return {key: without_nulls(wanted[key], given.get(key)) for key in wanted}
    if isinstance(wanted, list) and isinstance(given, list) and given:
        return [without_nulls(wanted[0], given[0])]
    return type(None) if given is type(None) else wanted


def test_the_table_of_routes_has_the_ten_endpoints() -> None:
    figures = [(route.method, route.path) for route in ADMIN_ROUTES if route.function.__module__ == admin.__name__]
    assert {(method, path.format(user_id=ALICE)) for method, path in figures} == {("GET", path) for path in EXAMPLES}


@pytest.mark.usefixtures("rows")
def test_json_has_the_keys_and_types_of_the_specification(api: TestClient) -> None:
    for path, example in EXAMPLES.items():
        answer = get(api, path)
        given = kind(answer)
        assert given == without_nulls(kind(example), given), path
        assert list(answer) == list(example), path


@pytest.mark.usefixtures("rows")
def test_endpoints_answer_with_the_figures_of_the_rows(api: TestClient) -> None:
    overview = get(api, "/v1/admin/overview")
    assert (overview["videos_ready_total"], overview["videos_failed_total"], overview["videos_total"]) == (
        2,
        2,
        4,
    )
    assert overview["failure_rate_pct"] == 50.0
    assert overview["hours_ready_total"] == pytest.approx(20 / 3600)
    assert (overview["searches_7d"], overview["avg_search_latency_ms_30d"]) == (1, 20.0)

    latency = get(api, "/v1/admin/performance/latency")
    assert latency["p50_processing_ms"] == 8000.0
    assert (latency["avg_queue_ms"], latency["avg_total_ms"]) == (2000.0, 10000.0)
    rtf = get(api, "/v1/admin/performance/rtf", range="1d")
    assert (rtf["videos_measured"], rtf["avg_rtf"], rtf["p50_rtf"]) == (2, 1.25, 1.25)
    queue = get(api, "/v1/admin/performance/queue")
    assert (queue["queue_time_pct"], queue["processing_time_pct"]) == (20.0, 80.0)

    failures = get(api, "/v1/admin/failures/by-stage")["data"]
    assert {(row["processing_stage"], row["failure_count"], row["failure_pct"]) for row in failures} == {
        ("transcription", 1, 50.0),
        ("unknown", 1, 50.0),
    }
    (day,) = get(api, "/v1/admin/timeseries/throughput-v2")["data"]
    assert date.fromisoformat(day["day"])
    assert (day["videos_ready"], day["videos_failed"], day["avg_rtf"]) == (2, 2, 1.25)
    (ready,) = get(api, "/v1/admin/timeseries/throughput")["data"]
    assert (ready["videos_ready"], ready["hours_ready"]) == (2, pytest.approx(20 / 3600))
    (searched,) = get(api, "/v1/admin/timeseries/search", bucket="day")["data"]
    assert (searched["searches"], searched["avg_latency_ms"]) == (1, 20.0)


@pytest.mark.usefixtures("rows")
def test_users_are_paged_sorted_and_counted(api: TestClient) -> None:
    page = get(api, "/v1/admin/users", page_size=1, sort="videos_ready")
    assert (page["page"], page["page_size"], page["total_users"]) == (1, 1, 2)
    (first,) = page["items"]
    assert (first["user_id"], first["full_name"]) == (str(ALICE), "Alice")
    assert (first["videos_total"], first["videos_ready"], first["searches_7d"]) == (4, 2, 1)
    assert datetime.fromisoformat(first["last_activity"]).tzinfo is not None
    second = get(api, "/v1/admin/users", page_size=1, page=2, sort="videos_ready")
    assert [user["user_id"] for user in second["items"]] == [str(BOB)]
    assert get(api, "/v1/admin/users", page=3, page_size=1) == {
        "items": [],
        "page": 3,
        "page_size": 1,
        "total_users": 2,
    }


@pytest.mark.usefixtures("rows")
def test_a_user_is_shown_with_recent_videos_and_searches(api: TestClient) -> None:
    user = get(api, f"/v1/admin/users/{ALICE}")
    assert len(user["recent_videos"]) == 4
    assert {video["status"] for video in user["recent_videos"]} == {"READY", "FAILED"}
    (search,) = user["recent_searches"]
    assert (search["query_text"], search["latency_ms"], search["results_count"]) == ("red circle", 20, 3)
    assert get(api, f"/v1/admin/users/{BOB}")["recent_videos"] == []


def test_an_unknown_user_is_404(api: TestClient) -> None:
    response = api.get(f"/v1/admin/users/{BOB}", headers=headers(ADMIN))
    assert (response.status_code, response.json()) == (404, {"detail": "There is no such user."})


def test_no_data_is_counts_of_zero_and_nulls(api: TestClient) -> None:
    for path, example in EXAMPLES.items():
        if path.endswith(str(ALICE)):
            continue
        answer = get(api, path)
        if "data" in answer:
            assert answer == {"data": []}
        elif "items" in answer:
            assert answer == {"items": [], "page": 1, "page_size": 50, "total_users": 0}
        else:
            zeros = ("failure_rate_pct", "hours_ready_total")
            assert answer == {
                key: 0 if isinstance(value, int) or key in zeros else None for key, value in example.items()
            }


def test_a_bad_range_is_400_and_says_what_is_allowed(api: TestClient) -> None:
    for path in RANGED:
        for bad in ("0d", "366d", "30", "d", "-1d", "1.5d", "1h", "", "030d", "٣d", "30d ", "9999999999d"):
            response = api.get(path, params={"range": bad}, headers=headers(ADMIN))
            assert (response.status_code, response.json()) == (
                400,
                {"detail": "range: must be 1d to 365d, for example 30d"},
            ), (path, bad)


@pytest.mark.usefixtures("rows")
def test_the_whole_range_is_allowed(api: TestClient) -> None:
    for path in RANGED:
        for good in ("1d", "9d", "99d", "365d"):
            get(api, path, range=good)


BAD_PARAMETERS: list[tuple[str, dict[str, str], str]] = [
    ("/v1/admin/timeseries/throughput", {"bucket": "hour"}, "'day'"),
    ("/v1/admin/timeseries/search", {"bucket": "week"}, "'day'"),
    ("/v1/admin/users", {"sort": "name"}, "'last_activity', 'hours_ready', 'videos_ready' or 'searches_7d'"),
    ("/v1/admin/users", {"sort": "last_activity; DROP TABLE videos"}, "'last_activity'"),
    ("/v1/admin/users", {"page": "0"}, "greater than or equal to 1"),
    ("/v1/admin/users", {"page": "two"}, "integer"),
    ("/v1/admin/users", {"page": "99999999999999999999"}, "less than or equal to 1000000"),
    ("/v1/admin/users", {"page_size": "0"}, "greater than or equal to 1"),
    ("/v1/admin/users", {"page_size": "101"}, "less than or equal to 100"),
    ("/v1/admin/users/somebody", {}, "UUID"),
]


def test_a_bad_parameter_is_400_and_says_what_is_allowed(api: TestClient) -> None:
    for path, parameters, allowed in BAD_PARAMETERS:
        response = api.get(path, params=parameters, headers=headers(ADMIN))
        assert (response.status_code, list(response.json())) == (400, ["detail"])
        assert allowed in response.json()["detail"]


def test_cors_is_for_the_configured_origins_only(make_api: ApiMaker, api: TestClient) -> None:
    ours, other = "https://admin.example.org", "https://evil.example.org"
    preflight = {
        "Access-Control-Request-Method": "GET",
        "Access-Control-Request-Headers": "authorization",
    }
    shared = make_api(cors_origins=(ours,))
    allowed = shared.options("/v1/admin/overview", headers={"Origin": ours, **preflight})
    assert (allowed.status_code, allowed.headers["access-control-allow-origin"]) == (200, ours)
    assert "authorization" in allowed.headers["access-control-allow-headers"].lower()
    refused = shared.options("/v1/admin/overview", headers={"Origin": other, **preflight})
    assert refused.status_code == 400
    assert "access-control-allow-origin" not in refused.headers

    without_token: dict[str, str] = {}
    for sent in (headers(ADMIN), without_token):
        answer = shared.get("/v1/admin/overview", headers={**sent, "Origin": ours})
        assert answer.headers["access-control-allow-origin"] == ours, "a page must be able to read a 401 too"
        assert (
            "access-control-allow-origin"
            not in shared.get("/v1/admin/overview", headers={**sent, "Origin": other}).headers
        )
    by_default = api.get("/v1/admin/overview", headers={**headers(ADMIN), "Origin": ours})
    assert "access-control-allow-origin" not in by_default.headers
