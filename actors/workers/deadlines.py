"""Deadlines of calls: ten times the slowest hundredth of those that were measured, by the length of the video.

A speed is a call's seconds of run for each second of video, the call's fixed part counting as one second. It is learned
in memory from the latest runs and belongs to the model that was measured: with another model, and after a restart, it
is unknown again. While fewer than ``ENOUGH`` runs are known, the stage's own rate holds (``DEADLINES``).

Whatever the speed, a call gets no less than its stage's least time, and no more than a day, unless the slowest
hundredth of its runs shows that this machine takes longer than half a day for such a video.
"""

import math
from collections import defaultdict, deque
from dataclasses import dataclass, field

from actors.workers.run_estimates import FIXED_S
from cluster.contracts.stages import DEADLINES, Stage

FACTOR = 10.0
"""Deadline of a call, as a multiple of the run of the slowest hundredth."""
PERCENTILE = 0.99
RECENT = 500
"""Measured runs of a call that are remembered."""
ENOUGH = 20
"""Fewer measured runs say nothing about how different videos are."""
MOST_S = 24 * 3600.0
SLOW_FACTOR = 2.0
"""Deadline of a call beyond ``MOST_S``, as a multiple of the run of the slowest hundredth."""


@dataclass
class _Speeds:
    """The latest speeds of a call by one model, in seconds per second of video."""

    model: str | None
    values: deque[float] = field(default_factory=lambda: deque(maxlen=RECENT))
    _slow: float | None = None

    def add(self, value: float) -> None:
        self.values.append(value)
        self._slow = None

    def slow(self) -> float | None:
        """The percentile by the nearest rank; None while too few are known."""
        if self._slow is None and len(self.values) >= ENOUGH:
            self._slow = sorted(self.values)[math.ceil(PERCENTILE * len(self.values)) - 1]
        return self._slow


class Deadlines:
    """The deadlines of one scheduler's calls. Used on its event loop alone."""

    def __init__(self) -> None:
        self._speeds: dict[str, _Speeds] = defaultdict(lambda: _Speeds(None))

    def note_run(self, call: str, model: str | None, duration_s: float | None, run_s: float) -> None:
        """A video's share of the call ran so long, by this model (None: by none)."""
        if duration_s is None:
            return
        if self._speeds[call].model != model:
            self._speeds[call] = _Speeds(model)
        self._speeds[call].add(run_s / (FIXED_S + duration_s))

    def added_s(self, stage: Stage, call: str, duration_s: float | None) -> float:
        """Seconds that a video adds to the fixed part of a stage's deadline; 0 while its duration is unknown."""
        rule = DEADLINES[stage]
        slow = self._speeds[call].slow()
        if slow is None or duration_s is None or not rule.per_video_s:
            return min(rule.added_s(duration_s), MOST_S)
        expected_s = slow * (FIXED_S + duration_s)
        most_s = min(FACTOR * expected_s, max(MOST_S, SLOW_FACTOR * expected_s))
        return max(0.0, max(most_s, rule.least_per_video_s * duration_s) - rule.fixed_s)
