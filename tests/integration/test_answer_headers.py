"""The headers of every answer, whatever makes it, and the methods that a 405 names."""

from collections.abc import Iterator
from dataclasses import replace

import pytest
from starlette.testclient import TestClient

from cluster.store.postgres.connections import open_pool
from serve_app.limits import DEFAULT_LIMITS, MAX_ADDRESS_BYTES, MAX_HEADER_BYTES, ApiLimits
from serve_app.route_table import ADMIN_ROUTES, OPEN_ROUTES, USER_ROUTES
from serve_app.routes import videos
from tests.support.api_client import ADMIN, ALICE, ApiMaker, headers

OURS = "https://admin.example.org"
PREFLIGHT = {"Access-Control-Request-Method": "GET", "Access-Control-Request-Headers": "authorization"}


def is_covered(answer: object) -> bool:
    sent = answer.headers  # type: ignore[attr-defined]
    policies = sent.get_list("content-security-policy")
    return (
        len(policies) == 1
        and "default-src 'none'" in policies[0]
        and "frame-ancestors 'none'" in policies[0]
        and "unsafe-eval" not in policies[0]
        and sent.get_list("x-content-type-options") == ["nosniff"]
        and sent.get_list("x-frame-options") == ["DENY"]
        and sent.get_list("referrer-policy") == ["no-referrer"]
    )


@pytest.fixture
def shared(make_api: ApiMaker) -> TestClient:
    return make_api(cors_origins=(OURS,), limits=ApiLimits(1024, 30.0, 5))


def test_every_answer_has_the_headers(shared: TestClient) -> None:
    user, admin = headers(ALICE), headers(ADMIN)
    one = {"uri": "https://example.org/a.mp4"}
    answers = {
        "200": shared.get("/v1/videos", headers=user),
        "200 of an admin": shared.get("/v1/admin/overview", headers=admin),
        "202": shared.post("/v1/videos", json=one, headers=user),
        "307": shared.get("/"),
        "page": shared.get("/docs"),
        "file": shared.get("/docs/swagger-ui.css"),
        "document": shared.get("/openapi.json"),
        "HEAD": shared.head("/docs"),
        "400": shared.get("/v1/videos?page=0", headers=user),
        "401": shared.get("/v1/videos"),
        "403": shared.get("/v1/admin/overview", headers=user),
        "404": shared.get("/nothing"),
        "404 of a video": shared.get(f"/v1/videos/{ALICE}", headers=user),
        "405": shared.put("/v1/videos", headers=user),
        "413": shared.post("/v1/videos", content=bytes(2000), headers=user),
        "414": shared.get(f"/v1/search?q={'a' * MAX_ADDRESS_BYTES}", headers=user),
        "415": shared.post("/v1/videos", content=b"{}", headers={**user, "Content-Type": "text/plain"}),
        "429": shared.post("/v1/videos", json=[one] * 5, headers=user),
        "431": shared.get("/healthz", headers={"X-Long": "a" * MAX_HEADER_BYTES}),
        "503": shared.get("/readyz"),
        "preflight": shared.options("/v1/videos", headers={"Origin": OURS, **PREFLIGHT}),
        "preflight of another": shared.options("/v1/videos", headers={"Origin": "https://evil.example", **PREFLIGHT}),
        "OPTIONS": shared.options("/v1/videos"),
    }
    expected = {name: int(name[:3]) for name in answers if name[:3].isdigit()}
    assert {name: answers[name].status_code for name in expected} == expected
    assert [name for name, answer in answers.items() if not is_covered(answer)] == []


def test_failure_has_the_headers(make_api: ApiMaker, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(videos, "list_videos", broken)
    client = TestClient(make_api().app, raise_server_exceptions=False)
    answer = client.get("/v1/videos", headers=headers(ALICE))
    assert answer.status_code == 500
    assert is_covered(answer)


def test_database_that_is_away_has_the_headers(make_api: ApiMaker, database_url: str) -> None:
    with open_pool(database_url, max_size=1, name="closed") as pool:
        api = make_api(pool=pool)
        pool.timeout = 0.1
        with pool.connection():
            answer = api.get("/v1/videos", headers=headers(ALICE))
    assert answer.status_code == 503
    assert is_covered(answer)


def test_page_may_run_its_own_files_alone(api: TestClient) -> None:
    policy = dict(part.strip().split(" ", 1) for part in api.get("/docs").headers["content-security-policy"].split(";"))
    assert policy["script-src"] == policy["connect-src"] == "'self'"
    assert "script-src" not in api.get("/openapi.json").headers["content-security-policy"]


METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "BREW")


def paths() -> Iterator[tuple[str, set[str]]]:
    """Every path of the route table with all its methods."""
    table: dict[str, set[str]] = {}
    for route in ADMIN_ROUTES + USER_ROUTES + OPEN_ROUTES:
        table.setdefault(route.path, set()).add(route.method)
    yield from table.items()


def test_allow_names_every_method_of_a_path(make_api: ApiMaker) -> None:
    api = make_api(limits=replace(DEFAULT_LIMITS, anonymous_per_minute=10**6))
    assert any(len(there) > 1 for _, there in paths())
    for path, there in paths():
        place = path.format(user_id=ALICE, video_id=ALICE, scene_id=ALICE, job_id=ALICE)
        for method in set(METHODS) - there:
            answer = api.request(method, place)
            assert answer.status_code == 405, (method, path)
            assert answer.headers["allow"] == ", ".join(sorted(there)), (method, path)
    assert api.post("/docs").headers["allow"] == api.post("/docs/start.js").headers["allow"] == "GET, HEAD"
