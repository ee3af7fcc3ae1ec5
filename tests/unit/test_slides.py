"""Pictures that are shown for a while each are scenes where they differ, one scene where they show one place."""

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from actors.stages.cuts import CutFinder
from actors.stages.hard_cuts import MIN_SCENE_US
from actors.stages.media_reader import MediaReader
from actors.stages.scene_detector import SceneDetector
from cluster.contracts.media import DetectedScene, LocalVideo, MediaLimits
from tests.support.media_files import Recipe, Shot, write_pictures
from tests.support.reported import reported

Pixels = NDArray[np.uint8]
LIMITS = MediaLimits(max_duration_s=600, max_pixels=4_000_000, max_fps=120, max_streams=8, max_bytes=10**8)
WIDTH, HEIGHT = 320, 240
COUNT = 10


def scenes_of(path: Path) -> list[DetectedScene]:
    reader = MediaReader(LIMITS)
    video = LocalVideo(path=path, size_bytes=path.stat().st_size, temporary=False)
    blocks = SceneDetector(96, 32, LIMITS, 1).detect(video, reader.probe(video))
    return [scene for block in blocks for scene in block.scenes]


def cuts_of(pictures: list[Pixels], seconds_each: float) -> list[float]:
    finder = CutFinder()
    cuts = []
    for number, picture in enumerate(pictures):
        small = np.asarray(cv2.resize(picture, (128, 96), interpolation=cv2.INTER_AREA), np.uint8)
        cuts += finder.feed(round(number * seconds_each * 1e6), small)
    return [cut / 1e6 for cut in (*cuts, *finder.finish())]


def photos() -> list[Pixels]:
    return [Shot(1, seed).picture(0, WIDTH, HEIGHT) for seed in range(COUNT)]


def colours() -> list[Pixels]:
    named = [(200, 0, 0), (0, 130, 0), (0, 0, 220), (250, 250, 0), (255, 255, 255), (0, 0, 128), (255, 165, 0)]
    more = [(128, 0, 128), (0, 255, 255), (128, 128, 128)]
    return [np.full((HEIGHT, WIDTH, 3), colour, np.uint8) for colour in (*named, *more)]


def text_pages(dark: bool = False) -> list[Pixels]:
    """White pages of one template: a bar, a title, lines of text."""
    rng = np.random.default_rng(1)
    pages = []
    for number in range(COUNT):
        page = np.full((HEIGHT, WIDTH, 3), 255, np.uint8)
        cv2.rectangle(page, (0, 0), (WIDTH, 30), (160, 60, 20), -1)
        cv2.putText(page, f"Title {number}", (10, 22), 0, 0.6, (255, 255, 255), 2)
        for line in range(rng.integers(3, 7)):
            words = "- " + "".join(rng.choice(list("abcdefgh  ijklm"), rng.integers(8, 28)))
            cv2.putText(page, words, (15, 60 + 28 * line), 0, 0.5, (0, 0, 0), 1)
        pages.append(np.asarray(255 - page if dark else page, np.uint8))
    return pages


def moving_camera(pixels: int) -> list[Pixels]:
    patches = np.random.default_rng(2).integers(30, 226, (12, 64, 3), dtype=np.uint8)
    wide = np.asarray(cv2.resize(patches, (2400, HEIGHT), interpolation=cv2.INTER_CUBIC), np.uint8)
    return [np.ascontiguousarray(wide[:, pixels * n : pixels * n + WIDTH]) for n in range(COUNT)]


def sunrise(step: float) -> list[Pixels]:
    shot = Shot(1, 5).picture(0, WIDTH, HEIGHT).astype(float)
    return [np.clip(shot * (0.2 + step * n), 0, 255).astype(np.uint8) for n in range(COUNT)]


def evening_sky() -> list[Pixels]:
    """A sky whose colour changes above a ground that stays."""
    height = np.linspace(0, 1, HEIGHT)[:, None] * np.ones((1, WIDTH))
    pictures = []
    for n in range(COUNT):
        hues = np.full((HEIGHT, WIDTH), 100.0 + 6 * n)
        hsv = np.stack([hues, np.full_like(hues, 150), 80 + 120 * height], axis=-1).astype(np.uint8)
        picture = np.asarray(cv2.cvtColor(hsv, cv2.COLOR_HSV2BGR), np.uint8)
        picture[HEIGHT // 2 :] = Shot(1, 3).picture(0, WIDTH, HEIGHT)[HEIGHT // 2 :] // 2
        pictures.append(picture)
    return pictures


def people() -> list[Pixels]:
    """One place with something that moves."""
    rng = np.random.default_rng(3)
    pictures = []
    for _ in range(COUNT):
        picture = Shot(1, 5).picture(0, WIDTH, HEIGHT)
        x, y = rng.integers(0, WIDTH - 60), rng.integers(0, HEIGHT - 80)
        picture[y : y + 80, x : x + 40] = rng.integers(0, 255, 3)
        pictures.append(picture)
    return pictures


SLIDES: dict[str, Callable[[], list[Pixels]]] = {"photos": photos, "colours": colours}
PLACES: dict[str, Callable[[], list[Pixels]]] = {
    "slow camera": lambda: moving_camera(4),
    "camera": lambda: moving_camera(16),
    "fast camera": lambda: moving_camera(40),
    "slow sunrise": lambda: sunrise(0.05),
    "sunrise": lambda: sunrise(0.12),
    "evening sky": evening_sky,
}


@pytest.mark.parametrize("seconds_each", [0.7, 1.0, 2.0, 5.0, 30.0])
@pytest.mark.parametrize("name", SLIDES)
def test_different_pictures_are_a_scene_each(name: str, seconds_each: float) -> None:
    expected = [number * seconds_each for number in range(1, COUNT)]
    assert cuts_of(SLIDES[name](), seconds_each) == pytest.approx(expected)


@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize("seconds_each", [3.0, 5.0, 20.0])
def test_pages_of_text_are_a_scene_each(seconds_each: float, dark: bool) -> None:
    assert len(cuts_of(text_pages(dark), seconds_each)) == COUNT - 1


@pytest.mark.parametrize("seconds_each", [0.04, 0.2, 0.25, 0.5])
def test_scenes_of_a_fast_montage_keep_the_least_length(seconds_each: float) -> None:
    cuts = cuts_of(photos() * 4, seconds_each)
    assert all(np.diff([0.0, *cuts]) >= MIN_SCENE_US / 1e6 - 1e-9)


@pytest.mark.parametrize("seconds_each", [0.04, 0.2, 0.5, 1.0, 5.0])
@pytest.mark.parametrize("name", PLACES)
def test_time_lapse_of_one_place_is_one_scene(name: str, seconds_each: float) -> None:
    assert cuts_of(PLACES[name](), seconds_each) == []


@pytest.mark.parametrize("seconds_each", [0.04, 0.2, 0.5, 1.0, 2.0])
def test_place_with_people_is_one_scene(seconds_each: float) -> None:
    assert cuts_of(people(), seconds_each) == []


def test_pause_in_a_recorded_screen_makes_no_slide() -> None:
    finder = CutFinder()
    first, second = (np.asarray(cv2.resize(page, (128, 96)), np.uint8) for page in text_pages()[:2])
    times = [0.0, 0.1, 0.2, 8.0, 8.1, 8.2]
    cuts = [cut for n, time_s in enumerate(times) for cut in finder.feed(round(time_s * 1e6), [first, second][n // 3])]
    assert [*cuts, *finder.finish()] == []


@pytest.mark.parametrize("fps", ["1/10", "1/5", "1/2", "1"])
@pytest.mark.parametrize("suffix", ["mp4", "mkv"])
def test_slides_in_a_file_have_their_own_key_frames(fps: str, suffix: str, tmp_path: Path) -> None:
    over, under = (int(part) for part in f"{fps}/1".split("/")[:2])
    seconds_each = under / over
    slides = [slide[::2, ::2] for slide in photos()]
    timed = [(number * seconds_each, slide) for number, slide in enumerate(slides)]
    scenes = scenes_of(
        write_pictures(tmp_path / f"slides.{suffix}", timed, Recipe(size=(WIDTH // 2, HEIGHT // 2), fps=1))
    )
    assert [scene.start_s for scene in scenes] == pytest.approx([time_s for time_s, _ in timed], abs=2e-3)
    for scene, slide in zip(scenes, slides, strict=True):
        shown = cv2.resize(slide, scene.key_frame.shape[1::-1], interpolation=cv2.INTER_AREA)
        assert scene.start_s <= scene.key_frame_s < scene.end_s
        assert np.abs(scene.key_frame.astype(float) - shown).mean() < 15


def test_reported_slides_are_twelve_scenes_of_5_s() -> None:
    scenes = scenes_of(reported("29_slides_one_picture_each.mp4"))
    assert [(scene.start_s, scene.end_s) for scene in scenes] == [(5.0 * n, 5.0 * n + 5.0) for n in range(12)]
