"""Lines as processes write them: JSON and text, on standard error and in the file that all processes share."""

import json
import logging
import os
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from cluster.contracts.events import Event
from cluster.security.event_files import KEPT, NAME, EventFile, EventReader
from cluster.security.event_log import EventLog, log_fields
from cluster.security.log_output import LogConfig, as_text, set_up_logging

logger = EventLog("cluster.test")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    tmp_path.chmod(0o700)
    return tmp_path / "logs" / "events"


def written(folder: Path) -> list[dict[str, Any]]:
    with EventReader(folder) as reader:
        return [json.loads(line) for line in reader.new_lines()]


def test_line_has_time_level_event_fields_and_origin(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    set_up_logging(LogConfig(folder, format="json"), worker="media-1", node="127.0.0.1")
    with log_fields(video_id="abc", attempt=1, stage="metadata"):
        logger.warning(Event.STAGE_FAILED, error="not a video")
    (line,) = written(folder)
    assert line == json.loads(capsys.readouterr().err)
    assert line.pop("time")[-1] == "Z"
    assert line == {
        "level": "warning", "event": "stage failed", "worker": "media-1", "node": "127.0.0.1", "video_id": "abc",
        "attempt": 1, "stage": "metadata", "error": "not a video", "logger": "cluster.test", "pid": os.getpid(),
    }  # fmt: skip


def test_console_line_is_text_with_its_traceback(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    set_up_logging(LogConfig(folder))
    try:
        raise ValueError("https://a.example/?sig=hidden-7")
    except ValueError as error:
        logger.exception(Event.STAGE_DEFECT, error=error, stage="metadata")
    printed = capsys.readouterr().err
    head, *trace = printed.splitlines()
    assert head.partition(" ERROR   ")[2] == (
        "stage failed unexpectedly: https://a.example/ (stage=metadata error_type=ValueError)"
    )
    assert trace[0] == "Traceback (most recent call last):"
    assert "hidden-7" not in printed + json.dumps(written(folder))
    assert printed == as_text(written(folder)[0]) + "\n"


def test_level_decides_what_is_written(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    set_up_logging(LogConfig(folder, level="info"), stderr_level="warning")
    for log in (logger.debug, logger.info, logger.warning):
        log(Event.WORK_UNBLOCKED)
    assert [line["level"] for line in written(folder)] == ["info", "warning"]
    assert capsys.readouterr().err.count("work unblocked") == 1


def test_library_warning_is_a_line_and_audit_is_none(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    set_up_logging(LogConfig(folder), worker="media-1")
    logging.getLogger("library").warning("password=%s", "hidden-7")
    logging.getLogger("library").info("of no interest")
    logging.getLogger("heimdex.audit").warning("has a file of its own")
    (line,) = written(folder)
    assert (line["event"], line["message"], line["worker"]) == ("library message", "password=...", "media-1")
    assert "library message: password=... (worker=media-1)" in capsys.readouterr().err


def test_log_files_are_closed_to_other_accounts(folder: Path) -> None:
    before = os.umask(0)
    try:
        set_up_logging(LogConfig(folder))
        logger.warning(Event.WORK_UNBLOCKED)
        with closing(EventFile(folder, rotate_bytes=1)) as rotated:
            rotated.append("{}")
    finally:
        os.umask(before)
    modes = {path.name: path.stat().st_mode & 0o777 for path in (folder, *folder.iterdir())}
    assert modes.pop("events") == 0o700
    assert len(modes) >= 2
    assert set(modes.values()) == {0o600}


def test_unsafe_folder_leaves_standard_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tmp_path.chmod(0o755)
    set_up_logging(LogConfig(tmp_path, format="json"))
    logger.warning(Event.WORK_UNBLOCKED)
    events = [json.loads(line)["event"] for line in capsys.readouterr().err.splitlines()]
    assert events == ["log file unavailable", "work unblocked"]
    assert not (tmp_path / NAME).exists()


def test_folder_that_is_gone_ends_nothing(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    set_up_logging(LogConfig(folder))
    folder.rmdir()
    folder.touch()
    logger.warning(Event.WORK_UNBLOCKED)
    assert "work unblocked" in capsys.readouterr().err


def test_rotation_keeps_the_youngest_lines(folder: Path) -> None:
    with closing(EventFile(folder, rotate_bytes=40)) as file:
        for number in range(100):
            file.append(json.dumps({"number": f"{number:03}"}))
    assert sum(path.stat().st_size for path in folder.iterdir()) < 80 * (KEPT + 1)
    numbers = [int(line["number"]) for line in written(folder)]
    assert numbers == list(range(numbers[0], 100))
    assert len(numbers) >= KEPT * 2


def test_reader_follows_over_rotations(folder: Path) -> None:
    with (
        closing(EventFile(folder, rotate_bytes=60)) as file,
        closing(EventFile(folder, rotate_bytes=60)) as other,
        EventReader(folder) as reader,
    ):
        assert list(reader.new_lines()) == []
        seen: list[bytes] = []
        for number in range(60):
            (file if number % 2 else other).append(f"line {number:03}")
            if number % 13 == 0:
                seen += reader.new_lines()
        seen += reader.new_lines()
    assert seen == [b"line %03d\n" % number for number in range(60)]


def test_reader_waits_for_the_end_of_a_line(folder: Path) -> None:
    with closing(EventFile(folder)) as whole:
        whole.append("whole")
    with EventReader(folder) as reader, (folder / NAME).open("ab", buffering=0) as file:
        file.write(b"ha")
        assert list(reader.new_lines()) == [b"whole\n"]
        file.write(b"lf\n")
        assert list(reader.new_lines()) == [b"half\n"]


WRITER = """
import sys
from pathlib import Path
from cluster.security.event_files import EventFile
file = EventFile(Path(sys.argv[1]), rotate_bytes=200_000)
for number in range(3000):
    file.append(f"{sys.argv[2]} {number} " + "x" * 50)
"""


def test_processes_that_write_at_once_lose_and_mix_no_line(folder: Path) -> None:
    processes = [subprocess.Popen([sys.executable, "-c", WRITER, str(folder), str(name)]) for name in range(4)]
    assert [process.wait() for process in processes] == [0] * 4
    with EventReader(folder) as reader:
        lines = [line.decode().split() for line in reader.new_lines()]
    assert {len(line) for line in lines} == {3}
    assert {line[2] for line in lines} == {"x" * 50}
    for name in range(4):
        numbers = [int(line[1]) for line in lines if line[0] == str(name)]
        assert numbers == list(range(3000))
