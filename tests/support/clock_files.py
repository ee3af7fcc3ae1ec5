"""Files of many containers with cuts and beeps at known times, for tests of the clock of a file."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from av.container import OutputContainer
from numpy.typing import NDArray

from tests.support.media_files import Samples, Shot, tone

FPS = 25
SIZE = (96, 72)
MPEG_SIZE = (160, 120)
"""In a program stream smaller pictures share packets, of which only the first has a time."""
BEEP_S = 0.2
RATES_HZ = {"wmav2": 44_100, "pcm_s16le": 16_000}
CODECS = {
    "avi": ("mpeg4", "mp2"),
    "flv": ("libx264", "aac"),
    "mkv": ("libx264", "aac"),
    "mov": ("libx264", "aac"),
    "mp4": ("libx264", "aac"),
    "mpg": ("mpeg2video", "mp2"),
    "ogv": ("libvpx", "libopus"),
    "ts": ("libx264", "mp2"),
    "webm": ("libvpx", "libopus"),
    "wmv": ("wmv2", "wmav2"),
}
"""Pictures and sound of each container."""

ENCODER_OPTIONS = {
    "libx264": {"preset": "ultrafast", "sc_threshold": "0"},
    "libvpx": {"deadline": "realtime", "cpu-used": "8"},
}


@dataclass(frozen=True)
class Clip:
    """The contents of a file: a shot of its own between cuts, a beep at each of ``beeps_s``.

    Times of cuts and beeps count from the clip's beginning; ``pictures_from_s`` and ``sound_from_s`` are where the
    streams' time-stamps begin. ``jump``: from this time on the time-stamps of both streams are shifted by so much.
    """

    pictures_s: float = 2.0
    sound_s: float = 2.0
    cuts_s: tuple[float, ...] = ()
    beeps_s: tuple[float, ...] = (0.5,)
    pictures_from_s: float = 0.0
    sound_from_s: float = 0.0
    jump: tuple[float, float] | None = None
    paused_s: tuple[float, float] | None = None
    """No pictures from the one time to the other, while the sound goes on."""
    seed: int = 1
    group: int = 25
    """Pictures per group of pictures."""
    first_id: int | None = None
    """Identifier (PID) of the pictures; the sound has the next one."""
    video_codec: str | None = None
    audio_codec: str | None = None
    options: tuple[tuple[str, str], ...] = ()


def write_clip(path: Path, clip: Clip) -> Path:
    """Write ``clip``; the suffix names the container."""
    video_codec, audio_codec = CODECS[path.suffix[1:]]
    with av.open(str(path), "w", options=dict(clip.options)) as container:
        packets = list(_pictures(container, clip.video_codec or video_codec, clip)) if clip.pictures_s else []
        packets += list(_sound(container, clip.audio_codec or audio_codec, clip)) if clip.sound_s else []
        for packet in sorted(packets, key=lambda packet: float(packet.dts * packet.time_base)):
            container.mux(packet)
    return path


def _pictures(container: OutputContainer, codec: str, clip: Clip) -> Iterator[Any]:
    options = dict(ENCODER_OPTIONS.get(codec, {}))
    if codec == "libx264" and clip.jump is None:
        options["bf"] = "2"
    stream: Any = container.add_stream(codec, rate=FPS, options={"g": str(clip.group), **options})
    size = MPEG_SIZE if codec == "mpeg2video" else SIZE
    stream.width, stream.height = size
    stream.pix_fmt = "yuv420p"
    if clip.first_id is not None:
        stream.id = clip.first_id
    for number in range(round(clip.pictures_s * FPS)):
        shot = sum(number >= round(cut * FPS) for cut in clip.cuts_s)
        time_s = number / FPS
        if clip.paused_s is not None and clip.paused_s[0] <= time_s < clip.paused_s[1]:
            continue
        pixels = Shot(1.0, clip.seed + shot).picture(number, *size)
        frame = av.VideoFrame.from_ndarray(pixels, format="rgb24").reformat(format="yuv420p")
        frame.pts, frame.time_base = number, Fraction(1, FPS)
        yield from _moved(stream.encode(frame), clip, clip.pictures_from_s)
    yield from _moved(stream.encode(None), clip, clip.pictures_from_s)


def _sound(container: OutputContainer, codec: str, clip: Clip) -> Iterator[Any]:
    rate_hz = RATES_HZ.get(codec, 48_000)
    stream: Any = container.add_stream(codec, rate=rate_hz)
    stream.layout, stream.bit_rate = "mono", 64_000
    if clip.first_id is not None:
        stream.id = clip.first_id + 1
    samples = _beeping(clip, rate_hz)
    for begin in range(0, len(samples), 1024):
        frame = av.AudioFrame.from_ndarray(samples[None, begin : begin + 1024], format="s16", layout="mono")
        frame.sample_rate, frame.time_base, frame.pts = rate_hz, Fraction(1, rate_hz), begin
        yield from _moved(stream.encode(frame), clip, clip.sound_from_s)
    yield from _moved(stream.encode(None), clip, clip.sound_from_s)


def _beeping(clip: Clip, rate_hz: int) -> Samples:
    samples = np.zeros(round(clip.sound_s * rate_hz), np.int16)
    beep = tone(BEEP_S, rate_hz, level=12_000)
    for time_s in clip.beeps_s:
        begin = round(time_s * rate_hz)
        samples[begin : begin + len(beep)] = beep[: max(0, len(samples) - begin)]
    return samples


def _moved(packets: Sequence[Any], clip: Clip, from_s: float) -> Iterator[Any]:
    for packet in packets:
        by_s = from_s
        if clip.jump is not None and packet.dts * packet.time_base >= clip.jump[0]:
            by_s += clip.jump[1]
        ticks = round(by_s / packet.time_base)
        packet.pts, packet.dts = packet.pts + ticks, packet.dts + ticks
        yield packet


def join(path: Path, *parts: Path) -> Path:
    """Write ``parts`` one after the other, byte by byte; of FLV files all but the first without their header."""
    header = 13 if path.suffix == ".flv" else 0
    first, *others = [part.read_bytes() for part in parts]
    path.write_bytes(first + b"".join(data[header:] for data in others))
    return path


def onsets_s(windows: Sequence[tuple[float, NDArray[np.int16]]], rate_hz: int) -> list[float]:
    """Times at which the beeps begin in windows of sound, each given with its start."""
    found: list[float] = []
    loud_s = -math.inf
    step = rate_hz // 200
    for start_s, samples in windows:
        levels = np.abs(samples[: len(samples) // step * step].astype(int)).reshape(-1, step).max(axis=1)
        for place in np.flatnonzero(levels > 4000):
            time_s = start_s + float(place) * step / rate_hz
            if time_s > loud_s + BEEP_S / 2:
                found.append(time_s)
            loud_s = time_s
    return found
