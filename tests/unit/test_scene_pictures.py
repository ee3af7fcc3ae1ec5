"""Addresses of pictures come from the database: only a video's own files below the scenes' URL are opened."""

from pathlib import Path
from uuid import UUID

import fsspec
import pytest
from PIL import Image

from cluster.contracts.errors import InvalidVideo, TransientFailure
from cluster.files.scene_pictures import ScenePictures
from cluster.reembed.worker import read_key_frame
from cluster.store.index.embeddings import LackingScene

VIDEO, OTHER = UUID(int=1), UUID(int=2)


@pytest.fixture(params=["folder", "memory://scenes/of/all"])
def pictures(request: pytest.FixtureRequest, tmp_path: Path) -> ScenePictures:
    """With a picture of each video, and one beside their folders."""
    made = ScenePictures(str(tmp_path / "scenes") if request.param == "folder" else request.param)
    for path in (f"{made.folder(VIDEO)}/0-key.jpg", f"{made.folder(OTHER)}/0-key.jpg"):
        made.filesystem.makedirs(path.rpartition("/")[0], exist_ok=True)
        made.filesystem.pipe_file(path, b"a picture")
    made.filesystem.pipe_file(f"{made.folder(VIDEO)}.jpg", b"a secret")
    (tmp_path / "secret.jpg").write_bytes(b"a secret")
    return made


def test_picture_of_the_video_is_read(pictures: ScenePictures) -> None:
    url = pictures.filesystem.unstrip_protocol(f"{pictures.folder(VIDEO)}/0-key.jpg")
    assert pictures.read(url, VIDEO) == b"a picture"
    with pytest.raises(TransientFailure, match="cannot be read"):
        pictures.read(url.replace("0-key", "1-key"), VIDEO)


def test_picture_elsewhere_is_not_opened(pictures: ScenePictures, tmp_path: Path) -> None:
    own = pictures.filesystem.unstrip_protocol(pictures.folder(VIDEO))
    fsspec.filesystem("memory").pipe("/elsewhere/a.jpg", b"a secret")
    for url in (
        f"{tmp_path}/secret.jpg",
        (tmp_path / "secret.jpg").as_uri(),
        "memory://elsewhere/a.jpg",
        "/etc/passwd",
        "http://127.0.0.1:1/a.jpg",
        "s3://private/a.jpg",
        f"simplecache::{own}/0-key.jpg",
        f"{own}.jpg",
        own,
        f"{own}/",
        f"{own}/..",
        f"{own}/../{OTHER}/0-key.jpg",
        f"{own}//0-key.jpg",
        f"{own}/./0-key.jpg",
        f"{own}/%2e%2e/{OTHER}/0-key.jpg",
        own.replace(str(VIDEO), str(OTHER)) + "/0-key.jpg",
        f"{pictures.folder(VIDEO)}/0-key.jpg#",
        "0-key.jpg",
        "",
    ):
        with pytest.raises(InvalidVideo, match="not a picture of this video"):
            pictures.read(url, VIDEO)


def test_key_frame_elsewhere_is_not_opened(tmp_path: Path) -> None:
    pictures = ScenePictures(str(tmp_path / "scenes"))
    own = tmp_path / "scenes" / str(VIDEO) / "0-key.jpg"
    own.parent.mkdir(parents=True)
    for path in (own, tmp_path / "secret.jpg"):
        Image.new("RGB", (8, 8)).save(path)
    assert read_key_frame(pictures, LackingScene(UUID(int=9), VIDEO, 0, own.as_uri(), None)).shape == (8, 8, 3)
    elsewhere = LackingScene(UUID(int=9), VIDEO, 0, (tmp_path / "secret.jpg").as_uri(), None)
    with pytest.raises(InvalidVideo, match="not a picture of this video"):
        read_key_frame(pictures, elsewhere)
