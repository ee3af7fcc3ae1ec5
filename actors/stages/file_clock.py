"""The one clock of a file: where its streams' time-stamps begin to count from another place, and by how much.

Joined recordings, a reset or wrapped clock and a pause change the time-stamps of all streams, each at its next packet.
``FileClock`` reads times in the file's order and answers, for every stream, from which packet on it is shifted. Leaves
reading packets to ``packet_scan``. The bounds of a jump are ffplay's: it too plays on after longer gaps.
"""

import math
from collections import Counter
from dataclasses import dataclass, field
from typing import NamedTuple

from cluster.contracts.errors import InvalidVideo
from cluster.contracts.media import ClockShift

BACKWARD_JUMP_S = 1.0
"""A time-stamp this far behind the one before begins a new count; less is an overlap."""
FORWARD_JUMP_S = 10.0
"""A longer gap in all streams is a jump (ffplay's ``max_frame_duration`` where clocks are discontinuous)."""
LONGEST_STATED_GAP_S = 3600.0
"""A longer gap is a jump even where the stated duration covers it (ffplay's ``max_frame_duration`` elsewhere)."""
USUAL_STEPS = 16
"""A gap of up to so many usual steps is the pace of the file: slides, a time-lapse."""
RIGHT_AFTER_S = 0.5
"""A packet that follows the one before it so soon belongs to the same count, whatever other streams do."""
NEAR_COUNTS = 8
MOST_JUMPS = 30_000
"""More than 12 hours in joined pieces of 2 seconds have."""


@dataclass(frozen=True)
class Gaps:
    """What long gaps mean in a file: in most formats nothing but a pause, in streams of a broadcast perhaps a jump.

    ``stated_to_s``: up to this time-stamp they are what the file's header announces.
    """

    may_be_jumps: bool = True
    stated_to_s: float = -math.inf


class PacketTime(NamedTuple):
    """Times of a packet: when it is decoded, when and how long it is shown; and its position in the file, in bytes."""

    decode_s: float
    start_s: float
    length_s: float
    position: int


@dataclass
class _Reach:
    """What one stream covers within a count: when it is decoded (``next_s``: from when on no more), when shown."""

    first_packet: int
    first_s: float
    last_s: float
    next_s: float
    start_s: float
    end_s: float


@dataclass
class _Count:
    """A stretch of the file within which time-stamps count on.

    ``gap_s``: how far ahead of the count before it begins; None when it begins elsewhere. ``before_s``: where that
    count's clock was.
    """

    position: int
    before_s: float
    gap_s: float | None
    start_s: float
    clock_s: float
    reaches: dict[int, _Reach] = field(default_factory=dict)
    shift_s: float = 0.0


class FileClock:
    """Reads the times of a file's packets, in the file's order.

    Args:
        gaps: what gaps mean in the file's format.
        follows: streams that carry on where another one ends, by their index: the index of that one.
    """

    def __init__(self, gaps: Gaps | None = None, follows: dict[int, int] | None = None) -> None:
        self._gaps = gaps or Gaps()
        self._follows = follows or {}
        self._counts: list[_Count] = []
        self._current: dict[int, int] = {}
        self._steps: Counter[int] = Counter()

    def feed(self, stream: int, number: int, time: PacketTime) -> None:
        """Take the next packet of the file: the ``number``-th of ``stream``. Raises ``InvalidVideo`` after too many
        jumps.
        """
        at = self._place(stream, time)
        count = self._counts[at]
        self._current[stream] = at
        reach = count.reaches.get(stream)
        if reach is None:
            reach = _Reach(number, time.decode_s, -math.inf, -math.inf, math.inf, -math.inf)
            count.reaches[stream] = reach
        reach.last_s = max(reach.last_s, time.decode_s)
        reach.next_s = max(reach.next_s, time.decode_s + time.length_s)
        reach.start_s = min(reach.start_s, time.start_s)
        reach.end_s = max(reach.end_s, time.start_s + time.length_s)
        self._note_step(time.decode_s - count.clock_s)
        count.start_s = min(count.start_s, time.start_s)
        count.clock_s = max(count.clock_s, time.decode_s)

    def shifts(self) -> list[ClockShift]:
        """From which packet on each stream is shifted by how much; the counts' ends and starts meet."""
        self._align()
        shifts: list[ClockShift] = []
        current: dict[int, float] = {}
        for count in self._counts:
            for stream, reach in count.reaches.items():
                if count.shift_s != current.get(stream, 0.0):
                    shifts.append(ClockShift(stream, reach.first_packet, count.shift_s))
                current[stream] = count.shift_s
        return shifts

    @property
    def last_shift_s(self) -> float:
        """By what the last time-stamps of the file are shifted."""
        self._align()
        return self._counts[-1].shift_s if self._counts else 0.0

    def end_s(self, streams: list[int]) -> float | None:
        """Where ``streams`` end on the one clock; None when no packet of them has a time."""
        self._align()
        ends = [
            reach.end_s + count.shift_s
            for count in self._counts
            for stream, reach in count.reaches.items()
            if stream in streams
        ]
        return max(ends, default=None)

    def start_s(self, streams: list[int]) -> float | None:
        """Where ``streams`` begin on the one clock."""
        self._align()
        starts = [
            reach.start_s + count.shift_s
            for count in self._counts
            for stream, reach in count.reaches.items()
            if stream in streams
        ]
        return min(starts, default=None)

    @property
    def extent_s(self) -> float:
        """How much of the time was covered so far, gaps within counts included."""
        return sum(count.clock_s - count.start_s for count in self._counts)

    def _place(self, stream: int, time: PacketTime) -> int:
        """The index of the count that the packet belongs to; a new one where it fits none."""
        current = self._current.get(stream, 0)
        if self._carries_on(current, stream, time):
            return current
        fitting = [at for at in self._candidates(current) if self._fits(at, stream, time)]
        if fitting:
            return self._reached(fitting, time.position)
        if len(self._counts) > MOST_JUMPS:
            raise InvalidVideo(f"the time-stamps jump more than {MOST_JUMPS:,} times: they are damaged")
        before_s = self._counts[-1].clock_s if self._counts else time.start_s
        gap_s = time.decode_s - before_s
        begins_ahead = bool(self._counts) and gap_s > 0 and self._current.get(stream) == len(self._counts) - 1
        self._counts.append(
            _Count(time.position, before_s, gap_s if begins_ahead else None, time.start_s, time.decode_s)
        )
        if begins_ahead:
            self._note_step(gap_s)
        return len(self._counts) - 1

    def _carries_on(self, at: int, stream: int, time: PacketTime) -> bool:
        """Whether the packet comes right after the last one of its stream."""
        reach = self._counts[at].reaches.get(stream) if self._counts else None
        return reach is not None and 0 <= time.decode_s - reach.last_s <= RIGHT_AFTER_S

    def _reached(self, fitting: list[int], position: int) -> int:
        """Of the counts whose times fit, the last one that begins before ``position``, where positions decide."""
        reached = fitting[0]
        for at in fitting[1:]:
            if not self._counts[reached].position < self._counts[at].position <= position:
                break
            reached = at
        return reached

    def _candidates(self, current: int) -> list[int]:
        """The counts near the stream's own and near the file's end: a stream that fell silent may skip the others."""
        last = len(self._counts)
        near = range(current, min(current + NEAR_COUNTS, last))
        return [*near, *range(max(near.stop, last - NEAR_COUNTS), last)]

    def _fits(self, at: int, stream: int, time: PacketTime) -> bool:
        count = self._counts[at]
        reach = count.reaches.get(stream)
        if reach is not None:
            earliest_s = reach.last_s - BACKWARD_JUMP_S
        elif (ended := count.reaches.get(self._follows.get(stream, -1))) is not None:
            earliest_s = ended.last_s - BACKWARD_JUMP_S
        else:
            # Where a clock may jump, streams are side by side in the file.
            beside_s = count.clock_s if self._gaps.may_be_jumps else count.start_s
            earliest_s = beside_s - FORWARD_JUMP_S
        return earliest_s <= time.decode_s and not self._is_jump(time.decode_s - count.clock_s, time.decode_s)

    def _is_jump(self, gap_s: float, time_s: float) -> bool:
        if gap_s <= FORWARD_JUMP_S or not self._gaps.may_be_jumps:
            return False
        if time_s <= self._gaps.stated_to_s:
            return gap_s > LONGEST_STATED_GAP_S
        return gap_s > USUAL_STEPS * self._usual_step_s()

    def _note_step(self, step_s: float) -> None:
        if step_s > 0:
            self._steps[math.frexp(step_s)[1]] += 1

    def _usual_step_s(self) -> float:
        """The median of the clock's steps, rounded up to a power of two; 0 while there are none."""
        left = (self._steps.total() + 1) // 2
        for exponent in sorted(self._steps):
            left -= self._steps[exponent]
            if left <= 0:
                return 2.0**exponent
        return 0.0

    def _align(self) -> None:
        """Shift each count so that it begins where what came before ends, in the stream that leaves least room."""
        ends: dict[int, float] = {}
        shift_s = 0.0
        for before, count in zip([None, *self._counts], self._counts, strict=False):
            if before is not None and not self._is_pace(count):
                meeting = [
                    ends[track] - reach.first_s
                    for stream, reach in count.reaches.items()
                    if (track := self._track(stream)) in ends
                ]
                shift_s = max(meeting) if meeting else shift_s + count.before_s - count.start_s
            count.shift_s = shift_s
            for stream, reach in count.reaches.items():
                track = self._track(stream)
                ends[track] = max(reach.next_s + shift_s, ends.get(track, -math.inf))

    def _is_pace(self, count: _Count) -> bool:
        """Whether the gap before ``count`` turned out to be the pace of the file."""
        return count.gap_s is not None and not self._is_jump(count.gap_s, math.inf)

    def _track(self, stream: int) -> int:
        while stream in self._follows:
            stream = self._follows[stream]
        return stream
