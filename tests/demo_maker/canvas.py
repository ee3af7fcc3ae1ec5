"""A picture under the brush: gradients, polygons, blobs and glows in relative coordinates, antialiased.

Owns the pixels of one frame (uint8 RGB). Leaves what is painted to `places` and `shapes`.
Coordinates: x in 0..1 of the width, y in 0..1 of the height; lengths are fractions of the height.
"""

from collections.abc import Sequence

import cv2
import numpy as np
import numpy.typing as npt

Colour = tuple[float, float, float]
Points = npt.NDArray[np.float64]
_SUBPIXEL_BITS = 4


class Canvas:
    """A frame of `width` x `height` pixels that painters draw on; `pixels` is the picture (uint8, RGB)."""

    def __init__(self, width: int, height: int) -> None:
        self.width, self.height = width, height
        self.pixels: npt.NDArray[np.uint8] = np.zeros((height, width, 3), np.uint8)

    @property
    def aspect(self) -> float:
        """Width over height."""
        return self.width / self.height

    def gradient(self, stops: Sequence[tuple[float, Colour]], top: float = 0.0, bottom: float = 1.0) -> None:
        """Fill the rows from `top` to `bottom` with colours that run smoothly through the `stops`."""
        first, last = round(top * self.height), round(bottom * self.height)
        rows = (np.arange(first, last) + 0.5) / self.height
        where = [top + position * (bottom - top) for position, _ in stops]
        column = np.stack([np.interp(rows, where, [colour[i] for _, colour in stops]) for i in range(3)], axis=1)
        self.pixels[first:last] = np.clip(column, 0, 255).astype(np.uint8)[:, None, :]

    def polygon(self, points: Points, colour: Colour, opacity: float = 1.0) -> None:
        """Fill the polygon through `points` (n, 2)."""
        corners = self._fixed(points)
        if opacity >= 1.0:
            cv2.fillPoly(self.pixels, [corners], colour, cv2.LINE_AA, _SUBPIXEL_BITS)
            return
        x, y, w, h = cv2.boundingRect(corners >> _SUBPIXEL_BITS)
        left, upper = max(x - 2, 0), max(y - 2, 0)
        right, lower = min(x + w + 3, self.width), min(y + h + 3, self.height)
        if left >= right or upper >= lower:
            return
        region = self.pixels[upper:lower, left:right]
        painted = region.copy()
        moved = corners - (np.array([left, upper], np.int32) << _SUBPIXEL_BITS)
        cv2.fillPoly(painted, [moved], colour, cv2.LINE_AA, _SUBPIXEL_BITS)
        region[:] = cv2.addWeighted(painted, opacity, region, 1.0 - opacity, 0.0)

    def outline(self, points: Points, colour: Colour, thickness: float, closed: bool = True) -> None:
        """Draw the line through `points`, `thickness` of the height wide."""
        pixels = max(1, round(thickness * self.height))
        cv2.polylines(self.pixels, [self._fixed(points)], closed, colour, pixels, cv2.LINE_AA, _SUBPIXEL_BITS)

    def dot(self, x: float, y: float, radius: float, colour: Colour, opacity: float = 1.0) -> None:
        """Fill a small disc."""
        self.polygon(self._ellipse(x, y, radius, radius, 10), colour, opacity)

    def ellipse(self, x: float, y: float, across: float, down: float, colour: Colour, opacity: float = 1.0) -> None:
        """Fill an ellipse with the half axes `across` and `down`, both in heights."""
        self.polygon(self._ellipse(x, y, across, down, 40), colour, opacity)

    def hill(self, heights: Points, colour: Colour, bottom: float = 1.0, opacity: float = 1.0) -> None:
        """Fill everything between a skyline of evenly spaced `heights` (n,) and `bottom`."""
        along = np.linspace(-0.01, 1.01, len(heights))
        edge = np.stack([along, heights], axis=1)
        self.polygon(np.concatenate([edge, [[1.01, bottom], [-0.01, bottom]]]), colour, opacity)

    def circle_points(self, x: float, y: float, radius: float) -> Points:
        """A circle that is round on this canvas, whatever its aspect."""
        return self._ellipse(x, y, radius, radius, 64)

    def _ellipse(self, x: float, y: float, across: float, down: float, corners: int) -> Points:
        angles = np.linspace(0, 2 * np.pi, corners, endpoint=False)
        return np.stack([x + across / self.aspect * np.cos(angles), y + down * np.sin(angles)], axis=1)

    def _fixed(self, points: Points) -> npt.NDArray[np.int32]:
        scaled = points * (self.width, self.height) * (1 << _SUBPIXEL_BITS)
        fixed: npt.NDArray[np.int32] = np.round(scaled).astype(np.int32)
        return fixed


def mixed(first: Colour, second: Colour, share: float) -> Colour:
    """`share` of the second colour in the first, 0 to 1."""
    low, high = np.asarray(first, float), np.asarray(second, float)
    red, green, blue = low + (high - low) * share
    return (float(red), float(green), float(blue))


def varied(rng: np.random.Generator, colour: Colour, spread: float = 12.0) -> Colour:
    """The colour a little off, so that no two pictures are alike."""
    red, green, blue = np.clip(np.asarray(colour) + rng.normal(0, spread, 3), 0, 255)
    return (float(red), float(green), float(blue))
