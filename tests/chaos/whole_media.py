"""Small files with nothing wrong about them, for hostile ones to be made of."""

from collections.abc import Sequence
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

import av

from tests.support.media_files import Recipe, Shot, Sound, tone, write_video


def whole(path: Path) -> Path:
    """A small video with nothing wrong about it."""
    return write_video(path, [Shot(0.6, 1), Shot(0.6, 2)])


def whole_bytes(path: Path) -> bytes:
    """The bytes of a whole video of ``path``'s kind, which is not there any more."""
    data = whole(path).read_bytes()
    path.unlink()
    return data


@cache
def mp4(sound: bool = False, movflags: str = "") -> bytes:
    """A whole MP4 of 1.2 s whose index is at the end, unless ``movflags`` say otherwise."""
    options = {"movflags": movflags} if movflags else {}
    return _written("video.mp4", [Sound(0.0, tone(1.2))] if sound else [], Recipe(options=options))


@cache
def avi() -> bytes:
    """A whole AVI of 1.2 s."""
    return _written("video.avi", [], Recipe(codec="mjpeg", pix_fmt="yuvj420p"))


@cache
def transport_stream(seed: int = 1, rate_hz: int = 16_000) -> bytes:
    """A whole MPEG transport stream of 1.2 s, with sound."""
    return _written("video.ts", [Sound(0.0, tone(1.2, rate_hz))], Recipe(rate_hz=rate_hz), seed)


@cache
def ogg(seed: int = 1) -> bytes:
    """A whole Ogg of 1.2 s."""
    return _written("video.ogg", [], Recipe(codec="libvpx"), seed)


def _written(name: str, sounds: Sequence[Sound], recipe: Recipe, seed: int = 1) -> bytes:
    with TemporaryDirectory() as folder:
        return write_video(Path(folder) / name, [Shot(0.6, seed), Shot(0.6, seed + 1)], sounds, recipe).read_bytes()


@cache
def vp8_pictures() -> list[bytes]:
    """The packets of 1.2 s of VP8, 64 x 64."""
    with TemporaryDirectory() as folder:
        path = write_video(
            Path(folder) / "video.ivf", [Shot(0.6, 1), Shot(0.6, 2)], recipe=Recipe((64, 64), 25, "libvpx")
        )
        with av.open(str(path)) as container:
            return [bytes(packet) for packet in container.demux(video=0) if packet.size]
