"""Small media files for the tests, made on the spot: shots with known cuts, sound at known times."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
from av.audio.stream import AudioStream
from av.container import OutputContainer
from av.video.stream import VideoStream
from numpy.typing import NDArray

Pixels = NDArray[np.uint8]
Samples = NDArray[np.int16]

TICKS_PER_S = 90_000


@dataclass(frozen=True)
class Shot:
    """A stretch of one texture that drifts a little; shots with different seeds look different."""

    seconds: float
    seed: int

    def picture(self, number: int, width: int, height: int) -> Pixels:
        """The shot's picture ``number``: RGB."""
        rng = np.random.default_rng(self.seed)
        patches = rng.integers(30, 226, (9, 16, 3), dtype=np.uint8)
        large = cv2.resize(patches, (width + 40, height), interpolation=cv2.INTER_CUBIC)
        left = 40 - abs(number % 80 - 40)  # there and back, without a jump
        return np.ascontiguousarray(large[:, left : left + width])


@dataclass(frozen=True)
class Sound:
    """Samples and the time of the first of them; several of them may leave gaps in between."""

    start_s: float
    samples: Samples


@dataclass(frozen=True)
class Recipe:
    """How a file is to be written."""

    size: tuple[int, int] = (160, 120)
    fps: int = 25
    codec: str = "libx264"
    pix_fmt: str = "yuv420p"
    start_s: float = 0.0
    rotation_deg: int = 0
    audio_codec: str = "aac"
    rate_hz: int = 16_000
    time_grid_s: float | None = None
    """Write the pictures' times rounded down to multiples of this: some then share theirs."""
    options: dict[str, str] = field(default_factory=dict)
    sound_first: bool = False
    """Whether the sound is the first of the file's streams."""


def tone(seconds: float, rate_hz: int = 16_000, frequency_hz: float = 440.0, level: int = 8000) -> Samples:
    """A sine wave: clearly sound, clearly no speech."""
    return (level * np.sin(np.arange(round(seconds * rate_hz)) * 2 * np.pi * frequency_hz / rate_hz)).astype(np.int16)


def write_video(
    path: Path, shots: Sequence[Shot] = (), sounds: Sequence[Sound] = (), recipe: Recipe | None = None
) -> Path:
    """Write ``shots`` one after another and ``sounds`` at their times; the suffix names the container."""
    recipe = recipe or Recipe()
    with av.open(str(path), "w", container_options=recipe.options) as container:
        first = _audio_stream(container, recipe) if sounds and recipe.sound_first else None
        video = _video_stream(container, recipe) if shots else None
        audio = first or (_audio_stream(container, recipe) if sounds else None)
        packets = []
        if video is not None:
            packets += list(_video_packets(video, timed_pictures(shots, recipe), recipe))
        if audio is not None:
            packets += list(_audio_packets(audio, sounds, recipe))
        for packet in sorted(packets, key=lambda packet: packet.dts * packet.time_base):
            container.mux(packet)
    return path


def timed_pictures(shots: Sequence[Shot], recipe: Recipe) -> Iterator[tuple[float, Pixels]]:
    """Every picture of ``shots`` with its time, at an even rate."""
    number = 0
    for shot in shots:
        for n in range(round(shot.seconds * recipe.fps)):
            yield recipe.start_s + number / recipe.fps, shot.picture(n, *recipe.size)
            number += 1


def write_pictures(path: Path, pictures: Iterable[tuple[float, Pixels]], recipe: Recipe | None = None) -> Path:
    """Write pictures at exactly these times."""
    recipe = recipe or Recipe()
    with av.open(str(path), "w", container_options=recipe.options) as container:
        video = _video_stream(container, recipe)
        for packet in _video_packets(video, pictures, recipe):
            container.mux(packet)
    return path


def _video_stream(container: OutputContainer, recipe: Recipe) -> VideoStream:
    options = {"preset": "ultrafast", "g": "25"} if recipe.codec == "libx264" else {}
    stream: VideoStream = container.add_stream(recipe.codec, rate=recipe.fps, options=options)  # type: ignore[assignment]
    stream.width, stream.height = recipe.size
    stream.pix_fmt = recipe.pix_fmt
    stream.codec_context.time_base = Fraction(1, TICKS_PER_S)
    if recipe.rotation_deg:
        stream.set_display_rotation(recipe.rotation_deg)
    return stream


def _video_packets(stream: VideoStream, pictures: Iterable[tuple[float, Pixels]], recipe: Recipe) -> Iterator[Any]:
    for time_s, pixels in pictures:
        frame = av.VideoFrame.from_ndarray(pixels, format="rgb24").reformat(format=recipe.pix_fmt)
        frame.pts, frame.time_base = round(time_s * TICKS_PER_S), Fraction(1, TICKS_PER_S)
        yield from _on_grid(stream.encode(frame), recipe)
    yield from _on_grid(stream.encode(None), recipe)


def _on_grid(packets: list[Any], recipe: Recipe) -> list[Any]:
    for packet in packets:
        if recipe.time_grid_s is not None:
            grid = round(recipe.time_grid_s / packet.time_base)
            packet.pts = packet.dts = packet.pts // grid * grid
    return packets


def _audio_stream(container: OutputContainer, recipe: Recipe) -> AudioStream:
    stream: AudioStream = container.add_stream(recipe.audio_codec, rate=recipe.rate_hz)  # type: ignore[assignment]
    stream.layout = "mono"
    return stream


def _audio_packets(stream: AudioStream, sounds: Sequence[Sound], recipe: Recipe) -> Iterator[Any]:
    for sound in sounds:
        for begin in range(0, len(sound.samples), 1024):
            part = sound.samples[begin : begin + 1024]
            frame = av.AudioFrame.from_ndarray(part[None], format="s16", layout="mono")
            frame.sample_rate, frame.time_base = recipe.rate_hz, Fraction(1, recipe.rate_hz)
            frame.pts = round(sound.start_s * recipe.rate_hz) + begin
            yield from stream.encode(frame)
    yield from stream.encode(None)


def damage(path: Path, begin_share: float, end_share: float) -> Path:
    """Overwrite a part of a file with noise, from ``begin_share`` to ``end_share`` of its length."""
    data = bytearray(path.read_bytes())
    begin, end = int(len(data) * begin_share), int(len(data) * end_share)
    data[begin:end] = np.random.default_rng(0).integers(0, 256, end - begin, dtype=np.uint8).tobytes()
    path.write_bytes(data)
    return path


def cut_off(path: Path, share: float) -> Path:
    """Keep only the first ``share`` of a file."""
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * share)])
    return path
