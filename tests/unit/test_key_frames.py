"""Key frames show the picture that was decoded, whatever was kept of it in the meantime."""

import av
import cv2
import numpy as np
import pytest
from av.video.reformatter import ColorRange, Colorspace

from actors.stages.key_frames import KeyFrameRenderer
from tests.support.media_files import Shot

SIZES = [(1920, 1080), (1280, 720), (854, 480), (641, 361), (1080, 1920), (4096, 300), (160, 120), (300, 2000)]


@pytest.mark.parametrize("pix_fmt", ["yuv420p", "yuvj420p", "yuv420p10le", "rgb24"])
@pytest.mark.parametrize("size", SIZES, ids=str)
def test_a_key_frame_shows_its_picture_in_its_colours(size: tuple[int, int], pix_fmt: str) -> None:
    drawn = Shot(1.0, 1).picture(3, 320, 180)
    picture = np.asarray(cv2.resize(drawn, size, interpolation=cv2.INTER_LINEAR), np.uint8)
    full = {"dst_color_range": ColorRange.JPEG} if pix_fmt == "yuvj420p" else {}
    frame = av.VideoFrame.from_ndarray(picture, format="rgb24").reformat(
        format=pix_fmt, dst_colorspace=Colorspace.ITU709, **full
    )
    renderer = KeyFrameRenderer(180)
    shown = renderer.render(renderer.copied(frame))
    assert min(shown.shape[:2]) <= 180
    assert shown.shape[0] <= size[1]
    expected = cv2.resize(picture, shown.shape[1::-1], interpolation=cv2.INTER_AREA)
    assert np.abs(shown.astype(float) - expected).mean() < 4.0


@pytest.mark.parametrize("size", [(1920, 1080), (7680, 4320), (720, 8000)], ids=str)
@pytest.mark.parametrize("pix_fmt", ["yuv420p", "yuv422p10le"])
def test_what_is_kept_of_a_picture_is_small_however_large_it_is(size: tuple[int, int], pix_fmt: str) -> None:
    kept = KeyFrameRenderer(288).copied(av.VideoFrame(*size, pix_fmt))
    width, height = kept.size
    assert sum(plane.buffer_size for plane in kept.frame.planes) < 4 * 1.5 * (width + 32) * (height + 2)
