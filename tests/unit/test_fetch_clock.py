"""Checks of a fetch while it copies, whatever the scheme: the time, and the room there is."""

import shutil
import threading
import time
from pathlib import Path

import fsspec
import pytest

from cluster.contracts.errors import Interrupted, NoRoom, SourceSlow, TransientFailure
from cluster.files.copied_file import CopiedFile
from cluster.files.deadline import Deadline, Pace
from cluster.files.disk_space import DiskSpace
from cluster.files.storage import FetchLimits, fetch

MEMORY = frozenset({"memory"})


def test_a_deadline_that_is_over_is_said() -> None:
    for look in (Deadline(0.0).check, Deadline(0.0).patience_s):
        with pytest.raises(TransientFailure, match="longer than the limit of 0 s"):
            look()
    Deadline(60.0).check()
    assert 0 < Deadline(60.0).patience_s(5.0) <= 5.0


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Seconds that a test sets."""
    now = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    return now


def test_a_source_must_keep_its_pace_in_every_window(clock: list[float]) -> None:
    deadline = Deadline(3600.0, Pace(100, 10.0))
    for _ in range(3):
        clock[0] += 9.9
        deadline.check()
        deadline.note_received(1000)
        clock[0] += 0.2
        deadline.check()
    deadline.note_received(999)
    clock[0] += 10.0
    with pytest.raises(SourceSlow, match="999 bytes in 10 s, at least 1,000 are wanted"):
        deadline.check()


def test_a_pace_does_not_count_the_time_of_this_machine(clock: list[float]) -> None:
    deadline = Deadline(3600.0, Pace(100, 10.0))
    with deadline.own_time():
        clock[0] += 60.0
    deadline.check()
    clock[0] += 9.9
    deadline.check()
    clock[0] += 0.2
    with pytest.raises(SourceSlow):
        deadline.check()


def test_a_wait_ends_when_stopped_and_not_before() -> None:
    stopped = threading.Event()
    deadline = Deadline(60.0, stopped=stopped)
    deadline.pause(0.01)
    stopped.set()
    for wait in (deadline.check, deadline.patience_s, lambda: deadline.pause(30.0)):
        with pytest.raises(Interrupted, match="the download was stopped"):
            wait()


def test_a_wait_for_an_answer_has_its_own_limit() -> None:
    def never(wait_s: float) -> None:
        time.sleep(wait_s)
        raise TimeoutError

    begun_s = time.monotonic()
    with pytest.raises(TimeoutError):
        Deadline(60.0).wait_for(never, 0.1)
    assert time.monotonic() - begun_s < 1.0
    assert Deadline(60.0).wait_for(lambda _: "answer", 0.1) == "answer"


def test_a_source_of_any_scheme_is_copied_in_time(tmp_path: Path) -> None:
    fsspec.filesystem("memory").pipe("/clock/a.mp4", b"film")
    with pytest.raises(TransientFailure, match="fetching took longer"):
        fetch("memory://clock/a.mp4", tmp_path, FetchLimits(10**6, 1e-9, MEMORY))
    assert list(tmp_path.iterdir()) == []


def test_a_copy_that_is_stopped_takes_no_more(tmp_path: Path) -> None:
    stopped, space = threading.Event(), DiskSpace(tmp_path, keeps_free=False)
    with (tmp_path / "video").open("w+b", buffering=0) as file:
        copy = CopiedFile(file, space, space.reserve(), 10**6, Deadline(60.0, stopped=stopped))
        copy.write(b"film")
        stopped.set()
        with pytest.raises(Interrupted):
            copy.write(b"film")
    assert (tmp_path / "video").read_bytes() == b"film"


def test_what_does_not_fit_on_the_disk_is_not_begun(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fsspec.filesystem("memory").pipe("/clock/b.mp4", b"film")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(10, 7, 3))  # type: ignore[attr-defined]
    with pytest.raises(NoRoom, match="the disk has no room for 4 bytes"):
        fetch("memory://clock/b.mp4", tmp_path, FetchLimits(10**6, 10.0, MEMORY))
    assert list(tmp_path.iterdir()) == []
