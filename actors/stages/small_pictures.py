"""Decoded pictures made small, BGR: what cuts are looked for in and key frames are judged by.

Owns how they become small. The usual pictures, 8 bits and one sample of colour for four of light, are sampled
straight from the decoder's memory: it is reading a whole picture once more that costs, so some rows are left out. All
others go through FFmpeg's scaler.
"""

import cv2
import numpy as np
from av.video.frame import VideoFrame
from av.video.plane import VideoPlane
from av.video.reformatter import ColorRange, VideoReformatter
from numpy.typing import NDArray

from actors.stages.display import colour_matrix
from actors.stages.tone_mapping import small_picture_table

FULL_RANGE = "yuvj420p"
SAMPLED_FORMATS = ("yuv420p", FULL_RANGE)
_LIGHT, _COLOUR = 219 / 255, 224 / 255
"""The shares of a byte's range that video's usual range leaves to light and to colours."""

Plane = NDArray[np.uint8]
Picture = NDArray[np.uint8]


class Shrinker:
    """Makes the pictures of one video small, all to one size, whatever theirs: they are compared with each other."""

    def __init__(self, long_side_px: int) -> None:
        """Pictures smaller than ``long_side_px`` are not made larger."""
        self._long_side_px = long_side_px
        self._size: tuple[int, int] | None = None
        self._reformatter = VideoReformatter()

    def shrink(self, frame: VideoFrame) -> Picture:
        """uint8[height, width, 3], BGR; both sides even. Colours are near enough to compare, not to show."""
        if self._size is None:
            self._size = _small_size(frame.width, frame.height, self._long_side_px)
        sampled = frame.format.name in SAMPLED_FORMATS
        small = _sampled(frame, *self._size) if sampled else self._rescaled(frame, *self._size)
        table = small_picture_table(int(frame.color_trc))
        return small if table is None else np.asarray(cv2.LUT(small, table), np.uint8)

    def _rescaled(self, frame: VideoFrame, width: int, height: int) -> Picture:
        interpolation = "AREA" if width < frame.width else "BILINEAR"
        small = self._reformatter.reformat(
            frame, width=width, height=height, format="bgr24", interpolation=interpolation
        )
        return np.asarray(small.to_ndarray(), np.uint8)


def halved(frame: VideoFrame, times: int) -> VideoFrame | None:
    """A copy with both sides halved ``times`` times, each pixel the mean of those it replaces; None for pictures
    that are not of the usual kind.
    """
    width, height = (frame.width >> times) // 2 * 2, (frame.height >> times) // 2 * 2
    if frame.format.name not in SAMPLED_FORMATS or not width or not height:
        return None
    packed, parts = _packed(width, height)
    for plane, part in zip(frame.planes, parts, strict=True):
        pixels = _pixels(plane)[: part.shape[0] << times, : part.shape[1] << times]
        for rest in reversed(range(times)):
            smaller = part.shape[1] << rest, part.shape[0] << rest
            pixels = np.asarray(cv2.resize(pixels, smaller, interpolation=cv2.INTER_AREA), np.uint8)
        part[:] = pixels
    copy = VideoFrame.from_ndarray(packed, format=frame.format.name)
    copy.colorspace, copy.color_range = colour_matrix(frame), frame.color_range
    return copy


def _small_size(width: int, height: int, long_side_px: int) -> tuple[int, int]:
    half = min(1.0, long_side_px / max(width, height)) / 2
    return max(2, 2 * round(width * half)), max(2, 2 * round(height * half))


def _sampled(frame: VideoFrame, width: int, height: int) -> Picture:
    packed, parts = _packed(width, height)
    for plane, part in zip(frame.planes, parts, strict=True):
        _sample(_pixels(plane), part)
    if frame.format.name == FULL_RANGE or frame.color_range == ColorRange.JPEG:
        light, colours = packed[:height], packed[height:]
        cv2.convertScaleAbs(light, dst=light, alpha=_LIGHT, beta=16)
        cv2.convertScaleAbs(colours, dst=colours, alpha=_COLOUR, beta=128 * (1 - _COLOUR))
    return np.asarray(cv2.cvtColor(packed, cv2.COLOR_YUV2BGR_I420), np.uint8)


def _packed(width: int, height: int) -> tuple[Plane, tuple[Plane, ...]]:
    """Room for a picture as I420, and the parts of it: the light, then a quarter of it for each colour."""
    packed = np.empty((height * 3 // 2, width), np.uint8)
    return packed, (packed[:height], *packed[height:].reshape(2, height // 2, width // 2))


def _pixels(plane: VideoPlane) -> Plane:
    """The decoder's output, as a view of its memory."""
    return np.frombuffer(memoryview(plane), np.uint8).reshape(-1, abs(plane.line_size))[:, : plane.width]


def _sample(pixels: Plane, small: Plane) -> None:
    """Fill ``small`` with what ``pixels`` show: means of two to four rows' pixels for each of its own."""
    height, width = small.shape
    step = max(1, len(pixels) // (2 * height))
    pixels = pixels[step // 2 :: step]
    rows, columns = len(pixels) // 2, pixels.shape[1] // 2
    if rows >= height and columns >= width:
        halves = pixels[: 2 * rows, : 2 * columns]  # halving is what OpenCV does fast
        pixels = np.asarray(cv2.resize(halves, (columns, rows), interpolation=cv2.INTER_AREA), np.uint8)
    cv2.resize(pixels, (width, height), dst=small, interpolation=cv2.INTER_LINEAR)
