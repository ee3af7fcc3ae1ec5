"""Estimates of how long calls run, learned from those measured last, for the scheduler.

A call's run is taken to grow with the video's length and a fixed part that counts as one second of it. Of the latest
runs the middle ones count, so that neither a first call, which warms a model up, nor a stalled disk misleads.
"""

from collections import defaultdict, deque
from dataclasses import dataclass, field
from statistics import fmean

RECENT = 32
"""Measured runs of a call that are remembered, and lengths of videos."""
FIXED_S = 1.0
"""Seconds of video that the fixed part of a call counts as."""
TYPICAL_LENGTH_S = 30.0
"""Length of a video while none has been measured."""


@dataclass
class _Recent:
    """The latest values and the mean of their middle three quarters."""

    values: deque[float] = field(default_factory=lambda: deque(maxlen=RECENT))
    middle: float | None = None

    def add(self, value: float) -> None:
        self.values.append(value)
        self.middle = None

    def middle_mean(self) -> float | None:
        if self.middle is None and self.values:
            cut = len(self.values) // 8
            self.middle = fmean(sorted(self.values)[cut : len(self.values) - cut])
        return self.middle


class RunEstimates:
    """Expected runs of calls, by name. Used on the scheduler's event loop alone."""

    def __init__(self) -> None:
        self._rates: dict[str, _Recent] = defaultdict(_Recent)
        self._lengths_s = _Recent()

    @property
    def typical_length_s(self) -> float:
        """The usual length of the videos whose length became known last."""
        middle_s = self._lengths_s.middle_mean()
        return TYPICAL_LENGTH_S if middle_s is None else middle_s

    @property
    def mean_length_s(self) -> float | None:
        """The mean of the same lengths with the extreme ones; None while none is known."""
        return fmean(self._lengths_s.values) if self._lengths_s.values else None

    def note_length(self, length_s: float) -> None:
        """A video of this length came."""
        self._lengths_s.add(length_s)

    def note_run(self, call: str, length_s: float | None, run_s: float) -> None:
        """A video's share of the call ran so long; ``length_s`` None: the length is unknown."""
        self._rates[call].add(run_s / self.units(length_s))

    def rate(self, call: str) -> float | None:
        """Expected run in seconds per unit of ``units``; None: the call has not been measured yet."""
        recent = self._rates.get(call)
        return None if recent is None else recent.middle_mean()

    def run_s(self, call: str, length_s: float | None) -> float | None:
        """Expected run of the call for a video of this length; None: the call has not been measured yet."""
        rate = self.rate(call)
        return None if rate is None else rate * self.units(length_s)

    def video_s(self) -> float:
        """Expected run in seconds of all calls of a video of typical length, of those that have been measured."""
        return sum(self.run_s(call, None) or 0.0 for call in self._rates)

    def units(self, length_s: float | None) -> float:
        """Weight of a video in the work ahead: its length and the fixed part, in seconds."""
        return FIXED_S + (self.typical_length_s if length_s is None else length_s)
