"""The demo's settings."""

from pathlib import Path

import pytest

from cluster.cli import demo_command
from cluster.cli.demo_command import demo_settings


def test_demo_folder_is_another_one_for_another_picture_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HEIMDEX_DATA_DIR", str(tmp_path / "data"))
    folder = demo_settings().data_dir
    assert folder.parent == tmp_path / "data"
    assert demo_settings().data_dir == folder

    (tmp_path / "open_clip_model.safetensors").write_bytes(b"other weights")
    monkeypatch.setattr(demo_command, "bundled_vision_directory", lambda: tmp_path)
    assert demo_settings().data_dir not in (folder, tmp_path / "data")
