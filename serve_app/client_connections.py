"""What a connection may do before its request is complete: time for the headers, for the body, and how many there are.

Ray Serve's proxy is uvicorn, which waits for a request's headers and body without a limit and takes any number of
connections. ``watch_connections``, called in the process of the proxy (``proxy_answers``), gives uvicorn a protocol
with limits for both. What may be in a complete request is ``limits``'.
"""

import asyncio
import contextlib
import json
import resource
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from http import HTTPStatus

import uvicorn.protocols.http.auto
from starlette.types import ASGIApp, Receive, Scope, Send
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from cluster.settings import Settings
from serve_app.answer_headers import HEADERS

ANSWER_SLACK_S = 10.0
"""Time beyond the request's own limit that its answer may take to be sent."""
CLOSE_S = 5.0
"""Time that a connection that is being closed may take to accept the last of what it was sent."""
SWEEP_S = 1.0
MAX_HEAD_BYTES = 64 * 1024
"""Of a request's address and headers together; those that are complete are held to ``limits``."""
FILES_BESIDE = 4096
"""File descriptors of the proxy beside its connections: those that wait to be accepted, and its own."""
LEAST = 16
"""Connections that there may be in any case."""
_SERVES_OWN = frozenset({b"x-request-timeout-seconds", b"x-request-disconnect-disabled"})
"""Headers by which any caller could switch off the time limit of Serve's proxy, or its notice of who has left."""


@dataclass(frozen=True)
class ConnectionLimits:
    """The limits that are settings; ``keep_alive_s``: how long a connection may be idle between two requests."""

    most: int
    header_s: float
    body_pause_s: float
    request_s: float
    keep_alive_s: float = 95.0

    @staticmethod
    def of(settings: Settings) -> "ConnectionLimits":
        """As the settings say, within what the system lets this process open."""
        return ConnectionLimits(
            most=max(LEAST, min(settings.http_connections, _most_files() - FILES_BESIDE)),
            header_s=settings.http_header_timeout_s,
            body_pause_s=settings.http_body_timeout_s,
            request_s=settings.request_timeout_s,
        )


class Connections:
    """All connections of a server. Where there are too many, the one that has waited the longest gives way."""

    def __init__(self, limits: ConnectionLimits) -> None:
        self.limits = limits
        self._all: dict[LimitedConnection, None] = {}
        self._sweep: asyncio.TimerHandle | None = None

    def add(self, connection: "LimitedConnection") -> bool:
        """Take a connection on; False where all others have a request that is being answered."""
        if len(self._all) >= self.limits.most:
            waiting = next((other for other in self._all if other.may_give_way), None)
            if waiting is None:
                return False
            self.remove(waiting)
            waiting.transport.abort()
        self._all[connection] = None
        if self._sweep is None:
            self._sweep = connection.loop.call_later(SWEEP_S, self._close_late, connection.loop)
        return True

    def move_to_end(self, connection: "LimitedConnection") -> None:
        """Note that a connection has done something: others give way before it."""
        if connection in self._all:
            del self._all[connection]
            self._all[connection] = None

    def remove(self, connection: "LimitedConnection") -> None:
        """Forget a connection."""
        self._all.pop(connection, None)

    def _close_late(self, loop: asyncio.AbstractEventLoop) -> None:
        now = time.monotonic()
        for connection in list(self._all):
            connection.close_if_late(now)
        self._sweep = loop.call_later(SWEEP_S, self._close_late, loop) if self._all else None

    def __len__(self) -> int:
        return len(self._all)

    def __iter__(self) -> "Iterator[LimitedConnection]":
        return iter(self._all)


class LimitedConnection(HttpToolsProtocol):
    """uvicorn's protocol for one connection, which knows what the connection waits for, and since when."""

    shared: Connections

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin to wait for the first request."""
        super().connection_made(transport)
        self._head_since: float | None = time.monotonic()
        self._body_since: float | None = None
        self._byte_at = self._idle_since = self._request_at = time.monotonic()
        self._unanswered = self._head_bytes = 0
        self._abort_at: float | None = None
        if not self.shared.add(self):
            self._refuse(503, "There are too many connections; try again.")

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the connection."""
        self.shared.remove(self)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Note that something came; what comes after a refusal is not read."""
        if self._abort_at is not None:
            return
        self._byte_at = time.monotonic()
        super().data_received(data)
        self._head_bytes = self._head_bytes + len(data) if self._head_since is not None else 0
        if self._head_bytes > MAX_HEAD_BYTES:
            self._refuse(431, f"Address and headers are longer than {MAX_HEAD_BYTES} bytes.")

    def on_message_begin(self) -> None:
        """The first byte of a request came."""
        if self._head_since is None:
            self._head_since = time.monotonic()
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        """The body may come."""
        self._head_since = None
        self._body_since = self._request_at = time.monotonic()
        self._unanswered += 1
        self.shared.move_to_end(self)
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        """The request is complete."""
        self._body_since = None
        super().on_message_complete()

    def on_response_complete(self) -> None:
        """The answer is written."""
        self._unanswered -= 1
        self._idle_since = time.monotonic()
        if self._head_since is not None:  # of the next request, which was not read meanwhile
            self._head_since = self._idle_since
        self.shared.move_to_end(self)
        super().on_response_complete()

    def _should_upgrade_to_ws(self) -> bool:
        """There is no WebSocket route, and whatever speaks WebSocket is not watched here."""
        return False

    @property
    def may_give_way(self) -> bool:
        """Whether nothing is being answered on it."""
        return self._unanswered == 0

    def close_if_late(self, now: float) -> None:
        """Close the connection where it has taken longer than it may for what it does."""
        if self._abort_at is not None:
            if now >= self._abort_at:
                self.transport.abort()
        elif self.transport.is_closing():
            self._abort_at = now + self.shared.limits.request_s + ANSWER_SLACK_S
        elif (late := self._late(now)) is not None:
            self._refuse(408, late)

    def _late(self, now: float) -> str | None:
        """The limit that was exceeded."""
        limits = self.shared.limits
        if self._body_since is not None:
            late, what = self._body_is_late(now), "The body of the request did not come in time."
        elif self._unanswered > 0:
            late = now - self._request_at > limits.request_s + ANSWER_SLACK_S
            what = "The answer to the request was not taken in time."
        elif self._head_since is not None:
            late, what = now - self._head_since > limits.header_s, "The headers of the request did not come in time."
        else:
            late, what = now - self._idle_since > limits.keep_alive_s, "No further request came."
        return what if late else None

    def _body_is_late(self, now: float) -> bool:
        """The rest of a body that was answered already need not come either."""
        assert self._body_since is not None
        limits = self.shared.limits
        if self._unanswered == 0:
            return now - self._idle_since > limits.body_pause_s
        paused = not self.flow.read_paused and now - self._byte_at > limits.body_pause_s
        return paused or now - self._body_since > limits.request_s + ANSWER_SLACK_S

    def _refuse(self, status: int, detail: str) -> None:
        """Answer where an answer is expected and has not begun, and close; abort where the peer does not take it."""
        self._abort_at = time.monotonic() + CLOSE_S
        if not self.cycle.response_started if self._unanswered > 0 else self._head_since is not None:
            self.transport.write(_answer(status, detail))
        self.transport.close()


def _answer(status: int, detail: str) -> bytes:
    reason = HTTPStatus(status).phrase
    body = json.dumps({"detail": detail})
    lines = [
        f"HTTP/1.1 {status} {reason}",
        "Content-Type: application/json",
        f"Content-Length: {len(body)}",
        *(["Retry-After: 1"] if status == 503 else []),
        "Connection: close",
        *(f"{name.decode()}: {value.decode()}" for name, value in HEADERS.items()),
    ]
    return "\r\n".join([*lines, "", body]).encode()


class WithoutServesHeaders:
    """Takes those headers from a request by which its caller would set limits of Serve's proxy."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        headers: Iterable[tuple[bytes, bytes]] = scope.get("headers", ())
        await self._app(
            {**scope, "headers": [(name, value) for name, value in headers if name not in _SERVES_OWN]}, receive, send
        )


def make_protocol(limits: ConnectionLimits) -> type[LimitedConnection]:
    """A protocol for the connections of one server."""
    return type("LimitedConnection", (LimitedConnection,), {"shared": Connections(limits)})


def watch_connections(limits: ConnectionLimits) -> None:
    """Have the server that this process starts next keep the limits: uvicorn finds its protocol by this name."""
    uvicorn.protocols.http.auto.AutoHTTPProtocol = make_protocol(limits)


def _most_files() -> int:
    """Number of files that this process may open, once it has asked for as many as the system allows."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(ValueError, OSError):  # where less is allowed than said
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return resource.getrlimit(resource.RLIMIT_NOFILE)[0]
