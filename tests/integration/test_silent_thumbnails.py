"""Thumbnails whose host does not answer: reported in the same words, and not waited for one by one."""

import socket
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from uuid import UUID

import pytest

from cluster.cli import thumbnails
from cluster.cli.thumbnails import GIVEN_UP_AFTER, READERS, Thumbnails
from cluster.files.fetch_limits import fetch_limits
from cluster.files.scene_pictures import ScenePictures
from cluster.settings import load_settings
from cluster.store.videos.adoption import UnshownScene

SCENES = 200


@pytest.fixture
def silent_host() -> Iterator[str]:
    """A host that takes connections and never answers."""
    with closing(socket.create_server(("127.0.0.1", 0), backlog=SCENES)) as server:
        yield f"127.0.0.1:{server.getsockname()[1]}"


def scenes(address: str) -> list[UnshownScene]:
    return [
        UnshownScene(UUID(int=number), UUID(int=1), f"{address}/{number}.jpg", UUID(int=2)) for number in range(SCENES)
    ]


def copier(folder: Path) -> Thumbnails:
    settings = load_settings(private_networks="127.0.0.0/8", storage_root=str(folder / "stored"))
    return Thumbnails(ScenePictures(str(folder / "scenes")), fetch_limits(settings))


def test_host_that_does_not_answer_is_given_up(
    tmp_path: Path, silent_host: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(thumbnails, "TIMEOUT_S", 0.2)
    copies = copier(tmp_path).copy(scenes(f"http://{silent_host}"))
    reasons = Counter(copy.reason for copy in copies)
    given_up = f"not asked for, since {silent_host} does not answer"
    assert SCENES - GIVEN_UP_AFTER - READERS < reasons[given_up] <= SCENES - GIVEN_UP_AFTER
    assert len(reasons) <= 3  # no answer within the time of one, or of all


def test_missing_files_are_counted_in_the_same_words(tmp_path: Path) -> None:
    copies = copier(tmp_path).copy(scenes("thumbs"))
    assert {copy.reason for copy in copies} == {"no such file: HEIMDEX_STORAGE_ROOT"}
