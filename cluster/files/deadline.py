"""The time that a fetch may take: all of it, each silence in it, and the least that its source must send meanwhile.

Owns when a fetch is given up and what is said then. What is waited for is the caller's, and so is the clock of the
stage around it.
"""

import math
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeVar

from cluster.contracts.errors import Interrupted, SourceSlow, TransientFailure

Answer = TypeVar("Answer")

STALL_S = 60.0
"""A connection that delivers nothing for this long is given up, however much time the limit leaves."""
LOOK_S = 0.5
"""Interval at which a fetch that waits looks at its clock, and whether it was stopped."""


@dataclass(frozen=True)
class Pace:
    """The least that a source must send: ``bytes_per_s`` on average over every ``window_s`` seconds; 0: nothing."""

    bytes_per_s: int = 0
    window_s: float = 60.0

    @property
    def bytes_per_window(self) -> float:
        """Bytes that have to come within a window."""
        return self.bytes_per_s * self.window_s


ANY_PACE = Pace()


class Deadline:
    """The end of the time that a whole fetch may take. ``stopped``: set by another thread to end it before."""

    def __init__(self, limit_s: float, pace: Pace = ANY_PACE, stopped: threading.Event | None = None) -> None:
        now_s = time.monotonic()
        self._limit_s = limit_s
        self._end_s = now_s + limit_s
        self._pace = pace
        self._stopped = stopped or threading.Event()
        self._received = 0
        self._window_end_s = now_s + pace.window_s if pace.bytes_per_s else math.inf

    def check(self) -> None:
        """Raise when the fetch is to end: ``TransientFailure``, ``SourceSlow``, or ``Interrupted`` once stopped."""
        if self._stopped.is_set():
            raise Interrupted("the download was stopped")
        now_s = time.monotonic()
        if now_s >= self._end_s:
            raise TransientFailure(f"fetching took longer than the limit of {self._limit_s:g} s")
        if now_s >= self._window_end_s:
            self._check_pace(now_s)

    def note_received(self, count: int) -> None:
        """So many bytes came from the source."""
        self._received += count

    @contextmanager
    def own_time(self) -> Iterator[None]:
        """Exclude this machine's own work within the block: the source is not held to its pace meanwhile."""
        since_s = time.monotonic()
        try:
            yield
        finally:
            self._window_end_s += time.monotonic() - since_s

    def pause(self, seconds: float) -> None:
        """Wait so long, at most until the end. Raises like ``check``."""
        with self.own_time():
            self._stopped.wait(self.patience_s(seconds))
        if self._stopped.is_set():
            self.check()

    def patience_s(self, most_s: float = STALL_S) -> float:
        """Seconds to wait for one answer; more than 0. Raises like ``check``."""
        self.check()
        return max(0.001, min(most_s, self._end_s - time.monotonic()))

    def wait_for(self, answer: Callable[[float], Answer], most_s: float = STALL_S) -> Answer:
        """What ``answer`` returns. It is given seconds to wait, and asked again when it raises ``TimeoutError``.

        Raises ``TimeoutError`` after ``most_s``, else like ``check``.
        """
        given_up_s = time.monotonic() + most_s
        while True:
            try:
                return answer(self.patience_s(min(LOOK_S, max(0.0, given_up_s - time.monotonic()))))
            except TimeoutError:
                self.check()
                if time.monotonic() >= given_up_s:
                    raise

    def _check_pace(self, now_s: float) -> None:
        wanted = self._pace.bytes_per_window
        if self._received < wanted:
            sent = f"{self._received:,} bytes in {self._pace.window_s:g} s"
            raise SourceSlow(f"the source is too slow: {sent}, at least {wanted:,.0f} are wanted")
        self._received = 0
        self._window_end_s = now_s + self._pace.window_s
