"""High dynamic range and wide gamut brought to what key frames are: 8 bits, BT.709 primaries, white as paper is white.

Owns the light of PQ (SMPTE ST 2084) and HLG (ITU-R BT.2100), and how it is compressed (BT.2390): reference white, 203
cd/m2 (BT.2408), becomes white unless brighter highlights need room. The picture itself shows how bright these are: many
files state no mastering display, or a wrong one.
"""

from dataclasses import dataclass
from functools import cache

import numpy as np
from av.video.frame import VideoFrame
from av.video.reformatter import ColorPrimaries, ColorTrc
from numpy.typing import NDArray

WHITE_NITS = 203.0
HLG_PEAK_NITS = 1000.0
HIGHLIGHT_PERCENTILE = 99.0
"""Brighter than this share of the picture may burn out: a reflection does not make the rest dark."""
WHITE_PEAK, HIGHLIGHT_PEAK = 1.5, 2.0
"""Up to the one, in units of white, what is brighter is an encoder's ringing about white edges, and white stays white;
from the other on it is light of its own."""
DISPLAY_GAMMA = 2.4
"""BT.1886."""

_M1, _M2 = 2610 / 16384, 2523 / 4096 * 128
_C1, _C2, _C3 = 3424 / 4096, 2413 / 4096 * 32, 2392 / 4096 * 32
_A, _B, _C = 0.17883277, 0.28466892, 0.55991073
_BT2020_LUMINANCE = np.array([0.2627, 0.6780, 0.0593])
_TO_BT709 = {
    int(ColorPrimaries.BT2020): np.array(
        [[1.6605, -0.5876, -0.0728], [-0.1246, 1.1329, -0.0083], [-0.0182, -0.1006, 1.1187]]
    ),
    int(ColorPrimaries.SMPTE432): np.array(
        [[1.2249, -0.2247, 0.0], [-0.0420, 1.0419, 0.0], [-0.0197, -0.0786, 1.0979]]
    ),
}
"""Linear light of BT.2020 (BT.2087) and of Display P3 to that of BT.709."""
_PQ, _HLG = int(ColorTrc.SMPTE2084), int(ColorTrc.ARIB_STD_B67)

Values = NDArray[np.float64]


@dataclass(frozen=True)
class Light:
    """Conversion of a frame's values into light: its transfer and its primaries, as FFmpeg numbers them."""

    transfer: int
    primaries: int

    @classmethod
    def of(cls, frame: VideoFrame) -> "Light | None":
        """What is to be mapped of ``frame``; None for ordinary pictures."""
        transfer, primaries = int(frame.color_trc), int(frame.color_primaries)
        return cls(transfer, primaries) if transfer in (_PQ, _HLG) or primaries in _TO_BT709 else None

    def mapped(self, picture: NDArray[np.uint16]) -> NDArray[np.uint8]:
        """RGB in 16 bits, uint16[height, width, 3], as an ordinary screen shows it: uint8 of the same shape."""
        values = picture.astype(np.float64) / 65535
        light = self._linear(values) @ _TO_BT709.get(self._gamut, np.eye(3)).T
        light = _compressed(np.maximum(light, 0.0)) if self.transfer in (_PQ, _HLG) else light
        shown: NDArray[np.uint8] = np.rint(_encoded(light) * 255).astype(np.uint8)
        return shown

    @property
    def _gamut(self) -> int:
        """High dynamic range that does not state its primaries has those of BT.2020."""
        hdr_alone = self.transfer in (_PQ, _HLG) and self.primaries == int(ColorPrimaries.UNSPECIFIED)
        return int(ColorPrimaries.BT2020) if hdr_alone else self.primaries

    def _linear(self, values: Values) -> Values:
        """Linear light, 1.0 is white."""
        if self.transfer == _PQ:
            return _pq_nits(values) / WHITE_NITS
        if self.transfer == _HLG:
            scene = _hlg_scene(values)
            luminance = (scene @ _BT2020_LUMINANCE)[..., None]
            return np.asarray(scene * luminance**0.2 * (HLG_PEAK_NITS / WHITE_NITS))
        return np.asarray(values**DISPLAY_GAMMA)


@cache
def small_picture_table(transfer: int) -> NDArray[np.uint8] | None:
    """What each byte of a high dynamic range picture is about on an ordinary screen; None for ordinary pictures."""
    values = np.linspace(0.0, 1.0, 256)
    if transfer == _PQ:
        light = _pq_nits(values) / WHITE_NITS
    elif transfer == _HLG:
        light = _hlg_scene(values) ** 1.2 * (HLG_PEAK_NITS / WHITE_NITS)
    else:
        return None
    knee = _rolled_off(light, HLG_PEAK_NITS / WHITE_NITS)
    return np.rint(_encoded(knee) * 255).astype(np.uint8)


def _encoded(light: Values) -> Values:
    return np.asarray(np.clip(light, 0.0, 1.0) ** (1 / DISPLAY_GAMMA))


def _compressed(light: Values) -> Values:
    """Light up to the picture's highlights brought to at most 1.0; hues stay."""
    strongest = light.max(axis=-1, keepdims=True)
    measured = float(np.percentile(strongest, HIGHLIGHT_PERCENTILE))
    certainty = float(np.clip((measured - WHITE_PEAK) / (HIGHLIGHT_PEAK - WHITE_PEAK), 0.0, 1.0))
    if not certainty:
        return light
    peak = 1.0 + (measured - 1.0) * certainty
    return np.asarray(light * (_rolled_off(strongest, peak) / np.maximum(strongest, 1e-6)))


def _rolled_off(light: Values, peak: float) -> Values:
    """BT.2390's EETF: light as it is up to a knee, from there on a spline up to ``peak``, which becomes 1.0."""
    full = _pq_values(np.array(peak * WHITE_NITS))
    target = float(_pq_values(np.array(WHITE_NITS)) / full)
    value = np.minimum(_pq_values(light * WHITE_NITS) / full, 1.0)
    knee = max(0.0, 1.5 * target - 0.5)
    t = np.clip((value - knee) / (1 - knee), 0.0, 1.0)
    spline = (2 * t**3 - 3 * t**2 + 1) * knee + (t**3 - 2 * t**2 + t) * (1 - knee) + (3 * t**2 - 2 * t**3) * target
    return _pq_nits(np.where(value < knee, value, spline) * full) / WHITE_NITS


def _pq_nits(values: Values) -> Values:
    power = values ** (1 / _M2)
    return np.asarray(10_000 * (np.maximum(power - _C1, 0.0) / (_C2 - _C3 * power)) ** (1 / _M1))


def _pq_values(nits: Values) -> Values:
    power = (np.maximum(nits, 0.0) / 10_000) ** _M1
    return np.asarray(((_C1 + _C2 * power) / (1 + _C3 * power)) ** _M2)


def _hlg_scene(values: Values) -> Values:
    return np.where(values <= 0.5, values**2 / 3, (np.exp((values - _C) / _A) + _B) / 12)
