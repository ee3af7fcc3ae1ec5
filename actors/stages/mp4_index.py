"""What the index of an MP4 announces, read before FFmpeg builds it up in memory.

A sample table of twenty bytes may stand for billions of samples, and a file for thousands of streams: FFmpeg spends
minutes and gigabytes on them before it says how many there are. Owns that one question; what is damaged or built in
another way is left to FFmpeg and to the bounds of ``media_source``.
"""

import io
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

from cluster.contracts.errors import InvalidVideo
from cluster.contracts.media import MediaLimits

MOST_ATOMS, MOST_TOP_ATOMS = 100_000, 100
"""So many atoms are looked at, in all and of the outermost: an index is one of the first, fragments are countless."""
SOUND_SAMPLES_PER_S = 200.0
"""Packets of sound per second of video, all streams together: two of the finest that are in use."""
SAMPLES_PER_PIECE = 1024
"""Uncompressed sound has a sample per tick; FFmpeg indexes it in pieces of so many."""

_PARENTS = frozenset({b"moov", b"trak", b"mdia", b"minf", b"stbl", b"moof", b"traf"})
_TOP = _PARENTS | {b"ftyp", b"styp", b"sidx", b"mdat", b"free", b"skip", b"wide", b"pnot", b"uuid", b"meta", b"udta"}


def check_index(path: Path, limits: MediaLimits) -> None:
    """Raise ``InvalidVideo`` when the file's index announces more streams or samples than ``limits`` leave room for."""
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
        """How many entries FFmpeg's index of the track gets."""
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
    size = file.seek(0, os.SEEK_END)
    for name, head in islice(_atoms(file, 0, size), MOST_ATOMS):
        if name in (b"trak", b"traf"):
            tracks.append(_Track(is_stream=name == b"trak"))
        elif tracks:
            tracks[-1].atoms.append((name, head))
    return tracks


def _atoms(file: io.BufferedReader, begin: int, end: int) -> Iterator[tuple[bytes, bytes]]:
    """Name and first bytes of every atom from ``begin`` to ``end``, those inside others right after these."""
    at, seen = begin, 0
    while at + 8 <= end and (begin > 0 or seen < MOST_TOP_ATOMS):
        seen += 1
        file.seek(at)
        head = file.read(32)
        size, name, inside = _word(head, 0), head[4:8], 8
        if begin == 0 and name not in _TOP:
            return  # no MP4, or one that FFmpeg will complain about
        if size == 1:
            size, inside = int.from_bytes(head[8:16], "big"), 16
        yield name, head[inside:]
        if name in _PARENTS:
            yield from _atoms(file, at + inside, min(end, at + size))
        if size < inside:
            return  # to the end of the file (0), or damaged
        at += size


def _word(data: bytes, at: int) -> int:
    return int.from_bytes(data[at : at + 4], "big")
