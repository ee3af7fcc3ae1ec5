"""``heimdex logs`` on a real cluster: a clip and a broken file, found by their ids, and a worker that is killed."""

import json
import os
import signal
import stat
import time
from pathlib import Path
from typing import Any

import psutil
import pytest

from cluster.demo import clips
from tests.support.command_line import CommandLine
from tests.support.media_files import Recipe, Shot, Sound, cut_off, damage, tone, write_video

PATIENCE_S = 60.0


@pytest.fixture(scope="module")
def results(heimdex: CommandLine, cluster_folder: Path) -> dict[str, dict[str, Any]]:
    """A clip, a file that is cut off, and one with a damaged part."""
    folder = cluster_folder / "logged"
    folder.mkdir()
    whole = folder / "whole.mp4"
    write_video(whole, [Shot(4.0, 1), Shot(4.0, 2)], recipe=Recipe(options={"movflags": "faststart"}))
    cut_off(whole, 0.5).rename(folder / "broken.mp4")
    os.utime(folder / "broken.mp4", (0, 0))  # what was written just now and cannot be read would have to wait
    shots = [Shot(4.0, number) for number in (1, 2, 3)]
    damage(write_video(folder / "damaged.mp4", shots, [Sound(0.0, tone(12.0))]), 0.5, 0.55)
    answers = heimdex.json("process", str(clips()[0]), str(folder / "broken.mp4"), str(folder / "damaged.mp4"))
    return {Path(answer["uri"]).name: answer for answer in answers}


def logged(heimdex: CommandLine, *arguments: str) -> list[dict[str, Any]]:
    done = heimdex.run("logs", "--json", *arguments)
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def awaited(heimdex: CommandLine, event: str, *arguments: str, **fields: str) -> dict[str, Any]:
    """The last line of that event with these fields, once there is one."""
    end_s = time.monotonic() + PATIENCE_S
    while time.monotonic() < end_s:
        found = [line for line in logged(heimdex, *arguments) if line["event"] == event]
        found = [line for line in found if fields.items() <= line.items()]
        if found:
            return found[-1]
    pytest.fail(f"no line of the event {event} with {fields}")


def test_clip_is_found_from_claim_to_ready(heimdex: CommandLine, results: dict[str, dict[str, Any]]) -> None:
    video_id = results[clips()[0].name]["id"]
    awaited(heimdex, "video ready", "--video", video_id)
    lines = logged(heimdex, "--video", video_id)
    assert [line["event"] for line in lines] == ["video claimed", "video ready"]
    assert {(line["video_id"], line["attempt"], line["level"]) for line in lines} == {(video_id, 1, "info")}
    assert {line["scheduler"].partition("-")[0] for line in lines} == {"scheduler"}
    assert {line["node"] for line in lines} == {"127.0.0.1"}


def test_broken_file_is_found_with_stage_worker_and_reason(
    heimdex: CommandLine, results: dict[str, dict[str, Any]]
) -> None:
    result = results["broken.mp4"]
    assert result["status"] == "FAILED"
    awaited(heimdex, "video failed", "--video", result["id"])
    lines = logged(heimdex, "--video", result["id"], "--level", "warning")
    events = [line["event"] for line in lines]
    assert events[-2:] == ["stage failed", "video failed"]
    (failed,) = [line for line in lines if line["event"] == "stage failed"]
    assert failed["worker"].startswith("media-")
    assert (failed["stage"], failed["attempt"], failed["blame"], failed["error_type"]) == (
        "scene_detection", 1, "video", "InvalidVideo",
    )  # fmt: skip
    assert failed["error"] == result["error_message"]
    text = heimdex.run("logs", "--video", result["id"], "--level", "warning").stdout
    assert f"stage failed: {failed['error']} (" in text


def test_decoder_lines_have_the_video_and_the_worker(heimdex: CommandLine, results: dict[str, dict[str, Any]]) -> None:
    video_id = results["damaged.mp4"]["id"]
    for event, stage in (("sound skipped", "transcription"), ("pictures skipped", "scene_detection")):
        line = awaited(heimdex, event, "--video", video_id)
        assert line["worker"].startswith("media-")
        assert (line["stage"], line["attempt"], line["node"]) == (stage, 1, "127.0.0.1")
        assert line["failed"] > 0


def test_killed_worker_is_lost_and_replaced(heimdex: CommandLine, results: dict[str, dict[str, Any]]) -> None:
    started = awaited(heimdex, "worker started", kind="media")
    worker = psutil.Process(started["worker_pid"])
    assert worker.username() == psutil.Process().username()
    worker.send_signal(signal.SIGKILL)
    lost = awaited(heimdex, "worker lost", worker=started["worker"])
    assert lost["level"] == "warning"
    replaced = awaited(heimdex, "worker replaced", replaces=started["worker"])
    assert awaited(heimdex, "worker started", worker=replaced["worker"])["worker_pid"] != started["worker_pid"]


def test_log_files_are_closed_to_other_accounts(heimdex: CommandLine, results: dict[str, dict[str, Any]]) -> None:
    folder = Path(heimdex.environment["HEIMDEX_DATA_DIR"]) / "logs" / "events"
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()}
    assert modes["events.jsonl"] == 0o600
    assert set(modes.values()) == {0o600}
