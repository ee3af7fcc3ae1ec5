"""MP4 files whose edit lists leave out parts, as phones and editors trim without encoding again (ISO 14496-12)."""

import struct
from collections.abc import Iterator, Sequence
from pathlib import Path

Edit = tuple[float, float]
"""From which second of the media on, and how many seconds of it, are shown."""


def edit(path: Path, *edits: Edit, tracks: Sequence[str] = ("vide", "soun")) -> Path:
    """Make the file show ``edits`` of the tracks of these kinds. Its index has to be at its end."""
    data = path.read_bytes()
    parts = [_moov(body, edits, tracks) if name == b"moov" else body for name, body in _boxes(data)]
    names = [name for name, _ in _boxes(data)]
    assert names[-1] == b"moov", "the index comes before the media, whose places would move"
    path.write_bytes(b"".join(map(_box, names, parts)))
    return path


def _moov(body: bytes, edits: Sequence[Edit], tracks: Sequence[str]) -> bytes:
    boxes = list(_boxes(body))
    movie_scale = struct.unpack(">I", boxes[0][1][12:16])[0]  # mvhd, version 0
    made = []
    for name, content in boxes:
        kind = content[content.find(b"hdlr") + 12 :][:4].decode() if name == b"trak" else ""
        made.append(_box(name, _trak(content, edits, movie_scale) if kind in tracks else content))
    return b"".join(made)


def _trak(body: bytes, edits: Sequence[Edit], movie_scale: int) -> bytes:
    at = body.find(b"mdhd")
    assert body[at + 4] == 0, "a header with 64-bit times"
    media_scale = struct.unpack(">I", body[at + 16 : at + 20])[0]
    first = body.find(b"elst")
    count = struct.unpack(">I", body[first + 8 : first + 12])[0]
    begin = struct.unpack(">i", body[first + 12 * count + 4 : first + 12 * count + 8])[0]
    entries = [
        struct.pack(">IiI", round(length_s * movie_scale), begin + round(from_s * media_scale), 1 << 16)
        for from_s, length_s in edits
    ]
    shown = struct.pack(">I", round(sum(length_s for _, length_s in edits) * movie_scale))
    listed = _box(b"elst", bytes(4) + struct.pack(">I", len(entries)) + b"".join(entries))
    made = []
    for name, content in _boxes(body):
        if name == b"edts":
            content = listed
        elif name == b"tkhd":
            content = content[:20] + shown + content[24:]
        made.append(_box(name, content))
    return b"".join(made)


def _boxes(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    at = 0
    while at < len(data):
        size = struct.unpack(">I", data[at : at + 4])[0]
        assert size >= 8, "a box of 64-bit size, or one up to the end"
        yield data[at + 4 : at + 8], data[at + 8 : at + size]
        at += size


def _box(name: bytes, body: bytes) -> bytes:
    return struct.pack(">I", 8 + len(body)) + name + body
