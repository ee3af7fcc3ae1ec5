"""Who sends a request, and that nobody asks for more than their share: on every route, before anything else is done.

Pure ASGI, around the whole application, inside ``limits``. An owner is known by the token; a request without a valid
one counts for its address; the health routes have a count of their own for each address. What each may ask for is kept
in this replica's memory (``allowances``): several replicas allow as many times as much.
"""

import asyncio
import os
import time
from collections.abc import Callable, Hashable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from ipaddress import ip_address, ip_network
from typing import TypeVar
from uuid import UUID

from fastapi import HTTPException
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from serve_app.allowances import Exhausted, Most, Rates, Shares, Turns, whole_seconds
from serve_app.auth import TokenVerifier
from serve_app.error_responses import RateLimited, problem
from serve_app.guards import CALLER, Caller, identify
from serve_app.limits import ApiLimits

HEALTH_PATHS = frozenset({"/healthz", "/readyz", "/health", "/health/ready"})
VERIFYING_THREADS = 4
"""Tokens are verified apart from what the routes run, whose threads may all be busy."""
WAITING_PER_TURN = 2
"""Requests that may wait for each of an owner's turns; further ones are refused at once."""
WAIT_S = 2.0
"""How long a request waits for its owner's turn before it is refused."""
SEARCH_THREADS = 8
"""Searches that run at once in a replica."""
SEARCHES_WAITING = 16
"""Searches of an owner that may wait for a turn: a page may send several at once."""
SEARCH_SHARE = 0.25
"""Of the processors' time, what the searches of one owner may take in a replica."""
SEARCH_BURST_S = 2.0
"""Seconds of an owner's searches that may run one after the other before that counts."""
REFUSAL_S = 0.5
"""How long a refusal is held back, so that a caller that asks again at once costs little."""
HELD_REFUSALS = 32
"""Refusals of a caller that are held back at once; further ones are answered immediately."""
IPV6_NETWORK = 64
"""Bits of an IPv6 address that tell callers apart: whoever has one address has all that begin so."""

Result = TypeVar("Result")


class CallerLimits:
    """The application, for callers that ask for no more than allowed; others are answered with 429."""

    def __init__(self, app: ASGIApp, verifier: TokenVerifier, limits: ApiLimits) -> None:
        self._app = app
        self._verifier = verifier
        self._owners = Rates(limits.requests_per_minute)
        self._strangers = Rates(limits.anonymous_per_minute)
        self._turns = Turns(Most(limits.requests_at_once, WAITING_PER_TURN * limits.requests_at_once, WAIT_S))
        self._refusals = Refusals()
        self._threads = ThreadPoolExecutor(VERIFYING_THREADS, "tokens")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request; anything else than HTTP passes."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        caller = await self._caller(scope)
        try:
            (self._owners if isinstance(caller, UUID) else self._strangers).take(caller)
            async with self._turns.turn(caller):
                await self._app(scope, receive, send)
        except Exhausted as error:
            await self._refusals.hold_back(caller)
            seconds = whole_seconds(error.retry_after_s)
            sentence = f"Too many requests: ask again in {seconds} s, and for less at once."
            await problem(429, sentence, {"Retry-After": str(seconds)})(scope, receive, send)

    async def _caller(self, scope: Scope) -> Hashable:
        """Whose request it is; the guards find in the scope whether that is an owner."""
        if scope["path"] in HEALTH_PATHS:
            return "health", _network(scope)
        scope[CALLER] = user = await self._user(scope)
        return user if isinstance(user, UUID) else ("anonymous", _network(scope))

    async def _user(self, scope: Scope) -> Caller:
        """The user of the token, or what is wrong with it."""
        headers = Headers(scope=scope)
        if "authorization" not in headers:
            return _outcome(self._verifier, headers)
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._threads, _outcome, self._verifier, headers)


def _outcome(verifier: TokenVerifier, headers: Headers) -> Caller:
    try:
        return identify(verifier, headers)
    except HTTPException as error:
        return error


def _network(scope: Scope) -> str:
    """The caller's address; of IPv6, the network that one caller has."""
    host = (scope.get("client") or ("?", 0))[0]
    try:
        address = ip_address(host)
    except ValueError:
        return str(host)
    return str(address if address.version == 4 else ip_network((address, IPV6_NETWORK), strict=False))


class Refusals:
    """Holds refusals back for a moment, some of each caller."""

    def __init__(self) -> None:
        self._held = Turns(Most(HELD_REFUSALS, waiting=0, wait_s=0.0))

    async def hold_back(self, caller: Hashable) -> None:
        """Wait before the caller is refused, unless enough of its refusals wait already."""
        with suppress(Exhausted):
            async with self._held.turn(caller):
                await asyncio.sleep(REFUSAL_S)


class SearchTurns:
    """Runs searches on threads of their own, so many of each owner at once and so many a minute.

    A turn lasts as long as its thread works, also where its caller has left; it is given to the owner's next search
    after a pause, where the owner's searches take more than their share of the processors.
    """

    def __init__(self, limits: ApiLimits) -> None:
        self._rates = Rates(limits.searches_per_minute)
        self._turns = Turns(Most(limits.searches_at_once, SEARCHES_WAITING, WAIT_S))
        self._refusals = Refusals()
        self._shares = Shares(SEARCH_SHARE * (os.cpu_count() or 1), SEARCH_BURST_S)
        self._threads = ThreadPoolExecutor(SEARCH_THREADS, "searches")

    async def run(self, owner_id: UUID, search: Callable[[], Result]) -> Result:
        """What ``search`` returns; raises RateLimited."""
        try:
            self._rates.take(owner_id)
            await self._turns.begin(owner_id)
        except Exhausted as error:
            await self._refusals.hold_back(owner_id)
            seconds = whole_seconds(error.retry_after_s)
            raise RateLimited(f"Too many searches: ask again in {seconds} s, and for less at once.", seconds) from None
        loop = asyncio.get_running_loop()

        took_s = 0.0  # also where it is cancelled before it begins

        def timed() -> Result:
            nonlocal took_s
            began_s = time.monotonic()
            try:
                return search()
            finally:
                took_s = time.monotonic() - began_s

        running = self._threads.submit(timed)
        running.add_done_callback(lambda _: loop.call_soon_threadsafe(self._end, owner_id, took_s))
        return await asyncio.wrap_future(running)

    def _end(self, owner_id: UUID, took_s: float) -> None:
        pause_s = self._shares.spend(owner_id, took_s)
        asyncio.get_running_loop().call_later(pause_s, self._turns.end, owner_id)
