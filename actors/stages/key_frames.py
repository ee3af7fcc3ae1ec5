"""The best picture of a scene, chosen while the pictures pass by.

Owns what makes a key frame good and how a picture becomes one (size, RGB). Leaves where scenes begin and end to
``cuts``, shape and orientation to ``display``, high dynamic range to ``tone_mapping``. Holds the best picture so far
and the few of the last seconds that may be the next's, as small copies: only those that win are made into key frames.
"""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, replace

import cv2
import numpy as np
from av.video.frame import VideoFrame
from av.video.reformatter import VideoReformatter
from numpy.typing import NDArray

from actors.stages.display import Orientation, colour_matrix, shown_size
from actors.stages.small_pictures import Shrinker, halved
from actors.stages.tone_mapping import Light

JUDGED_PX = 256
"""Long side of the pictures that samples are judged by: fine enough to distinguish sharp from blurred."""
SAMPLE_EVERY_S = 0.4
LONGEST_UNSAMPLED_S = 0.55
"""Shorter than any scene, so that every scene holds a sample."""
CUT_MARGIN_S = 0.5
"""Pictures this near to a cut may show a blend, a flash or a compression artefact: they count half."""
NEAR_CUT_FACTOR = 0.5
MAX_ASPECT = 8.0
"""The long side of a key frame is at most so many times the wanted short side, whatever strip the picture is."""


@dataclass(frozen=True)
class KeyFrame:
    """A picture that represents its scene: RGB."""

    time_s: float
    image: NDArray[np.uint8]


@dataclass(frozen=True)
class _Sample:
    """A picture that may represent its scene, and its score."""

    time_s: float
    score: float
    picture: "_Copy"


@dataclass(frozen=True)
class _Copy:
    """A picture small enough to be kept, and how it is to be shown: the size to scale it to, how it comes upright
    then, and its light where that is not an ordinary picture's.
    """

    frame: VideoFrame
    size: tuple[int, int]
    orientation: Orientation
    light: Light | None


class KeyFramePicker:
    """Samples the passing pictures and keeps, for the scene that is not over, only what may still win.

    Cuts become known late: ``settle`` says up to where there are none that have not been reported.
    """

    def __init__(self, renderer: "KeyFrameRenderer") -> None:
        self._renderer = renderer
        self._shrinker = Shrinker(JUDGED_PX)
        self._start_s = 0.0
        self._best: _Sample | None = None
        self._unsettled: deque[_Sample] = deque()
        self._sampled_s = float("-inf")
        self._unsampled: tuple[float, VideoFrame] | None = None

    def offer(self, time_s: float, frame: VideoFrame) -> None:
        """Consider ``frame``, shown at ``time_s``."""
        if time_s - self._sampled_s > LONGEST_UNSAMPLED_S:
            self.sample_last()
        if time_s - self._sampled_s < SAMPLE_EVERY_S:
            self._unsampled = time_s, frame
        else:
            self._sample(time_s, frame)

    def sample_last(self) -> None:
        """Make the last picture offered a sample too: it may be all there is of the last scene."""
        if self._unsampled is not None:
            self._sample(*self._unsampled)

    def settle(self, certain_s: float) -> None:
        """Judge the samples well before ``certain_s``: the scene's end is not near them."""
        while self._unsettled and self._unsettled[0].time_s < certain_s - CUT_MARGIN_S:
            self._consider(self._unsettled.popleft())

    def take(self, end_s: float) -> KeyFrame:
        """The key frame of the scene that ends at ``end_s``; the next scene begins there."""
        self.settle(end_s)
        while self._unsettled and self._unsettled[0].time_s < end_s:
            sample = self._unsettled.popleft()
            self._consider(replace(sample, score=sample.score * NEAR_CUT_FACTOR))
        if self._best is None:
            raise ValueError(f"no picture was sampled between {self._start_s} s and {end_s} s")
        best, self._best, self._start_s = self._best, None, end_s
        return KeyFrame(best.time_s, self._renderer.render(best.picture))

    def _sample(self, time_s: float, frame: VideoFrame) -> None:
        picture = self._renderer.copied(frame)
        score = picture_score(self._shrinker.shrink(picture.frame))
        self._unsettled.append(_Sample(time_s, score, picture))
        self._sampled_s, self._unsampled = time_s, None

    def _consider(self, sample: _Sample) -> None:
        if sample.time_s - self._start_s < CUT_MARGIN_S:
            sample = replace(sample, score=sample.score * NEAR_CUT_FACTOR)
        if self._best is None or sample.score > self._best.score:
            self._best = sample


def picture_score(small: NDArray[np.uint8]) -> float:
    """How well a picture can be looked at, from 0 to 1: sharp, neither dark nor burnt out, not blank.

    Sharpness is the Laplacian's variance (Pech-Pacheco et al., 2000), contrast the grey values' deviation.
    """
    grey = cv2.cvtColor(small, cv2.COLOR_BGR2GRAY)
    mean, deviation = _mean_and_deviation(grey)
    variance = _mean_and_deviation(cv2.Laplacian(grey, cv2.CV_16S))[1] ** 2
    sharpness = variance / (variance + 200.0)
    contrast = min(1.0, deviation / 40.0)
    exposure = float(np.clip(min(mean - 8.0, 248.0 - mean) / 40.0, 0.0, 1.0))
    return (0.2 + 0.8 * sharpness) * (0.1 + 0.9 * contrast) * (0.1 + 0.9 * exposure)


def _mean_and_deviation(grey: cv2.typing.MatLike) -> tuple[float, float]:
    mean, deviation = cv2.meanStdDev(grey)
    return float(mean[0, 0]), float(deviation[0, 0])


class KeyFrameRenderer:
    """Turns pictures into key frames: upright RGB, short side at most ``short_side_px`` and the long one at most
    ``MAX_ASPECT`` times that, square pixels, as an ordinary screen shows them.
    """

    def __init__(self, short_side_px: int, aspect: Callable[[], float] = lambda: 1.0) -> None:
        """``aspect``: width of the current picture's pixels over their height."""
        self._short_side_px = short_side_px
        self._aspect = aspect
        self._reformatter = VideoReformatter()

    def copied(self, frame: VideoFrame) -> _Copy:
        """What of ``frame`` is needed to render it later, less than four times as large as what will be rendered."""
        width, height = shown_size(frame, self._aspect())
        longest = MAX_ASPECT * self._short_side_px
        scale = min(1.0, self._short_side_px / min(width, height), longest / max(width, height))
        size = max(1, round(width * scale)), max(1, round(height * scale))
        halvings = max(0, (min(frame.width // size[0], frame.height // size[1])).bit_length() - 1)
        light = Light.of(frame)
        copy = None if light else halved(frame, halvings)
        return _Copy(copy or self._scaled(frame, size, light), size, Orientation.of(frame), light)

    def render(self, copy: _Copy) -> NDArray[np.uint8]:
        """uint8[height, width, 3]; never larger than the picture itself is shown."""
        if copy.light is None:
            picture = self._scaled(copy.frame, copy.size, None).to_ndarray()
        else:
            picture = copy.light.mapped(np.asarray(copy.frame.to_ndarray(), np.uint16))
        return copy.orientation.apply(np.asarray(picture, np.uint8))

    def _scaled(self, frame: VideoFrame, size: tuple[int, int], light: Light | None) -> VideoFrame:
        width, height = size
        return self._reformatter.reformat(
            frame,
            width=width,
            height=height,
            format="rgb24" if light is None else "rgb48le",  # 8 bits are too few for light that is spread out later
            interpolation="AREA" if width < frame.width or height < frame.height else "BICUBIC",
            src_colorspace=colour_matrix(frame),
        )
