"""Pictures that strangers send, decoded; runs in a decoder process alone (``query_picture`` asks it).

Size and format are read from the header before a decoder is given anything: Pillow opens a WebP by decoding it.
"""

import io
import struct
import warnings

from PIL import Image, ImageFile

from cluster.decoders.config import Decoders

MAX_PIXELS = 8 * 2**20
MEMORY_BYTES = 512 * 2**20
CPU_S = 5
FORMATS = ("JPEG", "PNG", "WEBP")
ORIENTATION = 0x0112
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""Transformations that turn a picture of each orientation upright (Exif 2.3, tag 274)."""

Decoded = tuple[int, int, bytes]


class Unreadable(Exception):
    """The picture cannot be read; the text says why."""


def load() -> Decoders:
    """The call ``decode``. Every format is decoded once, so that nothing is left to be imported."""
    Image.MAX_IMAGE_PIXELS = None  # ours is checked first
    for kind in FORMATS:
        sample = io.BytesIO()
        Image.new("RGB", (8, 8)).save(sample, kind)
        decode(sample.getvalue(), 8)
    return Decoders({"decode": decode}, memory_bytes=MEMORY_BYTES, cpu_s=CPU_S)


def decode(data: bytes, side_px: int | None) -> Decoded:
    """Height, width and RGB bytes of a picture, upright; at most ``side_px`` on a side, if that is bound.

    Raises:
        Unreadable: it is of another format, broken, or too large.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return _decoded(data, side_px)
    except Unreadable:
        raise
    except MemoryError:
        raise Unreadable("it needs too much memory to be decoded") from None
    except Exception as error:  # whatever a decoder raises, the picture is why
        text = str(error).strip()
        raise Unreadable(text.splitlines()[0][:200] if text else "it is broken") from None


def _decoded(data: bytes, side_px: int | None) -> Decoded:
    kind = _format_of(data)
    if kind == "WEBP":
        _check_size(*webp_size(data))
    with Image.open(io.BytesIO(data), formats=(kind,)) as image:
        _check_size(*image.size)
        if side_px is not None:
            image.draft("RGB", (side_px, side_px))
        turned = _UPRIGHT.get(_orientation(image))
        picture = image.convert("RGB")
    if side_px is not None:
        picture.thumbnail((side_px, side_px))
    if turned is not None:
        picture = picture.transpose(turned)
    return picture.height, picture.width, picture.tobytes()


def _format_of(data: bytes) -> str:
    """By the first bytes, as each format's decoder asks for them."""
    if data.startswith(b"\xff\xd8\xff"):
        return "JPEG"
    if data.startswith(b"\x89PNG\r\n\x1a\n"):
        return "PNG"
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "WEBP"
    raise Unreadable(f"it is none of {', '.join(FORMATS)}" if data else "it is empty")


def _check_size(width: int, height: int) -> None:
    if width * height > MAX_PIXELS:
        raise Unreadable(f"it has more than {MAX_PIXELS:,} pixels ({width} x {height})")


def webp_size(data: bytes) -> tuple[int, int]:
    """The largest width and height that any chunk of a WebP states (RFC 9649): its canvas or one of its frames."""
    width = height = 1
    chunks = [(12, len(data))]
    while chunks:
        at, end = chunks.pop()
        while at + 8 <= end:
            name, size = struct.unpack_from("<4sI", data, at)
            body = data[at + 8 : at + 8 + 16]
            wide, high = _stated_size(name, body)
            width, height = max(width, wide), max(height, high)
            if name == b"ANMF":
                chunks.append((at + 8 + 16, min(end, at + 8 + size)))
            at += 8 + size + size % 2
    return width, height


def _stated_size(name: bytes, body: bytes) -> tuple[int, int]:
    if name == b"VP8X" and len(body) >= 10:
        return 1 + int.from_bytes(body[4:7], "little"), 1 + int.from_bytes(body[7:10], "little")
    if name == b"ANMF" and len(body) >= 12:
        return 1 + int.from_bytes(body[6:9], "little"), 1 + int.from_bytes(body[9:12], "little")
    if name == b"VP8L" and len(body) >= 5:
        bits = int.from_bytes(body[1:5], "little")
        return 1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF)
    if name == b"VP8 " and len(body) >= 10:
        wide, high = struct.unpack_from("<HH", body, 6)
        return wide & 0x3FFF, high & 0x3FFF
    return 1, 1


def _orientation(image: ImageFile.ImageFile) -> int:
    """How the picture is to be turned; upright where its Exif cannot be read."""
    try:
        return int(image.getexif().get(ORIENTATION, 1))
    except Exception:  # every error of a parser means the same: it says nothing
        return 1
