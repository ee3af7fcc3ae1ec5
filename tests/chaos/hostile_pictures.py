"""Files whose pictures are hostile: sizes, kinds and times that no camera has."""

import struct
import zlib
from collections.abc import Iterable
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np

from tests.chaos.containers import h264_stream, matroska, patched
from tests.chaos.hostile_file import (
    CUT_OFF,
    READY,
    TOO_LARGE,
    TOO_LONG,
    TOO_MUCH_MEMORY,
    UNDECODABLE,
    Becomes,
    Make,
    either,
    refused,
)
from tests.chaos.whole_media import vp8_pictures
from tests.support.media_files import Recipe, Shot, write_pictures, write_video

SIZE = (64, 64)
SHOTS = [Shot(0.6, 1), Shot(0.6, 2)]
LIVE = {"live": "1"}


def png(width: int, height: int, bits: int, colours: int) -> bytes:
    """A picture of which there are only the first rows; ``colours`` as PNG counts them: 0 grey, 6 with alpha."""

    def piece(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    header = piece(b"IHDR", struct.pack(">IIBBBBB", width, height, bits, colours, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + piece(b"IDAT", zlib.compress(bytes(10**6))) + piece(b"IEND", b"")


def _pngs(*pictures: bytes) -> Make:
    """These pictures, one every 40 ms, with a header that says they are small."""

    def make(path: Path) -> None:
        with av.open(str(path), "w") as container:
            stream: Any = container.add_stream("png", rate=25, width=SIZE[0], height=SIZE[1], pix_fmt="rgba")
            for count, data in enumerate(pictures):
                packet = av.Packet(data)
                packet.stream, packet.time_base, packet.is_keyframe = stream, Fraction(1, 25), count == 0
                packet.pts = packet.dts = count
                container.mux(packet)

    return make


def _h264(*streams: bytes) -> Make:
    return lambda path: path.write_bytes(b"".join(streams))


def _video(**recipe: Any) -> Make:
    return lambda path: write_video(path, SHOTS, recipe=Recipe(**{"size": SIZE, **recipe}))


def _vp8_of(width: int, height: int) -> bytes:
    """VP8 whose key picture says that it is larger than its container (RFC 6386, 9.1)."""
    first, *others = vp8_pictures()
    frames = [patched(first, 6, struct.pack("<HH", width, height)), *others]
    return matroska([(n * 40, frame) for n, frame in enumerate(frames)])


def _encode(path: Path, codec: str, frames: Iterable[av.VideoFrame], **more: Any) -> None:
    with av.open(str(path), "w") as container:
        stream: Any = container.add_stream(codec, rate=25, width=SIZE[0], height=SIZE[1], **more)
        for frame in frames:
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


def _interlaced(path: Path) -> None:
    frames = (av.VideoFrame.from_ndarray(SHOTS[0].picture(n, *SIZE), format="rgb24") for n in range(30))
    _encode(path, "mpeg2video", frames, options={"flags": "+ildct+ilme"})


def _palette(path: Path) -> None:
    palette = np.random.default_rng(1).integers(0, 256, (256, 4), dtype=np.uint8)
    indexed: list[Any] = [(shot.picture(0, *SIZE)[..., 0], palette) for shot in SHOTS * 9]
    _encode(path, "png", (av.VideoFrame.from_ndarray(pair, format="pal8") for pair in indexed), pix_fmt="pal8")


def _noise(path: Path) -> None:
    """Every picture is another one: a cut at each."""
    rng = np.random.default_rng(5)
    patches = (rng.integers(0, 256, (4, 4, 3), dtype=np.uint8) for _ in range(250))
    write_pictures(
        path, ((n / 25, np.kron(p, np.ones((16, 16, 1), np.uint8))) for n, p in enumerate(patches)), Recipe(SIZE)
    )


def _at(*times_s: float) -> Make:
    """A picture at each of these times."""

    def make(path: Path) -> None:
        pictures = ((time_s, Shot(1, 1).picture(n, *SIZE)) for n, time_s in enumerate(times_s))
        write_pictures(path, pictures, Recipe(SIZE, codec="mjpeg", pix_fmt="yuvj420p", options=LIVE))

    return make


def _two_at_once(path: Path) -> None:
    path.write_bytes(matroska([(0, picture) for picture in vp8_pictures()[:2]]))


_UNDECODABLE = f"{UNDECODABLE}|{CUT_OFF}"

PICTURES: dict[str, tuple[Make, Becomes]] = {
    "30000-x-30000-of-16-bits.mov": (_pngs(png(30_000, 30_000, 16, 6)), refused(f"{_UNDECODABLE}|{TOO_LARGE}")),
    "11000-x-11000.mov": (_pngs(png(11_000, 11_000, 8, 0)), refused(f"{_UNDECODABLE}|{TOO_LARGE}")),
    "16384-x-16384.h264": (_h264(h264_stream(16_384, 16_384, 10)), refused(f"{_UNDECODABLE}|{TOO_LARGE}")),
    "8192-x-8192.h264": (_h264(h264_stream(8192, 8192, 10)), refused(f"{_UNDECODABLE}|{TOO_LARGE}")),
    "grows-to-16384-x-16384.h264": (
        _h264(h264_stream(64, 64, 50), h264_stream(16_384, 16_384, 10)),
        either(_UNDECODABLE),
    ),
    "grows-to-7680-x-4320.h264": (_h264(h264_stream(64, 64, 20), h264_stream(7680, 4320, 5)), READY),
    "changes-its-size-200-times.h264": (
        _h264(*(h264_stream(64 + 16 * (n % 7), 64 + 16 * (n % 5), 3) for n in range(200))),
        READY,
    ),
    "keeps-32-pictures-of-8k.h264": (_h264(h264_stream(7680, 4320, 36, 16, 16)), either(TOO_MUCH_MEMORY)),
    "16383-x-16383-inside.webm": (
        lambda p: p.write_bytes(_vp8_of(16_383, 16_383)),
        either(f"{_UNDECODABLE}|{TOO_LARGE}"),
    ),
    "0-x-0-inside.webm": (lambda p: p.write_bytes(_vp8_of(0, 0)), either(_UNDECODABLE)),
    "16384-x-16.h264": (_h264(h264_stream(16_384, 16, 60)), READY),
    "16-x-16384.h264": (_h264(h264_stream(16, 16_384, 60)), READY),
    "1-x-1.mov": (_video(size=(1, 1), codec="png", pix_fmt="rgb24"), READY),
    "alpha-of-16-bits.mov": (_video(codec="png", pix_fmt="rgba64be"), READY),
    "palette.mov": (_palette, READY),
    "grey-of-16-bits.mkv": (_video(codec="ffv1", pix_fmt="gray16le"), READY),
    "12-bits.mkv": (_video(codec="ffv1", pix_fmt="yuv444p12le"), READY),
    "interlaced.mkv": (_interlaced, READY),
    "a-cut-at-every-picture.mp4": (_noise, READY),
    "a-cut-every-16-pictures.mp4": (
        lambda p: write_video(p, [Shot(0.64, n) for n in range(60)], recipe=Recipe(SIZE)),
        READY,
    ),
    "one-picture.mkv": (_at(0.0), READY),
    "two-pictures-at-one-time.mkv": (_two_at_once, READY),
    "1-picture-an-hour.mkv": (_at(*(3600.0 * n for n in range(8))), READY),
    "pictures-past-the-limit.mkv": (_at(0.0, 0.04, 50_000.0), refused(TOO_LONG)),
}
