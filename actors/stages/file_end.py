"""Whether a file ends where its own structure says that it ends.

A duration in a header may be wrong: an encoder's guess, that of another file, that of a whole of which this is a part.
How many bytes belong to the file is what tells one that was cut off from one whose header is wrong.
"""

import os
from collections.abc import Callable
from io import BufferedReader
from pathlib import Path

MOST_BOXES = 100_000
"""An MP4 file of more outermost boxes is not followed to its end."""
HEADER_BYTES = 2**16
"""What a header states is within so many bytes."""
_SEGMENT = b"\x18\x53\x80\x67"
_FILE_PROPERTIES = bytes.fromhex("a1dcab8c47a9cf118ee400c00c205365")
_FLV_TAGS = frozenset({8, 9, 18})


def is_whole(path: Path, formats: set[str]) -> bool:
    """Whether the file, of these FFmpeg formats, has all the bytes that it announces; false where nothing tells."""
    check = next((check for name, check in _CHECKS.items() if name in formats), None)
    if check is None:
        return False
    with path.open("rb") as file:
        return check(file, path.stat().st_size)


def _mp4(file: BufferedReader, size: int) -> bool:
    at = 0
    for _ in range(MOST_BOXES):
        file.seek(at)
        head = file.read(16)
        length = int.from_bytes(head[:4], "big")
        length = int.from_bytes(head[8:16], "big") if length == 1 else length
        if len(head) < 8 or length < 8:
            return at == size
        at += length
    return False


def _matroska(file: BufferedReader, size: int) -> bool:
    """A segment of unknown length was never finished."""
    head = file.read(HEADER_BYTES)
    at = head.find(_SEGMENT) + len(_SEGMENT)
    if at < len(_SEGMENT) or at >= len(head) or not head[at]:
        return False
    width = 9 - head[at].bit_length()
    bits = 7 * width
    length = int.from_bytes(head[at : at + width], "big") & ((1 << bits) - 1)
    return length < (1 << bits) - 1 and at + width + length <= size


def _avi(file: BufferedReader, size: int) -> bool:
    at = 0
    while at < size:
        file.seek(at)
        head = file.read(8)
        length = int.from_bytes(head[4:], "little")
        if head[:4] != b"RIFF" or not length:
            return False
        at += 8 + length + length % 2
    return at <= size + 1


def _asf(file: BufferedReader, size: int) -> bool:
    head = file.read(HEADER_BYTES)
    at = head.find(_FILE_PROPERTIES)
    stated = int.from_bytes(head[at + 40 : at + 48], "little") if at >= 0 else 0
    return 0 < stated <= size


def _flv(file: BufferedReader, size: int) -> bool:
    """Each tag is followed by its length, the last one too."""
    file.seek(max(0, size - 4))
    length = int.from_bytes(file.read(4), "big")
    if not 11 <= length <= size - 4:
        return False
    file.seek(size - 4 - length, os.SEEK_SET)
    head = file.read(4)
    return head[0] in _FLV_TAGS and int.from_bytes(head[1:], "big") == length - 11


_CHECKS: dict[str, Callable[[BufferedReader, int], bool]] = {
    "mp4": _mp4,
    "matroska": _matroska,
    "avi": _avi,
    "asf": _asf,
    "flv": _flv,
}
