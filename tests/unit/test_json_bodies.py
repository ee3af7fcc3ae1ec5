"""JSON bodies that cost more than they say: on every JSON route, without a database."""

import asyncio
import json
from collections.abc import Iterator
from datetime import timedelta
from types import SimpleNamespace
from typing import Any
from uuid import UUID

import pytest
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from starlette.testclient import TestClient

from cluster.contracts.videos import Submission
from serve_app import error_responses
from serve_app.app import build_api
from serve_app.auth import AuthRules, TokenVerifier
from serve_app.development_tokens import mint_token
from serve_app.json_bodies import MAX_KEYS, MAX_TOKENS, SMALL_BODY_BYTES, parse_body
from serve_app.parts import ApiParts
from serve_app.schemas.strict_values import few_mistakes

SECRET = "a secret of the tests, long enough for HS256"
ADMIN = UUID(int=1)
KEYS = b'{"uri":"https://a.org/a",' + b",".join(b'"%d":0' % number for number in range(10_000)) + b"}"
BODIES = {
    "many keys": KEYS,
    "many objects with some keys": b"[" + b",".join([b'{"a":0,"b":0,"c":0}'] * 900) + b"]",
    "many empty objects": b"[" + b"{}," * 100_000 + b"{}]",
    "many numbers": b"[" + b"0," * 100_000 + b"0]",
    "many strings": b'["' + b'","' * 100_000 + b'"]',
    "many strings that nothing parts": b'""' * 100_000,
    "deep lists": b"[" * 100_000,
    "deep objects": b'{"a":' * 100_000,
    "a key as long as the body": b'{"uri":"https://a.org/a","' + b"k" * 500_000 + b'":0}',
    "a string as long as the body": b'{"uri":"' + b"\\u0041" * 100_000 + b'"}',
    "a string without an end": b'{"uri":"' + b'\\"' * 500_000,
    "a number as long as the body": b'{"priority":1' + b"0" * 500_000 + b"}",
    "a fraction as long as the body": b'{"priority":0.' + b"0" * 500_000 + b"1}",
}


@pytest.fixture
def client() -> Iterator[TestClient]:
    """The application, whose database is never asked."""
    nothing: Any = SimpleNamespace()
    verifier = TokenVerifier(AuthRules(SECRET, None, frozenset({ADMIN})))
    parts = ApiParts(pool=nothing, verifier=verifier, search=nothing, allowed_schemes=frozenset({"https"}))
    with TestClient(build_api(parts)) as opened:
        yield opened


def sent(client: TestClient, path: str, body: bytes) -> Any:
    token = mint_token(SECRET, ADMIN, timedelta(hours=1))
    headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
    return client.post(path.format(video_id=UUID(int=7)), content=body, headers=headers)


def json_routes(client: TestClient) -> list[str]:
    """Addresses of the routes that take JSON."""
    routes: list[Any] = client.app.router.routes  # type: ignore[attr-defined]
    return [route.path for route in routes if isinstance(route, APIRoute) and route.body_field is not None]


@pytest.mark.parametrize("kind", BODIES)
def test_json_body_of_any_kind_makes_few_mistakes(
    client: TestClient, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    mistakes: list[int] = []
    listed = RequestValidationError.errors

    def counted(error: RequestValidationError) -> Any:
        found = listed(error)
        mistakes.append(len(found))
        return found

    monkeypatch.setattr(RequestValidationError, "errors", counted)
    routes = json_routes(client)
    assert len(routes) == 4, routes
    for path in routes:
        answer = sent(client, path, BODIES[kind])
        assert answer.status_code in {400, 413}, (path, answer.text[:200])
        assert list(answer.json()) == ["detail"]
        assert len(answer.content) < 4000, path
    assert max(mistakes, default=0) <= 6 * (MAX_KEYS + 3)


def test_json_body_is_parsed_by_a_thread(client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    on_loop: list[bool] = []
    parse = json.loads

    def watched(text: Any, *rest: Any, **more: Any) -> Any:
        if "example" in str(text):
            on_loop.append(asyncio._get_running_loop() is not None)
        return parse(text, *rest, **more)

    monkeypatch.setattr(json, "loads", watched)
    for path in json_routes(client):
        assert sent(client, path, b'{"example": 1}').status_code == 400
    assert on_loop == [False] * 4


def test_json_body_is_small_but_where_many_are_sent(client: TestClient) -> None:
    for path in json_routes(client):
        answer = sent(client, path, b"{}".ljust(SMALL_BODY_BYTES + 1))
        large = answer.status_code == 413
        assert large == (path != "/v1/videos"), path
        assert not large or str(SMALL_BODY_BYTES) in answer.json()["detail"]


def test_many_mistakes_are_named_by_the_first_of_them(client: TestClient) -> None:
    found = sent(client, "/v1/videos", b"[" + b",".join([b'{"uri":7}'] * 1000) + b"]").json()["detail"]
    assert [part.partition(":")[0] for part in found.split("; ")] == [*(f"{n}.uri" for n in range(5)), "and more"]
    wrong_ids = json.dumps({"ids": ["x"] * 1000}).encode()
    assert sent(client, "/v1/admin/videos/cancel", wrong_ids).json()["detail"].count("must be a UUID") == 5
    too_many = sent(client, "/v1/videos", b"[" + b"{}," * 1000 + b"{}]").json()["detail"]
    assert "at most 1000 items" in too_many


def test_submissions_as_large_as_they_may_be_are_parsed() -> None:
    one = {"uri": "https://a.org/" + "é" * 4000, "language": "en", "priority": 1}
    assert parse_body(json.dumps([one] * 1000).encode()) == [one] * 1000
    assert parse_body(json.dumps(one).encode("utf-16")) == one
    tricky = {'a\\"{[,': '\\\\"]},{"', "b": ["\\", '"']}
    assert parse_body(json.dumps(tricky).encode()) == tricky


def test_body_at_its_bounds_is_parsed_and_beyond_is_refused() -> None:
    keys = {str(number): 0 for number in range(MAX_KEYS)}
    assert parse_body(json.dumps(keys).encode()) == keys
    with pytest.raises(error_responses.BadRequest, match=f"more than {MAX_KEYS} keys"):
        parse_body(json.dumps({**keys, "more": 0}).encode())
    zeros = [0] * (MAX_TOKENS - 1)  # two brackets, and a comma less than items
    assert parse_body(json.dumps(zeros).encode()) == zeros
    with pytest.raises(error_responses.BadRequest, match="more values"):
        parse_body(json.dumps([*zeros, 0]).encode())


def test_items_after_enough_mistakes_are_not_looked_at() -> None:
    shortened = few_mistakes(Submission, 1000).func
    assert len(shortened([{"uri": 7}] * 1000)) == 6  # type: ignore[call-arg]
    right = [{"uri": f"https://a.org/{number}"} for number in range(1000)]
    assert len(shortened(right)) == 1000  # type: ignore[call-arg]
