"""Who passes: a guarded route judges the token before it reads anything else of the request.

FastAPI by default reads and parses a body before it asks its dependencies, so that any client could make it parse one.
What makes a token valid, and who is an admin, is ``auth``'s.
"""

from collections.abc import Callable, Coroutine
from typing import Annotated, Any
from uuid import UUID

from fastapi import Depends, HTTPException, Request, Response
from fastapi.concurrency import run_in_threadpool
from fastapi.routing import APIRoute
from fastapi.security import HTTPBearer
from fastapi.security.utils import get_authorization_scheme_param
from starlette.datastructures import Headers

from serve_app.admin_reads import AdminReads
from serve_app.auth import TokenVerifier
from serve_app.error_responses import Forbidden, Unauthorized
from serve_app.json_bodies import SMALL_BODY_BYTES, JsonRequest

bearer_scheme = HTTPBearer(
    auto_error=False,
    bearerFormat="JWT",
    description="A Supabase access token, or one from `heimdex token --sub UUID`.",
)


CALLER = "heimdex.caller"
"""Key in a request's scope of the caller, where that is known already."""
Caller = UUID | HTTPException
"""The user whom a valid token names, or what is wrong with the token."""


def identify(verifier: TokenVerifier, headers: Headers) -> UUID:
    """The user that the request's one token names; raises Unauthorized or KeysUnavailable."""
    sent = headers.getlist("Authorization")
    if len(sent) > 1:
        raise Unauthorized("Send one Authorization header, not several.")
    scheme, token = get_authorization_scheme_param(sent[0] if sent else None)
    if scheme.lower() != "bearer" or not token:
        raise Unauthorized("A bearer token is required: send 'Authorization: Bearer <token>'.")
    return verifier.user_id(token)


class UserRoute(APIRoute):
    """A route for users, who have a valid token. Its JSON is small, and parsed by a thread."""

    max_body_bytes: int | None = SMALL_BODY_BYTES
    """Largest body, where it is JSON; None: as large as any request's."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """FastAPI's own handler, behind the guard."""
        handle = super().get_route_handler()
        has_json = self.body_field is not None

        async def guarded(request: Request) -> Response:
            # On a thread: fetching keys must not block the event loop.
            request.state.user_id = await run_in_threadpool(self.admit, request)
            return await handle(JsonRequest(request, self.max_body_bytes) if has_json else request)

        return guarded

    @staticmethod
    def admit(request: Request) -> UUID:
        """The user that the request's one token names; raises Unauthorized."""
        known: Caller | None = request.scope.get(CALLER)
        if isinstance(known, HTTPException):
            raise known
        return known or identify(_verifier(request), request.headers)


class BulkRoute(UserRoute):
    """A route for users that takes many things at once."""

    max_body_bytes = None


class AdminRoute(UserRoute):
    """A route for admins. What they read is noted in the audit log before they are answered."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """The guarded handler, with the note behind it."""
        handle = super().get_route_handler()

        async def noted(request: Request) -> Response:
            response = await handle(request)
            if request.method == "GET":
                reads: AdminReads = request.app.state.admin_reads
                await run_in_threadpool(reads.note, request, request.state.user_id)
            return response

        return noted

    @staticmethod
    def admit(request: Request) -> UUID:
        """The admin that the request's token names; raises Unauthorized or Forbidden."""
        user_id = UserRoute.admit(request)
        if not _verifier(request).is_admin(user_id):
            raise Forbidden("This user is not an admin (HEIMDEX_ADMIN_USER_IDS).")
        return user_id


def _verifier(request: Request) -> TokenVerifier:
    verifier: TokenVerifier = request.app.state.parts.verifier
    return verifier


def current_user(request: Request) -> UUID:
    """The user whom the guard let pass. On a route without guard there is none: the request fails."""
    user_id: UUID = request.state.user_id
    return user_id


CurrentUser = Annotated[UUID, Depends(current_user)]
