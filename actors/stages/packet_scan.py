"""One pass over a file's packets, before anything is decoded: its one clock, its extent, which streams carry on.

Owns what is measured of the packets. Leaves the clock itself to ``file_clock`` and decoding to ``media_reader``, which
looks for the first picture in the same pass.
"""

import math
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

import av
from av.container import InputContainer
from av.packet import Packet
from av.stream import Stream

from actors.stages.clock_shifting import CLOCK_MAY_JUMP
from actors.stages.file_clock import FORWARD_JUMP_S, FileClock, Gaps, PacketTime
from actors.stages.file_end import Ending, asf_duration_s, ending
from actors.stages.media_file import is_decodable
from actors.stages.stream_choice import NOT_PICTURES
from cluster.contracts.media import ClockShift, FilePart, MediaWarning, Timeline

ESTIMATED_BY_FFMPEG = frozenset({"mpegts", "mpeg", "mpegvideo", "ogg", "h264", "hevc", "m4v", "obu", "dv"})
"""Formats whose header states no duration: FFmpeg's figure is the last time-stamp's distance from the first."""
CLOCK_MAY_JUMP_BEYOND_THE_END = frozenset({"flv", "live_flv"})
"""The same, but a header states an end that is true of a file that was not joined."""
STATING_THE_END = frozenset({"matroska", "webm", "asf", "flv"})
"""Formats whose header states when the file ends rather than how long it lasts."""
LONGEST_LEAD_S = 60.0
"""Streams that are not in use may begin the file by so much; those that begin earlier have another clock."""
MISSING_S, MISSING_SHARE = 2.0, 0.05
"""A file that ends earlier than both of these before the stated duration is cut off, unless its header is wrong."""
OVERSTATED = "duration_overstated"
"""Code of the warning that a header states a longer duration than its file has."""
CUT_OFF = "file_cut_off"
"""Code of the warning that a file ends shortly before its stated end; a file that lacks more is refused."""
UNNOTICED_S = 0.5
"""A header's duration and that of the packets differ by less for many reasons."""
MOST_UNREAD = 0.2
"""At most so much of a complete file comes after its last packet: an index."""
SAME_S = 0.25
"""A duration that is stated and differs by less from the packets' is taken: these do not say what is trimmed."""
SHORTEST_TO_MEASURE_S = 1.0
STRAGGLERS = 3
"""Packets of a stream that may come after the first one of the stream that carries it on."""


@dataclass
class _Presence:
    """Where a stream's packets are in the file."""

    first: int
    last: int
    tick_s: float
    packets: int = 0
    discarded: int = 0
    latest_s: float = -math.inf
    timed_s: float = -math.inf
    """The last time that a packet stated,"""
    untimed: int = 0
    """and how many packets without one came after it."""
    step_s: float = 0.0
    before: dict[int, int] = field(default_factory=dict)
    """Number of packets of each other stream that came before this one's first."""

    def note(self, decode_s: float, is_stated: bool) -> None:
        """Take the time of the stream's next packet; several may share the one that is stated."""
        self.latest_s = decode_s
        if not is_stated:
            self.untimed += 1
            return
        gap_s = decode_s - self.timed_s
        if 0 < gap_s < (FORWARD_JUMP_S if self.untimed else math.inf):
            self.step_s = gap_s / (self.untimed + 1)
        self.timed_s, self.untimed = decode_s, 0


class PacketScan:
    """Takes note of packets in the file's order.

    Args:
        follows: streams that carry on where another one ends, as an earlier scan found them.
    """

    def __init__(self, container: InputContainer, follows: dict[int, int] | None = None) -> None:
        self._container = container
        self._follows = follows or {}
        self._clock = FileClock(_gaps(container), self._follows)
        self._seen: dict[int, _Presence] = {}
        self._position = 0
        # While it reads, FFmpeg fills in the starts that no header stated, from the first packet with a decoding time.
        self._stated_starts = {
            stream.index: float(stream.start_time * stream.time_base)
            for stream in container.streams
            if stream.start_time is not None and stream.time_base
        }

    @staticmethod
    def streams(container: InputContainer) -> list[Stream]:
        """The streams whose packets belong in a scan: all pictures and sound."""
        return [
            s
            for s in container.streams
            if s.type == "audio" or (s.type == "video" and not s.disposition & NOT_PICTURES)
        ]

    def note(self, packet: "Packet[Stream]") -> None:
        """Take the file's next packet. Raises ``InvalidVideo`` when time-stamps jump all the time."""
        stream, position = packet.stream_index, packet.pos
        self._position = position if position is not None and position >= 0 else self._position
        seen = self._seen.get(stream)
        if seen is None:
            before = {index: other.packets for index, other in self._seen.items()}
            tick_s = float(packet.time_base or 0)
            seen = self._seen[stream] = _Presence(self._position, self._position, tick_s, before=before)
        seen.last = self._position
        if packet.is_discard and seen.packets:  # decoded for what follows, and never shown: an edit list leaves it out
            seen.packets += 1
            seen.discarded += 1
            return
        time = _time(packet, seen, self._position)
        if time is not None:
            self._clock.feed(stream, seen.packets, time)
            seen.note(time.decode_s, is_stated=packet.dts is not None or packet.pts is not None)
        seen.packets += 1

    @property
    def extent_s(self) -> float:
        """Seconds that the packets noted so far cover."""
        return self._clock.extent_s

    def chain(self, stream: Stream) -> tuple[int, ...]:
        """The streams that carry on one another, ``stream`` among them: the same kind, and never at the same time."""
        alike = [s.index for s in self._container.streams if s.type == stream.type and is_decodable(s)]
        chosen = [stream.index]
        for index in sorted((i for i in alike if i in self._seen), key=lambda i: self._seen[i].first):
            if all(index != other and self._are_apart(index, other) for other in chosen):
                chosen.append(index)
        return tuple(sorted(chosen, key=lambda i: self._seen[i].first if i in self._seen else 0))

    def follows(self, *chains: tuple[int, ...]) -> dict[int, int]:
        """Each stream of ``chains`` but the first: the one before it."""
        return {after: before for chain in chains for before, after in pairwise(chain)}

    def _are_apart(self, index: int, other: int) -> bool:
        if index not in self._seen or other not in self._seen:
            return False
        first, second = sorted((index, other), key=lambda i: self._seen[i].first)
        late = self._seen[first].packets - self._seen[second].before.get(first, 0)
        return late <= STRAGGLERS and self._seen[first].packets > STRAGGLERS

    def rate(self, index: int) -> float | None:
        """Packets per second of a stream; None where it is too short to say."""
        start_s, end_s = self._clock.start_s([index]), self._clock.end_s([index])
        if start_s is None or end_s is None or end_s - start_s < SHORTEST_TO_MEASURE_S:
            return None
        return (self._seen[index].packets - self._seen[index].discarded) / (end_s - start_s)

    def start_s(self, streams: list[int]) -> float:
        """The file's start as players show it, on its one clock: where the first of its streams begins."""
        shifts = {shift.stream: shift.shift_s for shift in self._clock.shifts() if shift.from_packet == 0}
        stated = [start + shifts.get(index, 0.0) for index, start in self._stated_starts.items() if index in streams]
        found_s = self._clock.start_s(streams)
        own_s = min(stated, default=found_s if found_s is not None else 0.0)
        container_s = self._container.start_time
        if container_s is not None and 0 < own_s - container_s / av.time_base < LONGEST_LEAD_S:
            return container_s / av.time_base
        return own_s

    def end_s(self, streams: list[int]) -> float | None:
        """Where ``streams`` end on the one clock."""
        return self._clock.end_s(streams)

    def shifts(self) -> tuple[ClockShift, ...]:
        """Where the streams' time-stamps jump."""
        return tuple(self._clock.shifts())

    @property
    def last_shift_s(self) -> float:
        """By what the last time-stamps are shifted."""
        return self._clock.last_shift_s

    def timeline(self, part: FilePart, start_s: float) -> tuple[Timeline, tuple[MediaWarning, ...]]:
        """What later passes over the file need to know of its clock, when ``part`` is all of it.

        Where a complete file's header states far more than there is, that is corrected, with a warning; another one
        says that the end of a file is missing.
        """
        sound_end_s = self._clock.end_s(list(part.sound))
        announced = _announced(self._container, self._container.streams[part.pictures[0]], start_s)
        stated_s, of_pictures = (None, False) if part.shifts else announced
        end_s = self._clock.end_s(list(part.pictures) if of_pictures else [*part.pictures, *part.sound])
        found_s = None if end_s is None else end_s - start_s
        end = ending(Path(self._container.name), _format(self._container))
        warnings: tuple[MediaWarning, ...] = ()
        if end is Ending.WHOLE and stated_s and found_s and is_short(found_s, stated_s) and self._was_read_to_end():
            message = f"the header states {stated_s:.1f} s, the file is complete with {found_s:.1f} s"
            stated_s, warnings = found_s, (MediaWarning(OVERSTATED, message),)
        elif end is Ending.CUT:
            until = f"at {found_s or 0.0:.1f} s" + (f" of {stated_s:.1f} s" if stated_s else "")
            warnings = (MediaWarning(CUT_OFF, f"the file is cut off {until}: what follows is missing"),)
        elif end is Ending.UNKNOWN and stated_s and found_s and stated_s - found_s > UNNOTICED_S:
            message = f"the file ends at {found_s:.1f} s of {stated_s:.1f} s: it is cut off or its header is wrong"
            warnings = (MediaWarning(CUT_OFF, message),)
        timeline = Timeline(
            parts=(part,),
            sound_end_s=0.0 if sound_end_s is None else sound_end_s - start_s,
            stated_s=stated_s,
            stated_of_pictures=of_pictures,
        )
        return timeline, warnings

    def _was_read_to_end(self) -> bool:
        """Whether nothing but an index comes after the last packet."""
        return self._position >= self._container.size * (1 - MOST_UNREAD)

    def duration_s(self, start_s: float, streams: list[int]) -> float | None:
        """From ``start_s`` to the end of the stream that ends last."""
        end_s = self._clock.end_s(streams)
        stated_s = _stated_s(self._container)
        if end_s is None:
            return stated_s
        found_s = end_s - start_s
        is_stated = stated_s is not None and not _format(self._container) & ESTIMATED_BY_FFMPEG
        if is_stated and stated_s is not None and abs(stated_s - found_s) < SAME_S:
            return stated_s
        return found_s if found_s > 0 else None


def is_short(reached_s: float, stated_s: float) -> bool:
    """Whether what was read falls far short of the stated duration."""
    return stated_s - reached_s > max(MISSING_S, MISSING_SHARE * stated_s)


def _time(packet: "Packet[Stream]", seen: _Presence, position: int) -> PacketTime | None:
    """When the packet is; one without a time follows the one before it."""
    decode, start = packet.dts, packet.pts
    decode, start = (start if decode is None else decode), (decode if start is None else start)
    tick_s, duration = seen.tick_s, packet.duration
    length_s = duration * tick_s if duration and tick_s else seen.step_s
    if decode is not None and start is not None and tick_s:
        return PacketTime(decode * tick_s, start * tick_s, length_s, position)
    if seen.latest_s > -math.inf:
        next_s = seen.latest_s + length_s
        return PacketTime(next_s, next_s, length_s, position)
    return None


def _format(container: InputContainer) -> set[str]:
    return set(container.format.name.split(","))


def _stated_s(container: InputContainer) -> float | None:
    """The duration of the whole file as FFmpeg gives it. Damaged headers may state that it ends before it begins."""
    duration = container.duration
    return duration / av.time_base if duration and duration > 0 else None


def _gaps(container: InputContainer) -> Gaps:
    """What long gaps mean in the container's format."""
    names = _format(container)
    if names & CLOCK_MAY_JUMP:
        return Gaps()
    if names & CLOCK_MAY_JUMP_BEYOND_THE_END:
        return Gaps(stated_to_s=(_stated_s(container) or 0.0) + max(0, container.start_time or 0) / av.time_base)
    return Gaps(may_be_jumps=False)


def _announced(container: InputContainer, pictures: Stream, start_s: float) -> tuple[float | None, bool]:
    """How far from ``start_s`` the header says that the file reaches, and whether it says so of the pictures.

    Headers that hold a last time-stamp (``STATING_THE_END``) count from 0, wherever the file begins.
    """
    names = _format(container)
    stated_s = _stated_s(container)
    if "avi" in names and pictures.frames and pictures.time_base:
        return float(pictures.frames * pictures.time_base), True  # FFmpeg's own figure is the share that is there
    if "asf" in names and stated_s is None:
        return asf_duration_s(Path(container.name)), False
    if names & ESTIMATED_BY_FFMPEG or stated_s is None:
        return None, False
    if names & STATING_THE_END:
        lengths = [float(s.duration * s.time_base) for s in container.streams if s.duration and s.time_base]
        return min(stated_s, max(lengths, default=stated_s)) - max(0.0, start_s), False
    if pictures.duration and pictures.duration > 0 and pictures.time_base:
        begin = pictures.start_time or 0
        return float((begin + pictures.duration) * pictures.time_base) - start_s, True
    return stated_s, False
