"""The page "An existing Heimdex database", followed word for word on a database as strict as a real one."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from cluster.demo import clips
from cluster.store.postgres.connections import connect
from cluster.store.postgres.embedded import binary
from tests.support.existing_database import (
    CARA,
    TABLES,
    Snapshot,
    changes_between,
    clip,
    restore_existing_functions,
    take_snapshot,
)

pytestmark = pytest.mark.long

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "how-to" / "existing-database.md"
BLOCKS = re.findall(r"^```sh\n(.*?)^```", PAGE.read_text(), re.MULTILINE | re.DOTALL)
SETTINGS, LOOK, ADOPT, SEARCH, TRANSCRIPT, TAKE_OVER, BACK = range(7)
READY = clip(10)
"""Cara's, as all whose number leaves 2 by 4."""


class Reader:
    """A person who types the page's commands, with values of their own for what is written in capitals."""

    def __init__(self, url: str, folder: Path) -> None:
        self._folder = folder
        self._own = {
            "postgresql://OWNER:PASSWORD@HOST:5432/postgres": url,
            "ID-OF-A-USER": str(CARA),
            "ID-OF-A-READY-VIDEO": str(READY),
            "s3://videos/": str(folder / "videos"),
        }
        programs = [str(Path(sys.executable).parent), str(binary("psql").parent), os.environ["PATH"]]
        self._environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith("HEIMDEX_")},
            "PATH": ":".join(programs),
            "HEIMDEX_DATA_DIR": str(folder / "data"),
            "HEIMDEX_SCRATCH_DIR": str(folder / "scratch"),
            "HEIMDEX_HTTP_PORT": "0",
            "HEIMDEX_DASHBOARD_PORT": "0",
            **{f"HEIMDEX_{name}_MODEL": "bundled" for name in ("WHISPER", "CLIP", "TEXT")},
        }

    def type(self, block: str) -> "subprocess.CompletedProcess[str]":
        """The settings and one block of commands, in a shell that ends at the first error."""
        script = "\n".join(["set -e", BLOCKS[SETTINGS], block])
        for written, own in self._own.items():
            script = script.replace(written, own)
        done = subprocess.run(
            ["bash", "-c", script], env=self._environment, cwd=self._folder, capture_output=True, text=True, check=False
        )
        assert "Traceback" not in done.stderr, done.stderr
        return done


@pytest.fixture
def before(existing_url: str) -> Snapshot:
    return take_snapshot(existing_url)


@pytest.fixture
def reader(existing_url: str, before: Snapshot, tmp_path: Path) -> Reader:
    assert before
    return Reader(existing_url, tmp_path)


@pytest.mark.timeout(600)
def test_the_page_is_followed_word_for_word(
    reader: Reader, existing_url: str, before: Snapshot, tmp_path: Path
) -> None:
    assert len(BLOCKS) == 7
    looked = reader.type(BLOCKS[LOOK])
    assert (looked.returncode, "migrations would be applied" in looked.stdout) == (0, True), looked
    assert changes_between(before, take_snapshot(existing_url)) == []

    adopted = reader.type(BLOCKS[ADOPT])
    assert adopted.returncode == 0, adopted.stdout + adopted.stderr
    assert "36 scenes embedded" in adopted.stdout
    assert "36 scenes have no picture that can be embedded, 0 no text" in adopted.stdout
    backfilled = {"videos.processing_finished_at"}
    assert changes_between(before, take_snapshot(existing_url), backfilled) == []

    found = reader.type(BLOCKS[SEARCH])
    assert found.returncode == 0, found.stdout + found.stderr
    assert " 0 differences" in found.stdout
    again = reader.type(BLOCKS[ADOPT])
    assert (again.returncode, "nothing was changed" in again.stdout) == (0, True), again.stdout + again.stderr

    captions = reader.type(BLOCKS[TRANSCRIPT])
    assert captions.stdout.startswith("WEBVTT\n\nNOTE This transcript was made by the existing system")

    _store_files(existing_url, tmp_path / "videos")
    taken = reader.type(BLOCKS[TAKE_OVER])
    assert "11 videos would be queued" in taken.stdout
    assert "11 videos are queued" in taken.stdout
    assert "1 video stays as it is: its file cannot be read" in taken.stdout

    back = reader.type(BLOCKS[BACK])
    assert back.returncode == 0, back.stderr
    _assert_only_theirs_is_left(existing_url)
    restore_existing_functions(existing_url)
    written = {*backfilled, "videos.queued_at", "videos.processing_stage", "videos.updated_at"}
    assert changes_between(before, take_snapshot(existing_url), written) == []


def _store_files(url: str, root: Path) -> None:
    """The file of every PENDING video but one, in the storage."""
    with connect(url) as connection:
        rows = connection.execute("SELECT storage_path FROM videos WHERE status = 'PENDING' ORDER BY id").fetchall()
    for row in rows[1:]:
        path = root / row["storage_path"]
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(clips()[0].read_bytes())


def _assert_only_theirs_is_left(url: str) -> None:
    with connect(url) as connection:
        rows = connection.execute(
            "SELECT relname FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'S', 'p')"
        ).fetchall()
    assert {row["relname"] for row in rows} == {table for table in TABLES if "." not in table}
