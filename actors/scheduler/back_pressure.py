"""Limit on claims while an infrastructure failure lasts, such as a full disk or object store.

Nothing for a while, then one video to try it with; when that one fails likewise, nothing for twice as long, and so on.
As soon as one comes through, everything goes on.
"""

import sys
import time
from collections.abc import Callable, Sequence

FIRST_PAUSE_S = 10.0
MAX_PAUSE_S = 300.0
FORGET_S = 2 * MAX_PAUSE_S
"""After so long without a video to try it with, the trouble is dropped as unknown. Longer than any retry waits."""


class BackPressure:
    """``trouble``: what prevents claims, in a sentence; None: nothing. Used on the scheduler's event loop alone."""

    def __init__(self, now_s: Callable[[], float] = time.monotonic) -> None:
        self.trouble: str | None = None
        self._now_s = now_s
        self._pause_s = FIRST_PAUSE_S
        self._noted_s = 0.0
        self._paused_until_s = 0.0
        self._probe: int | None = None

    def room(self) -> int:
        """Number of videos that may be claimed now."""
        if self.trouble is None:
            return sys.maxsize
        return 0 if self._probe is not None or self._now_s() < self._paused_until_s else 1

    def note_claimed(self, tokens: Sequence[int]) -> None:
        """These were claimed; with a trouble, a single one is what it is tried with."""
        if self.trouble is None:
            return
        if len(tokens) == 1:
            (self._probe,) = tokens
        elif not tokens and self._now_s() - self._noted_s > FORGET_S:
            self._go_on()

    def note_trouble(self, sentence: str) -> None:
        """An attempt found no room. A failure during a pause adds no information."""
        self.trouble = sentence
        self._noted_s = self._now_s()
        self._probe = None
        if self._noted_s >= self._paused_until_s:
            self._paused_until_s = self._noted_s + self._pause_s
            self._pause_s = min(2 * self._pause_s, MAX_PAUSE_S)

    def note_settled(self, token: int) -> None:
        """An attempt came to its end, whatever that was."""
        if token == self._probe:
            self._go_on()

    def note_abandoned(self, token: int) -> None:
        """An attempt ended in a way that says nothing: cancelled, or its lease was lost."""
        if token == self._probe:
            self._probe = None

    def _go_on(self) -> None:
        self.trouble, self._probe, self._pause_s = None, None, FIRST_PAUSE_S
