"""Every HTTP route on a database as strict as a real one: what it answers, and which foreign values it changes."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import pytest
from fastapi.routing import APIRoute
from pydantic import TypeAdapter
from starlette.routing import Route
from starlette.testclient import TestClient

from cluster.search.service import SearchService
from cluster.store.postgres.connections import EmbeddedPostgres, open_pool
from cluster.store.postgres.migrations import apply_migrations
from cluster.store.search.engines import index_opener
from serve_app.auth import AuthRules, TokenVerifier
from serve_app.parts import ApiParts
from tests.support import metrics_reference as reference
from tests.support.api_client import ADMIN, SECRET, headers, make_picture, query_models
from tests.support.existing_database import (
    ANNA,
    BEN,
    CARA,
    DORA,
    EMIL,
    STRANGER,
    Snapshot,
    clip,
    existing_database,
    take_snapshot,
)
from tests.support.strict_world import (
    CANCELLED,
    FAILED,
    FINISHED,
    FORGOTTEN,
    STATE,
    WAITING,
    add_own,
    added,
    own,
    read_world,
    shape_changes,
    unexpected,
)

NOWHERE = UUID(int=0xDEAD)
Body = Any


@dataclass(frozen=True)
class Strict:
    """The database, a client of the application on it, two scenes of ours, and what was there before the migrations."""

    url: str
    api: TestClient
    scenes: list[UUID]
    original: Snapshot


@dataclass(frozen=True)
class Case:
    """A request, its answer's status, what else is true of the answer, and what it may change."""

    path: str
    status: int = 200
    user: UUID | None = CARA
    json: Any = None
    content: bytes | None = None
    check: Callable[[Body], bool] = lambda body: bool(body)
    written: frozenset[str] = frozenset()
    of: tuple[UUID, ...] = ()
    scenes: bool = False
    adds: tuple[tuple[str, int], ...] = ()


def names_a_reason(body: Body) -> bool:
    return list(body) == ["detail"] and bool(body["detail"])


def is_empty(body: Body) -> bool:
    return body == ""


def video(status: str) -> Callable[[Body], bool]:
    return lambda body: bool(body["status"] == status)


def refused(path: str, status: int, user: UUID | None = CARA, **asked: Any) -> Case:
    return Case(path, status, user, check=names_a_reason, **asked)


def admin(path: str, check: Callable[[Body], bool] = lambda body: bool(body), **asked: Any) -> Case:
    return Case(path, user=ADMIN, check=check, **asked)


def changes(path: str, number: UUID, status: str, user: UUID = CARA, **asked: Any) -> Case:
    return Case(path.format(number), 200, user, check=video(status), written=STATE, of=(number,), **asked)


def has(key: str, count: int) -> Callable[[Body], bool]:
    return lambda body: len(body[key]) == count


SEARCHED = (("search_queries", 1),)
V = "/v1/videos/{}"
CASES: dict[str, list[Case]] = {
    "GET /": [Case("/", 307, None, check=is_empty)],
    "GET /openapi.json": [Case("/openapi.json", user=None)],
    "GET /docs": [Case("/docs", user=None)],
    "GET /docs/{name}": [Case("/docs/start.js", user=None)],
    "GET /healthz": [Case("/healthz", user=None)],
    "GET /health": [Case("/health", user=None)],
    # The database answers; no scheduler runs in this test.
    "GET /readyz": [Case("/readyz", 503, None, check=lambda body: bool(body["parts"]["database"]["ready"]))],
    "GET /health/ready": [
        Case("/health/ready", 503, None, check=lambda body: bool(body["parts"]["database"]["ready"]))
    ],
    "GET /v1/admin/overview": [admin("/v1/admin/overview"), refused("/v1/admin/overview", 403)],
    "GET /v1/admin/timeseries/throughput": [admin("/v1/admin/timeseries/throughput")],
    "GET /v1/admin/timeseries/throughput-v2": [admin("/v1/admin/timeseries/throughput-v2")],
    "GET /v1/admin/timeseries/search": [admin("/v1/admin/timeseries/search")],
    "GET /v1/admin/users": [
        admin(f"/v1/admin/users?sort={sort}", has("items", 5))
        for sort in ("last_activity", "hours_ready", "videos_ready", "searches_7d")
    ],
    "GET /v1/admin/users/{user_id}": [
        admin(f"/v1/admin/users/{CARA}", has("recent_videos", 20)),
        admin(f"/v1/admin/users/{DORA}", lambda body: body["full_name"] is None),
        admin(f"/v1/admin/users/{EMIL}", has("recent_videos", 0)),
        refused(f"/v1/admin/users/{STRANGER}", 404, ADMIN),
    ],
    "GET /v1/admin/performance/latency": [admin("/v1/admin/performance/latency")],
    "GET /v1/admin/performance/rtf": [admin("/v1/admin/performance/rtf")],
    "GET /v1/admin/performance/queue": [admin("/v1/admin/performance/queue")],
    "GET /v1/admin/failures/by-stage": [admin("/v1/admin/failures/by-stage")],
    "GET /v1/admin/failures/quarantine": [
        admin("/v1/admin/failures/quarantine", lambda body: None in {item["filename"] for item in body["items"]}),
        admin("/v1/admin/failures/quarantine?stage=metadata", has("items", 8)),
    ],
    "POST /v1/admin/failures/retry": [
        admin(
            "/v1/admin/failures/retry",
            lambda body: body == {"retried": 1},
            json={"ids": [str(own(FAILED[0])), str(NOWHERE)]},
            written=STATE,
            of=(own(FAILED[0]),),
        )
    ],
    "POST /v1/admin/videos/cancel": [
        admin(
            "/v1/admin/videos/cancel",
            lambda body: body == {"cancelled": [str(own(WAITING[0]))]},
            json={"ids": [str(own(WAITING[0])), str(clip(4)), str(clip(5)), str(clip(10))]},
            written=STATE,
            of=(own(WAITING[0]),),
        )
    ],
    "POST /v1/admin/reprocess-embeddings": [
        Case("/v1/admin/reprocess-embeddings", 202, ADMIN),
        refused("/v1/admin/reprocess-embeddings", 409, ADMIN),
    ],
    "GET /v1/admin/reprocess-embeddings": [admin("/v1/admin/reprocess-embeddings")],
    "GET /v1/admin/reprocess-embeddings/{job_id}": [refused(f"/v1/admin/reprocess-embeddings/{NOWHERE}", 404, ADMIN)],
    "POST /v1/videos": [
        Case("/v1/videos", 202, CARA, {"uri": "s3://ours/new.mp4"}, check=has("ids", 1), adds=(("videos", 1),)),
        Case("/v1/videos", 202, DORA, [{"uri": "s3://ours/new.mp4"}] * 2, check=has("ids", 2), adds=(("videos", 2),)),
        refused("/v1/videos", 409, STRANGER, json={"uri": "s3://ours/new.mp4"}),
    ],
    "GET /v1/videos": [
        Case("/v1/videos?page_size=100", check=lambda body: None in {item["filename"] for item in body["items"]}),
        Case("/v1/videos?status=PROCESSING", user=BEN, check=has("items", 12)),
        Case("/v1/videos", user=STRANGER, check=has("items", 0)),
    ],
    "GET /v1/videos/{video_id}": [
        Case(V.format(clip(6)), check=lambda body: body["filename"] is None and len(body["scenes"]) == 3),
        Case(V.format(clip(5)), user=BEN, check=video("PROCESSING")),
        Case(V.format(clip(7)), user=DORA, check=video("FAILED")),
        Case(V.format(own(FINISHED[0])), check=video("READY")),
        Case(V.format(own(CANCELLED[0])), check=video("CANCELLED")),
        refused(V.format(clip(6)), 404, ANNA),
    ],
    "GET /v1/videos/{video_id}/transcript": [
        *(
            Case(V.format(clip(number)) + f"/transcript?format={name}", check=lambda body: "harbour" in str(body))
            for number in (6, 10)
            for name in ("json", "vtt", "srt", "txt")
        ),
        refused(V.format(clip(4)) + "/transcript", 404, ANNA),
    ],
    "POST /v1/videos/{video_id}/cancel": [
        changes(V + "/cancel", own(WAITING[1]), "CANCELLED"),
        refused(V.format(clip(4)) + "/cancel", 409, ANNA),
        refused(V.format(clip(5)) + "/cancel", 409, BEN),
        refused(V.format(clip(10)) + "/cancel", 409),
    ],
    "POST /v1/videos/{video_id}/retry": [
        changes(V + "/retry", own(FAILED[1]), "PENDING"),
        changes(V + "/retry", own(CANCELLED[1]), "PENDING"),
        changes(V + "/retry", clip(27), "PENDING", user=DORA),
        refused(V.format(clip(4)) + "/retry", 409, ANNA),
        refused(V.format(clip(5)) + "/retry", 409, BEN),
    ],
    "POST /v1/videos/{video_id}/reprocess": [
        changes(V + "/reprocess", own(FINISHED[1]), "PENDING", json={"language": "de"}),
        changes(V + "/reprocess", clip(18), "PENDING"),
        refused(V.format(clip(4)) + "/reprocess", 409, ANNA),
        refused(V.format(clip(5)) + "/reprocess", 409, BEN),
        refused(V.format(clip(5)) + "/reprocess", 404, CARA),
    ],
    "DELETE /v1/videos/{video_id}": [
        *(
            Case(V.format(number), 204, user, check=is_empty, written=FORGOTTEN, of=(number,), scenes=True)
            for number, user in ((clip(14), CARA), (clip(30), CARA), (clip(11), DORA), (own(FINISHED[2]), CARA))
        ),
        refused(V.format(clip(4)), 409, ANNA),
        refused(V.format(clip(5)), 409, BEN),
        refused(V.format(clip(22)), 404, ANNA),
    ],
    "GET /v1/search": [
        Case("/v1/search?q=harbour&limit=100", check=lambda body: len(body["items"]) > 10, adds=SEARCHED),
        Case("/v1/search?q=ship", check=has("items", 2), adds=SEARCHED),
        Case("/v1/search?q=harbour", user=STRANGER, check=has("items", 0), adds=SEARCHED),
    ],
    "POST /v1/search/image": [
        Case("/v1/search/image", content=make_picture(), check=has("items", 2), adds=SEARCHED),
        refused("/v1/search/image", 400, content=b"no picture"),
    ],
    "GET /v1/scenes/{scene_id}/similar": [
        Case("/v1/scenes/{scene}/similar", check=has("items", 1)),
        Case("/v1/scenes/{adopted}/similar", check=has("items", 0)),
        refused(f"/v1/scenes/{NOWHERE}/similar", 404),
    ],
}


@pytest.fixture(scope="module")
def strict(existing_server: EmbeddedPostgres) -> Iterator[Strict]:
    """One database for all cases, each of which has videos of its own."""
    from serve_app.app import build_api  # brings Ray Serve along: seconds that only the tests of the API wait for

    with existing_database(existing_server.url) as url:
        original = take_snapshot(url)
        apply_migrations(url)
        with open_pool(url, max_size=4, name="tests") as pool:
            scenes = add_own(pool, url)
            parts = ApiParts(
                pool=pool,
                verifier=TokenVerifier(AuthRules(SECRET, None, frozenset({ADMIN}))),
                search=SearchService(index_opener(pool), query_models(pool), pool),
                allowed_schemes=frozenset({"s3"}),
            )
            with TestClient(build_api(parts), follow_redirects=False) as api:
                yield Strict(url, api, scenes, original)


def ask(strict: Strict, method: str, case: Case) -> Any:
    """The answer's status and body."""
    with open_pool(strict.url, max_size=1, name="tests") as pool, pool.connection() as connection:
        rows = connection.execute("SELECT id FROM video_scenes WHERE video_id = %s", (clip(10),)).fetchall()
    path = case.path.format(scene=strict.scenes[0], adopted=rows[0]["id"])
    sent = {**(headers(case.user) if case.user else {})}
    if case.content is not None:
        sent["Content-Type"] = "image/png"
    answer = strict.api.request(method, path, json=case.json, content=case.content, headers=sent)
    is_json = answer.content and answer.headers.get("content-type", "").startswith("application/json")
    return answer.status_code, answer.json() if is_json else answer.text


@pytest.mark.parametrize("route", CASES)
def test_route_on_existing_database_changes_only_its_own(strict: Strict, route: str) -> None:
    method = route.partition(" ")[0]
    for case in CASES[route]:
        before = take_snapshot(strict.url)
        status, body = ask(strict, method, case)
        after = take_snapshot(strict.url)
        assert status == case.status, (case.path, body)
        assert case.check(body), (case.path, body)
        assert unexpected(before, after, case.written, case.of, case.scenes) == [], case.path
        assert added(before, after) == dict(case.adds), case.path


def test_tables_keep_their_columns_and_statuses(strict: Strict) -> None:
    assert shape_changes(strict.original, take_snapshot(strict.url)) == []


def test_every_route_has_a_case(strict: Strict) -> None:
    routes = strict.api.app.routes  # type: ignore[attr-defined]
    assert any(isinstance(route, APIRoute) for route in routes)
    found = {
        f"{method} {route.path}"
        for route in routes
        if isinstance(route, Route | APIRoute)
        for method in (route.methods or set()) - {"HEAD"}
    }
    assert len(found) == sum(len(getattr(route, "methods", ()) or ()) - ("HEAD" in route.methods) for route in routes)
    assert found == set(CASES)


def as_json(value: Any) -> Any:
    return TypeAdapter(Any).dump_python(value, mode="json")


def close_to(expected: Any) -> Any:
    """Equal, but for the last digits of floats."""
    if isinstance(expected, list):
        return [close_to(item) for item in expected]
    if isinstance(expected, dict):
        return {key: close_to(value) for key, value in expected.items()}
    return pytest.approx(expected, rel=1e-9, abs=1e-9) if isinstance(expected, float) else expected


def figures(strict: Strict, path: str) -> Any:
    answer = strict.api.get(f"/v1/admin/{path}", headers=headers(ADMIN))
    assert answer.status_code == 200, answer.text
    return answer.json()


@pytest.mark.parametrize("days", [1, 7, 30, 365])
def test_ten_figures_equal_the_reference(strict: Strict, days: int) -> None:
    world = read_world(strict.url)
    for path, expected in (
        ("overview", reference.overview(world)),
        (f"performance/latency?range={days}d", reference.processing_latency(world, days)),
        (f"performance/rtf?range={days}d", reference.rtf_distribution(world, days)),
        (f"performance/queue?range={days}d", reference.queue_analysis(world, days)),
        (f"timeseries/throughput?range={days}d", {"data": reference.throughput(world, days)}),
        (f"timeseries/throughput-v2?range={days}d", {"data": reference.throughput_v2(world, days)}),
        (f"timeseries/search?range={days}d", {"data": reference.searches(world, days)}),
        (f"failures/by-stage?range={days}d", {"data": reference.failures_by_stage(world, days)}),
    ):
        assert figures(strict, path) == close_to(as_json(expected)), path
    people = {str(key): as_json(user) for key, user in reference.users(world, days).items() if key is not None}
    listed = figures(strict, f"users?range={days}d&page_size=100")
    assert listed["total_users"] == len(people)
    assert by_user(listed["items"]) == close_to(people)
    for user, expected in people.items():
        detail = figures(strict, f"users/{user}?range={days}d")
        assert {name: detail[name] for name in expected} == close_to(expected)


def by_user(items: Iterable[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    return {item["user_id"]: item for item in items}
