"""Each route's guards by themselves: who passes, how long a request may take, what may be asked, what a defect says.

All bad tokens on all routes are ``test_refused_tokens``', what a request may cost on a server ``test_api_limits``'.
"""

import asyncio
from typing import Any

import pytest
from api_client import ADMIN, ALICE, ApiMaker, headers
from starlette.testclient import TestClient
from starlette.types import Message, Receive, Scope, Send

from cluster.store.database import Pool
from serve_app.app import ADMIN_ROUTES, open_api_pool
from serve_app.limits import ApiLimits, LimitedRequests

HURRIED = ApiLimits(max_body_bytes=64 * 1024, request_timeout_s=0.2, submissions_per_minute=5)
GOOD = headers(ALICE)["Authorization"]
POST = {
    "type": "http",
    "method": "POST",
    "path": "/v1/videos",
    "query_string": b"",
    "headers": [(b"authorization", GOOD.encode()), (b"content-type", b"application/json")],
}


# Who passes


def test_two_tokens_are_none(api: TestClient) -> None:
    assert api.get("/v1/videos", headers=[("Authorization", GOOD)]).status_code == 200
    answer = api.get("/v1/videos", headers=[("Authorization", GOOD), ("Authorization", GOOD)])
    assert (answer.status_code, "not several" in answer.json()["detail"]) == (401, True)


@pytest.mark.parametrize("scheme", ["Basic", "Token", "JWT", "BearerX"])
def test_a_token_of_another_scheme_is_none(api: TestClient, scheme: str) -> None:
    assert api.get("/v1/videos", headers={"Authorization": GOOD.replace("Bearer", scheme)}).status_code == 401


@pytest.mark.parametrize(("method", "path"), [(method, path) for method, path, _, _ in ADMIN_ROUTES])
def test_every_admin_route_is_closed_to_users(api: TestClient, method: str, path: str) -> None:
    answer = api.request(method, path.format(user_id=ALICE), headers=headers(ALICE))
    assert (answer.status_code, list(answer.json())) == (403, ["detail"])
    assert api.request(method, path.format(user_id=ALICE), headers=headers(ADMIN)).status_code != 403


# How long


def answered(app: Any, receive: Receive) -> list[Message]:
    """What is sent to somebody who waits for no more than five seconds."""
    sent: list[Message] = []

    async def send(message: Message) -> None:
        sent.append(message)

    async def whole() -> None:
        await asyncio.wait_for(app(dict(POST), receive, send), 5)
        await asyncio.sleep(0.05)  # what was given up may still say something

    asyncio.run(whole())
    return sent


def test_a_body_that_never_comes_is_given_up(make_api: ApiMaker) -> None:
    async def never() -> Message:
        await asyncio.Event().wait()
        raise AssertionError

    assert answered(make_api(limits=HURRIED).app, never)[0]["status"] == 504


def test_a_request_that_was_given_up_answers_once() -> None:
    async def stubborn(scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            await send({"type": "http.response.start", "status": 200, "headers": []})

    async def nothing() -> Message:
        return {"type": "http.request", "body": b""}

    sent = answered(LimitedRequests(stubborn, HURRIED), nothing)
    assert [message["status"] for message in sent if message["type"] == "http.response.start"] == [504]


def test_a_session_of_the_api_runs_no_statement_longer_than_a_request(database_url: str) -> None:
    with open_api_pool(database_url, 2.5) as pool, pool.connection() as connection:
        assert connection.execute("SELECT current_setting('statement_timeout') AS t").fetchall() == [{"t": "2500ms"}]
        assert pool.timeout == 2.5


# What may be asked, and what is answered


def test_a_search_has_an_end(api: TestClient) -> None:
    def status(**asked: Any) -> int:
        return api.get("/v1/search", params={"q": "tide", **asked}, headers=headers(ALICE)).status_code

    assert (status(q="a" * 1000), status(limit=100)) == (200, 200)
    assert [status(q="a" * 1001), status(q=""), status(limit=101), status(limit=0)] == [400] * 4


def test_a_name_that_no_database_can_hold_is_written_out(api: TestClient) -> None:
    sent = api.post("/v1/videos", json={"uri": "https://example.org/a%00%1b[2J.mp4"}, headers=headers(ALICE))
    assert sent.status_code == 202
    video = api.get(f"/v1/videos/{sent.json()['ids'][0]}", headers=headers(ALICE)).json()
    assert video["filename"] == "a\\x00\\x1b[2J.mp4"


class _Defect:
    def search(self, *_: Any) -> Any:
        raise ZeroDivisionError("an inner secret")


def test_a_defect_is_answered_in_one_sentence(make_api: ApiMaker, pool: Pool) -> None:
    client = TestClient(make_api(search=_Defect()).app, raise_server_exceptions=False)
    answer = client.get("/v1/search", params={"q": "tide"}, headers=headers(ALICE))
    assert (answer.status_code, answer.headers["content-type"]) == (500, "application/json")
    assert list(answer.json()) == ["detail"]
    assert "secret" not in answer.text
