"""Sound of any number of channels mixed down to one, without losing what is said in it.

Owns which channels are used. The usual layouts are mixed as FFmpeg mixes them, as long as that loses nothing; where
channels cancel each other, or nothing says what they are, those are taken in which something is said. Leaves the
samples to ``sound_layout``, their rate to ``audio_reader``.

Decided for some seconds of sound at a time, from its energy in the band of speech. A mix is kept until it loses
speech, so that the choice does not go back and forth. Memory is those seconds.
"""

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cache

import numpy as np
from av.audio.frame import AudioFrame
from av.audio.resampler import AudioResampler
from av.error import FFmpegError
from numpy.typing import NDArray

from actors.stages.sound_layout import ChannelOrder, channels_of, mono_frame, order_of

LOOK_AHEAD_S = 5.0
LOOK_AHEAD_BYTES = 32 * 2**20
"""Decoded sound that is held back until its mix is decided, at most."""
BAND_EDGES_HZ = (250, 500, 750, 1000, 1500, 2000, 3000, 4000)
"""Speech is judged in these bands: below there is rumble, above hardly any energy of a voice."""
LOST = 0.1
"""Share of its energy below which sound counts as lost in the mix."""
MAY_LOSE, RETURNS_BELOW = 0.15, 0.05
"""The usual mix is left when it loses more than the one, returned to when it loses less than the other. Wide stereo
loses up to 0.1 by comb filtering (microphones far apart), recordings of films and music less than 0.01."""
OTHERS_MAY_LOSE = 0.05
ACTIVE = 0.03
"""Channels with less than this share of the best one's speech are left out of a mix of unknown channels."""
ONE_OF = 3
"""Of every three blocks (85 ms or less) one is looked at: no word is shorter, and it is a third of the work."""
FLOOR_PERCENTILE, FLOOR_FACTOR = 20, 4.0
"""Energy that is always there (hum, noise) says nothing about speech."""
FULL_SCALE = 8.0
"""No sound is meant to be louder than this, where 1.0 is full scale."""
SILENCE = 1e-7
"""Mean square of a channel below this (-70 dB) is silence."""

Weights = NDArray[np.float32]
Energies = NDArray[np.float32]
_Key = tuple[str, str, int, int]


def mixable(frames: Iterable[AudioFrame]) -> Iterator[AudioFrame]:
    """``frames`` that an ``AudioResampler`` mixes to one channel without loss.

    Frames that are right already, or of one channel, are handed on as they are; all others become mono.
    """
    held: list[AudioFrame] = []
    held_s, held_bytes = 0.0, 0
    mixer: _Mixer | None = None
    for frame in frames:
        if frame.layout.name == "mono" and not held:
            yield frame
            continue
        if mixer is None or mixer.key != _key(frame):
            yield from mixer.mixed(held) if mixer and held else ()
            held, held_s, held_bytes, mixer = [], 0.0, 0, _Mixer(frame)
        held.append(frame)
        held_s += frame.samples / max(1, frame.sample_rate)
        held_bytes += frame.samples * frame.layout.nb_channels * frame.format.bytes
        if held_s >= LOOK_AHEAD_S or held_bytes >= LOOK_AHEAD_BYTES or not mixer.decides:
            yield from mixer.mixed(held)
            held, held_s, held_bytes = [], 0.0, 0
    yield from mixer.mixed(held) if mixer and held else ()


def _key(frame: AudioFrame) -> _Key:
    return frame.format.name, frame.layout.name, frame.layout.nb_channels, frame.sample_rate


class _Mixer:
    """Mixes the frames of one format; remembers the weights that are in use (None: FFmpeg's own mix)."""

    def __init__(self, frame: AudioFrame) -> None:
        self.key = _key(frame)
        self._count = frame.layout.nb_channels
        self._usual, self._by_ffmpeg = _usual_weights(frame)
        self._weights = self._usual

    @property
    def decides(self) -> bool:
        """Whether there is a choice."""
        return self._count > 1

    def mixed(self, frames: list[AudioFrame]) -> Iterator[AudioFrame]:
        """``frames``, mixed in one way from the first to the last."""
        samples = [channels_of(frame) for frame in frames] if self.decides else []
        if samples:
            self._decide(_Spectrum.of(np.concatenate(samples, axis=1), frames[0].sample_rate))
        if self._weights is self._usual and self._by_ffmpeg:
            yield from frames
            return
        weights = np.full(self._count, 1 / self._count, np.float32) if self._weights is None else self._weights
        for index, frame in enumerate(frames):
            mixed = weights @ (samples[index] if samples else channels_of(frame))
            yield mono_frame(np.asarray(mixed, np.float32), frame)

    def _decide(self, spectrum: "_Spectrum | None") -> None:
        """Keep the weights in use unless they lose speech; of the others, take those that lose least."""
        if spectrum is None:
            return
        reference = spectrum.reference(self._usual)
        if self._weights is not None:
            lost = spectrum.lost_share(self._weights, reference)
            if lost <= (MAY_LOSE if self._weights is self._usual else 0.0):
                return
            if self._usual is not None and spectrum.lost_share(self._usual, reference) < RETURNS_BELOW:
                self._weights = self._usual
                return
            if lost <= OTHERS_MAY_LOSE:
                return
        others = spectrum.candidates()
        self._weights = min(others, key=lambda weights: round(spectrum.lost_share(weights, reference), 2))


def _usual_weights(frame: AudioFrame) -> tuple[Weights | None, bool]:
    """How the channels of a known layout are mixed, None for those of an unknown one; whether FFmpeg does so."""
    order, count = order_of(frame), frame.layout.nb_channels
    if order is ChannelOrder.AMBISONIC:
        return _ambisonic_weights(frame), False
    if count == 1:
        return np.ones(1, np.float32), False  # whatever the label: FFmpeg would drop one that is called LFE
    if order is ChannelOrder.CUSTOM or (order is ChannelOrder.UNSPECIFIED and count > 2):
        return None, False
    weights = _weights_of_ffmpeg(frame.layout.name, count)
    return weights, weights is not None


def _ambisonic_weights(frame: AudioFrame) -> Weights:
    """Take the component of all directions (W, ACN 0); channels beside the sphere are mixed in."""
    names = [channel.name for channel in frame.layout.channels]
    audible = [name == "AMBI0" or not name.startswith("AMBI") for name in names]
    return np.array(audible, np.float32) / np.float32(sum(audible))


@cache
def _weights_of_ffmpeg(layout: str, count: int) -> Weights | None:
    """With which weights FFmpeg mixes the channels of ``layout`` to one, None when it cannot: it mixes impulses."""
    impulses = AudioFrame.from_ndarray(np.eye(count, dtype=np.float32).reshape(1, -1), format="flt", layout=layout)
    impulses.sample_rate = 48_000
    resampler = AudioResampler(format="fltp", layout="mono", rate=48_000)
    try:
        mixed = [*resampler.resample(impulses), *resampler.resample(None)]
    except FFmpegError:
        return None
    parts = [channels_of(part)[0] for part in mixed if part is not None]
    weights = np.concatenate([np.zeros(0, np.float32), *parts])[:count]
    return weights if len(weights) == count and weights.any() else None


@dataclass(frozen=True)
class _Spectrum:
    """Some seconds of sound in the band of speech: complex64[channels, blocks, frequencies]; where bands begin."""

    bins: NDArray[np.complex64]
    bands: NDArray[np.intp]
    speech: Energies
    """Each channel's energy that is not always there: float32[channels, blocks, bands]."""

    @classmethod
    def of(cls, samples: NDArray[np.float32], rate_hz: int) -> "_Spectrum | None":
        """The spectrum of float32[channels, samples]; None when there is too little, or nothing but silence."""
        size = 1 << max(4, round(math.log2(max(1, rate_hz) / 16)))
        blocks = samples.shape[1] // size
        edges = [round(edge * size / rate_hz) for edge in BAND_EDGES_HZ if edge * 2 < rate_hz]
        if not blocks or len(edges) < 2:
            return None
        looked_at = _finite(samples[:, : blocks * size].reshape(-1, blocks, size)[:, ::ONE_OF])
        if float(np.square(looked_at).mean(axis=(1, 2)).max()) < SILENCE:
            return None
        first, last = edges[0], edges[-1]
        spectra = np.fft.rfft(looked_at * np.hanning(size).astype(np.float32))
        bins = np.ascontiguousarray(spectra[..., first:last], np.complex64)
        bands = np.array([edge - first for edge in edges[:-1]], np.intp)
        return cls(bins, bands, _above_floor(_band_energies(bins, bands)))

    def reference(self, usual: Weights | None) -> Energies:
        """What is said, wherever it is: the loudest channel's energy, float32[blocks, bands].

        Channels that the usual mix leaves out (LFE) count only when nothing is in the others.
        """
        if usual is not None and not usual.all():
            mixed = self.speech[usual != 0].max(axis=0)
            if float(mixed.sum()) > 1e-3 * float(self.speech.max(axis=0).sum()):
                return np.asarray(mixed, np.float32)
        return np.asarray(self.speech.max(axis=0), np.float32)

    def lost_share(self, weights: Weights, reference: Energies) -> float:
        """The share of what is said that a mix does not hold, measured in cells of time and frequency."""
        mixed = _band_energies(np.einsum("i,itf->tf", weights, self.bins), self.bands)
        lost = mixed < LOST * float(np.square(weights).max()) * reference
        return float(reference[lost].sum() / max(float(reference.sum()), 1e-30))

    def candidates(self) -> list[Weights]:
        """Mixes to choose from: all channels in which something is said, the best one, all in its phase."""
        scores = self.speech.sum(axis=(1, 2))
        best = int(scores.argmax())
        active = (scores >= ACTIVE * scores[best]).astype(np.float32)
        alike = np.einsum("itf,tf->i", self.bins, self.bins[best].conj()).real
        single = np.zeros_like(active)
        single[best] = 1.0
        share = active / active.sum()
        return [share, single, share * np.where(alike < 0, -1, 1).astype(np.float32)]


def _finite(samples: NDArray[np.float32]) -> NDArray[np.float32]:
    """Damaged files in floating point hold anything."""
    return np.asarray(np.clip(np.nan_to_num(samples, nan=0.0), -FULL_SCALE, FULL_SCALE), np.float32)


def _band_energies(bins: NDArray[np.complexfloating], bands: NDArray[np.intp]) -> Energies:
    energies = np.square(bins.real) + np.square(bins.imag)
    return np.add.reduceat(energies, bands, axis=-1).astype(np.float32)


def _above_floor(energies: Energies) -> Energies:
    floor = np.percentile(energies, FLOOR_PERCENTILE, axis=1, keepdims=True).astype(np.float32)
    above = np.maximum(energies - FLOOR_FACTOR * floor, 0).astype(np.float32)
    return above if above.any() else energies  # a steady tone has nothing else
