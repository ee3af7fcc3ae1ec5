"""The ten functions against the same figures computed in plain Python, on random rows and at every edge."""

from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime
from typing import Any
from uuid import UUID

import psycopg
import pytest
from psycopg import Connection
from psycopg.rows import DictRow

from cluster.store.metrics import figures
from cluster.store.postgres.connections import Pool, connect
from tests.support import metrics_reference as reference
from tests.support.random_rows import DAY, SECOND, TICK, RandomWorld, Search, Video, World

ALICE, BOB = UUID(int=0xA), UUID(int=0xB)
SORTS = ["last_activity", "hours_ready", "videos_ready", "searches_7d"]
AGGREGATES = [
    (figures.get_processing_latency, reference.processing_latency),
    (figures.get_rtf_distribution, reference.rtf_distribution),
    (figures.get_queue_analysis, reference.queue_analysis),
]
SERIES = [
    (figures.get_throughput, reference.throughput),
    (figures.get_searches, reference.searches),
    (figures.get_failures_by_stage, reference.failures_by_stage),
    (figures.get_throughput_v2, reference.throughput_v2),
]


@pytest.fixture
def session(database_url: str) -> Iterator[Connection[DictRow]]:
    """One transaction for a whole test: now() does not change, edges can be hit to the microsecond."""
    with connect(database_url) as connection:
        yield connection
        connection.rollback()


@pytest.fixture
def now(session: Connection[DictRow]) -> datetime:
    moment = session.execute("SELECT now() AS moment").fetchall()[0]["moment"]
    assert isinstance(moment, datetime)
    return moment


def close_to(expected: Any) -> Any:
    """Equal, but for the last digits of floats."""
    if isinstance(expected, list):
        return [close_to(item) for item in expected]
    if isinstance(expected, dict):
        return {key: close_to(value) for key, value in expected.items()}
    return pytest.approx(expected, rel=1e-9, abs=1e-9) if isinstance(expected, float) else expected


def video(now: datetime, number: int = 1, **columns: Any) -> Video:
    """A READY video of a minute that waited 2 s, took 30 s and ended a day ago."""
    ended = columns.pop("ended", now - DAY)
    values: dict[str, Any] = {
        "id": UUID(int=number),
        "owner_id": ALICE,
        "storage_path": "file:///a.mp4",
        "filename": f"{number}.mp4",
        "status": "READY",
        "duration_s": 60.0,
        "error_message": None,
        "created_at": ended,
        "updated_at": ended,
        "queued_at": ended - 32 * SECOND,
        "processing_started_at": ended - 30 * SECOND,
        "processing_finished_at": ended,
        "processing_duration_ms": 30_000,
        "processing_stage": "completed",
    }
    return Video(**{**values, **columns})


def search(now: datetime, number: int = 1, **columns: Any) -> Search:
    values: dict[str, Any] = {
        "id": UUID(int=number),
        "user_id": ALICE,
        "video_id": None,
        "query_text": "a red ball",
        "results_count": 3,
        "latency_ms": 40,
        "created_at": now - DAY,
    }
    return Search(**{**values, **columns})


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("size", [(1, 0, 0), (1, 1, 1), (3, 8, 8), (9, 300, 300)])
def test_every_function_agrees_with_plain_python(
    session: Connection[DictRow], now: datetime, seed: int, size: tuple[int, int, int]
) -> None:
    world = RandomWorld(seed, now).make(*size)
    world.insert(session)
    assert figures.get_overview(session) == close_to(reference.overview(world))
    for days in (1, 7, 30, 365):
        for ask, expect in AGGREGATES:
            assert ask(session, days) == close_to(expect(world, days)), ask
        for list_rows, expect_rows in SERIES:
            assert list_rows(session, days) == close_to(expect_rows(world, days)), list_rows
        everybody = reference.users(world, days)
        listed, total = figures.get_users(session, days, 100, 0, "last_activity")
        assert total == len(everybody)
        assert {row["user_id"]: row for row in listed} == close_to(everybody)


def test_the_random_rows_reach_every_figure(now: datetime) -> None:
    world = RandomWorld(0, now).make(9, 300, 300)
    assert None not in reference.overview(world).values()
    for _, expect in AGGREGATES:
        assert None not in expect(world, 30).values()
    assert {row["processing_stage"] for row in reference.failures_by_stage(world, 30)} >= {
        "unknown",
        "indexing",
    }
    assert any(v.processing_finished_at is None and world.within(v.updated_at, 30) for v in world.videos)


def test_empty_figures_are_zero_null_or_empty_series(pool: Pool) -> None:
    for row in (figures.get_overview(pool), *(ask(pool, 30) for ask, _ in AGGREGATES)):
        for name, value in row.items():
            is_count = name.startswith(("videos_", "searches_")) or name in ("failure_rate_pct", "hours_ready_total")
            assert value == (0 if is_count else None), name
    for list_rows, _ in SERIES:
        assert list_rows(pool, 30) == []
    assert figures.get_users(pool, 7, 50, 0, "last_activity") == ([], 0)
    assert figures.get_user(pool, ALICE, 7) is None


def test_one_video_gives_these_figures(session: Connection[DictRow], now: datetime) -> None:
    World(now, {ALICE: "Alice"}, [video(now)], []).insert(session)
    latency = figures.get_processing_latency(session, 30)
    assert latency == {
        "videos_measured": 1,
        "avg_processing_ms": 30_000.0,
        "p50_processing_ms": 30_000.0,
        "p95_processing_ms": 30_000.0,
        "p99_processing_ms": 30_000.0,
        "avg_queue_ms": 2_000.0,
        "avg_total_ms": 32_000.0,
    }
    assert figures.get_rtf_distribution(session, 30)["avg_rtf"] == 0.5
    queue = figures.get_queue_analysis(session, 30)
    assert (queue["queue_time_pct"], queue["processing_time_pct"]) == (6.25, 93.75)
    assert [type(value) for value in latency.values()] == [int, *[float] * 6]
    assert type(figures.get_throughput_v2(session, 30)[0]["day"]) is date


@pytest.mark.parametrize(
    ("ended_before_now", "counted"), [(30 * DAY + TICK, 0), (30 * DAY, 1), (0 * DAY, 1), (-TICK, 0)]
)
def test_a_range_reaches_from_n_days_ago_to_now_both_included(
    session: Connection[DictRow], now: datetime, ended_before_now: Any, counted: int
) -> None:
    ended = now - ended_before_now
    failed = video(now, 2, ended=ended, status="FAILED", processing_stage="metadata")
    World(now, {}, [video(now, ended=ended), failed], [search(now, created_at=ended)]).insert(session)
    assert figures.get_overview(session)["searches_30d"] == counted
    for ask, _ in AGGREGATES:  # both, but the failed one has no real-time factor
        both = 1 if ask is figures.get_rtf_distribution else 2
        assert ask(session, 30)["videos_measured"] == both * counted
    for list_rows, _ in SERIES:
        assert len(list_rows(session, 30)) == counted


def test_the_callers_time_zone_changes_nothing(session: Connection[DictRow], now: datetime) -> None:
    world = RandomWorld(1, now).make(4, 60, 60)
    world.insert(session)
    asks: list[Callable[[], Any]] = [
        lambda: [list_rows(session, 365) for list_rows, _ in SERIES],
        lambda: figures.get_users(session, 30, 100, 0, "last_activity"),
        lambda: figures.get_user(session, world.videos[0].owner_id, 30),
    ]
    in_utc = [ask() for ask in asks]
    session.execute("SET LOCAL TimeZone = 'America/New_York'")
    assert [ask() for ask in asks] == in_utc
    last_activity = in_utc[1][0][0]["last_activity"]
    assert last_activity.tzinfo is UTC
    texts = session.execute(
        "SELECT jsonb_path_query(recent_videos, '$[*].updated_at') #>> '{}' AS t FROM get_admin_user_detail(%s, 30)",
        [world.videos[0].owner_id],
    ).fetchall()
    assert texts
    assert all(row["t"].endswith("+00:00") for row in texts)


def test_percentages_of_failures_add_up_and_ties_go_by_name(session: Connection[DictRow], now: datetime) -> None:
    stages = ["transcription", "metadata", None, "indexing", "indexing", "transcription", None]
    failed = [video(now, n, status="FAILED", processing_stage=stage) for n, stage in enumerate(stages, 1)]
    World(now, {}, failed, []).insert(session)
    rows = figures.get_failures_by_stage(session, 30)
    assert [row["processing_stage"] for row in rows] == ["indexing", "transcription", "unknown", "metadata"]
    assert sum(row["failure_pct"] for row in rows) == pytest.approx(100)


@pytest.mark.parametrize("unknown", ["queued_at", "processing_started_at", "processing_duration_ms"])
def test_a_video_counts_as_measured_only_when_all_is_known(
    session: Connection[DictRow], now: datetime, unknown: str
) -> None:
    World(now, {}, [video(now), video(now, 2, **{unknown: None})], []).insert(session)
    latency = figures.get_processing_latency(session, 30)
    assert (latency["videos_measured"], latency["avg_queue_ms"], latency["avg_total_ms"]) == (1, 2_000.0, 32_000.0)
    assert figures.get_queue_analysis(session, 30)["videos_measured"] == 1


@pytest.mark.parametrize("status", ["READY", "FAILED"])
def test_latency_and_queue_figures_are_over_ready_and_failed(
    session: Connection[DictRow], now: datetime, status: str
) -> None:
    World(now, {}, [video(now), video(now, 2, status=status)], []).insert(session)
    assert figures.get_processing_latency(session, 30)["videos_measured"] == 2
    assert figures.get_queue_analysis(session, 30)["videos_measured"] == 2
    assert figures.get_rtf_distribution(session, 30)["videos_measured"] == (2 if status == "READY" else 1)


def test_a_cancelled_video_is_no_failure_in_any_figure(session: Connection[DictRow], now: datetime) -> None:
    cancelled = video(now, 2, status="FAILED", processing_stage="metadata")
    World(now, {}, [video(now), cancelled], []).insert(session)
    session.execute(
        "INSERT INTO video_processing (video_id, owner_id, cancelled_at) VALUES (%s, %s, now())",
        (cancelled.id, cancelled.owner_id),
    )
    overview = figures.get_overview(session)
    assert (overview["videos_failed_total"], overview["failure_rate_pct"], overview["videos_total"]) == (0, 0, 2)
    assert figures.get_processing_latency(session, 30)["videos_measured"] == 1
    assert figures.get_queue_analysis(session, 30)["videos_measured"] == 1
    assert figures.get_failures_by_stage(session, 30) == []
    assert [row["videos_failed"] for row in figures.get_throughput_v2(session, 30)] == [0]
    user = figures.get_user(session, cancelled.owner_id, 30)
    assert user is not None
    assert {row["status"] for row in user["recent_videos"]} == {"READY", "CANCELLED"}
    # Another system that does not know of it has it READY since: a video like any other.
    session.execute("UPDATE videos SET status = 'READY' WHERE id = %s", (cancelled.id,))
    assert figures.get_processing_latency(session, 30)["videos_measured"] == 2


def test_user_with_many_videos_and_searches_is_counted_once(session: Connection[DictRow], now: datetime) -> None:
    videos = [video(now, n) for n in range(1, 26)]
    asked = [search(now, n, latency_ms=n) for n in range(1, 61)]
    World(now, {ALICE: "Alice"}, videos, asked).insert(session)
    ((row,), total) = figures.get_users(session, 7, 50, 0, "last_activity")
    assert total == 1
    assert (row["videos_total"], row["videos_ready"], row["searches_7d"]) == (25, 25, 60)
    assert row["hours_ready"] == pytest.approx(25 / 60)
    assert row["avg_latency_ms_7d"] == 30.5


@pytest.mark.parametrize("sort", SORTS)
def test_user_pages_show_each_user_once_in_order(session: Connection[DictRow], now: datetime, sort: str) -> None:
    world = RandomWorld(2, now).make(23, 30, 30)
    world.insert(session)
    everybody = reference.users(world, 7)
    listed: list[dict[str, Any]] = []
    for offset in range(0, 30, 5):
        rows, total = figures.get_users(session, 7, 5, offset, sort)
        assert total == len(everybody)
        listed += rows
    lowest = datetime.min.replace(tzinfo=UTC) if sort == "last_activity" else -1
    expected = sorted(everybody.values(), key=lambda row: row["user_id"])
    expected.sort(key=lambda row: row[sort] if row[sort] is not None else lowest, reverse=True)
    assert [row["user_id"] for row in listed] == [row["user_id"] for row in expected]


def test_the_number_of_users_is_known_beyond_the_last_page(session: Connection[DictRow], now: datetime) -> None:
    World(now, {ALICE: "Alice"}, [video(now, owner_id=BOB)], [search(now, user_id=UUID(int=0xC))]).insert(session)
    assert figures.get_users(session, 7, 50, 50, "hours_ready") == ([], 3)


@pytest.mark.parametrize("sort", ["full_name", "", "hours_ready; DROP TABLE videos", None])
def test_an_unknown_sort_is_refused(session: Connection[DictRow], sort: str | None) -> None:
    with pytest.raises(psycopg.errors.InvalidParameterValue, match="unknown sort column"):
        session.execute("SELECT * FROM get_admin_users_list(7, 50, 0, %s)", [sort])


def test_a_users_detail_has_the_latest_videos_and_searches(session: Connection[DictRow], now: datetime) -> None:
    minute = 60 * SECOND
    mine = [video(now, n, ended=now - n * minute, error_message=f"'{n}'") for n in range(1, 26)]
    asked = [search(now, n, created_at=now - n * minute, video_id=UUID(int=1)) for n in range(1, 61)]
    others = [video(now, 100, owner_id=BOB)]
    world = World(now, {ALICE: "Alice", BOB: None}, mine + others, asked)
    world.insert(session)
    detail = figures.get_user(session, ALICE, 7)
    assert detail is not None
    assert detail.pop("recent_videos") == [
        {
            "id": v.id,
            "filename": v.filename,
            "status": "READY",
            "duration_s": 60.0,
            "updated_at": v.updated_at,
            "error_message": v.error_message,
        }
        for v in mine[:20]
    ]
    assert detail.pop("recent_searches") == [
        {
            "query_text": s.query_text,
            "created_at": s.created_at,
            "latency_ms": 40,
            "results_count": 3,
            "video_id": UUID(int=1),
        }
        for s in asked[:50]
    ]
    assert detail == close_to(reference.user(world, 7, ALICE))
    bob = figures.get_user(session, BOB, 7)
    assert bob is not None
    assert (len(bob["recent_videos"]), bob["recent_searches"], bob["full_name"]) == (1, [], None)
