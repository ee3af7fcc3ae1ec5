"""Packets moved onto the one clock of a file, as ``file_clock`` found it."""

from collections import Counter, defaultdict, deque

from av.packet import Packet
from av.stream import Stream

from cluster.contracts.media import ClockShift, FilePart

CLOCK_MAY_JUMP = frozenset({"mpegts", "mpeg", "ogg", "wtv"})
"""Formats whose clock may be set to another time anywhere (``AVFMT_TS_DISCONT``)."""
MOST_REORDERED_S, MOST_REORDERED = 10.0, 16
"""In these formats nothing is decoded so long, and so many pictures, before it is shown."""


class Shifting:
    """Moves packets onto the file's one clock, stream by stream."""

    def __init__(self, part: FilePart, formats: set[str]) -> None:
        """``formats``: FFmpeg's names of the part's."""
        # FFmpeg may have guessed a packet's decoding time across a jump of the clock.
        self._may_jump = bool(CLOCK_MAY_JUMP & formats)
        self._always_s = part.shift_s
        self._later: dict[int, deque[ClockShift]] = defaultdict(deque)
        for shift in sorted(part.shifts, key=lambda shift: shift.from_packet):
            self._later[shift.stream].append(shift)
        self._shift_s: dict[int, float] = {}
        self._numbers: Counter[int] = Counter()

    def apply(self, packet: "Packet[Stream]") -> None:
        """Shift the next packet of its stream."""
        if self._may_jump and _is_guessed(packet):
            packet.pts = packet.dts
        index = packet.stream.index
        later = self._later.get(index)
        number = self._numbers[index]
        self._numbers[index] += 1
        while later and later[0].from_packet <= number:
            self._shift_s[index] = later.popleft().shift_s
        shift_s = self._shift_s.get(index, 0.0) + self._always_s
        if shift_s and packet.time_base:
            ticks = round(shift_s / packet.time_base)
            packet.pts = None if packet.pts is None else packet.pts + ticks
            packet.dts = None if packet.dts is None else packet.dts + ticks


def _is_guessed(packet: "Packet[Stream]") -> bool:
    """Whether the times at which a packet is decoded and shown are further apart than reordering explains."""
    if packet.pts is None or packet.dts is None or not packet.time_base:
        return False
    apart = abs(packet.pts - packet.dts)
    return bool(apart * packet.time_base > MOST_REORDERED_S and apart > MOST_REORDERED * (packet.duration or 0))
