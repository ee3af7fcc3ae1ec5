"""Whether a file ends where its own structure says that it ends, and what some headers say of its duration.

A duration in a header may be wrong: an encoder's guess, that of another file, that of a whole of which this is a part.
The number of bytes that belong to the file distinguishes one that was cut off from one whose header is wrong.
"""

import os
from collections.abc import Callable
from enum import Enum, auto
from io import BufferedReader
from pathlib import Path

MOST_BOXES = 100_000
"""An MP4 file of more outermost boxes is not followed to its end."""
HEADER_BYTES = 2**16
"""What a header states is within so many bytes."""
_SEGMENT = b"\x18\x53\x80\x67"
_FILE_PROPERTIES = bytes.fromhex("a1dcab8c47a9cf118ee400c00c205365")
_BROADCAST = 1
_FLV_TAGS = frozenset({8, 9, 18})
_BOXES = frozenset({b"moof", b"mdat", b"moov", b"free", b"skip", b"wide", b"uuid", b"styp", b"sidx", b"emsg", b"mfra"})


class Ending(Enum):
    """Whether a file has all the bytes that its structure announces."""

    WHOLE = auto()
    CUT = auto()
    UNKNOWN = auto()


def ending(path: Path, formats: set[str]) -> Ending:
    """Compare the size of a file, of these FFmpeg formats, with what its structure announces."""
    check = next((check for name, check in _CHECKS.items() if name in formats), None)
    if check is None:
        return Ending.UNKNOWN
    with path.open("rb") as file:
        return check(file, path.stat().st_size)


def asf_duration_s(path: Path) -> float | None:
    """What an ASF file's header states; FFmpeg says nothing of it where the file is not whole."""
    with path.open("rb") as file:
        head = file.read(HEADER_BYTES)
    at = head.find(_FILE_PROPERTIES)
    if at < 0 or len(head) < at + 92 or _number(head, at + 88, 4) & _BROADCAST:
        return None
    stated_s = _number(head, at + 64, 8) / 1e7 - _number(head, at + 80, 8) / 1e3
    return stated_s if stated_s > 0 else None


def _mp4(file: BufferedReader, size: int) -> Ending:
    at = 0
    for _ in range(MOST_BOXES):
        file.seek(at)
        head = file.read(16)
        length = int.from_bytes(head[:4], "big")
        length = int.from_bytes(head[8:16], "big") if length == 1 else length
        if len(head) < 8 or length < 8:
            return Ending.WHOLE if at == size else Ending.UNKNOWN
        at += length
        if at > size:
            return Ending.CUT if head[4:8] in _BOXES else Ending.UNKNOWN
    return Ending.UNKNOWN


def _matroska(file: BufferedReader, size: int) -> Ending:
    """A segment of unknown length was never finished."""
    head = file.read(HEADER_BYTES)
    at = head.find(_SEGMENT) + len(_SEGMENT)
    if at < len(_SEGMENT) or at >= len(head) or not head[at]:
        return Ending.UNKNOWN
    width = 9 - head[at].bit_length()
    bits = 7 * width
    length = int.from_bytes(head[at : at + width], "big") & ((1 << bits) - 1)
    if length == (1 << bits) - 1:
        return Ending.UNKNOWN
    return Ending.WHOLE if at + width + length <= size else Ending.CUT


def _avi(file: BufferedReader, size: int) -> Ending:
    at = 0
    while at < size:
        file.seek(at)
        head = file.read(8)
        length = int.from_bytes(head[4:], "little")
        if head[:4] != b"RIFF" or not length:
            return Ending.UNKNOWN
        at += 8 + length + length % 2
    return Ending.WHOLE if at <= size + 1 else Ending.CUT


def _asf(file: BufferedReader, size: int) -> Ending:
    head = file.read(HEADER_BYTES)
    at = head.find(_FILE_PROPERTIES)
    stated = _number(head, at + 40, 8) if at >= 0 else 0
    if not stated or _number(head, at + 88, 4) & _BROADCAST:
        return Ending.UNKNOWN
    return Ending.WHOLE if stated <= size else Ending.CUT


def _flv(file: BufferedReader, size: int) -> Ending:
    """Each tag is followed by its length, the last one too."""
    file.seek(max(0, size - 4))
    length = int.from_bytes(file.read(4), "big")
    if not 11 <= length <= size - 4:
        return Ending.UNKNOWN
    file.seek(size - 4 - length, os.SEEK_SET)
    head = file.read(4)
    is_tag = head[0] in _FLV_TAGS and int.from_bytes(head[1:], "big") == length - 11
    return Ending.WHOLE if is_tag else Ending.UNKNOWN


def _number(data: bytes, at: int, size: int) -> int:
    return int.from_bytes(data[at : at + size], "little")


_CHECKS: dict[str, Callable[[BufferedReader, int], Ending]] = {
    "mp4": _mp4,
    "matroska": _matroska,
    "avi": _avi,
    "asf": _asf,
    "flv": _flv,
}
