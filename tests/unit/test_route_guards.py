"""Who passes a guarded route, and what a caller reads when something breaks behind it: routes of the test's own."""

import asyncio
from datetime import timedelta
from types import SimpleNamespace
from uuid import UUID

import pytest
from fastapi import FastAPI, Request
from starlette.testclient import TestClient
from starlette.types import Message

from cluster.contracts.errors import DatabaseUnavailable
from serve_app import error_responses
from serve_app.auth import AuthRules, TokenVerifier
from serve_app.development_tokens import mint_token
from serve_app.guards import AdminRoute, CurrentUser, UserRoute

SECRET = "a secret of the tests, long enough for HS256"
ADMIN, USER = UUID(int=1), UUID(int=2)


async def whoami(user_id: CurrentUser) -> str:
    return str(user_id)


async def reading(request: Request) -> int:
    reads.append(await request.body())
    return len(reads)


reads: list[bytes] = []


def broken() -> None:
    raise ZeroDivisionError("an inner secret")


def away() -> None:
    raise DatabaseUnavailable("Postgres at host:5432 is away")


@pytest.fixture
def client() -> TestClient:
    api = FastAPI()
    error_responses.install(api)
    api.state.parts = SimpleNamespace(verifier=TokenVerifier(AuthRules(SECRET, None, frozenset({ADMIN}))))
    for path, endpoint, route in (
        ("/user", whoami, UserRoute),
        ("/admin", whoami, AdminRoute),
        ("/reading", reading, AdminRoute),
        ("/broken", broken, UserRoute),
        ("/away", away, UserRoute),
    ):
        api.router.add_api_route(path, endpoint, methods=["POST"], route_class_override=route)
    reads.clear()
    return TestClient(api, raise_server_exceptions=False)


def bearer(user_id: UUID) -> str:
    return f"Bearer {mint_token(SECRET, user_id, timedelta(minutes=5))}"


def statuses(client: TestClient, path: str) -> list[int]:
    """Of a caller without a token, a user and an admin."""
    senders = [{}, {"Authorization": bearer(USER)}, {"Authorization": bearer(ADMIN)}]
    return [client.post(path, headers=headers).status_code for headers in senders]


def test_users_pass_where_users_may_and_admins_everywhere(client: TestClient) -> None:
    assert statuses(client, "/user") == [401, 200, 200]
    assert statuses(client, "/admin") == [401, 403, 200]
    assert client.post("/user", headers={"Authorization": bearer(USER)}).json() == str(USER)


def test_who_does_not_pass_is_not_read(client: TestClient) -> None:
    assert statuses(client, "/reading") == [401, 403, 200]
    assert len(reads) == 1


def test_who_does_not_pass_is_not_even_listened_to(client: TestClient) -> None:
    """FastAPI on its own would read the body first."""
    heard: list[Message] = []
    sent: list[Message] = []

    async def receive() -> Message:
        heard.append({"type": "http.request", "body": b""})
        return heard[-1]

    async def send(message: Message) -> None:
        sent.append(message)

    scope = {"type": "http", "method": "POST", "path": "/user", "query_string": b"", "headers": []}

    async def whole() -> None:
        await client.app(scope, receive, send)

    asyncio.run(whole())
    assert (sent[0]["status"], heard) == (401, [])


def test_two_tokens_are_none(client: TestClient) -> None:
    twice = [("Authorization", bearer(USER)), ("Authorization", bearer(USER))]
    answer = client.post("/user", headers=twice)
    assert (answer.status_code, "not several" in answer.json()["detail"]) == (401, True)


@pytest.mark.parametrize("scheme", ["Basic", "Token", "JWT", "BearerX"])
def test_a_token_of_another_scheme_is_none(client: TestClient, scheme: str) -> None:
    assert client.post("/user", headers={"Authorization": bearer(USER).replace("Bearer", scheme)}).status_code == 401


def test_what_breaks_is_told_in_one_sentence_without_its_inside(client: TestClient) -> None:
    answer = client.post("/broken", headers={"Authorization": bearer(USER)})
    assert (answer.status_code, answer.headers["content-type"]) == (500, "application/json")
    assert (list(answer.json()), "secret" in answer.text) == (["detail"], False)


def test_api_database_away_is_503_with_retry_after(client: TestClient) -> None:
    answer = client.post("/away", headers={"Authorization": bearer(USER)})
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "5")
    assert answer.json() == {"detail": "The database is away; try again."}
