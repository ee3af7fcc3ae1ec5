"""How a player shows a decoded picture: its shape, which way up, by which matrix its colours are made.

Owns what container and codec say about that. Leaves light and primaries to ``tone_mapping``.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from av.video.frame import VideoFrame
from av.video.reformatter import ColorRange, Colorspace
from av.video.stream import VideoStream
from numpy.typing import NDArray

MAX_PIXEL_ASPECT = 4.0
UNSPECIFIED = 2
"""``AVCOL_SPC_UNSPECIFIED``, and the same of transfer and primaries."""
SCALED_MATRICES = frozenset({0, 1, UNSPECIFIED, 4, 5, 6, 7, 9})
"""``AVColorSpace`` that FFmpeg's scaler has; it refuses pictures of YCgCo, SMPTE 2085, ICtCp and the derived ones."""
BT2020_CONSTANT = 10
"""Of constant luminance; mostly a wrong name for the usual BT.2020."""
HD_WIDTH_PX, HD_HEIGHT_PX = 1280, 576
"""Pictures of this width, or higher than this, are of BT.709 where nothing says of which matrix: mpv's rule."""

Pixels = NDArray[np.uint8]


class PixelAspect:
    """Width of a pixel over its height as a stream is decoded: what its container says, else what the codec says now.

    Broadcasts change between 4:3 and 16:9 at one size.
    """

    def __init__(self, stream: VideoStream) -> None:
        """Before anything of ``stream`` is decoded."""
        self._stream = stream
        self._stated = stream.sample_aspect_ratio
        self._by_container = bool(self._stated) and self._stated != stream.codec_context.sample_aspect_ratio

    def now(self) -> float:
        """The aspect of the picture that was decoded last, within ``MAX_PIXEL_ASPECT``."""
        codecs = None if self._by_container else self._stream.codec_context.sample_aspect_ratio
        stated = codecs or self._stated
        aspect = float(stated) if stated and stated > 0 else 1.0
        return min(MAX_PIXEL_ASPECT, max(1 / MAX_PIXEL_ASPECT, aspect))


class StatedColours:
    """What a stream's container says of its colours, for pictures whose codec says nothing of them.

    Decoders of HEVC and ProRes forget it: what they state themselves is all that their pictures have.
    """

    def __init__(self, stream: VideoStream) -> None:
        """Before anything of ``stream`` is decoded."""
        context = stream.codec_context
        self._transfer, self._primaries = int(context.color_trc), int(context.color_primaries)
        self._matrix, self._range = int(context.colorspace), int(context.color_range)

    def complete(self, frame: VideoFrame) -> None:
        """Fill in what ``frame`` leaves open, and replace a matrix that FFmpeg's scaler lacks by the nearest one."""
        if frame.color_trc == UNSPECIFIED:
            frame.color_trc = self._transfer
        if frame.color_primaries == UNSPECIFIED:
            frame.color_primaries = self._primaries
        if frame.colorspace == UNSPECIFIED:
            frame.colorspace = self._matrix
        if frame.colorspace not in SCALED_MATRICES:
            frame.colorspace = int(Colorspace.BT2020) if frame.colorspace == BT2020_CONSTANT else UNSPECIFIED
        if frame.color_range == ColorRange.UNSPECIFIED:
            frame.color_range = self._range


def shown_size(frame: VideoFrame, aspect: float) -> tuple[float, float]:
    """Width and height once pixels are square; one of the two shrinks, so that nothing is scaled up."""
    return (frame.width, frame.height / aspect) if aspect > 1.0 else (frame.width * aspect, frame.height)


@dataclass(frozen=True)
class Orientation:
    """What brings a picture upright: rows and columns changed, then mirrored left to right, then upside down."""

    transposed: bool = False
    mirrored: bool = False
    upside_down: bool = False

    @classmethod
    def of(cls, frame: VideoFrame) -> "Orientation":
        """Return the orientation nearest to the frame's display matrix. The matrix maps (x, y) to (a x + c y, b x + d
        y).
        """
        data: Any = frame.side_data.get("DISPLAYMATRIX")
        if data is None:
            return cls()
        a, b, _, c, d = (int(value) for value in np.frombuffer(bytes(data), np.int32)[:5])
        if abs(a) + abs(d) >= abs(b) + abs(c):
            return cls(False, a < 0, d < 0)
        return cls(True, c < 0, b < 0)

    def apply(self, picture: Pixels) -> Pixels:
        """``picture``, uint8[height, width, 3], upright."""
        if self.transposed:
            picture = picture.transpose(1, 0, 2)
        rows, columns = (-1 if self.upside_down else 1), (-1 if self.mirrored else 1)
        return np.ascontiguousarray(picture[::rows, ::columns])


def colour_matrix(frame: VideoFrame) -> int:
    """The frame's own ``colorspace``, or the one that players assume of pictures of its size."""
    if frame.colorspace != UNSPECIFIED:
        return int(frame.colorspace)
    large = frame.width >= HD_WIDTH_PX or frame.height > HD_HEIGHT_PX
    return int(Colorspace.ITU709 if large else Colorspace.ITU601)
