"""Pictures that strangers send: what is read of them, what is refused, and what that may cost."""

import io
import random
import struct
import zlib
from collections.abc import Iterator
from typing import Any

import numpy as np
import psutil
import pytest
from PIL import Image

from cluster.decoders.pictures import MAX_PIXELS, webp_size
from cluster.search import query_picture
from cluster.search.query_picture import Picture, read_picture, read_whole_picture

MEMORY_BYTES = 96 * 2**20
"""A process with Pillow in it, and next to nothing of a picture."""


def encoded(size: tuple[int, int] = (64, 48), kind: str = "PNG", **how: Any) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", size, (250, 10, 10)).save(file, kind, **how)
    return file.getvalue()


def webp(*chunks: tuple[bytes, bytes]) -> bytes:
    body = b"WEBP" + b"".join(
        name + struct.pack("<I", len(data)) + data + bytes(len(data) % 2) for name, data in chunks
    )
    return b"RIFF" + struct.pack("<I", len(body)) + body


def lossless(width: int, height: int) -> bytes:
    return b"\x2f" + struct.pack("<I", (width - 1) | (height - 1) << 14) + bytes(11)


def canvas(width: int, height: int, flags: int = 0) -> tuple[bytes, bytes]:
    size = (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little")
    return b"VP8X", bytes([flags, 0, 0, 0]) + size


def frame(width: int, height: int, inner: bytes) -> tuple[bytes, bytes]:
    size = (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little")
    return b"ANMF", bytes(6) + size + bytes(4) + b"VP8L" + struct.pack("<I", len(inner)) + inner + bytes(len(inner) % 2)


def with_exif(exif: bytes) -> bytes:
    plain = encoded(kind="JPEG")
    segment = b"Exif\0\0" + exif
    return plain[:2] + b"\xff\xe1" + struct.pack(">H", len(segment) + 2) + segment + plain[2:]


def refusal(data: bytes) -> str:
    try:
        read_picture(data)
    except ValueError as error:
        return str(error)
    pytest.fail("the picture was read")


@pytest.fixture
def peak() -> Iterator[None]:
    """Neither this process nor the one that decodes may have grown."""
    own = psutil.Process()
    before_bytes = own.memory_info().rss
    query_picture._decoder._peak_memory_bytes = 0
    yield
    assert query_picture._decoder.peak_memory_bytes < MEMORY_BYTES
    assert own.memory_info().rss - before_bytes < 64 * 2**20


@pytest.mark.usefixtures("peak")
def test_webp_of_46_bytes_is_refused_by_its_header() -> None:
    bomb = webp((b"VP8L", lossless(16383, 16383)))
    assert len(bomb) < 47
    assert refusal(bomb) == f"it has more than {MAX_PIXELS:,} pixels (16383 x 16383)"


@pytest.mark.usefixtures("peak")
@pytest.mark.parametrize(
    "data",
    [
        webp(canvas(16383, 16383), (b"VP8L", lossless(8, 8))),
        webp(canvas(8, 8), (b"VP8L", lossless(16383, 16383))),
        webp(canvas(8, 8, 2), (b"ANIM", bytes(6)), frame(16383, 16383, lossless(8, 8))),
        webp(canvas(8, 8, 2), (b"ANIM", bytes(6)), frame(8, 8, lossless(16383, 16383))),
        webp((b"VP8 ", b"\0\0\0\x9d\x01\x2a" + struct.pack("<HH", 16383, 16383))),
    ],
    ids=["canvas", "picture", "frame", "picture of a frame", "lossy"],
)
def test_webp_size_is_the_largest_that_is_stated(data: bytes) -> None:
    assert webp_size(data)[0] == 16383
    assert "pixels (16383 x" in refusal(data)


@pytest.mark.usefixtures("peak")
@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
def test_picture_is_refused_by_the_size_in_its_header(kind: str) -> None:
    file = io.BytesIO()
    Image.new("1" if kind == "PNG" else "L", (60_000, 150)).save(file, kind)
    assert "pixels (60000 x 150)" in refusal(file.getvalue())


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP"])
def test_picture_of_the_largest_size_is_read(kind: str) -> None:
    picture = read_whole_picture(encoded((3840, 2160), kind))
    assert picture.shape == (2160, 3840, 3)
    assert np.abs(picture.mean(axis=(0, 1)) - (250, 10, 10)).max() < 4
    assert read_picture(encoded((3840, 2160), kind)).shape == (576, 1024, 3)


@pytest.mark.parametrize("kind", ["GIF", "TIFF", "BMP", "ICO", "PPM", "TGA", "JPEG2000"])
def test_picture_of_another_format_is_refused(kind: str) -> None:
    assert refusal(encoded(kind=kind)) == "it is none of JPEG, PNG, WEBP"
    assert refusal(b"") == "it is empty"


@pytest.mark.usefixtures("peak")
def test_png_with_texts_of_gigabytes_is_bounded() -> None:
    plain = encoded()
    packed = zlib.compress(bytes(80 * 2**20), 9)
    chunk = b"zTXt" + b"Comment\0\0" + packed
    text = struct.pack(">I", len(chunk) - 4) + chunk + struct.pack(">I", zlib.crc32(chunk))
    assert _is_picture_or_refused(plain[:33] + text * 20 + plain[33:])


def test_jpeg_of_endless_scans_is_ended() -> None:
    plain = encoded((2896, 2896), "JPEG", progressive=True, quality=30)
    first = plain.index(b"\xff\xda", plain.index(b"\xff\xda") + 2)
    second = plain.index(b"\xff\xda", first + 2)
    assert _is_picture_or_refused(plain[:second] + plain[first:second] * 4000 + plain[second:])


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
def test_picture_is_turned_as_its_orientation_says(orientation: int, kind: str) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    pixels = np.zeros((32, 48, 3), np.uint8)
    pixels[:16, :24] = 255
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, kind, exif=exif, quality=100)
    picture = read_picture(file.getvalue())
    assert picture.shape[:2] == ((32, 48) if orientation < 5 else (48, 32))
    height, width = picture.shape[0] // 2, picture.shape[1] // 2
    quarters = [picture[:height, :width], picture[:height, width:], picture[height:, width:], picture[height:, :width]]
    assert int(np.argmax([part.mean() for part in quarters])) == (0, 1, 2, 3, 0, 1, 2, 3)[orientation - 1]


@pytest.mark.parametrize(
    "exif",
    [
        b"",
        b"II*\0",
        b"II*\0\x08\0\0\0\xff\xff",
        b"MM\0*\0\0\0\x08\0\x01\x01\x12\0\x02\0\0\0\x04ab\0\0",  # text
        b"MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\xff\xff\0\0\0\0\0\0",  # no orientation
        b"MM\0*\0\0\0\x08\0\x02\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\x87\x69\0\x04\0\0\0\x01\xff\xff\xff\xff\0\0\0\0",
        b"MM\0*\0\0\0\x08\0\x02\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\x01\x1a\0\x05\0\0\0\x01\0\0\xff\xff\0\0\0\0",
        random.Random(1).randbytes(200),
    ],
)
def test_picture_with_malformed_exif_is_read(exif: bytes) -> None:
    assert sorted(read_picture(with_exif(exif)).shape) == [3, 48, 64]


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP"])
def test_mutated_picture_is_read_or_refused(kind: str) -> None:
    rng = random.Random(kind)
    exif = Image.Exif()
    exif[0x0112] = 6
    how: dict[str, Any] = {
        "exif": exif,
        **({"save_all": True, "append_images": [Image.new("RGB", (64, 48))]} if kind != "JPEG" else {}),
    }
    whole = encoded(kind=kind, **how)
    assert all(_is_picture_or_refused(_mutated(whole, rng)) for _ in range(80))
    assert read_picture(whole).shape == (64, 48, 3)


def _mutated(whole: bytes, rng: random.Random) -> bytes:
    data = bytearray(whole)
    for _ in range(rng.randint(1, 8)):
        at = rng.randrange(len(data))
        match rng.randrange(4):
            case 0:
                data[at] = rng.randrange(256)
            case 1:
                data[at : at + 4] = rng.choice([b"\xff" * 4, bytes(4), rng.randbytes(4)])
            case 2:
                del data[at : at + rng.randint(1, 20)]
            case 3:
                data[at:at] = data[: rng.randint(1, 40)]
        if len(data) < 16:
            break
    return bytes(data)


def _is_picture_or_refused(data: bytes) -> bool:
    try:
        picture: Picture = read_picture(data)
    except ValueError as error:
        return 0 < len(str(error)) < 300 and "\n" not in str(error)
    return picture.ndim == 3
