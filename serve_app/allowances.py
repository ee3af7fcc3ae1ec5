"""What one caller may ask for: so many requests a minute, so many at once. In this replica's memory alone.

A caller is an owner, or the address of a request that names none. How many callers are remembered is bounded. Who a
caller is, and what a refusal looks like, is ``callers``'.
"""

import asyncio
import math
import time
from collections import OrderedDict, deque
from collections.abc import AsyncIterator, Callable, Hashable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

MOST_CALLERS = 10_000
"""Callers whose rates are remembered; the one that has asked for nothing the longest is forgotten first."""
BURST_S = 10.0
"""Seconds' worth of an allowance that may be used at once."""
MINUTE_S = 60.0


class Exhausted(Exception):
    """The caller has asked for too much; asking again is of use after ``retry_after_s`` seconds."""

    def __init__(self, retry_after_s: float) -> None:
        super().__init__(retry_after_s)
        self.retry_after_s = retry_after_s


class _Moments(OrderedDict[Hashable, float]):
    """A moment of each of so many callers; the one that was noted the longest ago is forgotten first."""

    def __init__(self, most_callers: int) -> None:
        super().__init__()
        self._most_callers = most_callers

    def note(self, caller: Hashable, moment: float) -> None:
        self[caller] = moment
        self.move_to_end(caller)
        if len(self) > self._most_callers:
            self.popitem(last=False)


class Rates:
    """So many requests a minute for each caller, up to ten seconds' worth at once (a token bucket).

    Of a caller only the time is kept at which its bucket is full again.
    """

    def __init__(
        self, per_minute: int, most_callers: int = MOST_CALLERS, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._pause_s = MINUTE_S / per_minute
        self._burst_s = max(BURST_S, self._pause_s)
        self._clock = clock
        self._full_at = _Moments(most_callers)

    def take(self, caller: Hashable) -> None:
        """Count one request; raises Exhausted, and counts nothing, where none is left."""
        now = self._clock()
        full_at = max(now, self._full_at.get(caller, now)) + self._pause_s
        excess_s = full_at - now - self._burst_s
        if excess_s > 1e-6:
            self._full_at.move_to_end(caller)  # a caller that is refused is not idle
            raise Exhausted(excess_s)
        self._full_at.note(caller, full_at)

    def __len__(self) -> int:
        return len(self._full_at)


class Shares:
    """So many seconds of work per second for each caller; work beyond that is followed by a pause (a token bucket).

    Args:
        share: seconds of work per second, of all that the caller has done at once.
        burst_s: seconds of work that need no pause.
    """

    def __init__(
        self,
        share: float,
        burst_s: float,
        most_callers: int = MOST_CALLERS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._share = share
        self._burst_s = burst_s
        self._clock = clock
        self._full_at = _Moments(most_callers)

    def spend(self, caller: Hashable, work_s: float) -> float:
        """Count work that was done; returns for how many seconds the caller has to pause."""
        now = self._clock()
        full_at = max(now, self._full_at.get(caller, now)) + work_s / self._share
        self._full_at.note(caller, full_at)
        return max(0.0, full_at - now - self._burst_s / self._share)


@dataclass(frozen=True)
class Most:
    """``at_once``: requests of a caller that run; ``waiting``: those that wait, no longer than ``wait_s``, for one."""

    at_once: int
    waiting: int
    wait_s: float


@dataclass
class _Line:
    running: int = 0
    waiting: "deque[asyncio.Future[None]]" = field(default_factory=deque)


class Turns:
    """Lets so many requests of each caller run at once; further ones wait a moment, in order, and are refused then.

    The wait makes a short burst pass, and slows down a caller that asks again as soon as it is refused. For one event
    loop. A caller with no request is not remembered.
    """

    def __init__(self, most: Most) -> None:
        self._most = most
        self._lines: dict[Hashable, _Line] = {}

    @asynccontextmanager
    async def turn(self, caller: Hashable) -> AsyncIterator[None]:
        """Run the block as one of the caller's requests; raises Exhausted."""
        await self.begin(caller)
        try:
            yield
        finally:
            self.end(caller)

    async def begin(self, caller: Hashable) -> None:
        """Wait for the caller's turn; raises Exhausted. Every turn that began has to ``end``."""
        line = self._lines.setdefault(caller, _Line())
        if line.running < self._most.at_once:
            line.running += 1
            return
        if len(line.waiting) >= self._most.waiting:
            raise Exhausted(self._most.wait_s)
        turn = asyncio.get_running_loop().create_future()
        line.waiting.append(turn)
        try:
            async with asyncio.timeout(self._most.wait_s):
                await turn
        except BaseException as error:
            if turn.done() and not turn.cancelled():  # it was given the turn at the same moment
                self.end(caller)
            elif turn in line.waiting:
                line.waiting.remove(turn)
            if isinstance(error, TimeoutError):
                raise Exhausted(self._most.wait_s) from None
            raise

    def end(self, caller: Hashable) -> None:
        """Give the turn to the next request of the caller that waits, if one does."""
        line = self._lines[caller]
        while line.waiting:
            turn = line.waiting.popleft()
            if not turn.done():
                turn.set_result(None)
                return
        line.running -= 1
        if line.running == 0:
            del self._lines[caller]

    def __len__(self) -> int:
        return len(self._lines)


def whole_seconds(seconds: float) -> int:
    """As ``Retry-After`` has them."""
    return max(1, math.ceil(seconds))
