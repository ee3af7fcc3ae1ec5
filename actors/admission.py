"""How many videos may be on the way at once: many short ones, which share windows and batches, and few long ones.

What a video is on the way for lies in the object store meanwhile: its sound and its key frames grow with its duration,
which nobody knows before its metadata are read. So only a few may be claimed whose duration is not known yet, and more
of them while those that came last are short.
"""

from collections import deque
from collections.abc import Sequence

TYPICAL_S = 30.0
"""Of as many videos as may be claimed at all, the mean duration from which on there may only be few."""
RECENT = 32
"""By how many durations that became known last it is judged what the next videos will be."""


class Admission:
    """Room for videos, named by their lease tokens. Used on the scheduler's event loop alone.

    Args:
        most: how many may be on the way at once.
        few: how many of them, if ``most`` allows, whose duration is unknown, unless the last ones were short; and how
            many in any case, however long.
    """

    def __init__(self, most: int, few: int) -> None:
        self._most = most
        self._few = few
        self._durations_s: dict[int, float | None] = {}
        self._recent_s: deque[float] = deque(maxlen=RECENT)

    def room(self) -> int:
        """How many more videos may be claimed now."""
        there = len(self._durations_s)
        known_s = [duration_s for duration_s in self._durations_s.values() if duration_s is not None]
        room = min(self._most - there, self._unknown() - (there - len(known_s)))
        if sum(known_s) >= self._most * TYPICAL_S:
            room = min(room, self._few - there)
        return max(0, room)

    def note_claimed(self, tokens: Sequence[int]) -> None:
        """These are on the way."""
        self._durations_s |= dict.fromkeys(tokens)

    def note_duration(self, token: int, duration_s: float) -> None:
        """Now it is known."""
        if token in self._durations_s:
            self._durations_s[token] = duration_s
            self._recent_s.append(duration_s)

    def note_ended(self, token: int) -> None:
        """It is no more on the way."""
        self._durations_s.pop(token, None)

    def _unknown(self) -> int:
        """How many of unknown duration may be there: about as much as a few typical ones would be, half of all at most.

        The other half is left for those whose duration has become known, which go on meanwhile.
        """
        if not self._recent_s:
            return self._few
        mean_s = sum(self._recent_s) / len(self._recent_s)
        as_much = self._few * TYPICAL_S / max(mean_s, TYPICAL_S / self._most)
        return max(self._few, min(self._most // 2, int(as_much)))
