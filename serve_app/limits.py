"""What one request may cost: bytes of its address, headers and body, and time.

Pure ASGI, around the whole application, so that nothing is read or waited for beyond the limits, whatever the route.
How much one owner may submit is ``routes.videos``'s, how often a caller may ask ``callers``', how long a statement may
run the database pool's, how long a connection may take to send a request ``connections``'.
"""

import asyncio
from dataclasses import dataclass

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from cluster.contracts.events import Event
from cluster.security.event_log import EventLog
from serve_app.error_responses import RequestTooLarge, problem

MAX_ADDRESS_BYTES = 16 * 1024
"""Path and query: the longest search (1000 letters of four bytes, percent-encoded) fits."""
MAX_HEADER_BYTES = 32 * 1024
"""All names and values together; h11, where uvicorn has to do with it, stops at twice that on its own."""
_HANG_UP = {"Connection": "close"}
"""Where the rest of a body may never end. An announced one is let come, so that its sender gets to read the answer."""
logger = EventLog(__name__)


@dataclass(frozen=True)
class ApiLimits:
    """The limits that are settings."""

    max_body_bytes: int
    request_timeout_s: float
    submissions_per_minute: int
    requests_per_minute: int = 6000
    requests_at_once: int = 16
    searches_per_minute: int = 600
    searches_at_once: int = 2
    anonymous_per_minute: int = 600


DEFAULT_LIMITS = ApiLimits(max_body_bytes=8 * 1024**2, request_timeout_s=30.0, submissions_per_minute=6000)
"""Limits that apply unless they are set."""


class LimitedRequests:
    """The application behind the limits. What breaks one is answered in the shape of every error."""

    def __init__(self, app: ASGIApp, limits: ApiLimits) -> None:
        self._app = app
        self._limits = limits
        self._late: set[asyncio.Task[None]] = set()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request; anything else than HTTP passes."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        refusal = self._refusal(scope)
        if refusal is not None:
            code, sentence = refusal
            await problem(code, sentence)(scope, receive, send)
            return
        await self._answer_in_time(scope, CountedBody(receive, self._limits.max_body_bytes), _Answer(send))

    def _refusal(self, scope: Scope) -> tuple[int, str] | None:
        """What is wrong by the first lines alone: nothing more is read then."""
        if len(scope.get("raw_path") or scope["path"].encode()) + len(scope["query_string"]) > MAX_ADDRESS_BYTES:
            return 414, f"The address is longer than {MAX_ADDRESS_BYTES} bytes."
        if sum(len(name) + len(value) for name, value in scope["headers"]) > MAX_HEADER_BYTES:
            return 431, f"The headers are longer than {MAX_HEADER_BYTES} bytes."
        announced = dict(scope["headers"]).get(b"content-length", b"")
        if announced.isdigit() and int(announced) > self._limits.max_body_bytes:
            too_large = RequestTooLarge(self._limits.max_body_bytes)
            return too_large.status_code, too_large.detail
        return None

    async def _answer_in_time(self, scope: Scope, body: "CountedBody", answer: "_Answer") -> None:
        task = asyncio.ensure_future(self._app(scope, body, answer))
        try:
            await asyncio.wait({task}, timeout=self._limits.request_timeout_s)
        finally:
            if not task.done():
                self._abandon(task)
        if task.done():
            task.result()
        elif not answer.begun:
            seconds = f"{self._limits.request_timeout_s:g} s"
            sentence = f"This took longer than {seconds} and was given up; what it was to change may have been changed."
            await answer.replace_by(problem(504, sentence, _HANG_UP), scope, body)

    def _abandon(self, task: "asyncio.Task[None]") -> None:
        """Cancel work whose result is not needed. A thread cannot be stopped: it ends with its database statement."""
        self._late.add(task)
        task.add_done_callback(self._forget)
        task.cancel()

    def _forget(self, task: "asyncio.Task[None]") -> None:
        self._late.discard(task)
        error = None if task.cancelled() else task.exception()
        if error is not None:
            logger.warning(Event.REQUEST_FAILED_LATE, error=error)


class CountedBody:
    """A request's body, counted while it comes: the length in its headers may be false."""

    def __init__(self, receive: Receive, max_bytes: int) -> None:
        self._receive = receive
        self._max_bytes = max_bytes
        self._bytes = 0

    async def __call__(self) -> Message:
        message = await self._receive()
        self._bytes += len(message.get("body", b""))
        if self._bytes > self._max_bytes:
            raise RequestTooLarge(self._max_bytes, _HANG_UP)
        return message


class _Answer:
    """A response on its way: whether it has begun, and what comes too late for it is dropped."""

    def __init__(self, send: Send) -> None:
        self._send = send
        self._replaced = False
        self.begun = False

    async def __call__(self, message: Message) -> None:
        if not self._replaced:
            self.begun = True
            await self._send(message)

    async def replace_by(self, response: ASGIApp, scope: Scope, receive: Receive) -> None:
        """Answer with ``response``; the application may send what it likes."""
        self._replaced = True
        await response(scope, receive, self._send)
