"""Files that cannot be processed: each ends with one clear sentence and the stage it failed in; the others go on."""

import os
from pathlib import Path
from typing import Any

import pytest

from cluster.demo import clips
from tests.support.command_line import CommandLine
from tests.support.media_files import Recipe, Shot, Sound, cut_off, tone, write_video

SHARED_MEDIA = Path(__file__).resolve().parents[3] / "shared" / "media"


@pytest.fixture(scope="module")
def bad_folder(cluster_folder: Path) -> Path:
    folder = cluster_folder / "bad"
    folder.mkdir()
    return folder


@pytest.fixture(scope="module")
def results(heimdex: CommandLine, bad_folder: Path) -> dict[str, dict[str, Any]]:
    """One call of ``process`` with every bad file and one good one between them, by file name."""
    (bad_folder / "empty.mp4").touch()
    (bad_folder / "text.mp4").write_text("This is a letter, not a video.\n" * 50)
    shots = [Shot(4.0, 1), Shot(4.0, 2)]
    write_video(bad_folder / "whole.mp4", shots, recipe=Recipe(options={"movflags": "faststart"}))
    cut_off(bad_folder / "whole.mp4", 0.5).rename(bad_folder / "cut_off.mp4")
    write_video(bad_folder / "silent.mp4", shots)
    write_video(bad_folder / "sound_only.mp4", [], [Sound(0.0, tone(3.0))])
    for path in bad_folder.iterdir():
        os.utime(path, (0, 0))  # what was written just now and cannot be read would have to wait
    uris = [
        str(bad_folder / "missing.mp4"),
        str(bad_folder / "empty.mp4"),
        str(bad_folder / "text.mp4"),
        str(clips()[0]),
        str(bad_folder / "cut_off.mp4"),
        str(bad_folder / "silent.mp4"),
        str(bad_folder / "sound_only.mp4"),
        "gopher://example.org/video.mp4",
    ]
    answers = heimdex.json("process", *uris)
    return {answer["uri"].rpartition("/")[2]: answer for answer in answers}


@pytest.mark.parametrize(
    ("name", "stage", "words"),
    [
        ("missing.mp4", "downloading", "no such file"),
        ("empty.mp4", "downloading", "empty"),
        ("text.mp4", "metadata", "not a"),
        ("cut_off.mp4", "scene_detection", "could be read"),
        ("sound_only.mp4", "metadata", "no pictures"),
        ("video.mp4", "downloading", "gopher"),
    ],
)
def test_a_bad_file_fails_in_its_stage_with_one_sentence(
    results: dict[str, dict[str, Any]], name: str, stage: str, words: str
) -> None:
    result = results[name]
    assert result["status"] == "FAILED"
    assert result["processing_stage"] == stage
    assert result["error_type"] == "InvalidVideo"
    assert words in result["error_message"]
    assert "\n" not in result["error_message"]
    assert [run["outcome"] for run in result["stages"] if run["name"] == stage] == ["failed"]


def test_the_good_file_beside_them_is_ready(results: dict[str, dict[str, Any]]) -> None:
    assert results[clips()[0].name]["status"] == "READY"


def test_pictures_without_sound_are_ready_without_words(results: dict[str, dict[str, Any]]) -> None:
    silent = results["silent.mp4"]
    assert (silent["status"], silent["scenes"], silent["words"]) == ("READY", 2, 0)


def test_a_failure_is_one_line_and_the_exit_status_is_1(heimdex: CommandLine, bad_folder: Path) -> None:
    done = heimdex.run("process", str(bad_folder / "empty.mp4"))
    assert done.returncode == 1
    lines = [line for line in done.stderr.splitlines() if line.startswith("FAILED  empty.mp4: downloading: ")]
    assert len(lines) == 1


@pytest.mark.skipif(not SHARED_MEDIA.is_dir(), reason="the folder of real clips is not beside the checkout")
def test_real_clips_of_all_kinds_go_through_without_a_crash(heimdex: CommandLine) -> None:
    answers = heimdex.json("process", str(SHARED_MEDIA))
    assert len(answers) >= 10
    for answer in answers:
        assert answer["status"] == "READY" or answer["error_type"] == "InvalidVideo", answer
        assert all(run["outcome"] != "lost" for run in answer["stages"]), answer
