"""Where a file is several files one after the other: joined recordings, broadcasts whose streams change.

FFmpeg lists a file's streams when it opens it, so what comes with other streams later has to be opened there. Owns
finding these places, from the tables of a transport stream or the headers of joined files. Leaves what is in the parts
to ``media_reader``.
"""

import mmap
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

PACKET_SIZES = (188, 192, 204)
"""Transport streams as broadcast, with a time before each packet (Blu-ray, AVCHD), with error correction after it."""
SYNC = 0x47
PACKETS_PER_READ = 32_768
MOST_RESYNCS = 10_000
"""A file that loses its packets' rhythm more often is not searched any further."""
MOST_PARTS = 10_000
MOST_BOXES = 10_000
"""An MP4 file of more outermost boxes is in fragments."""
MOST_FRAGMENTS = 1_000_000
"""Of more outermost boxes, those that follow are not looked at."""
NEAR_PACKETS = 32
"""The table of programs that belongs to a program's own table is at most so many packets before it."""
AUDIO_TYPES = frozenset({0x03, 0x04, 0x0F, 0x11, 0x81, 0x82, 0x83, 0x84, 0x85, 0x86, 0x87, 0xA1, 0xC1, 0xC2})
"""Types of streams (ISO/IEC 13818-1, ATSC A/53) that are certainly sound."""

_OGG = b"OggS\x00\x02"
"""First bytes of the first page of each of an Ogg file's streams (RFC 3533, 6)."""
_HEADERS = (
    (b"FLV\x01", re.compile(rb"FLV\x01[\x00-\x07]\x00\x00\x00\x09\x00\x00\x00\x00")),
    (b"\x30\x26\xb2\x75\x8e\x66\xcf\x11", re.compile(rb".{8}\xa6\xd9\x00\xaa\x00\x62\xce\x6c", re.DOTALL)),
    (b"\x1a\x45\xdf\xa3", re.compile(rb".{4,44}\x42\x82.(?:webm|matroska)", re.DOTALL)),
    (b"RIFF", re.compile(rb"RIFF.{4}AVI LIST.{4}hdrl", re.DOTALL)),
    (_OGG, re.compile(rb"OggS\x00\x02\x00{8}.{4}\x00{4}", re.DOTALL)),
)
"""First bytes of formats whose files may be joined byte by byte: what to look for, and what is certain."""

Streams = dict[int, int]
"""The type of each elementary stream, by its identifier (PID)."""


@dataclass(frozen=True)
class StreamsFrom:
    """From this byte on a transport stream consists of these streams."""

    position: int
    streams: Streams


def joined_at(path: Path) -> list[int]:
    """The bytes at which further files of the same format begin within the file."""
    with path.open("rb") as file:
        head = file.read(64)
    if head[4:8] == b"ftyp":
        return _fragmented_mp4_at(path)
    headers = [header for header in _HEADERS if head.startswith(header[0])]
    if not headers:
        return []
    [(magic, certain)] = headers
    found: list[int] = []
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        at = inside = 0
        while at >= 0 and len(found) < MOST_PARTS:
            if certain.match(data, at):
                found += [at] if at > inside else []
                inside = _page_end(data, at) if magic == _OGG else 0
            at = data.find(magic, at + 1)
    return found


def _page_end(data: mmap.mmap, at: int) -> int:
    """Where the page of an Ogg file ends that begins at ``at``: the first pages of all its streams come together."""
    segments = data[at + 27 : at + 27 + data[at + 26]] if at + 26 < len(data) else b""
    return at + 27 + len(segments) + sum(segments)


def second_mp4_at(path: Path) -> int | None:
    """The byte at which another MP4 file begins within one; None where there is none, or where FFmpeg reads on."""
    names: list[bytes] = []
    begins: list[int] = []
    for name, at in _boxes(path):
        names.append(name)
        begins += [at] if name == b"ftyp" else []
        if name == b"moof" or len(names) > MOST_BOXES or names[0] != b"ftyp":
            return None
    return begins[1] if len(begins) > 1 and names.count(b"moov") > 1 else None


def _fragmented_mp4_at(path: Path) -> list[int]:
    """The bytes at which further MP4 files begin within one that is in fragments: FFmpeg reads on by the first index.

    Of files that are not, it reads the first one alone: see ``second_mp4_at``.
    """
    begins: list[int] = []
    fragments = 0
    for number, (name, at) in enumerate(_boxes(path)):
        fragments += name == b"moof"
        begins += [at] if name == b"ftyp" else []
        if number > MOST_FRAGMENTS or len(begins) > MOST_PARTS:
            break
    return begins[1:] if fragments else []


def _boxes(path: Path) -> Iterator[tuple[bytes, int]]:
    """The name of each outermost box of an MP4 file, and the byte at which it begins."""
    with path.open("rb") as file:
        at, end = 0, path.stat().st_size
        while at < end:
            file.seek(at)
            head = file.read(16)
            if len(head) < 8:
                return
            size = int.from_bytes(head[:4], "big")
            size = int.from_bytes(head[8:16], "big") if size == 1 else size or end - at
            yield head[4:8], at
            at += max(8, size)


def stream_tables(path: Path) -> list[StreamsFrom]:
    """What a transport stream's tables say it consists of, whenever that changes."""
    with path.open("rb") as file:
        head = file.read(PACKET_SIZES[-1] * 16)
    size, offset = _rhythm(head)
    if not size:
        return []
    tables = _Tables()
    for begin, packets in _packets(path, size, offset):
        tables.read(begin, packets, size)
    return tables.changes


def next_change(tables: list[StreamsFrom], after: int, pictures: int, sound: int | None) -> int | None:
    """The first byte beyond ``after`` from which on the streams in use are others, given by their identifiers."""
    current: Streams = {}
    for table in tables:
        if table.position <= after or not current:
            current = table.streams
            continue
        used = [pictures] if sound is None else [pictures, sound]
        gone = any(pid in current and table.streams.get(pid) != current[pid] for pid in used)
        sound_begins = sound is None and any(kind in AUDIO_TYPES for kind in table.streams.values())
        if gone or sound_begins:
            return table.position
    return None


def _rhythm(data: bytes) -> tuple[int, int]:
    """Size of the packets and the byte at which the first one's sync byte is; (0, 0) where there is no rhythm."""
    places = np.flatnonzero(np.frombuffer(data, np.uint8) == SYNC).tolist()
    for size in PACKET_SIZES:
        for offset in (place for place in places if place < size):
            syncs = data[offset : offset + 6 * size : size]
            if len(syncs) > 1 and syncs.count(SYNC) == len(syncs):
                return size, offset
    return 0, 0


def _packets(path: Path, size: int, offset: int) -> Iterator[tuple[int, NDArray[np.uint8]]]:
    """Runs of whole packets, uint8[n, size], each beginning with its sync byte, and the byte where each run begins."""
    resyncs = 0
    with path.open("rb") as file:
        position = offset
        while resyncs < MOST_RESYNCS:
            file.seek(position)
            data = file.read(size * PACKETS_PER_READ)
            count = len(data) // size
            if not count:
                return
            packets = np.frombuffer(data, np.uint8, count * size).reshape(count, size)
            lost = np.flatnonzero(packets[:, 0] != SYNC)
            good = int(lost[0]) if len(lost) else count
            if good:
                yield position, packets[:good]
            position += good * size
            if good < count:
                resyncs += 1
                position += _resync(data[good * size :], size)


def _resync(data: bytes, size: int) -> int:
    """How many bytes on the rhythm is found again."""
    at = data.find(SYNC, 1)
    while at >= 0:
        syncs = data[at : at + 5 * size : size]
        if syncs.count(SYNC) == len(syncs):
            return at
        at = data.find(SYNC, at + 1)
    return len(data)


class _Tables:
    """Reads the tables of programs and of their streams, and notes when these change."""

    def __init__(self) -> None:
        self.changes: list[StreamsFrom] = []
        self._programs: dict[int, Streams | None] = {}
        self._programs_at = 0
        self._read: dict[int, bytes] = {}

    def read(self, begin: int, packets: NDArray[np.uint8], size: int) -> None:
        """Read the tables in a run of packets that begins at byte ``begin``."""
        pids = (packets[:, 1] & 0x1F).astype(np.uint16) << 8 | packets[:, 2]
        starts = (packets[:, 1] & 0x40) != 0
        seen: set[int] = set()
        while not seen >= (wanted := {0, *self._programs}):  # a table of programs may name further ones
            seen = wanted
            places = np.flatnonzero(starts & np.isin(pids, list(wanted)))
            for place in places:
                self._note(begin + int(place) * size, int(pids[place]), packets[place].tobytes(), size)

    def _note(self, position: int, pid: int, packet: bytes, size: int) -> None:
        section = _section(packet)
        if section is None:
            return
        if pid == 0:
            self._programs_at = position
        if self._read.get(pid) == section:
            return
        if pid == 0:
            self._read = {0: section}
            self._programs = dict.fromkeys(_programs(section))
        elif pid in self._programs:
            self._read[pid] = section
            self._programs[pid] = _streams(section)
            self._note_change(position, size)

    def _note_change(self, position: int, size: int) -> None:
        streams: Streams = {}
        for program in self._programs.values():
            streams.update(program or {})
        if not streams or (self.changes and self.changes[-1].streams == streams) or len(self.changes) >= MOST_PARTS:
            return
        near = position - self._programs_at <= NEAR_PACKETS * size
        self.changes.append(StreamsFrom(self._programs_at if near else position, streams))


def _section(packet: bytes) -> bytes | None:
    """The table that begins in a packet, if it is whole and in force."""
    at = 4
    if packet[3] & 0x20:
        at += 1 + packet[4]
    if not packet[3] & 0x10 or at >= 188:
        return None
    at += 1 + packet[at]
    length = 3 + (((packet[at + 1] & 0x0F) << 8) | packet[at + 2]) if at + 6 < 188 else 0
    if not length or at + length > 188 or not packet[at + 5] & 1:
        return None
    return packet[at : at + length]


def _programs(section: bytes) -> list[int]:
    """The identifiers of the programs' tables (ISO/IEC 13818-1, 2.4.4.3)."""
    entries = [section[at : at + 4] for at in range(8, len(section) - 4, 4)]
    return [((e[2] & 0x1F) << 8) | e[3] for e in entries if len(e) == 4 and (e[0] or e[1])]


def _streams(section: bytes) -> Streams:
    """The streams that a program's table lists (ISO/IEC 13818-1, 2.4.4.8)."""
    streams: Streams = {}
    if section[0] != 2 or len(section) < 16:
        return streams
    at = 12 + (((section[10] & 0x0F) << 8) | section[11])
    while at + 5 <= len(section) - 4:
        streams[((section[at + 1] & 0x1F) << 8) | section[at + 2]] = section[at]
        at += 5 + (((section[at + 3] & 0x0F) << 8) | section[at + 4])
    return streams
