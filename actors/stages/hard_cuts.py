"""Hard cuts: where a picture differs from the one before far more than is usual around it.

Owns the definition, which is that of PySceneDetect's ``AdaptiveDetector`` at its defaults: the same scores, the same
decisions. It is computed here because that class takes five times as long over each picture. It judges colour and
brightness together and so hardly sees cuts in black and white: those pictures are also judged by brightness alone.
Leaves dissolves, and which of the cuts make a scene, to ``cuts``.
"""

from collections import deque

import cv2
import numpy as np
from numpy.typing import NDArray

MIN_SCENE_US = 600_000
MONOCHROME_SPREAD = 6.0
"""A picture is black and white when its pixels' strongest and weakest colours differ by less, of 255."""
AROUND = 2
"""Changes on either side of a picture's own that say what is usual there."""
UNUSUAL = 3.0
"""A cut changes the picture so many times as much as is usual."""
LEAST_CHANGE = 15.0
"""And by at least so much, of 255."""
NOTHING = 0.00001
"""The usual change in a still."""

Picture = NDArray[np.uint8]


class HardCutFinder:
    """Finds the hard cuts of one video whose pictures are fed in order, all of one size, BGR."""

    def __init__(self) -> None:
        self._colours: Picture | None = None
        self._brightness: Picture | None = None
        self._hard = _OutlierFinder()
        self._grey: _OutlierFinder | None = None

    def judge_colours(self, miniature: Picture) -> None:
        """Take note of whether the pictures, of which ``miniature`` is the next one made small, have colours."""
        if colour_spread(miniature) > MONOCHROME_SPREAD:
            self._grey = self._brightness = None
        elif self._grey is None:
            self._grey = _OutlierFinder()

    def feed(self, time_us: int, picture: Picture) -> set[int]:
        """Take the next picture; the cuts that are now known: new shots' first pictures."""
        colours = np.asarray(cv2.cvtColor(picture, cv2.COLOR_BGR2HSV), np.uint8)
        cuts = self._hard.feed(time_us, _mean_difference(colours, self._colours))
        self._colours = colours
        if self._grey is not None:
            brightness = np.asarray(cv2.extractChannel(colours, 2), np.uint8)
            cuts |= self._grey.feed(time_us, _mean_difference(brightness, self._brightness))
            self._brightness = brightness
        return cuts


class _OutlierFinder:
    """Finds the changes that are outliers among those around them."""

    def __init__(self) -> None:
        self._changes: deque[tuple[int, float]] = deque(maxlen=2 * AROUND + 1)
        self._last_cut_us: int | None = None

    def feed(self, time_us: int, change: float) -> set[int]:
        """Take by how much the picture at ``time_us`` differs from the one before; a cut ``AROUND`` pictures ago."""
        if self._last_cut_us is None:
            self._last_cut_us = time_us
        changes = self._changes
        changes.append((time_us, change))
        if len(changes) <= 2 * AROUND:
            return set()
        cut_us, largest = changes[AROUND]
        if largest < LEAST_CHANGE or cut_us - self._last_cut_us < MIN_SCENE_US:
            return set()
        usual = sum(change for n, (_, change) in enumerate(changes) if n != AROUND) / (2 * AROUND)
        if usual >= NOTHING and largest / usual < UNUSUAL:
            return set()
        self._last_cut_us = cut_us
        return {cut_us}


def _mean_difference(picture: Picture, before: Picture | None) -> float:
    """Mean over pixels and channels, as PySceneDetect weighs them; 0 without a picture to compare with."""
    return 0.0 if before is None else float(cv2.norm(picture, before, cv2.NORM_L1)) / picture.size


def colour_spread(picture: Picture) -> float:
    """By how much the pixels' strongest and weakest colours differ on the average, of 255."""
    blue, green, red = cv2.split(picture)
    strongest, weakest = cv2.max(cv2.max(blue, green), red), cv2.min(cv2.min(blue, green), red)
    return float(cv2.mean(cv2.subtract(strongest, weakest))[0])
