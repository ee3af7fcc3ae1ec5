"""How many videos may be on the way at once: many short ones, which share windows and batches, and few long ones.

What a video is on the way for lies in the object store meanwhile: its sound and its key frames grow with its duration,
which nobody knows before its metadata are read. So only a few may be claimed whose duration is not known yet.
"""

from collections.abc import Sequence

TYPICAL_S = 60.0
"""Of as many videos as may be claimed at all, the mean duration from which on there may only be few."""


class Admission:
    """Room for videos, named by their lease tokens. Used on the scheduler's event loop alone.

    Args:
        most: how many may be on the way at once.
        few: how many of them, if ``most`` allows, whose duration is unknown; and how many in any case, however long.
    """

    def __init__(self, most: int, few: int) -> None:
        self._most = most
        self._few = few
        self._durations_s: dict[int, float | None] = {}

    def room(self) -> int:
        """How many more videos may be claimed now."""
        there = len(self._durations_s)
        known_s = [duration_s for duration_s in self._durations_s.values() if duration_s is not None]
        room = min(self._most - there, self._few - (there - len(known_s)))
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

    def note_ended(self, token: int) -> None:
        """It is no more on the way."""
        self._durations_s.pop(token, None)
