"""Scenes tile the video, are where the pictures say, and each has a picture of its own."""

from pathlib import Path

import numpy as np
import pytest

from actors.stages.media_reader import MediaReader
from actors.stages.scene_detector import SceneDetector
from cluster.contracts.errors import InvalidVideo
from cluster.contracts.media import DetectedScene, LocalVideo, MediaLimits, SceneBlock
from tests.support.media_files import (
    Recipe,
    Shot,
    Sound,
    cut_off,
    damage,
    tone,
    write_pictures,
    write_video,
)

FASTSTART = {"movflags": "faststart"}


def detect_blocks(path: Path, block_size: int = 8, key_frame_size_px: int = 96) -> list[SceneBlock]:
    limits = MediaLimits(max_duration_s=600, max_pixels=4_000_000, max_fps=120, max_streams=8, max_bytes=10**8)
    video = LocalVideo(path=path, size_bytes=path.stat().st_size, temporary=False)
    info = MediaReader(limits).probe(video)
    return list(SceneDetector(key_frame_size_px, block_size, threads=1, limits=limits).detect(video, info))


def detect(path: Path, key_frame_size_px: int = 96) -> list[DetectedScene]:
    blocks = detect_blocks(path, key_frame_size_px=key_frame_size_px)
    scenes = [scene for block in blocks for scene in block.scenes]
    assert_tiled(scenes, blocks[-1].decoded_duration_s)
    return scenes


def assert_tiled(scenes: list[DetectedScene], end_s: float | None) -> None:
    assert [scene.index for scene in scenes] == list(range(len(scenes)))
    assert [scene.start_s for scene in scenes] == [0.0, *(scene.end_s for scene in scenes[:-1])]
    assert scenes[-1].end_s == end_s
    assert all(scene.start_s <= scene.key_frame_s < scene.end_s for scene in scenes)


def assert_shows(scene: DetectedScene, shot: Shot, size: tuple[int, int] = (160, 120)) -> None:
    """The key frame's mean colours, in a coarse grid, are the shot's own."""
    shown = [shot.picture(number, *size) for number in range(40)]
    grid = [coarse(picture) for picture in (scene.key_frame, *shown)]
    assert min(np.abs(grid[0] - other).mean() for other in grid[1:]) < 12.0


def coarse(picture: np.ndarray) -> np.ndarray:
    rows, columns = (
        np.array_split(np.arange(picture.shape[0]), 4),
        np.array_split(np.arange(picture.shape[1]), 4),
    )
    return np.array([[picture[np.ix_(row, column)].mean(axis=(0, 1)) for column in columns] for row in rows])


def test_cuts_are_exact_and_key_frames_show_their_shot(tmp_path: Path) -> None:
    shots = [Shot(1.4, 1), Shot(2.0, 2), Shot(0.8, 3), Shot(1.2, 4)]
    scenes = detect(write_video(tmp_path / "cuts.mp4", shots))
    assert [scene.start_s for scene in scenes] == pytest.approx([0.0, 1.4, 3.4, 4.2])
    assert scenes[-1].end_s == pytest.approx(5.4)
    for scene, shot in zip(scenes, shots, strict=True):
        assert_shows(scene, shot)


def test_variable_frame_rate_cuts_lie_at_the_pictures_own_times(tmp_path: Path) -> None:
    rng = np.random.default_rng(7)
    times = np.concatenate([[0.0], np.cumsum(rng.uniform(0.02, 0.2, 59))])
    pictures = [(time, Shot(1, 1 + i // 20).picture(i % 20, 160, 120)) for i, time in enumerate(times)]
    scenes = detect(write_pictures(tmp_path / "vfr.mp4", pictures))
    assert [scene.start_s for scene in scenes] == pytest.approx([0.0, times[20], times[40]], abs=1e-4)


def test_times_count_from_the_first_picture(tmp_path: Path) -> None:
    recipe = Recipe(start_s=7.0)
    scenes = detect(write_video(tmp_path / "late.ts", [Shot(1.0, 1), Shot(1.0, 2)], recipe=recipe))
    assert [scene.start_s for scene in scenes] == pytest.approx([0.0, 1.0], abs=1e-3)
    assert scenes[-1].end_s == pytest.approx(2.0, abs=1e-3)


def test_cuts_in_black_and_white_are_found(tmp_path: Path) -> None:
    shots = [Shot(1.4, 1), Shot(2.0, 2), Shot(1.0, 3)]
    scenes = detect(write_video(tmp_path / "grey.mkv", shots, recipe=Recipe(codec="ffv1", pix_fmt="gray")))
    assert [scene.start_s for scene in scenes] == pytest.approx([0.0, 1.4, 3.4], abs=2e-3)


def test_a_dissolve_is_cut_in_its_middle(tmp_path: Path) -> None:
    scenes = detect(write_pictures(tmp_path / "soft.mp4", dissolve(Shot(4.0, 1), Shot(4.0, 2), 2.0, 2.8)))
    assert [scene.start_s for scene in scenes] == pytest.approx([0.0, 2.4], abs=0.15)
    assert_shows(scenes[0], Shot(4.0, 1))
    assert_shows(scenes[1], Shot(4.0, 2))


def test_a_shot_whose_light_changes_is_not_cut(tmp_path: Path) -> None:
    shot = Shot(4.0, 1)
    pictures = [(n / 25, (shot.picture(n, 160, 120) * (1 - 0.006 * min(n, 60))).astype(np.uint8)) for n in range(100)]
    assert len(detect(write_pictures(tmp_path / "light.mp4", pictures))) == 1


@pytest.mark.parametrize("pixels_per_s", [2, 6, 12, 25, 50])
def test_a_moving_camera_is_no_dissolve(tmp_path: Path, pixels_per_s: int) -> None:
    pictures = [(n / 25, Shot(4, 1).picture(n * pixels_per_s // 25, 160, 120)) for n in range(100)]
    assert len(detect(write_pictures(tmp_path / "pan.mp4", pictures))) == 1


def dissolve(before: Shot, after: Shot, start_s: float, end_s: float) -> list[tuple[float, np.ndarray]]:
    pictures = []
    for n in range(round(before.seconds * 25)):
        share = min(1.0, max(0.0, (n / 25 - start_s) / (end_s - start_s)))
        mixed = before.picture(0, 160, 120) * (1 - share) + after.picture(0, 160, 120) * share
        pictures.append((n / 25, mixed.astype(np.uint8)))
    return pictures


def test_scene_has_a_picture_at_any_frame_rate(tmp_path: Path) -> None:
    rng = np.random.default_rng(11)
    for trial in range(4):
        times = np.cumsum(rng.choice([0.01, 0.04, 0.39, 0.6, 0.9], 60))
        pictures = [(time - times[0], Shot(1, 1 + i // 4).picture(0, 160, 120)) for i, time in enumerate(times)]
        assert len(detect(write_pictures(tmp_path / f"{trial}.mkv", pictures))) > 1


def test_a_single_picture_is_a_scene_with_that_picture(tmp_path: Path) -> None:
    [scene] = detect(write_video(tmp_path / "one.mp4", [Shot(0.04, 1)]))
    assert (scene.start_s, scene.end_s, scene.key_frame_s) == (0.0, pytest.approx(0.04), 0.0)
    assert_shows(scene, Shot(1, 1))


def test_a_still_video_is_one_scene(tmp_path: Path) -> None:
    still = Shot(1, 1).picture(0, 160, 120)
    [scene] = detect(write_pictures(tmp_path / "still.mp4", [(n / 5, still) for n in range(100)], Recipe(fps=5)))
    assert scene.end_s == pytest.approx(20.0)


def test_key_frame_is_not_black_when_the_scene_has_better(tmp_path: Path) -> None:
    black = np.zeros((120, 160, 3), np.uint8)
    shot = Shot(2, 5)
    fading = [(n / 25, black if n < 40 else shot.picture(n, 160, 120) // 8 * min(8, (n - 40) // 4)) for n in range(90)]
    scenes = detect(write_pictures(tmp_path / "fade.mp4", fading))
    assert scenes[-1].key_frame.mean() > 60


@pytest.mark.parametrize(("shots", "sizes"), [(5, [2, 2, 1]), (4, [2, 2]), (1, [1])])
def test_blocks_are_full_and_only_the_last_knows_the_duration(tmp_path: Path, shots: int, sizes: list[int]) -> None:
    path = write_video(tmp_path / "blocks.mp4", [Shot(1.0, seed) for seed in range(1, shots + 1)])
    blocks = detect_blocks(path, block_size=2)
    assert [len(block.scenes) for block in blocks] == sizes
    assert [block.decoded_duration_s for block in blocks[:-1]] == [None] * (len(sizes) - 1)
    assert blocks[-1].decoded_duration_s == pytest.approx(shots)


def test_key_frame_is_scaled_down_to_the_short_side_only(tmp_path: Path) -> None:
    path = write_video(tmp_path / "size.mp4", [Shot(1.0, 1)], recipe=Recipe(size=(320, 180)))
    assert detect(path, key_frame_size_px=90)[0].key_frame.shape == (90, 160, 3)
    assert detect(path, key_frame_size_px=500)[0].key_frame.shape == (180, 320, 3)


@pytest.mark.parametrize("rotation_deg", [90, 180, -90])
def test_rotated_pictures_stand_upright(tmp_path: Path, rotation_deg: int) -> None:
    path = write_video(tmp_path / "turned.mp4", [Shot(1.0, 1)], recipe=Recipe(rotation_deg=rotation_deg))
    [scene] = detect(path)
    lying = np.rot90(scene.key_frame, -rotation_deg // 90)
    shown = DetectedScene(0, 0.0, 1.0, 0.0, np.ascontiguousarray(lying))
    assert_shows(shown, Shot(1, 1))


PIXELS = [
    ("ffv1", "yuv444p"),
    ("ffv1", "yuv420p10le"),
    ("ffv1", "yuva420p"),
    ("ffv1", "bgr0"),
    ("png", "rgb24"),
    ("png", "rgba64be"),
    ("ffv1", "gray"),
]


@pytest.mark.parametrize(("codec", "pix_fmt"), PIXELS)
def test_every_kind_of_pixel_is_read(tmp_path: Path, codec: str, pix_fmt: str) -> None:
    recipe = Recipe(codec=codec, pix_fmt=pix_fmt)
    suffix = "mov" if codec == "png" else "mkv"
    scenes = detect(write_video(tmp_path / f"pixels.{suffix}", [Shot(1.0, 1), Shot(1.0, 2)], recipe=recipe))
    assert [scene.start_s for scene in scenes] == pytest.approx([0.0, 1.0], abs=2e-3)
    if pix_fmt != "gray":
        assert_shows(scenes[1], Shot(1, 2))


def test_joined_recordings_of_different_sizes_carry_on_in_time(tmp_path: Path) -> None:
    first = write_video(tmp_path / "first.ts", [Shot(2.0, 1)])
    second = write_video(tmp_path / "second.ts", [Shot(2.0, 2)], recipe=Recipe(size=(320, 240)))
    joined = tmp_path / "joined.ts"
    joined.write_bytes(first.read_bytes() + second.read_bytes())
    scenes = detect(joined)
    assert [scene.start_s for scene in scenes] == pytest.approx([0.0, 2.0], abs=0.1)
    assert scenes[-1].end_s == pytest.approx(4.0, abs=0.1)


def test_pictures_without_time_stamps_follow_the_stated_rate(tmp_path: Path) -> None:
    scenes = detect(write_video(tmp_path / "bare.h264", [Shot(1.0, 1), Shot(1.0, 2)]))
    assert [scene.start_s for scene in scenes] == pytest.approx([0.0, 1.0], abs=0.05)


def test_pictures_with_the_same_time_are_shown_once(tmp_path: Path) -> None:
    recipe = Recipe(codec="mjpeg", pix_fmt="yuvj420p", time_grid_s=0.08)
    [scene] = detect(write_video(tmp_path / "twice.mkv", [Shot(2.0, 1)], recipe=recipe))
    assert scene.end_s == pytest.approx(2.0, abs=0.1)


@pytest.mark.parametrize("suffix", ["mp4", "mkv"])
def test_a_cut_off_file_says_how_much_could_be_read(tmp_path: Path, suffix: str) -> None:
    options = FASTSTART if suffix == "mp4" else {}
    path = write_video(tmp_path / f"whole.{suffix}", [Shot(3.0, 1), Shot(3.0, 2)], recipe=Recipe(options=options))
    with pytest.raises(
        InvalidVideo, match=r"^only [23]\.\d s of 6\.0 s could be read: the file is cut off or damaged$"
    ):
        detect(cut_off(path, 0.5))


def test_sound_longer_than_the_pictures_is_no_truncation(tmp_path: Path) -> None:
    path = write_video(tmp_path / "longer.mkv", [Shot(2.0, 1)], [Sound(0.0, tone(10.0))])
    [scene] = detect(path)
    assert scene.end_s == pytest.approx(10.0, abs=0.1)


@pytest.mark.parametrize("suffix", ["mp4", "mkv"])
def test_the_last_pictures_are_seen_whichever_stream_comes_first(tmp_path: Path, suffix: str) -> None:
    recipe = Recipe(sound_first=True, codec="libx265")
    path = write_video(tmp_path / f"second.{suffix}", [Shot(1.0, 1)], [Sound(0.0, tone(1.0))], recipe)
    [scene] = detect(path)
    assert scene.end_s == pytest.approx(1.0, abs=0.07)  # the sound is padded to whole packets


def test_damaged_pictures_in_the_middle_are_skipped(tmp_path: Path) -> None:
    path = write_video(
        tmp_path / "hurt.mkv",
        [Shot(4.0, 1)],
        recipe=Recipe(codec="mjpeg", pix_fmt="yuvj420p", size=(320, 240)),
    )
    scenes = detect(damage(path, 0.45, 0.55))
    assert scenes[-1].end_s == pytest.approx(4.0, abs=0.1)
