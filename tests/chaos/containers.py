"""Containers by the byte: what no muxer would write.

Owns atoms (MP4), elements (Matroska), chunks (AVI) and a bare H.264 stream of any size in a handful of bytes. What is
hostile about the files made of them is said in ``hostile_containers`` and ``hostile_streams``.
"""

import struct
from collections.abc import Callable, Iterable

Change = Callable[[bytes], bytes]


# MP4: atoms (ISO/IEC 14496-12)


def atom(name: bytes, *parts: bytes) -> bytes:
    """An atom around ``parts``."""
    payload = b"".join(parts)
    return struct.pack(">I4s", 8 + len(payload), name) + payload


def table(name: bytes, *words: int, declared: int | None = None) -> bytes:
    """A full atom that holds numbers of 32 bits: version and flags, how many there are said to be, and these."""
    count = len(words) if declared is None else declared
    return atom(name, struct.pack(f">II{len(words)}I", 0, count, *words))


def change_atoms(data: bytes, path: str, change: Change) -> bytes:
    """``data`` with the payload of every atom at ``path`` ("moov/trak/tkhd") changed, sizes kept right."""
    wanted, _, rest = path.partition("/")
    result, at = b"", 0
    while at < len(data):
        size, name = struct.unpack_from(">I4s", data, at)
        payload = data[at + 8 : at + size]
        if name == wanted.encode():
            payload = change_atoms(payload, rest, change) if rest else change(payload)
        result += atom(name, payload)
        at += size
    return result


def patched(data: bytes, at: int, new: bytes) -> bytes:
    """``data`` with ``new`` in place of the bytes at ``at``."""
    return data[:at] + new + data[at + len(new) :]


# Matroska: elements (RFC 8794, RFC 9559)


def element(identity: int, *parts: bytes, declared: int | None = None) -> bytes:
    """An element around ``parts``; its size in eight bytes, true unless ``declared`` says otherwise."""
    payload = b"".join(parts)
    size = len(payload) if declared is None else declared
    return identity.to_bytes((identity.bit_length() + 7) // 8, "big") + (size | 1 << 56).to_bytes(8, "big") + payload


def number(identity: int, value: int) -> bytes:
    """An element that holds a number."""
    return element(identity, value.to_bytes(8, "big"))


UNKNOWN_SIZE = (1 << 56) - 1
EBML_HEADER = element(0x1A45DFA3, element(0x4282, b"matroska"), number(0x4287, 4), number(0x4285, 2))
SEGMENT, INFO, TRACKS, CLUSTER, TAGS, ATTACHMENTS = (
    0x18538067,
    0x1549A966,
    0x1654AE6B,
    0x1F43B675,
    0x1254C367,
    0x1941A469,
)


def matroska(
    frames: Iterable[tuple[int, bytes]], *, head: bytes = b"", track: bytes = b"", ticks_ns: int = 1_000_000
) -> bytes:
    """VP8 pictures of 64 x 64 with their times in ticks, a cluster each; ``head`` and ``track`` hold more elements."""
    video = element(0xE0, number(0xB0, 64), number(0xBA, 64))
    entry = element(0xAE, number(0xD7, 1), number(0x73C5, 1), number(0x83, 1), element(0x86, b"V_VP8"), video, track)
    clusters = b"".join(element(CLUSTER, number(0xE7, ticks), simple_block(frame)) for ticks, frame in frames)
    return EBML_HEADER + element(
        SEGMENT,
        element(INFO, number(0x2AD7B1, ticks_ns)),
        element(TRACKS, entry),
        head,
        clusters,
        declared=UNKNOWN_SIZE,
    )


def simple_block(payload: bytes, flags: int = 0x80, track: int = 1) -> bytes:
    """A block of one frame, or laced as ``flags`` and ``payload`` say."""
    return element(0xA3, bytes([0x80 | track, 0, 0, flags]), payload)


# AVI: chunks


def chunk(name: bytes, *parts: bytes, declared: int | None = None) -> bytes:
    """A chunk around ``parts``, on even bytes."""
    payload = b"".join(parts)
    size = len(payload) if declared is None else declared
    return name + struct.pack("<I", size & 0xFFFFFFFF) + payload + b"\0" * (len(payload) % 2)


# H.264: a stream by the bit (ITU-T H.264, 7.3)


class Bits:
    """Bits written one after the other."""

    def __init__(self) -> None:
        self._bits: list[str] = []

    def u(self, value: int, width: int = 1) -> "Bits":
        """``value`` in ``width`` bits."""
        self._bits.append(f"{value:0{width}b}")
        return self

    def ue(self, *values: int) -> "Bits":
        """Each of ``values`` as an Exp-Golomb code."""
        for value in values:
            self._bits.append("0" * ((value + 1).bit_length() - 1) + f"{value + 1:b}")
        return self

    def repeat(self, bits: str, times: int) -> "Bits":
        """``bits`` so many times."""
        self._bits.append(bits * times)
        return self

    def unit(self, kind: int) -> bytes:
        """The NAL unit of these bits, with its start code and the bytes that keep others from looking like one."""
        bits = "".join(self._bits) + "1"
        bits += "0" * (-len(bits) % 8)
        payload = int(bits, 2).to_bytes(len(bits) // 8, "big")
        for last in range(4):
            payload = payload.replace(bytes([0, 0, last]), bytes([0, 0, 3, last]))
        return b"\0\0\0\1" + bytes([kind]) + payload


def h264_parameters(width: int, height: int, pictures_kept: int = 1, reordered: int = 0) -> bytes:
    """Sequence and picture parameters of a stream whose decoder must keep so many pictures and delay so many."""
    sequence = (
        Bits().u(77, 8).u(0, 8).u(62, 8).ue(0, 0, 2, pictures_kept)
    )  # Main profile, picture order = decoding order
    sequence.u(0).ue(width // 16 - 1, height // 16 - 1).u(1).u(1).u(0)
    sequence.u(1).u(0, 8).u(1).u(1).ue(0, 0, 16, 16, reordered, max(pictures_kept, reordered))
    picture = Bits().ue(0, 0).u(0).u(0).ue(0, 0, 0).u(0).u(0, 2).ue(0, 0, 0).u(0).u(0).u(0)
    return sequence.unit(0x67) + picture.unit(0x68)


def h264_picture(width: int, height: int) -> bytes:
    """A grey picture to begin with: a byte per block of 16 x 16 pixels."""
    header = Bits().ue(0, 7, 0).u(0, 4).ue(0).u(0).u(0).ue(0)
    return header.repeat("00100111", width * height // 256).unit(0x65)


def h264_still(number_: int, width: int, height: int) -> bytes:
    """The same picture once more, in a dozen bytes."""
    header = Bits().ue(0, 5, 0).u(number_ % 16, 4).u(0).u(0).u(0).ue(0)
    return header.ue(width * height // 256).unit(0x61)


def h264_stream(width: int, height: int, pictures: int, pictures_kept: int = 1, reordered: int = 0) -> bytes:
    """A whole stream: one picture and its repetitions."""
    stills = b"".join(h264_still(1 + n, width, height) for n in range(pictures - 1))
    return h264_parameters(width, height, pictures_kept, reordered) + h264_picture(width, height) + stills
