"""Key frames look as a player shows the video: shape, orientation, matrix, range, high dynamic range."""

import struct
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from av.video.frame import VideoFrame
from av.video.reformatter import ColorPrimaries, ColorRange, Colorspace, ColorTrc
from av.video.stream import VideoStream
from numpy.typing import NDArray

from actors.stages.display import UNSPECIFIED
from actors.stages.hard_cuts import LEAST_CHANGE
from actors.stages.media_reader import MediaReader
from actors.stages.scene_detector import SceneDetector
from cluster.contracts.media import DetectedScene, LocalVideo, MediaLimits
from tests.support.reported import reported

Pixels = NDArray[np.uint8]
LIMITS = MediaLimits(max_duration_s=600, max_pixels=4_000_000, max_fps=120, max_streams=8, max_bytes=10**8)


def scenes_of(path: Path) -> list[DetectedScene]:
    reader = MediaReader(LIMITS)
    video = LocalVideo(path=path, size_bytes=path.stat().st_size, temporary=False)
    blocks = SceneDetector(288, 32, LIMITS, 1).detect(video, reader.probe(video))
    return [scene for block in blocks for scene in block.scenes]


def key_frame(path: Path) -> Pixels:
    return scenes_of(path)[0].key_frame


def write(
    path: Path, frames: list[VideoFrame], codec: str = "libx264", prepare: Callable[[VideoStream], object] = id
) -> Path:
    """Write frames at 25 per second; ``prepare`` is given the stream before the first one."""
    with av.open(str(path), "w") as container:
        stream: VideoStream = container.add_stream(codec, rate=25)  # type: ignore[assignment]
        stream.width, stream.height, stream.pix_fmt = frames[0].width, frames[0].height, frames[0].format.name
        if codec == "libx264":
            stream.codec_context.options = {"qp": "4", "preset": "ultrafast"}
        prepare(stream)
        for number, frame in enumerate(frames):
            frame.pts, frame.time_base = number, Fraction(1, 25)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def corners(height: int = 120, width: int = 160) -> Pixels:
    """Four corners of different colours."""
    picture = np.zeros((height, width, 3), np.uint8)
    picture[: height // 2, : width // 2] = (220, 30, 30)
    picture[: height // 2, width // 2 :] = (30, 200, 30)
    picture[height // 2 :, : width // 2] = (30, 30, 220)
    picture[height // 2 :, width // 2 :] = (220, 220, 220)
    return picture


def frames_of(picture: Pixels, count: int = 25, **colours: object) -> list[VideoFrame]:
    frame = VideoFrame.from_ndarray(picture, "rgb24").reformat(format="yuv420p", **colours)  # type: ignore[arg-type]
    return [frame] * count


def difference(shown: Pixels, expected: Pixels) -> float:
    assert shown.shape == expected.shape
    return float(np.abs(shown.astype(float) - expected).mean())


# Shape and orientation


@pytest.mark.parametrize("vflip", [False, True])
@pytest.mark.parametrize("hflip", [False, True])
@pytest.mark.parametrize("degrees", [0, 90, 180, 270])
def test_turned_and_mirrored_pictures_come_upright(degrees: int, hflip: bool, vflip: bool, tmp_path: Path) -> None:
    path = write(
        tmp_path / "turned.mp4",
        frames_of(corners()),
        prepare=lambda stream: stream.set_display_rotation(degrees, hflip, vflip),
    )
    expected = np.rot90(corners(), degrees // 90)
    expected = expected[:, ::-1] if hflip else expected
    assert difference(key_frame(path), expected[::-1] if vflip else expected) < 5


WIDE = [
    (Fraction(16, 9), (68, 120), "libx264", "mp4"),
    (Fraction(1, 2), (120, 60), "libx264", "mkv"),
    (Fraction(4, 3), (90, 120), "libx264", "h264"),
    (Fraction(4, 3), (90, 120), "mpeg2video", "ts"),
    (Fraction(1), (120, 120), "libx264", "mp4"),
]


@pytest.mark.parametrize(("aspect", "shape", "codec", "suffix"), WIDE)
def test_pixels_become_square(
    aspect: Fraction, shape: tuple[int, int], codec: str, suffix: str, tmp_path: Path
) -> None:
    def prepare(stream: VideoStream) -> None:
        stream.codec_context.sample_aspect_ratio = aspect

    shown = key_frame(write(tmp_path / f"wide.{suffix}", frames_of(corners(120, 120)), codec, prepare))
    assert shown.shape[:2] == shape
    assert [tuple(np.round(shown[y, x] / 100)) for y, x in ((5, 5), (5, -5), (-5, 5), (-5, -5))] == [
        (2, 0, 0),
        (0, 2, 0),
        (0, 0, 2),
        (2, 2, 2),
    ]


def test_pixels_are_as_wide_as_the_container_says(tmp_path: Path) -> None:
    def prepare(stream: VideoStream) -> None:
        stream.codec_context.sample_aspect_ratio = Fraction(4, 3)

    path = write(tmp_path / "both.mp4", frames_of(corners(120, 120)), prepare=prepare)
    stated, other = (b"pasp" + struct.pack(">II", *pair) for pair in ((4, 3), (1, 2)))
    assert stated in path.read_bytes()
    path.write_bytes(path.read_bytes().replace(stated, other))
    assert key_frame(path).shape == (120, 60, 3)


def test_shape_of_pixels_may_change_midway(tmp_path: Path) -> None:
    parts = []
    for number, aspect in enumerate([Fraction(16, 15), Fraction(64, 45)]):  # 4:3 and 16:9 at 720 x 576

        def prepare(stream: VideoStream, aspect: Fraction = aspect) -> None:
            stream.codec_context.sample_aspect_ratio = aspect

        picture = corners(576, 720)[:, :: 1 if number else -1]
        parts.append(write(tmp_path / f"{number}.ts", frames_of(picture, 50), "mpeg2video", prepare))
    joined = tmp_path / "joined.ts"
    joined.write_bytes(b"".join(part.read_bytes() for part in parts))
    assert [scene.key_frame.shape for scene in scenes_of(joined)] == [(288, 384, 3), (288, 512, 3)]


def test_turned_picture_with_wide_pixels_is_tall(tmp_path: Path) -> None:
    def prepare(stream: VideoStream) -> None:
        stream.codec_context.sample_aspect_ratio = Fraction(2)
        stream.set_display_rotation(90)

    assert key_frame(write(tmp_path / "tall.mp4", frames_of(corners(120, 120)), prepare=prepare)).shape == (120, 60, 3)


def test_reported_anamorphic_video_is_shown_4_to_3() -> None:
    assert key_frame(reported("27_anamorphic.mp4")).shape == (135, 180, 3)


# Matrix and range


@pytest.mark.parametrize("colour_range", [ColorRange.MPEG, ColorRange.JPEG])
@pytest.mark.parametrize("matrix", [Colorspace.ITU709, Colorspace.ITU601])
def test_stated_matrix_and_range_are_used(matrix: Colorspace, colour_range: ColorRange, tmp_path: Path) -> None:
    def prepare(stream: VideoStream) -> None:
        stream.codec_context.colorspace = 1 if matrix is Colorspace.ITU709 else 6
        stream.codec_context.color_range = int(colour_range)

    frames = frames_of(corners(), dst_colorspace=matrix, dst_color_range=colour_range)
    assert difference(key_frame(write(tmp_path / "stated.mp4", frames, prepare=prepare)), corners()) < 4


@pytest.mark.parametrize(("size", "matrix"), [((360, 640), Colorspace.ITU601), ((720, 1280), Colorspace.ITU709)])
def test_matrix_that_is_not_stated_is_that_of_the_size(
    size: tuple[int, int], matrix: Colorspace, tmp_path: Path
) -> None:
    frames = frames_of(corners(*size), 5, dst_colorspace=matrix)
    for frame in frames:
        frame.colorspace = 2
    shown = key_frame(write(tmp_path / "unstated.mp4", frames))
    assert difference(shown, corners(288, 512)) < 5


# High dynamic range

WHITE_NITS = 203.0
M1, M2, C1, C2, C3 = 0.1593017578125, 78.84375, 0.8359375, 18.8515625, 18.6875
TO_BT2020 = np.array([[0.6274, 0.3293, 0.0433], [0.0691, 0.9195, 0.0114], [0.0164, 0.0880, 0.8956]])


def pq(nits: NDArray[np.float64]) -> NDArray[np.float64]:
    """SMPTE ST 2084, written down once more from the standard."""
    power = (nits / 10_000) ** M1
    return np.asarray(((C1 + C2 * power) / (1 + C3 * power)) ** M2)


def hlg(nits: NDArray[np.float64]) -> NDArray[np.float64]:
    """ITU-R BT.2100 on a display of 1000 cd/m2: inverse OOTF, then OETF."""
    light = nits / 1000
    luminance = light @ np.array([0.2627, 0.6780, 0.0593])
    scene = light * np.maximum(luminance, 1e-9)[..., None] ** (1 / 1.2 - 1)
    upper = 0.17883277 * np.log(np.maximum(12 * scene - 0.28466892, 1e-9)) + 0.55991073
    return np.where(scene <= 1 / 12, np.sqrt(3 * scene), upper)


CURVES = {ColorTrc.SMPTE2084: pq, ColorTrc.ARIB_STD_B67: hlg}


def nits_of(picture: Pixels, white_nits: float = WHITE_NITS) -> NDArray[np.float64]:
    return np.asarray((picture / 255) ** 2.4 @ TO_BT2020.T * white_nits)


def write_hdr(path: Path, lights: list[NDArray[np.float64]], transfer: ColorTrc, codec: str = "ffv1") -> Path:
    """Pictures of light in cd/m2, BT.2020 primaries, half a second each."""

    def prepare(stream: VideoStream) -> None:
        context = stream.codec_context
        context.colorspace, context.color_range = int(Colorspace.BT2020), int(ColorRange.MPEG)
        context.color_trc, context.color_primaries = int(transfer), int(ColorPrimaries.BT2020)

    frames = []
    for light in lights:
        values = np.rint(np.clip(CURVES[transfer](np.maximum(light, 0)), 0, 1) * 65535).astype(np.uint16)
        for _ in range(20):
            frame = VideoFrame.from_ndarray(values, "rgb48le")
            frame = frame.reformat(
                format="yuv444p10le", dst_colorspace=Colorspace.BT2020, dst_color_range=ColorRange.MPEG
            )
            frame.color_trc, frame.color_primaries = int(transfer), int(ColorPrimaries.BT2020)
            frames.append(frame)
    return write(path, frames, codec, prepare)


@pytest.mark.parametrize("transfer", CURVES)
def test_high_dynamic_range_looks_as_its_ordinary_version(transfer: ColorTrc, tmp_path: Path) -> None:
    picture = corners()
    picture[50:70] = np.linspace(0, 255, 160, dtype=np.uint8)[None, :, None]
    shown = key_frame(write_hdr(tmp_path / "hdr.mkv", [nits_of(picture)], transfer))
    assert difference(shown, picture) < 3


@pytest.mark.parametrize("transfer", CURVES)
@pytest.mark.parametrize("suffix", ["mp4", "mkv"])
def test_white_of_high_dynamic_range_is_white(transfer: ColorTrc, suffix: str, tmp_path: Path) -> None:
    board = (np.indices((120, 160)).sum(axis=0) // 20 % 2 * 255).astype(np.uint8)
    light = nits_of(np.repeat(board[:, :, None], 3, axis=2))
    shown = key_frame(write_hdr(tmp_path / f"white.{suffix}", [light], transfer, "libx265"))
    assert shown.max() == 255
    assert shown.std() > 120


@pytest.mark.parametrize("transfer", CURVES)
@pytest.mark.parametrize(("suffix", "codec"), [("mp4", "libx265"), ("mkv", "libx265"), ("mov", "prores_ks")])
def test_colours_that_only_the_container_states_are_used(
    transfer: ColorTrc, suffix: str, codec: str, tmp_path: Path
) -> None:
    board = np.repeat((np.indices((120, 160)).sum(axis=0) // 20 % 2 * 255).astype(np.uint8)[:, :, None], 3, axis=2)
    values = np.rint(CURVES[transfer](np.maximum(nits_of(board), 0)) * 65535).astype(np.uint16)
    form = "yuv422p10le" if codec == "prores_ks" else "yuv420p10le"
    frame = VideoFrame.from_ndarray(values, "rgb48le").reformat(format=form, dst_colorspace=Colorspace.BT2020)
    frame.colorspace = UNSPECIFIED
    bare = write(tmp_path / f"bare.{suffix}", [frame] * 5, codec)
    path = tmp_path / f"stated.{suffix}"
    with av.open(str(bare)) as source, av.open(str(path), "w", options={"movflags": "write_colr"}) as container:
        stream = container.add_stream_from_template(source.streams.video[0])
        context = stream.codec_context
        context.color_trc, context.color_primaries = int(transfer), int(ColorPrimaries.BT2020)
        context.colorspace = int(Colorspace.BT2020)
        for packet in source.demux(video=0):
            if packet.size:
                packet.stream = stream
                container.mux(packet)
    assert difference(key_frame(path), board) < 3


@pytest.mark.parametrize("transfer", CURVES)
def test_highlights_keep_their_detail_and_white_stays_bright(transfer: ColorTrc, tmp_path: Path) -> None:
    light = np.full((120, 160, 3), 50.0)
    light[:, 40:80] = WHITE_NITS
    light[:40, 80:] = 350.0
    light[40:80, 80:] = 950.0
    shown = key_frame(write_hdr(tmp_path / "bright.mkv", [light], transfer)).astype(int)
    dim, white, bright, brightest = (int(shown[y, x, 1]) for y, x in ((60, 20), (60, 60), (20, 120), (60, 120)))
    assert 120 < dim < 160
    assert 210 < white < bright - 5 < brightest - 8
    assert brightest >= 250


@pytest.mark.parametrize("transfer", CURVES)
def test_cuts_in_high_dynamic_range_are_found(transfer: ColorTrc, tmp_path: Path) -> None:
    rng = np.random.default_rng(4)
    change = LEAST_CHANGE * 2.5
    shots = [np.full((48, 64, 3), 90.0) + rng.uniform(0, 20, 3) + change * n for n in (0, 1, 0)]
    lights = [nits_of(shot.astype(np.uint8)) for shot in shots for _ in range(2)]
    starts = [scene.start_s for scene in scenes_of(write_hdr(tmp_path / "cuts.mkv", lights, transfer))]
    assert starts == pytest.approx([0.0, 1.6, 3.2])


def test_reported_high_dynamic_range_has_white() -> None:
    shown = key_frame(reported("28_hdr_pq.mp4"))
    assert shown.max() == 255
    assert shown.std() > 110
