"""Sound of many channels for the tests: voices that can be distinguished, files of any layout and codec."""

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from av.audio.stream import AudioStream
from numpy.typing import NDArray

from tests.support.media_files import Shot

Signal = NDArray[np.float32]

RATE_HZ = 16_000


def voice(seconds: float, seed: int = 1, rate_hz: int = RATE_HZ, level: float = 0.1) -> Signal:
    """Noise in the band of speech that comes and goes four times a second, with a pause after every second."""
    count = round(seconds * rate_hz)
    spectrum = np.fft.rfft(np.random.default_rng(seed).normal(size=count))
    frequencies = np.fft.rfftfreq(count, 1 / rate_hz)
    spectrum[(frequencies < 300) | (frequencies > 3000)] = 0
    times = np.arange(count) / rate_hz
    syllables = np.square(np.sin(np.pi * 4 * times)) * (times % 1.5 < 1.0)
    sound = np.fft.irfft(spectrum, count) * syllables
    return (level * sound / np.sqrt(np.square(sound).mean())).astype(np.float32)


def rumble(seconds: float, rate_hz: int = RATE_HZ, level: float = 0.5) -> Signal:
    """A deep, loud tone that comes and goes."""
    times = np.arange(round(seconds * rate_hz)) / rate_hz
    return (level * np.sin(2 * np.pi * 60 * times) * (times % 2 < 1)).astype(np.float32)


def hiss(seconds: float, seed: int, rate_hz: int = RATE_HZ, level: float = 0.001) -> Signal:
    """Steady white noise."""
    return np.random.default_rng(seed).normal(0, level, round(seconds * rate_hz)).astype(np.float32)


def likeness(heard: Signal, sound: Signal) -> float:
    """The best correlation of two signals, whatever their delay and sign: 1 where they are the same."""
    count = 1 << (len(heard) + len(sound)).bit_length()
    products = np.fft.irfft(np.fft.rfft(heard, count) * np.fft.rfft(sound, count).conj(), count)
    return float(np.abs(products).max() / (np.linalg.norm(heard) * np.linalg.norm(sound) + 1e-9))


def write_channels(
    path: Path,
    channels: Sequence[Signal],
    layout: str,
    codec: str = "pcm_s16le",
    rate_hz: int = RATE_HZ,
    options: dict[str, str] | None = None,
) -> Path:
    """Write one track of these channels beside a moving picture."""
    sound = np.stack(channels)
    pictures = [Shot(1.0, 1).picture(number, 64, 48) for number in range(round(sound.shape[1] / rate_hz * 25))]
    with av.open(str(path), "w") as container:
        video = container.add_stream("mpeg4", rate=25)
        video.width, video.height, video.pix_fmt = 64, 48, "yuv420p"
        audio: AudioStream = container.add_stream(codec, rate=rate_hz, layout=layout, options=options or {})  # type: ignore[assignment]
        for picture in pictures:
            container.mux(video.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(video.encode(None))
        for begin in range(0, sound.shape[1], 960):
            part = np.ascontiguousarray(sound[:, begin : begin + 960].T).reshape(1, -1)
            frame = av.AudioFrame.from_ndarray(part, "flt", layout)
            frame.sample_rate, frame.time_base, frame.pts = rate_hz, Fraction(1, rate_hz), begin
            container.mux(audio.encode(frame))
        container.mux(audio.encode(None))
    return path
