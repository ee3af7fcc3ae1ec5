"""Hostile media files, the short part: each ends in time with one clear sentence or READY, and takes nothing along.

The long part is ``python -m tests.chaos.media``. The checker itself is shown to see what it is there to see.
"""

import math
import os
import signal
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from tests.chaos.hostile_file import READY, Becomes, HostileFile, refused
from tests.chaos.hostile_media import HOSTILE
from tests.chaos.media import DEADLINE_S, LIMITS, MEMORY_BOUND_BYTES, Verdict, run
from tests.chaos.mutated_media import mutated_files
from tests.chaos.watched_worker import Ending, WatchedWorker, _left_behind
from tests.chaos.whole_media import whole

SEED, MUTATED = 4, 48


@pytest.mark.timeout(600)
def test_hostile_file_ends_in_time_and_kills_no_worker() -> None:
    told: list[str] = []
    counts = run(SEED, MUTATED, progress=told.append)
    assert counts.violations == []
    assert counts.died == []
    assert (counts.handmade, counts.mutated) == (len(HOSTILE), MUTATED)
    assert len(told) == sum(counts.outcomes.values()) == len(HOSTILE) + MUTATED
    assert counts.handmade >= 60
    changed_meanwhile = {"SourceChanging"}  # of those that are written to while they are read; by chance
    assert set(counts.outcomes) - changed_meanwhile == {"ready", "InvalidVideo"}
    assert counts.worst_s < DEADLINE_S
    assert 0 < counts.worst_bytes < MEMORY_BOUND_BYTES
    assert "violations 0" in counts.lines()


def test_the_same_seed_makes_the_same_files(tmp_path: Path) -> None:
    def made() -> list[tuple[str, bytes]]:
        with closing(mutated_files(SEED, 12, tmp_path)) as files:
            return [(file.what, file.path.read_bytes()) for file in files]

    assert made() == made()
    assert [path.name for path in tmp_path.iterdir()] == ["sources"]


# That the checker can fail


@pytest.fixture
def video(tmp_path: Path) -> Path:
    return whole(tmp_path / "video.mp4")


@pytest.fixture
def worker(tmp_path: Path) -> Iterator[WatchedWorker]:
    with closing(WatchedWorker(tmp_path / "scratch", LIMITS, DEADLINE_S)) as worker:
        yield worker


def violations(video: Path, ending: Ending) -> list[str]:
    """Violations of a file that should become ready."""
    verdict = Verdict()
    verdict.judge_handmade(HostileFile("video", str(video), READY), ending)
    return verdict.counts(SEED).violations


def test_a_worker_that_hangs_is_named_and_replaced(video: Path, worker: WatchedWorker) -> None:
    assert violations(video, worker.take(str(video))) == []
    stopped = worker.pid
    assert stopped is not None
    os.kill(stopped, signal.SIGSTOP)
    worker.deadline_s = 0.5
    [violation] = violations(video, worker.take(str(video)))
    assert violation.startswith("handmade video: not done after 0.5 s")
    worker.deadline_s = DEADLINE_S
    assert violations(video, worker.take(str(video))) == []
    assert worker.pid != stopped


def test_a_worker_that_dies_is_listed_and_replaced(video: Path, worker: WatchedWorker) -> None:
    assert violations(video, worker.take(str(video))) == []
    killed = worker.pid
    assert killed is not None
    os.kill(killed, signal.SIGSTOP)
    verdict = Verdict()
    verdict.judge_mutated("the file", worker.take(str(video), meanwhile=lambda: os.kill(killed, signal.SIGKILL)))
    counts = verdict.counts(SEED)
    assert counts.died == ["the file: died in ?: exit status -9"]
    assert counts.violations == []
    assert violations(video, worker.take(str(video))) == []


def test_a_worker_that_grows_is_named(video: Path, worker: WatchedWorker, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tests.chaos.media.MEMORY_BOUND_BYTES", 32 * 2**20)
    [violation] = violations(video, worker.take(str(video)))
    assert violation.startswith("handmade video: ")
    assert violation.endswith(" MiB of memory")


def test_what_is_left_behind_is_named(video: Path, worker: WatchedWorker, tmp_path: Path) -> None:
    (tmp_path / "scratch" / "another").mkdir(parents=True)
    assert violations(video, worker.take(str(video))) == ["handmade video: left behind: temporary files ['another']"]


def test_what_a_kept_decoder_holds_of_a_file_is_named() -> None:
    nothing = {"temporary": [], "files": [], "os_threads": 2, "python_threads": 2, "data_limit": [-1, -1]}
    kept = {"pid": 5, "files": 5, "os_threads": 1, "data_limit": [-1, -1]}
    before = {**nothing, "decoder": kept}
    for holds in ({"files": 6}, {"os_threads": 2}, {"data_limit": [9, -1]}):
        [left] = _left_behind(before, {**nothing, "decoder": {**kept, **holds}})
        assert left.startswith("in its decoder: ")
    for decoder in (kept, None, {**kept, "pid": 6, "files": 9}):
        assert list(_left_behind(before, {**nothing, "decoder": decoder})) == []


def test_what_a_stage_makes_beyond_a_limit_is_named(video: Path, tmp_path: Path) -> None:
    """No number is beyond a limit that is none, and none is within it."""
    limits = replace(LIMITS, max_duration_s=math.nan)
    with closing(WatchedWorker(tmp_path / "scratch", limits, DEADLINE_S)) as worker:
        [violation] = violations(video, worker.take(str(video)))
    assert violation.startswith("handmade video: the file is at fault, not the machine: MalformedResult in metadata")


@pytest.mark.parametrize(
    ("outcome", "message", "said"),
    [
        ("InvalidVideo", "[Errno 22]", "no sentence for people"),
        ("InvalidVideo", "the file\0is damaged", "no sentence for people"),
        ("TransientFailure", "the file cannot be read now", "the file is at fault, not the machine"),
        ("defect", "ValueError: no", "ValueError: no"),
    ],
)
def test_an_ending_that_blames_the_wrong_one_is_named(outcome: str, message: str, said: str) -> None:
    verdict = Verdict()
    verdict.judge_mutated("the file", Ending(outcome, message, "metadata", 0.1))
    [violation] = verdict.counts(SEED).violations
    assert violation.startswith(f"the file: {said}")


@pytest.mark.parametrize("meanwhile", [None, lambda: None])
def test_file_changed_while_read_may_be_read_later(meanwhile: Callable[[], None] | None) -> None:
    verdict = Verdict()
    ending = Ending("SourceChanging", "the file is still being written", "scene_detection", 0.1)
    verdict.judge_handmade(HostileFile("video", "", READY, meanwhile), ending)
    assert (verdict.counts(SEED).violations == []) == (meanwhile is not None)


@pytest.mark.parametrize(
    ("becomes", "outcome"),
    [(READY, "InvalidVideo"), (refused("the file is empty"), "ready"), (refused("x"), "InvalidVideo")],
)
def test_a_hand_made_file_that_ends_otherwise_is_named(becomes: Becomes, outcome: str) -> None:
    verdict = Verdict()
    verdict.judge_handmade(HostileFile("video", "", becomes), Ending(outcome, "the file is damaged", "metadata", 0.1))
    [violation] = verdict.counts(SEED).violations
    assert violation.startswith("handmade video: must be")
