"""Cuts between pictures that are shown for a while each: slides, time-lapses of few pictures.

Where every picture differs from the one before, no change is an outlier, so ``hard_cuts`` finds none. Here two pictures
alone are compared: they are two scenes unless they show one place, lit otherwise, with something moving in it, or
from a camera that moves on. The longer a picture is shown, the less it takes to be a slide of its own.
"""

import cv2
import numpy as np
from numpy.typing import NDArray

BRIEF_US, SHOWN_US, LONG_US = 190_000, 490_000, 2_900_000
"""A picture that is shown for so long may be a slide: five, two and a third of a picture per second."""
DIFFERENT, OTHER = 15.0, 35.0
"""Mean differences of hue, saturation and brightness, of 255: the least of a cut, and one that no light explains."""
ALIKE, BRIEF_ALIKE, LONG_ALIKE = 0.5, 0.3, 0.75
"""Pictures that correlate more show one place; brief ones have to be wholly unlike each other."""
MOVED, MOVED_DIFFERENCE = 0.35, 15.0
"""Phase correlation of two pictures of which one is the other one, moved, and how far they differ then, of 255."""
STROKE, STROKES = 40.0, 0.01
"""New text changes this share of the pixels by so much, of 255, and leaves the ground as it was."""
GROUND = 4.0

Picture = NDArray[np.uint8]


class SlideFinder:
    """Finds the cuts of one video whose pictures are fed in order, all of one size, BGR."""

    def __init__(self) -> None:
        self._before: Picture | None = None
        self._before_us = 0
        self._was_shown_us = LONG_US

    def feed(self, time_us: int, picture: Picture) -> set[int]:
        """Take the next picture; its time when it begins a scene of its own."""
        before, shown_us = self._before, time_us - self._before_us
        self._before, self._before_us = picture, time_us
        if before is None:
            return set()
        was_shown_us, self._was_shown_us = self._was_shown_us, shown_us
        if shown_us < BRIEF_US:
            return set()
        # In the recording of a screen, pictures come as something changes: one long pause makes no slides of them.
        is_slide = min(shown_us, was_shown_us) >= LONG_US
        return (
            {time_us} if _is_new(before, picture, shown_us) or (is_slide and _has_new_text(before, picture)) else set()
        )


def _is_new(before: Picture, picture: Picture, shown_us: int) -> bool:
    change = _change(before, picture)
    if change < DIFFERENT:
        return False
    alike = _correlation(before, picture)
    if shown_us < SHOWN_US:
        return change >= OTHER and alike < BRIEF_ALIKE and not _is_moved(before, picture)
    same = alike >= (LONG_ALIKE if shown_us >= LONG_US else ALIKE)
    return (change >= OTHER or not same) and not _is_moved(before, picture)


def _change(before: Picture, picture: Picture) -> float:
    """Mean difference over pixels and channels as ``hard_cuts`` measures it, but with hues on their circle."""
    first, second = (cv2.cvtColor(image, cv2.COLOR_BGR2HSV).astype(np.int16) for image in (before, picture))
    differences = np.abs(first - second)
    differences[..., 0] = np.minimum(differences[..., 0], 180 - differences[..., 0])
    return float(differences.mean())


def _correlation(before: Picture, picture: Picture) -> float:
    first, second = (image.astype(np.float32).ravel() for image in (before, picture))
    first, second = first - first.mean(), second - second.mean()
    norms = float(np.linalg.norm(first) * np.linalg.norm(second))
    return float(first @ second) / norms if norms else 1.0


def _is_moved(before: Picture, picture: Picture) -> bool:
    """Whether the camera has moved on: one picture is the other one elsewhere."""
    height, width = picture.shape[:2]
    window = cv2.createHanningWindow((width, height), cv2.CV_32F)
    (right, down), response = cv2.phaseCorrelate(_grey(before), _grey(picture), window)
    x, y = round(right), round(down)
    if response < MOVED or not (x or y) or abs(x) > width // 2 or abs(y) > height // 2:
        return False
    now = picture[max(0, y) : height + min(0, y), max(0, x) : width + min(0, x)]
    then = before[max(0, -y) : height - max(0, y), max(0, -x) : width - max(0, x)]
    return float(cv2.norm(now, then, cv2.NORM_L1)) / now.size < MOVED_DIFFERENCE


def _has_new_text(before: Picture, picture: Picture) -> bool:
    differences = np.abs(_grey(before) - _grey(picture))
    ground = float(np.median(differences))
    return ground < GROUND and float((differences > STROKE).mean()) >= STROKES


def _grey(picture: Picture) -> NDArray[np.float32]:
    return np.asarray(cv2.cvtColor(picture, cv2.COLOR_BGR2GRAY), np.float32)
