"""Limits of a connection before its request is complete: real sockets, on a real uvicorn as Serve's proxy runs it."""

import asyncio
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import replace

import pytest
import uvicorn
from starlette.types import Receive, Scope, Send

from cluster.settings import Settings
from serve_app import client_connections
from serve_app.client_connections import (
    MAX_HEAD_BYTES,
    ConnectionLimits,
    Connections,
    WithoutServesHeaders,
    make_protocol,
)
from serve_app.proxy_answers import CALLBACK, proxy_environment

GET = b"GET / HTTP/1.1\r\nHost: here\r\n\r\n"
POST = b"POST / HTTP/1.1\r\nHost: here\r\nContent-Length: 100\r\n"
LIMITS = ConnectionLimits(most=20, header_s=0.5, body_pause_s=0.5, request_s=1.0, keep_alive_s=5.0)
PATIENT = ConnectionLimits(most=20, header_s=60.0, body_pause_s=60.0, request_s=60.0, keep_alive_s=60.0)


async def reading(scope: Scope, receive: Receive, send: Send) -> None:
    """Answers once the body is complete; to /unread at once; to /long with more than any client takes."""
    more = scope["path"] != "/unread"
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            return
        more = message.get("more_body", False)
    body = bytes(64 * 1024**2) if scope["path"] == "/long" else b"whole"
    length = str(len(body)).encode()
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", length)]})
    await send({"type": "http.response.body", "body": body})


class Place:
    """A server that runs: opens connections to it, and knows those that it has."""

    def __init__(self, address: tuple[str, int], known: Connections, sockets: ExitStack) -> None:
        self._address = address
        self._sockets = sockets
        self.known = known

    def send(self, *parts: bytes) -> socket.socket:
        """A connection on which so much was sent."""
        connection = self._sockets.enter_context(socket.create_connection(self._address, timeout=10))
        for part in parts:
            connection.sendall(part)
        return connection

    def wait_for(self, most: int) -> None:
        """Wait until the server has no more connections than these."""
        wait_until(lambda: len(self.known) <= most)


@contextmanager
def serving(limits: ConnectionLimits) -> Iterator[Place]:
    protocol = make_protocol(limits)
    config = uvicorn.Config(reading, log_config=None, lifespan="off", http=protocol, timeout_graceful_shutdown=1)
    server = uvicorn.Server(config)
    with ExitStack() as sockets, socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        try:
            yield Place(listener.getsockname(), protocol.shared, sockets)
        finally:
            server.should_exit = True
            thread.join()


@pytest.fixture(autouse=True)
def quick_sweeps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client_connections, "SWEEP_S", 0.05)
    monkeypatch.setattr(client_connections, "ANSWER_SLACK_S", 0.2)
    monkeypatch.setattr(client_connections, "CLOSE_S", 0.2)


def wait_until(holds: Callable[[], bool]) -> None:
    end_s = time.monotonic() + 20
    while not holds():
        assert time.monotonic() < end_s
        time.sleep(0.01)


def status(connection: socket.socket) -> int:
    """Of the answer that comes; 0 where the connection is closed without one."""
    with suppress(ConnectionError):
        received = connection.recv(4096)
        assert b"frame-ancestors 'none'" in received or b" 200 " in received or not received
        return int(received.split()[1]) if received else 0
    return 0


@pytest.mark.parametrize("sent", [b"", b"GET", GET[:-2], GET[:20], b"\r\n"])
def test_connection_with_half_a_head_is_closed(sent: bytes) -> None:
    with serving(LIMITS) as place:
        assert status(place.send(sent)) == 408
        place.wait_for(0)


def test_connection_that_drips_its_head_is_closed_all_the_same() -> None:
    with serving(LIMITS) as place:
        connection = place.send(GET[:-2])
        began_s = time.monotonic()
        with suppress(ConnectionError):
            while len(place.known) > 0 or time.monotonic() - began_s < 0.1:
                connection.sendall(b"X: y\r\n")
                time.sleep(0.02)
                assert time.monotonic() - began_s < 10
        place.wait_for(0)


def test_connection_with_half_a_body_is_closed() -> None:
    with serving(replace(LIMITS, request_s=3600.0)) as place:
        assert status(place.send(POST + b"\r\n", b"half")) == 408
        place.wait_for(0)


def test_connection_whose_body_drips_is_closed_in_the_end() -> None:
    with serving(LIMITS) as place:
        connection = place.send(POST + b"\r\n")
        wait_until(lambda: len(place.known) == 1)
        began_s = time.monotonic()
        with suppress(ConnectionError):
            while len(place.known) > 0:
                connection.sendall(b"x")
                time.sleep(0.1)
                assert time.monotonic() - began_s < 10
        assert time.monotonic() - began_s > LIMITS.request_s


def test_connection_whose_body_is_answered_unread_is_closed() -> None:
    with serving(LIMITS) as place:
        connection = place.send(POST.replace(b"/", b"/unread", 1) + b"\r\n", b"half")
        assert status(connection) == 200
        place.wait_for(0)


def test_connection_whose_answer_is_not_read_is_closed() -> None:
    with serving(LIMITS) as place:
        connection = place.send(GET.replace(b"/", b"/long", 1))
        assert connection.recv(10) == b"HTTP/1.1 2"
        place.wait_for(1)
        wait_until(lambda: len(place.known) == 0)


def test_connection_with_an_endless_head_is_refused() -> None:
    with serving(PATIENT) as place:
        connection = place.send(GET[:-2], b"X: " + b"y" * (MAX_HEAD_BYTES + 1))
        assert status(connection) == 431
        place.wait_for(0)


def test_connection_that_keeps_the_limits_is_kept() -> None:
    with serving(LIMITS) as place:
        connection = place.send()
        for _ in range(3):
            connection.sendall(POST + b"\r\n" + b"x" * 50)
            time.sleep(0.2)
            connection.sendall(b"x" * 50)
            assert status(connection) == 200
            time.sleep(0.6)  # longer than headers may take, once they have begun


def test_connection_beyond_the_most_makes_the_oldest_give_way() -> None:
    with serving(PATIENT) as place:
        half_open = [place.send(GET[:-2]) for _ in range(PATIENT.most)]
        wait_until(lambda: len(place.known) == PATIENT.most)
        for _ in range(3):
            assert status(place.send(GET)) == 200
        assert [status(connection) for connection in half_open[:3]] == [0] * 3
        half_open[3].sendall(b"\r\n")
        assert status(half_open[3]) == 200


def test_connection_being_answered_never_gives_way() -> None:
    with serving(PATIENT) as place:
        running = [place.send(POST + b"\r\n") for _ in range(PATIENT.most)]
        wait_until(lambda: sum(not connection.may_give_way for connection in list(place.known)) == PATIENT.most)
        assert status(place.send(GET)) == 503
        running[0].sendall(b"x" * 100)
        assert status(running[0]) == 200
        assert status(place.send(GET)) == 200


def test_connection_cannot_become_a_web_socket() -> None:
    upgrade = b"Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
    with serving(LIMITS) as place:
        key = b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        assert status(place.send(GET[:-2] + upgrade + key)) != 101
        place.wait_for(0)


def test_proxy_headers_of_a_caller_are_taken_away() -> None:
    seen: list[Scope] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        seen.append(scope)

    headers = [(b"x-request-timeout-seconds", b"-1"), (b"host", b"a"), (b"x-request-disconnect-disabled", b"1")]
    asyncio.run(WithoutServesHeaders(app)({"type": "http", "headers": headers}, None, None))  # type: ignore[arg-type]
    assert seen[0]["headers"] == [(b"host", b"a")]


def test_proxy_environment_has_the_chosen_limits_alone(tmp_path: object) -> None:
    settings = Settings(data_dir=tmp_path, http_connections=50, jwt_secret="s" * 32)
    environment = proxy_environment(settings)
    assert environment.keys() == {CALLBACK, "HEIMDEX_HTTP_CONNECTIONS"}
    assert environment["HEIMDEX_HTTP_CONNECTIONS"] == "50"
