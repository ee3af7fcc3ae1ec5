"""Hard cuts are PySceneDetect's own, found in less time; black and white has eyes of its own."""

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from numpy.typing import NDArray
from scenedetect import FrameTimecode
from scenedetect.common import Timecode
from scenedetect.detectors import AdaptiveDetector

from actors.stages.cuts import SIDE_PX
from actors.stages.hard_cuts import MIN_SCENE_US, HardCutFinder, colour_spread
from actors.stages.small_pictures import Shrinker
from cluster.demo import clips

Film = list[tuple[int, NDArray[np.uint8]]]
MICROSECONDS = Fraction(1, 1_000_000)


def cuts_of(film: Film) -> list[int]:
    finder = HardCutFinder()
    return [cut for time_us, picture in film for cut in sorted(finder.feed(time_us, picture))]


def grey_cuts_of(film: Film) -> list[int]:
    finder = HardCutFinder()
    finder.judge_colours(np.zeros((4, 4, 3), np.uint8))
    return sorted({cut for time_us, picture in film for cut in finder.feed(time_us, picture)})


def cuts_of_pyscenedetect(film: Film, luma_only: bool = False) -> list[int]:
    detector = AdaptiveDetector(min_scene_len=MIN_SCENE_US / 1_000_000, luma_only=luma_only)
    timed = ((FrameTimecode(Timecode(time_us, MICROSECONDS), fps=25.0), picture) for time_us, picture in film)
    return [cut.pts for timecode, picture in timed for cut in detector.process_frame(timecode, picture)]


def random_film(seed: int) -> Film:
    """Shots of 1 to 30 pictures at an uneven pace, some alike, some flickering, some still."""
    rng = np.random.default_rng(seed)
    film: Film = []
    time_us = 0
    while len(film) < 400:
        shot = rng.integers(0, 256, (18, 32, 3))
        noise = rng.choice([0, 2, 10, 60])
        for _ in range(rng.integers(1, 31)):
            noisy = shot * rng.choice([1.0, 0.8]) + rng.normal(0, noise, shot.shape) if noise else shot
            film.append((time_us, np.clip(noisy, 0, 255).astype(np.uint8)))
            time_us += int(rng.integers(5_000, 120_000))
    return film


def shown(clip: Path) -> Film:
    shrinker = Shrinker(SIDE_PX)
    with av.open(str(clip)) as container:
        return [(round(frame.time * 1e6), shrinker.shrink(frame)) for frame in container.decode(video=0)]


@pytest.mark.parametrize("seed", range(12))
def test_cuts_are_those_of_pyscenedetect_on_random_pictures(seed: int) -> None:
    film = random_film(seed)
    found = cuts_of(film)
    assert found
    assert found == cuts_of_pyscenedetect(film)


@pytest.mark.parametrize("clip", clips(), ids=lambda clip: clip.stem)
def test_cuts_are_those_of_pyscenedetect_on_every_demo_clip(clip: Path) -> None:
    film = shown(clip)
    found = cuts_of(film)
    assert found
    assert found == cuts_of_pyscenedetect(film)


@pytest.mark.parametrize("seed", range(6))
def test_brightness_alone_is_judged_as_pyscenedetect_does(seed: int) -> None:
    film = [(time_us, np.repeat(picture[:, :, :1], 3, axis=2)) for time_us, picture in random_film(seed)]
    both = cuts_of_pyscenedetect(film), cuts_of_pyscenedetect(film, luma_only=True)
    assert grey_cuts_of(film) == sorted({*both[0], *both[1]})
    assert len(both[1]) > len(both[0])


def test_colours_end_the_judging_by_brightness() -> None:
    film = [(time_us, np.repeat(picture[:, :, :1], 3, axis=2)) for time_us, picture in random_film(0)]
    finder = HardCutFinder()
    finder.judge_colours(np.zeros((4, 4, 3), np.uint8))
    finder.judge_colours(np.full((4, 4, 3), (0, 0, 255), np.uint8))
    assert [cut for time_us, picture in film for cut in finder.feed(time_us, picture)] == cuts_of_pyscenedetect(film)


def test_colour_spread_is_that_of_the_pixels_on_average() -> None:
    picture = np.random.default_rng(3).integers(0, 256, (36, 64, 3), dtype=np.uint8)
    assert colour_spread(picture) == pytest.approx(np.ptp(picture.astype(int), axis=2).mean())
