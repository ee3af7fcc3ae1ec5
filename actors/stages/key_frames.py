"""The best picture of a scene, chosen while the pictures pass by.

Owns what makes a key frame good and how a picture becomes one (size, upright, RGB). Leaves where scenes begin and end
to ``scene_detector``. Holds the best picture so far and the few that lie too near to what may be the scene's end.
"""

from collections import deque
from dataclasses import dataclass

import cv2
import numpy as np
from av.video.frame import VideoFrame
from av.video.reformatter import VideoReformatter
from numpy.typing import NDArray

SAMPLE_EVERY_S = 0.4
CUT_MARGIN_S = 0.3
"""Pictures this near to a cut may show a blend, a flash or a compression artefact: they count half."""
NEAR_CUT_FACTOR = 0.5
MAX_PIXEL_ASPECT = 4.0


@dataclass(frozen=True)
class KeyFrame:
    """A picture that may stand for its scene."""

    time_s: float
    score: float
    image: NDArray[np.uint8]


class KeyFramePicker:
    """Picks one scene's key frame. Offer every picture of the scene in order, then ask for the best."""

    def __init__(self, scene_start_s: float, renderer: "KeyFrameRenderer") -> None:
        self._start_s = scene_start_s
        self._renderer = renderer
        self._next_s = scene_start_s
        self._best: KeyFrame | None = None
        self._recent: deque[KeyFrame] = deque()

    def offer(self, time_s: float, frame: VideoFrame, small: NDArray[np.uint8]) -> None:
        """Consider ``frame``, shown at ``time_s``; ``small`` is the same picture, BGR, a few hundred pixels wide."""
        if time_s < self._next_s:
            return
        self._next_s = time_s + SAMPLE_EVERY_S
        self._settle(time_s)
        score = picture_score(small)
        if time_s - self._start_s < CUT_MARGIN_S:
            score *= NEAR_CUT_FACTOR
        if self._best is None or score > self._best.score:
            self._recent.append(KeyFrame(time_s, score, self._renderer.render(frame)))

    def best(self, scene_end_s: float) -> KeyFrame:
        """The scene's key frame, now that its end is known. At least one picture must have been offered."""
        self._settle(scene_end_s)
        chosen = self._best
        for frame in self._recent:
            if chosen is None or frame.score * NEAR_CUT_FACTOR > chosen.score:
                chosen = frame
        if chosen is None:
            raise ValueError("no picture was offered for this scene")
        return chosen

    def _settle(self, now_s: float) -> None:
        """Judge the pictures that have come to lie far enough from whatever cut follows."""
        while self._recent and self._recent[0].time_s <= now_s - CUT_MARGIN_S:
            frame = self._recent.popleft()
            if self._best is None or frame.score > self._best.score:
                self._best = frame


def picture_score(small: NDArray[np.uint8]) -> float:
    """How well a picture can be looked at, from 0 to 1: sharp, neither dark nor burnt out, not blank.

    Sharpness is the variance of the Laplacian (Pech-Pacheco et al., 2000), contrast the grey values' deviation.
    """
    grey = cv2.cvtColor(small, cv2.COLOR_BGR2GRAY)
    mean, deviation = float(grey.mean()), float(grey.std())
    variance = float(cv2.Laplacian(grey, cv2.CV_32F).var())
    sharpness = variance / (variance + 200.0)
    contrast = min(1.0, deviation / 40.0)
    exposure = float(np.clip(min(mean - 8.0, 248.0 - mean) / 40.0, 0.0, 1.0))
    return (0.2 + 0.8 * sharpness) * (0.1 + 0.9 * contrast) * (0.1 + 0.9 * exposure)


class KeyFrameRenderer:
    """Turns decoded pictures into key frames: upright RGB, short side at most ``short_side_px``, square pixels."""

    def __init__(self, short_side_px: int) -> None:
        self._short_side_px = short_side_px
        self._reformatter = VideoReformatter()

    def render(self, frame: VideoFrame) -> NDArray[np.uint8]:
        """uint8[height, width, 3]; never larger than the picture itself is shown."""
        width, height = _shown_size(frame)
        scale = min(1.0, self._short_side_px / min(width, height))
        scaled = self._reformatter.reformat(
            frame,
            width=max(1, round(width * scale)),
            height=max(1, round(height * scale)),
            format="rgb24",
            interpolation="AREA" if scale < 1.0 else "BICUBIC",
        )
        turns = round(frame.rotation / 90) % 4
        return np.ascontiguousarray(np.rot90(scaled.to_ndarray(), turns), dtype=np.uint8)


def _shown_size(frame: VideoFrame) -> tuple[float, float]:
    """Width and height once pixels are square; the longer of the two shrinks, so that nothing is scaled up."""
    aspect = float(getattr(frame, "sample_aspect_ratio", None) or 1.0)
    aspect = min(MAX_PIXEL_ASPECT, max(1 / MAX_PIXEL_ASPECT, aspect))
    return (frame.width, frame.height / aspect) if aspect > 1.0 else (frame.width * aspect, frame.height)
