"""The limits of one request, around an application that does nothing; on a real server: ``test_api_limits``."""

import asyncio
import json
from collections.abc import Iterable
from typing import Any

import pytest
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from serve_app.error_responses import RequestTooLarge
from serve_app.limits import MAX_ADDRESS_BYTES, MAX_HEADER_BYTES, ApiLimits, LimitedRequests

LIMITS = ApiLimits(max_body_bytes=1000, request_timeout_s=0.2, submissions_per_minute=5)


async def reading(scope: Scope, receive: Receive, send: Send) -> None:
    """Reads the whole body and says how long it was."""
    size, more = 0, True
    while more:
        message = await receive()
        size, more = size + len(message["body"]), message.get("more_body", False)
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": json.dumps({"size": size}).encode()})


async def stubborn(scope: Scope, receive: Receive, send: Send) -> None:
    """Comes with its answer when it has been given up."""
    try:
        await asyncio.Event().wait()
    except asyncio.CancelledError:
        await send({"type": "http.response.start", "status": 200, "headers": []})


def answer_of(
    app: ASGIApp,
    parts: Iterable[bytes] = (b"",),
    headers: Iterable[tuple[bytes, bytes]] = (),
    path: str = "/",
    query: bytes = b"",
) -> list[Message]:
    """All that is sent to a client that sends the parts of a body. Then it sends nothing and waits five seconds."""
    sent: list[Message] = []
    left = list(parts)

    async def receive() -> Message:
        if not left:
            await asyncio.Event().wait()
        return {"type": "http.request", "body": left.pop(0), "more_body": True}

    async def send(message: Message) -> None:
        sent.append(message)

    async def whole() -> None:
        scope = {"type": "http", "method": "POST", "path": path, "query_string": query, "headers": list(headers)}
        await asyncio.wait_for(LimitedRequests(app, LIMITS)(scope, receive, send), 5)
        await asyncio.sleep(0.02)  # what was given up may still say something

    asyncio.run(whole())
    return sent


def status(sent: list[Message]) -> int:
    """The one status that was answered."""
    (start,) = (message for message in sent if message["type"] == "http.response.start")
    found: int = start["status"]
    return found


def length(size: int) -> list[tuple[bytes, bytes]]:
    return [(b"content-length", str(size).encode())]


async def deaf(scope: Scope, receive: Receive, send: Send) -> None:
    """Answers without having read anything."""
    await send({"type": "http.response.start", "status": 200, "headers": []})


def test_a_body_that_is_announced_too_large_is_refused_unread() -> None:
    assert status(answer_of(deaf, headers=length(1000))) == 200
    assert status(answer_of(deaf, headers=length(1001))) == 413


@pytest.mark.parametrize("said", [length(10), length(1000), []])
def test_a_body_is_counted_while_it_comes_whatever_was_said(said: list[tuple[bytes, bytes]]) -> None:
    with pytest.raises(RequestTooLarge):  # which the application would answer with
        answer_of(reading, [bytes(600), bytes(600)], said)


def test_addresses_and_headers_have_an_end() -> None:
    assert status(answer_of(deaf, query=bytes(MAX_ADDRESS_BYTES - 1))) == 200
    assert status(answer_of(deaf, query=bytes(MAX_ADDRESS_BYTES))) == 414
    assert status(answer_of(deaf, path="/" * (MAX_ADDRESS_BYTES + 1))) == 414
    assert status(answer_of(deaf, headers=[(b"x", bytes(MAX_HEADER_BYTES - 1))])) == 200
    assert status(answer_of(deaf, headers=[(b"x", bytes(MAX_HEADER_BYTES))])) == 431


def test_who_sends_too_slowly_is_answered_in_time_and_hung_up_on() -> None:
    sent = answer_of(reading, [b"the beginning"])
    assert status(sent) == 504
    assert (b"connection", b"close") in sent[0]["headers"]


def test_what_was_given_up_answers_once() -> None:
    assert status(answer_of(stubborn)) == 504


def test_what_is_no_request_passes() -> None:
    seen: list[Any] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        seen.append(scope["type"])

    asyncio.run(LimitedRequests(app, LIMITS)({"type": "lifespan"}, None, None))  # type: ignore[arg-type]
    assert seen == ["lifespan"]
