"""What the index of an MP4 announces, read before FFmpeg builds it up in memory.

A sample table of twenty bytes may declare billions of samples, and a file for thousands of streams: FFmpeg spends
minutes and gigabytes on them before it says how many there are. Owns that one question; what is damaged or built in
another way is left to FFmpeg and to the bounds of ``media_source``.
"""

import io
import math
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from cluster.contracts.errors import InvalidVideo
from cluster.contracts.media import MediaLimits

MOST_ATOMS = 100_000
"""An index of more atoms is none that a muxer wrote."""
MOST_AFTER_INDEX = 100
"""Outermost atoms that are looked at once the index is known: fragments may be countless."""
SOUND_SAMPLES_PER_S = 200.0
"""Packets of sound per second of video, all streams together: two of the finest that are in use."""
SAMPLES_PER_PIECE = 1024
"""Uncompressed sound has a sample per tick; FFmpeg indexes it in pieces of so many."""

_INDEX = frozenset({b"moov", b"hoov"})
_PARENTS = _INDEX | {b"free", b"trak", b"mdia", b"minf", b"stbl", b"moof", b"traf"}
"""Atoms that FFmpeg looks into; it finds an index in those marked as free, too."""


def check_index(path: Path, limits: MediaLimits) -> None:
    """Check what the file's index announces. Raises ``InvalidVideo`` for more streams or samples than ``limits`` leave
    room for, and for an index without end.
    """
    most = limits.max_duration_s * (limits.max_fps + SOUND_SAMPLES_PER_S)
    with path.open("rb") as file:
        tracks = _tracks(file)
    streams = sum(track.is_stream for track in tracks)
    if streams > limits.max_streams:
        raise InvalidVideo(f"the file has {streams} streams, the limit is {limits.max_streams}")
    samples = sum(track.samples for track in tracks)
    if samples > most:
        raise InvalidVideo(f"the file announces {samples:,} pictures and pieces of sound, the limit is {most:,.0f}")


@dataclass
class _Track:
    """The beginnings of the atoms of one track, or of one fragment of it."""

    is_stream: bool
    atoms: list[tuple[bytes, bytes]] = field(default_factory=list)

    @property
    def samples(self) -> int:
        """Number of entries that FFmpeg's index of the track gets."""
        counts = [_word(head, 8) for name, head in self.atoms if name in (b"stsz", b"stz2")]
        counts += [_word(head, 4) for name, head in self.atoms if name == b"trun"]
        return sum(counts) // (SAMPLES_PER_PIECE if self._is_uncompressed_sound else 1)

    @property
    def _is_uncompressed_sound(self) -> bool:
        sound = any(name == b"hdlr" and head[8:12] == b"soun" for name, head in self.atoms)
        ticks = [(_word(head, 4), _word(head, 12)) for name, head in self.atoms if name == b"stts"]
        return sound and ticks == [(1, 1)]


def _tracks(file: io.BufferedReader) -> list[_Track]:
    tracks = []
    for count, (name, head) in enumerate(_atoms(file)):
        if count == MOST_ATOMS:
            raise InvalidVideo(f"the file's index has more than {MOST_ATOMS:,} parts: it is damaged")
        if name in (b"trak", b"traf"):
            tracks.append(_Track(is_stream=name == b"trak"))
        elif tracks:
            tracks[-1].atoms.append((name, head))
    return tracks


def _atoms(file: io.BufferedReader) -> Iterator[tuple[bytes, bytes]]:
    """Name and first bytes of every atom, those inside others right after these.

    Of a file that is no MP4 this is a few words that happen to be there.
    """
    spans = [(0, file.seek(0, os.SEEK_END), True)]
    outermost_left = math.inf
    while spans and outermost_left > 0:
        at, end, outermost = spans.pop()
        if at + 8 > end:
            continue
        file.seek(at)
        head = file.read(32)
        size, name, inside = _word(head, 0), head[4:8], 8
        if size == 1:
            size, inside = int.from_bytes(head[8:16], "big"), 16
        elif size == 0:
            size = end - at
        if size < inside:
            continue  # damaged: the start of the next one is unknown
        yield name, head[inside:]
        if outermost:
            outermost_left = MOST_AFTER_INDEX if name in _INDEX else outermost_left - 1
        spans.append((at + size, end, outermost))
        if name in _PARENTS:
            spans.append((at + inside, min(end, at + size), False))


def _word(data: bytes, at: int) -> int:
    return int.from_bytes(data[at : at + 4], "big")
