"""Whole media files, and what becomes of them when bytes are changed by chance.

Owns the sources (the bundled clips, small files of many containers and codecs made on the spot, any media stored
beside the repository) and the kinds of damage. The same seed makes the same files.
"""

import multiprocessing
import os
import random
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import av
import numpy as np

from cluster.demo import clips
from tests.support.media_files import Shot, tone

BESIDE = Path(__file__).parents[3] / "shared" / "media"
"""Real files that may be stored beside the repository; nothing depends on them."""
SMALL_SHARE = 0.7
"""Share of the mutated files that come from the small ones; they are through in no time."""
HEAD_BYTES = 4096
"""Half of all damage is done here or as near to the end: that is where headers and indexes are."""
EXTREMES = [bytes.fromhex(word) for word in ("00000000", "00000001", "7fffffff", "80000000", "ffffffff", "0000ffff")]

Mutation = Callable[[bytearray, random.Random], str]


@dataclass(frozen=True)
class MutatedFile:
    """A damaged file; ``what`` says which and how, so that it can be made again from the seed."""

    number: int
    path: Path
    what: str


def mutated_files(seed: int, count: int, folder: Path) -> Generator[MutatedFile, None, None]:
    """Make ``count`` damaged files in ``folder``, one at a time: each is gone when the next one is asked for."""
    sources = folder / "sources"
    small = small_files(sources)
    large = [*clips(), *sorted(path for path in BESIDE.glob("*") if path.is_file())]
    for number in range(count):
        rng = random.Random(f"{seed}-{number}")
        source = rng.choice(small if rng.random() < SMALL_SHARE else large)
        data = bytearray(source.read_bytes())
        done = [rng.choice(MUTATIONS)(data, rng) for _ in range(rng.choice([1, 1, 1, 2, 3, 8]))]
        path = folder / f"{number:05d}-{source.name}"
        path.write_bytes(data)
        os.utime(path, (0, 0))  # else what is damaged is taken for a file that is still being written
        try:
            yield MutatedFile(number, path, f"{source.name}: {', '.join(done)}")
        finally:
            path.unlink(missing_ok=True)


# Where and how


def _place(data: bytearray, rng: random.Random) -> int:
    size = max(1, len(data))
    near = min(size, HEAD_BYTES)
    where = rng.random()
    if where < 0.35:
        return rng.randrange(near)
    return size - 1 - rng.randrange(near) if where < 0.5 else rng.randrange(size)


def _stretch(data: bytearray, rng: random.Random) -> tuple[int, int]:
    begin = _place(data, rng)
    return begin, min(len(data), begin + int(2 ** rng.uniform(0, 14)))


def _flip_bits(data: bytearray, rng: random.Random) -> str:
    count = rng.choice([1, 1, 2, 8, 64, 512])
    for _ in range(count if data else 0):
        data[_place(data, rng)] ^= 1 << rng.randrange(8)
    return f"{count} bits flipped"


def _set_extreme(data: bytearray, rng: random.Random) -> str:
    """A number becomes one that counters and sizes are not made for."""
    begin, word = _place(data, rng), rng.choice(EXTREMES)[: rng.choice([1, 2, 4])]
    data[begin : begin + len(word)] = word
    return f"{word.hex()} at {begin}"


def _set_size(data: bytearray, rng: random.Random) -> str:
    """The number before a name of four letters: the size of an atom or a chunk, or right after it."""
    names = [at for at in range(4, min(len(data) - 8, 200_000)) if data[at : at + 4].isalpha()]
    if not names:
        return "no names"
    at = rng.choice(names)
    begin, word = at + rng.choice([-4, 4, 8, 12]), rng.choice(EXTREMES)
    data[begin : begin + 4] = word
    return f"{word.hex()} at {begin}, beside {bytes(data[at : at + 4])!r}"


def _noise(data: bytearray, rng: random.Random) -> str:
    begin, end = _stretch(data, rng)
    data[begin:end] = rng.randbytes(end - begin)
    return f"noise from {begin} to {end}"


def _zero(data: bytearray, rng: random.Random) -> str:
    begin, end = _stretch(data, rng)
    data[begin:end] = bytes(end - begin)
    return f"zeros from {begin} to {end}"


def _delete(data: bytearray, rng: random.Random) -> str:
    begin, end = _stretch(data, rng)
    del data[begin:end]
    return f"{begin} to {end} deleted"


def _repeat(data: bytearray, rng: random.Random) -> str:
    begin, end = _stretch(data, rng)
    times = rng.choice([1, 2, 20])
    data[end:end] = data[begin:end] * times
    return f"{begin} to {end} repeated {times} times"


def _swap(data: bytearray, rng: random.Random) -> str:
    (begin, end), other = _stretch(data, rng), _place(data, rng)
    data[begin:end], data[other : other + end - begin] = data[other : other + end - begin], data[begin:end]
    return f"{begin} to {end} swapped with {other}"


def _truncate(data: bytearray, rng: random.Random) -> str:
    size = rng.randrange(len(data) + 1)
    del data[size:]
    return f"cut off at {size}"


MUTATIONS: Sequence[Mutation] = (
    _flip_bits, _flip_bits, _set_extreme, _set_extreme, _set_size, _noise, _zero, _delete, _repeat, _swap, _truncate,
)  # fmt: skip


# What is damaged

SIZE, FPS, RATE_HZ, SECONDS = (64, 64), 25, 48_000, 1.2
_SMALL = {
    "h264.mp4": ("libx264", "yuv420p", "aac"),
    "fragments.mp4": ("libx264", "yuv420p", "aac"),
    "h264.mov": ("libx264", "yuv420p", "pcm_s16le"),
    "hevc.mp4": ("libx265", "yuv420p", "ac3"),
    "av1.mp4": ("libsvtav1", "yuv420p", "aac"),
    "png.mov": ("png", "rgba", "pcm_s24le"),
    "prores.mov": ("prores_ks", "yuv422p10le", None),
    "h264.mkv": ("libx264", "yuv420p", "libmp3lame"),
    "live.mkv": ("libx264", "yuv420p", "pcm_f32le"),
    "ffv1.mkv": ("ffv1", "yuv444p", "wavpack"),
    "vp8.webm": ("libvpx", "yuv420p", None),
    "vp9.webm": ("libvpx-vp9", "yuv420p", "libopus"),
    "mpeg4.avi": ("mpeg4", "yuv420p", "libmp3lame"),
    "mjpeg.avi": ("mjpeg", "yuvj420p", "adpcm_ms"),
    "huffyuv.avi": ("huffyuv", "yuv422p", None),
    "h264.ts": ("libx264", "yuv420p", "aac"),
    "mpeg2.ts": ("mpeg2video", "yuv420p", "mp2"),
    "mpeg1.mpg": ("mpeg1video", "yuv420p", "mp2"),
    "flv1.flv": ("flv", "yuv420p", "libmp3lame"),
    "wmv2.asf": ("wmv2", "yuv420p", "libmp3lame"),
    "vp8.ogg": ("libvpx", "yuv420p", "libopus"),
    "mpeg2.mxf": ("mpeg2video", "yuv422p", None),
    "snow.nut": ("snow", "yuv420p", "aac"),
    "rv20.rm": ("rv20", "yuv420p", "ac3"),
    "raw.y4m": ("wrapped_avframe", "yuv420p", None),
    "bare.h264": ("libx264", "yuv420p", None),
    "bare.hevc": ("libx265", "yuv420p", None),
    "bare.ivf": ("libvpx", "yuv420p", None),
}
"""By name: the pictures' codec, their pixels, the sound's codec."""
_OPTIONS = {"fragments.mp4": {"movflags": "frag_keyframe+empty_moov"}, "live.mkv": {"live": "1"}}


@cache
def small_files(folder: Path) -> tuple[Path, ...]:
    """Small whole files, one for each container and codec worth damaging.

    A process of their own makes them: the AV1 encoder gives the thread that calls it a real-time priority if it may
    (SVT-AV1 as root), which every process that the thread starts later would inherit.
    """
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as process:
        return process.submit(_make_small_files, folder).result()


def _make_small_files(folder: Path) -> tuple[Path, ...]:
    os.environ.setdefault("SVT_LOG", "1")  # the AV1 encoder prints pages about itself otherwise
    folder.mkdir(parents=True, exist_ok=True)
    return tuple(_small_file(folder / name, *codecs) for name, codecs in _SMALL.items())


def _small_file(path: Path, codec: str, pixels: str, sound: str | None) -> Path:
    with av.open(str(path), "w", options=_OPTIONS.get(path.name, {})) as container:
        video: Any = container.add_stream(codec, rate=FPS, width=SIZE[0], height=SIZE[1], pix_fmt=pixels)
        video.codec_context.options = {"x265-params": "log-level=0"} if codec == "libx265" else {}
        audio: Any = container.add_stream(sound, rate=RATE_HZ, layout="stereo") if sound else None
        for number in range(round(SECONDS * FPS)):
            pixels_rgb = Shot(1, 1 + number // (FPS // 2)).picture(number, *SIZE)
            container.mux(video.encode(av.VideoFrame.from_ndarray(pixels_rgb, format="rgb24")))
        container.mux(video.encode(None))
        for samples in np.split(tone(SECONDS, RATE_HZ), 10) if sound else []:
            frame = av.AudioFrame.from_ndarray(np.stack([samples, samples], 1).reshape(1, -1), layout="stereo")
            frame.sample_rate = RATE_HZ
            container.mux(audio.encode(frame))
        if audio:
            container.mux(audio.encode(None))
    return path
