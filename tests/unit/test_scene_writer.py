"""Writing scenes: pictures where the URL says, rows to the sink, and nothing half done when a disk refuses."""

import io
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any
from uuid import UUID

import fsspec
import numpy as np
import pytest
from PIL import Image

from actors.stages.scene_writer import SceneWriter
from cluster.contracts.errors import LeaseLost, NoSpace, TransientFailure
from cluster.contracts.media import DetectedScene, MediaWarning, SceneBlock
from cluster.contracts.results import SceneDescription, Transcript, WrittenScene
from tests.support.vector_lengths import EMBEDDING_DIM

VIDEO = UUID(int=5)
TRANSCRIPT = Transcript("en", (), "tiny")


class Rows:
    """A sink that keeps what it is given."""

    def __init__(self) -> None:
        self.calls: list[tuple[Any, ...]] = []
        self.warnings: list[tuple[Any, ...]] = []

    def replace(
        self,
        video_id: UUID,
        lease_token: int,
        transcript: Transcript,
        scenes: Sequence[WrittenScene],
        duration_s: float,
    ) -> None:
        self.calls.append((video_id, lease_token, transcript, list(scenes), duration_s))

    def warn(self, video_id: UUID, lease_token: int, warnings: Sequence[MediaWarning]) -> None:
        self.warnings.append((video_id, lease_token, list(warnings)))


def blocks(*sizes: tuple[int, int]) -> Iterator[SceneBlock]:
    """A block per scene, of a picture of (height, width); readable once."""
    rng = np.random.default_rng(1)
    for index, (height, width) in enumerate(sizes):
        picture = np.broadcast_to(rng.integers(0, 256, 3, np.uint8), (height, width, 3)).copy()
        yield SceneBlock((DetectedScene(index, index * 2.0, index * 2.0 + 2.0, index * 2.0 + 1.0, picture),))


def descriptions(count: int) -> list[SceneDescription]:
    embedding = np.zeros(EMBEDDING_DIM, np.float32)
    return [
        SceneDescription(n, f"words {n}", (), "", f"words {n}", embedding, "m@1", None, "t@1") for n in range(count)
    ]


def write(url: str, *sizes: tuple[int, int]) -> list[WrittenScene]:
    rows = Rows()
    assert SceneWriter(rows, url).write(VIDEO, 9, blocks(*sizes), descriptions(len(sizes)), TRANSCRIPT) == len(sizes)
    ((video_id, token, transcript, scenes, duration_s),) = rows.calls
    assert (video_id, token, transcript) == (VIDEO, 9, TRANSCRIPT)
    assert duration_s == 2.0 * len(sizes)
    return list(scenes)


def opened(url: str) -> Image.Image:
    with fsspec.open(url, "rb") as file:
        picture = Image.open(io.BytesIO(file.read()))
    picture.load()
    assert picture.format == "JPEG"
    return picture


@pytest.mark.parametrize("form", ["{}", "file://{}", "memory://scenes{}"])
def test_pictures_are_stored_and_opened_by_their_own_url(tmp_path: Path, form: str) -> None:
    url = form.format(tmp_path / "a folder" / "scenes")
    for index, scene in enumerate(write(url, (288, 512), (288, 512))):
        assert f"/{VIDEO}/{index:05d}.jpg" in scene.thumbnail_url
        assert opened(scene.thumbnail_url).size == (320, 180)
        assert opened(scene.key_frame_url).size == (512, 288)
        assert (scene.start_s, scene.end_s, scene.key_frame_s) == (index * 2.0, index * 2.0 + 2, index * 2.0 + 1)
        assert scene.description.transcript_segment == f"words {index}"
    if not url.startswith("memory"):
        names = sorted(path.name for path in (tmp_path / "a folder" / "scenes" / str(VIDEO)).iterdir())
        assert names == ["00000-key.jpg", "00000.jpg", "00001-key.jpg", "00001.jpg"]


@pytest.mark.parametrize(
    ("size", "thumbnail"),
    [((360, 640), (320, 180)), ((64, 64), (64, 64)), ((512, 288), (288, 512)), ((2000, 500), (160, 640))],
)
def test_thumbnail_is_at_most_320_wide_and_never_enlarged(
    tmp_path: Path, size: tuple[int, int], thumbnail: tuple[int, int]
) -> None:
    (scene,) = write(str(tmp_path), size)
    assert opened(scene.thumbnail_url).size == thumbnail
    assert opened(scene.key_frame_url).size == size[::-1]


def test_a_key_frame_keeps_its_colours(tmp_path: Path) -> None:
    (scene,) = write(str(tmp_path), (96, 128))
    wanted = next(blocks((96, 128))).scenes[0].key_frame
    np.testing.assert_allclose(np.asarray(opened(scene.key_frame_url)), wanted, atol=6)


def test_a_repeat_writes_the_same_ids_to_the_same_places(tmp_path: Path) -> None:
    first, again = write(str(tmp_path), (96, 96)), write(str(tmp_path), (96, 96))
    assert [(s.id, s.thumbnail_url) for s in first] == [(s.id, s.thumbnail_url) for s in again]


def test_a_video_without_scenes_is_written_too(tmp_path: Path) -> None:
    assert write(str(tmp_path)) == []


def test_unmakeable_folder_is_transient_and_writes_no_row(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    rows = Rows()
    with pytest.raises(TransientFailure, match=f"could not be written to {tmp_path}/file/.*: "):
        SceneWriter(rows, str(tmp_path / "file")).write(VIDEO, 9, blocks((96, 96)), descriptions(1), TRANSCRIPT)
    assert rows.calls == []


def test_a_full_disk_is_no_space_and_no_row_is_written(tmp_path: Path) -> None:
    """/dev/full takes every write for a full disk's."""
    folder = tmp_path / str(VIDEO)
    folder.mkdir()
    (folder / "00001-key.jpg").symlink_to("/dev/full")
    rows = Rows()
    with pytest.raises(NoSpace, match="the disk is full: "):
        SceneWriter(rows, str(tmp_path)).write(VIDEO, 9, blocks((96, 96), (96, 96)), descriptions(2), TRANSCRIPT)
    assert rows.calls == []


def test_a_lost_lease_reaches_the_caller(tmp_path: Path) -> None:
    class Refusing(Rows):
        def replace(self, *_: object, **__: object) -> None:
            raise LeaseLost("another has it")

    with pytest.raises(LeaseLost):
        SceneWriter(Refusing(), str(tmp_path)).write(VIDEO, 9, blocks((96, 96)), descriptions(1), TRANSCRIPT)


def test_warnings_of_the_pictures_reach_the_sink(tmp_path: Path) -> None:
    warning = MediaWarning("pictures_skipped", "2 of 50 pictures could not be decoded: damaged")
    rows = Rows()
    warned = (replace(block, warnings=(warning,)) for block in blocks((96, 96)))
    SceneWriter(rows, str(tmp_path)).write(VIDEO, 9, warned, descriptions(1), TRANSCRIPT)
    assert rows.warnings == [(VIDEO, 9, [warning])]
