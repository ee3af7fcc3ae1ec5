"""``heimdex logs``: which lines it shows, and in which order."""

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from typer.testing import CliRunner

from cluster.cli.main import app
from cluster.security.event_files import EventFile

VIDEO, OTHER = "11111111-1111-4111-8111-111111111111", "22222222-2222-4222-8222-222222222222"
LINES = [
    {"time": "2026-01-01T10:00:02.000Z", "level": "warning", "event": "stage failed", "video_id": VIDEO, "error": "no"},
    {"time": "2026-01-01T10:00:01.000Z", "level": "info", "event": "video claimed", "video_id": VIDEO},
    {"time": "2026-01-01T10:00:03.000Z", "level": "error", "event": "worker failed to load", "video_ids": [OTHER]},
    {"time": "2026-01-01T10:00:04.000Z", "level": "debug", "event": "claim refused", "name": "\x1b[2J"},
]


@pytest.fixture
def data_dir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "data"
    folder.mkdir(mode=0o700)
    monkeypatch.setenv("HEIMDEX_DATA_DIR", str(folder))
    return folder


@pytest.fixture
def file(data_dir: Path) -> Iterator[EventFile]:
    file = EventFile(data_dir / "logs" / "events")
    for line in LINES:
        file.append(json.dumps(line))
    file.append("{not JSON")
    yield file
    file.close()


def shown(*arguments: str) -> list[str]:
    done = CliRunner().invoke(app, ["logs", *arguments], catch_exceptions=False)
    assert done.exit_code == 0
    return done.stdout.splitlines()


def events(*arguments: str) -> list[str]:
    return [json.loads(line)["event"] for line in shown(*arguments, "--json")]


def test_lines_are_in_the_order_of_their_times(file: EventFile) -> None:
    assert shown()[:2] == [
        f"2026-01-01T10:00:01.000Z INFO    video claimed (video_id={VIDEO})",
        f"2026-01-01T10:00:02.000Z WARNING stage failed: no (video_id={VIDEO})",
    ]
    assert events() == ["video claimed", "stage failed", "worker failed to load", "claim refused"]


def test_lines_of_a_video_alone(file: EventFile) -> None:
    assert events("--video", VIDEO) == ["video claimed", "stage failed"]
    assert events("--video", OTHER) == ["worker failed to load"]


def test_level_since_and_limit(file: EventFile) -> None:
    assert events("--level", "warning") == ["stage failed", "worker failed to load"]
    assert events("--since", "2026-01-01T10:00:02.5") == ["worker failed to load", "claim refused"]
    assert events("--since", "2026-01-01T12:00:03+02:00") == ["worker failed to load", "claim refused"]
    assert events("--since", "30m") == []
    assert events("--limit", "1") == ["claim refused"]


def test_time_that_is_none_is_refused(data_dir: Path) -> None:
    done = CliRunner().invoke(app, ["logs", "--since", "yesterday"])
    assert done.exit_code == 2
    assert "'yesterday' is no time" in done.output


def test_terminal_is_given_no_orders(file: EventFile) -> None:
    assert "\x1b" not in "".join([*shown(), *shown("--json")])


def test_no_log_is_no_line(data_dir: Path) -> None:
    assert shown() == []


@pytest.mark.timeout(60)
def test_follow_shows_new_lines_over_a_rotation(data_dir: Path, file: EventFile) -> None:
    command = [sys.executable, "-m", "cluster", "logs", "--follow", "--json", "--level", "error"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        assert json.loads(process.stdout.readline())["event"] == "worker failed to load"
        with closing(EventFile(data_dir / "logs" / "events", rotate_bytes=1)) as rotating:
            for number in range(3):
                rotating.append(json.dumps({"time": "2026", "level": "error", "event": f"new {number}"}))
        assert [json.loads(process.stdout.readline())["event"] for _ in range(3)] == ["new 0", "new 1", "new 2"]
    finally:
        process.kill()
        process.wait()
        process.stdout.close()
