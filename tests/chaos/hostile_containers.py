"""Files in other containers than MP4 that are hostile by how these are built: Matroska, AVI, Ogg, transport streams."""

import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.chaos.containers import (
    ATTACHMENTS,
    CLUSTER,
    EBML_HEADER,
    INFO,
    SEGMENT,
    TAGS,
    TRACKS,
    UNKNOWN_SIZE,
    chunk,
    element,
    matroska,
    number,
    patched,
    simple_block,
)
from tests.chaos.hostile_file import (
    ANY_DAMAGE,
    READY,
    TOO_FAST,
    TOO_LONG,
    TOO_MANY_STREAMS,
    Becomes,
    Make,
    either,
    refused,
)
from tests.chaos.whole_media import avi, ogg, transport_stream, vp8_pictures

HUGE = 2**31 - 1

# Matroska

_TICK = 40


def _matroska(**parts: Any) -> Make:
    return lambda path: path.write_bytes(matroska([(n * _TICK, f) for n, f in enumerate(vp8_pictures())], **parts))


def _at(times: Callable[[int], int], **parts: Any) -> Make:
    """Pictures at other times, in ticks."""
    return lambda path: path.write_bytes(matroska([(times(n), f) for n, f in enumerate(vp8_pictures())], **parts))


def _recursive(identity: int, depth: int) -> bytes:
    result = b""
    for _ in range(depth):
        result = element(identity, result)
    return result


def _laced(path: Path) -> None:
    """Blocks whose lacing announces more frames than there are bytes."""
    blocks = b"".join(simple_block(bytes([255]) * 40, flags=flags) for flags in (0x02, 0x04, 0x06))
    head = element(CLUSTER, number(0xE7, 0), blocks)
    path.write_bytes(matroska([(n * _TICK, f) for n, f in enumerate(vp8_pictures())], head=head))


def _unknown_sizes(path: Path) -> None:
    clusters = b"".join(
        element(CLUSTER, number(0xE7, n * _TICK), simple_block(f), declared=UNKNOWN_SIZE)
        for n, f in enumerate(vp8_pictures())
    )
    path.write_bytes(matroska([], head=clusters))


_ZLIB = element(0x6D80, element(0x6240, element(0x5034, number(0x4254, 0))))
_ATTACHMENT = element(
    0x61A7, element(0x466E, b"f.ttf"), element(0x4660, b"font/ttf"), element(0x465C, b"x", declared=2**40)
)

MATROSKA: dict[str, tuple[Make, Becomes]] = {
    "unknown-sizes.mkv": (_unknown_sizes, READY),
    "nested-tags.mkv": (_matroska(head=element(TAGS, element(0x7373, _recursive(0x67C8, 3_000)))), either(ANY_DAMAGE)),
    "giant-attachment.mkv": (_matroska(head=element(ATTACHMENTS, _ATTACHMENT)), either(ANY_DAMAGE)),
    "wrong-lacing.mkv": (_laced, either(ANY_DAMAGE)),
    "compressed-pictures.mkv": (_matroska(track=_ZLIB), refused(ANY_DAMAGE)),
    "jump-of-2^62.mkv": (_at(lambda n: n * _TICK if n < 20 else 2**62 + n), either(ANY_DAMAGE)),
    "times-in-a-loop.mkv": (_at(lambda n: n % 5 * _TICK), either(ANY_DAMAGE)),
    "times-backwards.mkv": (_at(lambda n: 10_000 - n * _TICK), either(ANY_DAMAGE)),
    "all-at-one-time.mkv": (_at(lambda _: 0), either(ANY_DAMAGE)),
    "ticks-of-0-ns.mkv": (_matroska(ticks_ns=0), either(ANY_DAMAGE)),
    "ticks-of-2^62-ns.mkv": (_matroska(ticks_ns=2**62), either(ANY_DAMAGE)),
    "1000-tracks.mkv": (
        lambda p: p.write_bytes(
            EBML_HEADER
            + element(
                SEGMENT,
                element(INFO, number(0x2AD7B1, 1)),
                element(
                    TRACKS,
                    *(element(0xAE, number(0xD7, n), number(0x83, 1), element(0x86, b"V_VP8")) for n in range(1, 1001)),
                ),
                element(CLUSTER, number(0xE7, 0), simple_block(vp8_pictures()[0])),
            )
        ),
        refused(TOO_MANY_STREAMS),
    ),
}


# The others


def _avi(name: bytes, at: int, new: bytes) -> Make:
    """``new`` at so many bytes after the first ``name``."""
    return lambda path: path.write_bytes(patched(avi(), avi().index(name) + at, new))


def _looped_index(path: Path) -> None:
    data = avi()
    entry = b"00dc" + struct.pack("<III", 16, 0, 8)  # where the index begins, as data
    path.write_bytes(data[: data.rindex(b"idx1")] + chunk(b"idx1", entry * 50_000))


def _garbage_between_packets(path: Path) -> None:
    """Noise between packets, and packets whose PID is another's."""
    data, pieces = transport_stream(), []
    for at in range(0, len(data), 188):
        packet = data[at : at + 188]
        pieces += [patched(packet, 1, b"\x5f\xff") if at // 188 % 7 == 6 else packet, b"\x47garbage" * (at // 188 % 3)]
    path.write_bytes(b"".join(pieces))


def _many_programs(path: Path) -> None:
    """A table of programs with as many as fit, each packet of a PID of its own."""
    packets = [
        b"\x47" + struct.pack(">H", 0x4000 | pid) + b"\x10" + b"\0\0\1\xe0" + bytes(180) for pid in range(32, 8000)
    ]
    path.write_bytes(transport_stream() + b"".join(packets) + transport_stream(3))


OTHERS: dict[str, tuple[Make, Becomes]] = {
    "0-pictures-per-s.avi": (_avi(b"strh", 8 + 20, struct.pack("<II", 0, 0)), either(ANY_DAMAGE)),
    "10^6-pictures-per-s.avi": (_avi(b"strh", 8 + 20, struct.pack("<II", 1, 1_000_000)), refused(TOO_FAST)),
    "1-picture-in-136-years.avi": (_avi(b"strh", 8 + 20, struct.pack("<II", HUGE, 1)), refused(TOO_LONG)),
    "looped-index.avi": (_looped_index, either(ANY_DAMAGE)),
    "chained.ogg": (lambda p: p.write_bytes(ogg(1) + ogg(5) + ogg(9)), either(ANY_DAMAGE)),
    "garbage.ts": (_garbage_between_packets, either(f"{ANY_DAMAGE}|the file has sound but no pictures")),
    "8000-pids.ts": (_many_programs, either(f"{ANY_DAMAGE}|the file has .* streams, the limit is 32")),
    "no-key-picture-first.ts": (lambda p: p.write_bytes(transport_stream()[188 * 40 :]), either(ANY_DAMAGE)),
    "32767-x-32767.y4m": (
        lambda p: p.write_bytes(b"YUV4MPEG2 W32767 H32767 F25:1 C420\nFRAME\n" + bytes(9999)),
        refused(f"the pictures have 32767 x 32767 pixels.*|{ANY_DAMAGE}"),
    ),
}

CONTAINERS = MATROSKA | OTHERS
