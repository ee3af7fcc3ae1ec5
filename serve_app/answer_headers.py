"""The headers that every answer carries, whatever makes it: a route, a refusal, a failure, a file.

Pure ASGI. The application is wrapped in it as a whole, and so is Serve's proxy (``proxy_answers``), whose own answers
never reach the application.
"""

from starlette.types import ASGIApp, Message, Receive, Scope, Send

NOTHING_LOADED = "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
"""For answers that are no pages: a browser that is led to one loads and runs nothing of it."""
HEADERS = {
    b"content-security-policy": NOTHING_LOADED.encode(),
    b"referrer-policy": b"no-referrer",
    b"x-content-type-options": b"nosniff",
    b"x-frame-options": b"DENY",
}


class AnswerHeaders:
    """The application with ``HEADERS`` on all its answers; one that an answer has already stays as it is."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request; anything else than HTTP passes."""

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                sent = list(message.get("headers", ()))
                present = {name.lower() for name, _ in sent}
                missing = [(name, value) for name, value in HEADERS.items() if name not in present]
                message = {**message, "headers": [*sent, *missing]}
            await send(message)

        await self._app(scope, receive, send_with_headers if scope["type"] == "http" else send)
