"""Small pictures show what the large ones show, however these are stored."""

import av
import cv2
import numpy as np
import pytest
from av.video.frame import VideoFrame
from av.video.reformatter import ColorRange
from numpy.typing import NDArray

from actors.stages.hard_cuts import MONOCHROME_SPREAD, colour_spread
from actors.stages.small_pictures import Shrinker
from tests.support.media_files import Shot


def frame(picture: NDArray[np.uint8], pix_fmt: str = "yuv420p") -> VideoFrame:
    full = {"dst_color_range": ColorRange.JPEG} if pix_fmt.startswith("yuvj") else {}
    return av.VideoFrame.from_ndarray(picture, format="rgb24").reformat(format=pix_fmt, **full)


def expected(picture: NDArray[np.uint8], small: NDArray[np.uint8]) -> NDArray[np.float64]:
    size = small.shape[1], small.shape[0]
    return cv2.resize(picture, size, interpolation=cv2.INTER_AREA)[:, :, ::-1].astype(float)


SIZES = [(1920, 1080), (1280, 720), (640, 360), (257, 143), (161, 121), (1080, 1920), (3840, 1606), (160, 90)]


@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize("pix_fmt", ["yuv420p", "yuvj420p", "yuv422p", "yuv420p10le", "nv12", "gray"])
def test_every_kind_of_picture_is_shown_as_it_is(size: tuple[int, int], pix_fmt: str) -> None:
    picture = Shot(1.0, 1).picture(3, *size)
    if pix_fmt == "gray":
        picture = np.repeat(picture[:, :, :1], 3, axis=2)
    small = Shrinker(256).shrink(frame(picture, pix_fmt))
    assert np.abs(small - expected(picture, small)).mean() < 5.0


@pytest.mark.parametrize(
    ("size", "small"),
    [((1920, 1080), (144, 256)), ((1080, 1920), (256, 144)), ((161, 121), (120, 160)), ((2, 900), (256, 2))],
)
def test_the_long_side_is_256_pixels_and_never_scaled_up(size: tuple[int, int], small: tuple[int, int]) -> None:
    for pix_fmt in ("yuv420p", "rgb24"):
        assert Shrinker(256).shrink(frame(np.zeros((size[1], size[0], 3), np.uint8), pix_fmt)).shape == (*small, 3)


def test_the_size_is_the_first_pictures_whatever_follows() -> None:
    shrinker = Shrinker(256)
    shots = [Shot(1.0, 1).picture(0, *size) for size in ((640, 360), (320, 240), (100, 400))]
    small = [shrinker.shrink(frame(shot)) for shot in shots]
    assert {picture.shape for picture in small} == {(144, 256, 3)}
    for shot, picture in zip(shots, small, strict=True):
        assert np.abs(picture - expected(shot, picture)).mean() < 5.0


@pytest.mark.parametrize("pix_fmt", ["yuv420p", "yuvj420p"])
def test_black_and_white_stays_so_and_colours_stay_colours(pix_fmt: str) -> None:
    colours = Shot(1.0, 1).picture(0, 640, 360)
    grey = np.repeat(colours[:, :, :1], 3, axis=2)
    assert colour_spread(Shrinker(256).shrink(frame(grey, pix_fmt))) < MONOCHROME_SPREAD
    assert colour_spread(Shrinker(256).shrink(frame(colours, pix_fmt))) > 5 * MONOCHROME_SPREAD
