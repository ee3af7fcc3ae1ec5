"""What a decoder process logs is in the log of the worker that asked it, whatever the decoder writes there."""

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from cluster.contracts.events import Event
from cluster.decoders.config import DecoderConfig
from cluster.decoders.log_relay import MOST_LINES
from cluster.decoders.process import Answers, DecoderProcess
from cluster.security.event_files import EventReader
from cluster.security.event_log import EventLog, log_fields
from cluster.security.log_output import LogConfig, set_up_logging

PATIENCE_S = 20.0
LAST = b'{"event": "loop cut", "level": "info"}\n'


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    tmp_path.chmod(0o700)
    set_up_logging(LogConfig(tmp_path / "events"), worker="media-1")
    return tmp_path / "events"


@pytest.fixture
def decoder(folder: Path) -> Iterator[DecoderProcess]:
    decoder = DecoderProcess(DecoderConfig("tests.support.odd_decoders:load"), Answers((), 2**20, PATIENCE_S))
    yield decoder
    decoder.close()


def written(folder: Path, count: int) -> list[dict[str, Any]]:
    """The lines, once there are so many."""
    end_s = time.monotonic() + PATIENCE_S
    with EventReader(folder) as reader:
        found: list[dict[str, Any]] = []
        while len(found) < count and time.monotonic() < end_s:
            found += [json.loads(line) for line in reader.new_lines()]
            time.sleep(0.01)
    return found


def test_decoder_event_has_the_video_of_the_call(folder: Path, decoder: DecoderProcess) -> None:
    for number in (1, 2):
        with log_fields(video_id=f"video-{number}", stage="audio_extraction"):
            decoder.call("log", number)
    lines = written(folder, 2)
    assert [(line["event"], line["level"], line["failed"], line["video_id"], line["worker"]) for line in lines] == [
        ("sound skipped", "warning", 1, "video-1", "media-1"),
        ("sound skipped", "warning", 2, "video-2", "media-1"),
    ]


def test_decoder_line_that_is_no_event_is_a_message(folder: Path, decoder: DecoderProcess) -> None:
    decoder.call("say", b'not an event \x1b[2J\n{"event": "made up"}\n[]\n' + LAST)
    *others, last = written(folder, 4)
    assert last["event"] == "loop cut"
    assert [(line["event"], line["message"], line["worker"]) for line in others] == [
        ("library message", "not an event \\u001b[2J", "media-1"),
        ("library message", '{"event": "made up"}', "media-1"),
        ("library message", "[]", "media-1"),
    ]


def test_hostile_fields_neither_forge_a_line_nor_end_the_relay(folder: Path, decoder: DecoderProcess) -> None:
    forged = {
        "event": "stage failed", "self": 1, "error": "\n{} password=hidden-7", "logger": "x", "pid": 1, "a b": 2,
        "worker": {"deep": [[[1]]]}, "time": "2099", "exc_info": True, "extra": {}, "failed": 1e400,
    }  # fmt: skip
    deep = b'{"event": "loop cut", "copies": ' + b"[" * 30_000 + b"\n"
    decoder.call("say", json.dumps(forged).encode() + b"\n" + deep + LAST)
    first, *_, last = written(folder, 2)
    assert last["event"] == "loop cut"
    assert "hidden-7" not in json.dumps(first)
    assert "\n" not in first["error"]
    assert (first["logger"], "a b" in first, first["time"] < "2099") == ("cluster.decoders.log_relay", False, True)


def test_decoder_that_floods_is_cut_off(folder: Path, decoder: DecoderProcess) -> None:
    for _ in range(10):
        decoder.call("say", LAST * 100)
    decoder.close()
    EventLog("cluster.test").warning(Event.WORK_UNBLOCKED)
    assert 0 < len(written(folder, MOST_LINES + 1)) <= MOST_LINES + 1
