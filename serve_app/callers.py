"""Identifies who sends a request, and limits each caller to its share: on every route, before anything else is done.

``CallerLimits`` is pure ASGI, around the whole application, inside ``limits``; ``OwnerThreads`` are for the work of
routes that costs more than most. An owner is known by the token; a request without a valid
one counts for its address; the health routes have a count of their own for each address. What each may ask for is kept
in this replica's memory (``allowances``): several replicas allow as many times as much.
"""

import asyncio
import os
import time
from collections.abc import Callable, Hashable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
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
"""Longest wait of a request for its owner's turn before it is refused."""
SEARCH_THREADS = 8
"""Searches that run at once in a replica."""
SEARCHES_WAITING = 16
"""Searches of an owner that may wait for a turn: a page may send several at once."""
SEARCH_SHARE = 0.25
"""Of the processors' time, what the searches of one owner may take in a replica."""
SEARCH_BURST_S = 2.0
"""Seconds of an owner's searches that may run one after the other before that counts."""
READING_THREADS = 6
"""Reads of videos, lists and transcripts that run at once in a replica."""
READS_AT_ONCE = 2
"""Of one owner; each holds a database session."""
OWNER_WAIT_S = 10.0
"""Longest wait for its turn of what an owner reads or changes: it costs little while it waits."""
READS_WAITING = 32
"""Reads of an owner that may wait for a turn: no more requests of one owner come this far by default."""
READING_SHARE = 0.5
"""Of the processors' time, what the reads of one owner may take in a replica."""
READING_BURST_S = 10.0
"""Seconds of an owner's reads that may run one after the other before that counts."""
CHANGING_THREADS = 4
"""Submissions and other changes that run at once in a replica, of different owners."""
CHANGES_AT_ONCE = 1
"""Of one owner: a second one would hold a database session only to wait for the first one's lock."""
CHANGES_WAITING = 32
"""Changes of an owner that may wait for their turn."""
REFUSAL_S = 0.5
"""Time for which a refusal is held back, so that a caller that asks again at once costs little."""
HELD_REFUSALS = 32
"""Refusals of a caller that are held back at once; further ones are answered immediately."""
IPV6_NETWORK = 64
"""Bits of an IPv6 address that identify a caller: one that has an address has all that begin so."""

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


@dataclass(frozen=True)
class Work:
    """A kind of work of owners: in which words it is refused, and how much of it runs at once.

    ``threads``: of all owners; ``most``: of each; ``share`` and ``burst_s``: of the processors' time, what the work of
    one owner may take, where that counts; ``clock``: by which its thread counts it.
    """

    name: str
    threads: int
    most: Most
    share: float | None = None
    burst_s: float = 0.0
    clock: Callable[[], float] = time.monotonic


class OwnerThreads:
    """Runs the work of owners on threads of its own, so many of each owner at once.

    A turn lasts as long as its thread works, also where its caller has left; it is given to the owner's next work
    after a pause, where the owner's work takes more than its share of the processors. Whatever waits for its turn holds
    neither a thread nor a database session.
    """

    def __init__(self, work: Work) -> None:
        self._name = work.name
        self._clock = work.clock
        self._turns = Turns(work.most)
        self._refusals = Refusals()
        self._shares = None if work.share is None else Shares(work.share * (os.cpu_count() or 1), work.burst_s)
        self._threads = ThreadPoolExecutor(work.threads, work.name)

    async def run(self, owner_id: UUID, work: Callable[[], Result]) -> Result:
        """What ``work`` returns; raises RateLimited."""
        try:
            await self._begin(owner_id)
        except Exhausted as error:
            await self._refusals.hold_back(owner_id)
            seconds = whole_seconds(error.retry_after_s)
            sentence = f"Too many {self._name}: ask again in {seconds} s, and for less at once."
            raise RateLimited(sentence, seconds) from None
        loop = asyncio.get_running_loop()

        took_s = 0.0  # also where it is cancelled before it begins

        def timed() -> Result:
            nonlocal took_s
            began_s = self._clock()
            try:
                return work()
            finally:
                took_s = self._clock() - began_s

        running = self._threads.submit(timed)
        running.add_done_callback(lambda _: loop.call_soon_threadsafe(self._end, owner_id, took_s))
        return await asyncio.wrap_future(running)

    async def _begin(self, owner_id: UUID) -> None:
        await self._turns.begin(owner_id)

    def _end(self, owner_id: UUID, took_s: float) -> None:
        pause_s = 0.0 if self._shares is None else self._shares.spend(owner_id, took_s)
        if pause_s:
            asyncio.get_running_loop().call_later(pause_s, self._turns.end, owner_id)
        else:
            self._turns.end(owner_id)


class SearchTurns(OwnerThreads):
    """Searches: so many of each owner at once, and so many a minute."""

    def __init__(self, limits: ApiLimits) -> None:
        most = Most(limits.searches_at_once, SEARCHES_WAITING, WAIT_S)
        super().__init__(Work("searches", SEARCH_THREADS, most, SEARCH_SHARE, SEARCH_BURST_S))
        self._rates = Rates(limits.searches_per_minute)

    async def _begin(self, owner_id: UUID) -> None:
        self._rates.take(owner_id)
        await super()._begin(owner_id)


class OwnersWork:
    """Threads for the work of the owners' routes, searches apart."""

    def __init__(self) -> None:
        reads = Most(READS_AT_ONCE, READS_WAITING, OWNER_WAIT_S)
        self._reads = OwnerThreads(
            Work("reads", READING_THREADS, reads, READING_SHARE, READING_BURST_S, time.thread_time)
        )
        changes = Most(CHANGES_AT_ONCE, CHANGES_WAITING, OWNER_WAIT_S)
        self._changes = OwnerThreads(Work("changes", CHANGING_THREADS, changes))

    def of(self, method: str) -> OwnerThreads:
        """Where a route of this method works."""
        return self._reads if method == "GET" else self._changes
