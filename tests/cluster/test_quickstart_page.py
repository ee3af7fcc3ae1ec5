"""Quickstart (quickstart.md, whose commands README.md shows too) and the commands of upgrade.md, word for word.

The reader has a folder ``talks`` and a file ``lecture.mp4``. Another port replaces 8000, which may be in use.
"""

import os
import shutil
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from cluster.demo import clips
from tests.support.command_line import left_running, make_environment
from tests.support.own_server import quick_folder
from tests.support.page_blocks import DOCS, blocks_run_by, make_programs, run_blocks

THIS = Path(__file__)
MODELS = DOCS / "how-to" / "models.md"
PAGES = [MODELS, DOCS / "quickstart.md", DOCS / "how-to" / "upgrade.md"]


@pytest.fixture
def folder() -> Iterator[Path]:
    made = quick_folder("heimdex-page-")
    (made / "talks").mkdir()
    named = {clip.name: clip for clip in clips()}
    shutil.copy(named["highway.mp4"], made / "talks")
    shutil.copy(named["tides.mp4"], made / "lecture.mp4")
    yield made
    shutil.rmtree(made)


@pytest.mark.long
@pytest.mark.timeout(1200)
def test_quickstart_commands_find_a_scene_and_leave_nothing(folder: Path) -> None:
    port = _free_port()
    environment = {
        **make_environment(folder, HEIMDEX_HTTP_PORT=str(port)),
        "PATH": make_programs(folder / "bin"),
        "PYTHONPATH": str(DOCS.parent) + os.pathsep + os.environ.get("PYTHONPATH", ""),
        "COLUMNS": "160",
    }
    for name in ("WHISPER", "CLIP", "TEXT"):
        del environment[f"HEIMDEX_{name}_MODEL"]
    written = [block for page in PAGES for block in blocks_run_by(THIS, page)]
    blocks = [block.replace("127.0.0.1:8000", f"127.0.0.1:{port}") for block in written]
    try:
        said = run_blocks(blocks, environment, folder, timeout_s=1080)
    finally:
        run_blocks(["heimdex down"], environment, folder, timeout_s=120)
    assert "2 of 2 videos READY" in said
    assert '"filename":"lecture.mp4"' in said.replace(" ", "")
    assert "tide" in (folder / "lecture.srt").read_text()
    assert left_running(folder) == []


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port: int = server.getsockname()[1]
        return port
