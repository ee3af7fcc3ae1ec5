"""What a caller reads when something is wrong: always ``{"detail": "one sentence"}``, never a traceback.

Owns the HTTP errors, their handlers and their description in the OpenAPI document; which routes answer with which is
``app``'s.
"""

from collections.abc import Iterable, Sequence
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, HTTPException, Request, Response, status
from fastapi.exception_handlers import http_exception_handler
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException as StarletteHTTPException
from starlette.routing import Match, Route

from cluster.contracts.errors import (
    DatabaseUnavailable,
    DecoderBusy,
    RefusedByDatabase,
    SearchRefused,
    SearchTooSlow,
    SearchUnavailable,
)
from cluster.contracts.events import Event
from cluster.security.event_log import EventLog
from serve_app.schemas.admin import Problem
from serve_app.schemas.strict_values import SHOWN_MISTAKES

RETRY_AFTER_S = "5"
SHOWN_LETTERS = 200
"""Letters of a mistake's place, which the caller chose, and of what is said of it."""
# The framework's own answers are no sentences, or say less than is known.
_UNREADABLE_BODY = "There was an error parsing the body"
_SENTENCES = {
    400: "The body is not JSON in UTF-8, or nested too deeply.",
    404: "There is nothing at this address; /docs lists what there is.",
    405: "This method is not for this address; the Allow header names those that are.",
}
EVERYWHERE = {413, 414, 429, 431, 504}
"""Statuses that every route may answer, whatever it does: the limits around the application."""
GUARDED = {400, 401, 503}
"""Statuses that every route with a token may answer beside: the guard, the parameters, the database."""
_HEADERS = {401: ("WWW-Authenticate", "string"), 429: ("Retry-After", "integer"), 503: ("Retry-After", "integer")}
"""The header that comes with an error."""
logger = EventLog(__name__)


class Unauthorized(HTTPException):
    """401: the request carries no valid token."""

    def __init__(self, detail: str) -> None:
        super().__init__(status.HTTP_401_UNAUTHORIZED, detail, {"WWW-Authenticate": "Bearer"})


class Forbidden(HTTPException):
    """403: the token is valid and its user may not do this."""

    def __init__(self, detail: str) -> None:
        super().__init__(status.HTTP_403_FORBIDDEN, detail)


class NotFound(HTTPException):
    """404: there is no such thing, or it belongs to another user."""

    def __init__(self, detail: str) -> None:
        super().__init__(status.HTTP_404_NOT_FOUND, detail)


class BadRequest(HTTPException):
    """400: a parameter or the body is wrong; the sentence says what is allowed."""

    def __init__(self, detail: str) -> None:
        super().__init__(status.HTTP_400_BAD_REQUEST, detail)


class Conflict(HTTPException):
    """409: the state of things does not allow it now."""

    def __init__(self, detail: str) -> None:
        super().__init__(status.HTTP_409_CONFLICT, detail)


class RequestTooLarge(HTTPException):
    """413: the body is larger than this server reads."""

    def __init__(self, max_bytes: int, headers: dict[str, str] | None = None) -> None:
        super().__init__(status.HTTP_413_CONTENT_TOO_LARGE, f"The body is larger than {max_bytes} bytes.", headers)


class RateLimited(HTTPException):
    """429: the owner has asked for as much as allowed; after ``retry_after_s`` it may be tried again."""

    def __init__(self, detail: str, retry_after_s: int) -> None:
        super().__init__(status.HTTP_429_TOO_MANY_REQUESTS, detail, {"Retry-After": str(retry_after_s)})


class KeysUnavailable(HTTPException):
    """503: the issuer's public keys cannot be fetched."""

    def __init__(self) -> None:
        detail = "The keys that tokens are verified with cannot be fetched right now; try again."
        super().__init__(status.HTTP_503_SERVICE_UNAVAILABLE, detail, {"Retry-After": RETRY_AFTER_S})


def describe(*codes: int) -> dict[int | str, dict[str, Any]]:
    """The OpenAPI entries of the errors that a route can answer with."""
    meaning = {
        400: "A parameter or the body is wrong; the detail says what is allowed.",
        401: "No valid token.",
        403: "The token's user is not an admin.",
        404: "Unknown, or another user's.",
        409: "The video's state, an earlier submission with the same key, or a rule of the database does not allow it.",
        413: "The body is too large.",
        414: "The address is too long.",
        415: "The body is not JSON by its Content-Type.",
        429: "Too much within a while, or at once; Retry-After says when to try again.",
        431: "The headers are too long.",
        503: "The database, the search engine or the token issuer is away; Retry-After says when to try again.",
        504: "It took too long and was given up.",
    }
    return {code: {"model": Problem, "description": meaning[code], **_header_of(code)} for code in codes}


def _header_of(code: int) -> dict[str, Any]:
    if code not in _HEADERS:
        return {}
    name, type_ = _HEADERS[code]
    return {"headers": {name: {"schema": {"type": type_}}}}


def install(api: FastAPI) -> None:
    """Give every error of the application the same shape."""
    api.add_exception_handler(RequestValidationError, _invalid_request)
    api.add_exception_handler(StarletteHTTPException, _refused)
    api.add_exception_handler(DatabaseUnavailable, _unavailable)
    api.add_exception_handler(SearchUnavailable, _unavailable)
    api.add_exception_handler(DecoderBusy, _busy)
    api.add_exception_handler(SearchRefused, _search_refused)
    api.add_exception_handler(SearchTooSlow, _search_too_slow)
    api.add_exception_handler(RefusedByDatabase, _refused_by_database)
    api.add_exception_handler(Exception, _unexpected)


async def _refused(request: Request, error: Exception) -> Response:
    assert isinstance(error, StarletteHTTPException)
    if error.detail == HTTPStatus(error.status_code).phrase or error.detail == _UNREADABLE_BODY:
        error.detail = _SENTENCES.get(error.status_code, error.detail)
        if request.app.openapi_url is None:
            error.detail = error.detail.replace("; /docs lists what there is", "")
    if error.status_code == status.HTTP_405_METHOD_NOT_ALLOWED:
        error.headers = {"Allow": ", ".join(_methods_of(request))}
    return await http_exception_handler(request, error)


def _methods_of(request: Request) -> list[str]:
    """The methods of all routes at the request's address; the framework names those of the first alone."""
    routes = [route for route in request.app.router.routes if isinstance(route, Route)]
    there = [route for route in routes if route.matches(request.scope)[0] is not Match.NONE]
    return sorted({method for route in there for method in route.methods or ()})


async def _invalid_request(_request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestValidationError)
    faults: Sequence[Any] = error.errors()
    if isinstance(error.body, bytes):  # as FastAPI leaves what is no JSON by its Content-Type
        faults = [fault for fault in faults if fault["loc"][:1] != ("body",)]
        if not faults:
            return problem(status.HTTP_415_UNSUPPORTED_MEDIA_TYPE, "Send JSON, with Content-Type: application/json.")
    return problem(status.HTTP_400_BAD_REQUEST, "; ".join(_sentences(faults)))


async def _unavailable(request: Request, error: Exception) -> JSONResponse:
    logger.warning(Event.STORE_UNAVAILABLE, method=request.method, path=request.url.path, error=error)
    away = "search engine" if isinstance(error, SearchUnavailable) else "database"
    detail = f"The {away} is away; try again."
    return problem(status.HTTP_503_SERVICE_UNAVAILABLE, detail, {"Retry-After": RETRY_AFTER_S})


async def _busy(_request: Request, _error: Exception) -> JSONResponse:
    detail = "Too many pictures are being read right now; try again."
    return problem(status.HTTP_503_SERVICE_UNAVAILABLE, detail, {"Retry-After": RETRY_AFTER_S})


async def _search_refused(_request: Request, error: Exception) -> JSONResponse:
    return problem(status.HTTP_400_BAD_REQUEST, str(error))


async def _search_too_slow(_request: Request, error: Exception) -> JSONResponse:
    return problem(status.HTTP_504_GATEWAY_TIMEOUT, str(error))


async def _refused_by_database(_request: Request, error: Exception) -> JSONResponse:
    return problem(status.HTTP_409_CONFLICT, f"Nothing was changed: {error}.")


async def _unexpected(_request: Request, _error: Exception) -> JSONResponse:
    # Starlette logs the traceback itself and answers with this.
    return problem(status.HTTP_500_INTERNAL_SERVER_ERROR, "Something went wrong here; the server's log says what.")


def problem(code: int, detail: str, headers: dict[str, str] | None = None) -> JSONResponse:
    """An error in its one shape."""
    return JSONResponse(Problem(detail=detail).model_dump(), code, headers)


def _sentences(errors: Iterable[Any], most: int = SHOWN_MISTAKES) -> Iterable[str]:
    """One sentence per thing that is wrong, naming it by its place: ``page: ...``, ``3.uri: ...``."""
    for number, error in enumerate(errors):
        if number == most:
            yield "and more"
            return
        if error["type"] == "json_invalid":
            yield f"The body is not JSON: {error['ctx']['error']} at character {error['loc'][-1]}."
            continue
        message = error["msg"].removeprefix("Value error, ")
        # Where FastAPI looked, and which member of a union it tried, means nothing to a caller.
        place = [str(part) for part in error["loc"] if part not in ("query", "path", "header", "body", "one", "many")]
        yield f"{_short('.'.join(place))}: {_short(message)}" if place else _short(message)


def _short(text: str) -> str:
    return text if len(text) <= SHOWN_LETTERS else f"{text[:SHOWN_LETTERS]}..."
