"""Where one shot ends and the next begins: hard cuts, slides, and dissolves of about a second.

Owns which cuts make a scene, and the dissolves, which are recognised by what they are: for a second every picture is
a blend of two. Those with much motion in them are missed. Leaves hard cuts to ``hard_cuts``, pictures that are shown
for a while each to ``slides``.
"""

from collections import deque
from dataclasses import dataclass
from itertools import pairwise

import cv2
import numpy as np

from actors.stages.hard_cuts import MIN_SCENE_US, HardCutFinder, Picture
from actors.stages.slides import SlideFinder

SIDE_PX = 128
"""Long side of the pictures to look for cuts in. PySceneDetect takes 256 and finds the same, for what is
compared are means over the whole picture."""
WINDOW_US = 1_200_000
UNCERTAIN_US = 2 * WINDOW_US
"""A cut is reported at most this much later than its picture."""
SAMPLE_US = 100_000
MAX_SAMPLE_GAP_US = 300_000
"""With pictures further apart than this a blend cannot be distinguished from a slide show."""
MIN_BLENDED = 3
"""Samples of a window that must be a true mixture (``MIXED``); a hard cut has none."""
MIXED = (0.15, 0.85)
MAX_RESIDUAL = 0.1
"""Share of the difference between the first and the last picture that a blend may leave unexplained."""
MAX_CORRELATION = 0.5
"""More alike than this, it is one shot whose light changes or whose camera moves.

The two bounds belong together. A slow pan over a sinusoid looks like a blend too; when it has moved by the
phase p the correlation is cos p, the residual tan(p / 4) / 2: 0.13 where the correlation has fallen to 0.5.
"""
MIN_DIFFERENCE = 20.0
"""Mean difference of the first and the last picture per colour, of 255."""
MIN_DEVIATION = 6.0
"""A blank picture at either end makes it a fade, which shows no second shot."""

_MINIATURE = (64, 36)


class CutFinder:
    """Finds the cuts of one video whose pictures are fed in order, all of one size, BGR."""

    def __init__(self) -> None:
        self._hard = HardCutFinder()
        self._slides = SlideFinder()
        self._dissolves = _DissolveFinder()
        self._pending: set[int] = set()
        self._sampled_us = -SAMPLE_US
        self._last_cut_us = 0

    def feed(self, time_us: int, picture: Picture) -> list[int]:
        """Take the next picture; the cuts that are now certain, in order: new shots' first pictures."""
        if time_us - self._sampled_us >= SAMPLE_US:
            self._sampled_us = time_us
            miniature = np.asarray(cv2.resize(picture, _MINIATURE, interpolation=cv2.INTER_AREA), np.uint8)
            self._hard.judge_colours(miniature)
            self._pending.update(self._dissolves.feed(time_us, miniature))
        # Where pictures are seconds apart, outliers are known too late; slides are known at once.
        certain_us = time_us - UNCERTAIN_US
        self._pending.update(cut_us for cut_us in self._hard.feed(time_us, picture) if cut_us >= certain_us)
        self._pending.update(self._slides.feed(time_us, picture))
        return self._certain(certain_us) if self._pending else []

    def finish(self) -> list[int]:
        """The cuts that were still uncertain, now that there are no more pictures."""
        self._pending.update(self._dissolves.finish())
        return self._certain(None)

    def _certain(self, until_us: int | None) -> list[int]:
        """Take the pending cuts before ``until_us`` (None: all); those that make a scene too short go."""
        cuts = []
        for cut_us in sorted(cut_us for cut_us in self._pending if until_us is None or cut_us < until_us):
            self._pending.discard(cut_us)
            if cut_us - self._last_cut_us >= MIN_SCENE_US:
                self._last_cut_us = cut_us
                cuts.append(cut_us)
        return cuts


@dataclass(frozen=True)
class _Blend:
    """A window that looks like a dissolve: where it is half done, and how different its ends are."""

    time_us: int
    difference: float


class _DissolveFinder:
    """Slides a window over sampled miniatures; of overlapping windows that fit, the most different wins."""

    def __init__(self) -> None:
        self._samples: deque[tuple[int, Picture]] = deque()
        self._best: _Blend | None = None
        self._silent_until_us = 0

    def feed(self, time_us: int, miniature: Picture) -> list[int]:
        """Take the next sample; the dissolves that no later window can describe better."""
        self._samples.append((time_us, miniature))
        while len(self._samples) > 1 and self._samples[1][0] <= time_us - WINDOW_US:
            self._samples.popleft()
        begin_us = self._samples[0][0]
        found = self.finish() if self._best is not None and self._best.time_us < begin_us else []
        if time_us - begin_us >= WINDOW_US and begin_us >= self._silent_until_us:
            blend = _blend(self._samples)
            if blend is not None and (self._best is None or blend.difference > self._best.difference):
                self._best = blend
        return found

    def finish(self) -> list[int]:
        """The dissolve that is still waiting for better windows, if there is one."""
        if self._best is None:
            return []
        time_us, self._best = self._best.time_us, None
        self._silent_until_us = time_us
        return [time_us]


def _blend(samples: deque[tuple[int, Picture]]) -> _Blend | None:
    """The dissolve that ``samples`` show, if every one of them is a mixture of the first and the last."""
    times = [time_us for time_us, _ in samples]
    if max(after - before for before, after in pairwise(times)) > MAX_SAMPLE_GAP_US:
        return None
    difference = float(cv2.norm(samples[0][1], samples[-1][1], cv2.NORM_L1)) / samples[0][1].size
    if difference < MIN_DIFFERENCE:
        return None
    pictures = np.stack([picture.reshape(-1) for _, picture in samples]).astype(np.float32)
    first, last = pictures[0], pictures[-1]
    change = last - first
    shares = (pictures @ change - first @ change) / float(change @ change)
    mixed = int(((shares > MIXED[0]) & (shares < MIXED[1])).sum())
    if mixed < MIN_BLENDED or np.diff(shares).min() < -MIXED[0]:
        return None
    if min(first.std(), last.std()) < MIN_DEVIATION or float(np.corrcoef(first, last)[0, 1]) > MAX_CORRELATION:
        return None
    residuals = np.linalg.norm(pictures - first - shares[:, None] * change, axis=1) / float(np.linalg.norm(change))
    return _Blend(times[int(np.argmax(shares >= 0.5))], difference) if residuals.max() <= MAX_RESIDUAL else None
