"""Pictures of every matrix that a file may name are shown. Those that FFmpeg's scaler lacks use the nearest one."""

from fractions import Fraction
from itertools import product
from pathlib import Path

import av
import numpy as np
import pytest

from tests.support.read_files import read

MATRICES = range(15)
"""ITU-T H.273, table 4, with those that are reserved."""
FORMATS = ["yuv420p", "yuv420p10le", "yuv444p"]
IDENTITY = (0, "yuv444p")
"""Decoded as RGB, which it then is."""
COLOUR = (200, 60, 40)


def clip_of(path: Path, pixel_format: str, matrix: int) -> Path:
    """Two seconds of one colour, made by BT.601 whatever the file names."""
    pixels = np.full((96, 128, 3), COLOUR, np.uint8)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=10, options={"preset": "ultrafast", "qp": "8"})
        stream.width, stream.height, stream.pix_fmt = 128, 96, pixel_format
        stream.codec_context.colorspace = matrix
        for number in range(20):
            frame = av.VideoFrame.from_ndarray(pixels, format="rgb24").reformat(format=pixel_format)
            frame.pts, frame.time_base, frame.colorspace = number, Fraction(1, 10), matrix
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


@pytest.mark.parametrize(("matrix", "pixel_format"), [pair for pair in product(MATRICES, FORMATS) if pair != IDENTITY])
def test_pictures_of_every_matrix_are_shown(tmp_path: Path, matrix: int, pixel_format: str) -> None:
    found = read(clip_of(tmp_path / "clip.mp4", pixel_format, matrix))
    [scene] = found.blocks[0].scenes
    assert np.abs(scene.key_frame.mean((0, 1)) - COLOUR).max() < 40
