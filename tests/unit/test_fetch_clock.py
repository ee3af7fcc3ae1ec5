"""What a fetch looks at while it copies, whatever the scheme: the time, and the room there is."""

import shutil
from pathlib import Path

import fsspec
import pytest

from cluster.contracts.errors import NoSpace, TransientFailure
from cluster.storage import FetchLimits, fetch
from cluster.web_source import Deadline

MEMORY = frozenset({"memory"})


def test_a_deadline_that_is_over_is_said() -> None:
    for look in (Deadline(0.0).check, Deadline(0.0).patience_s):
        with pytest.raises(TransientFailure, match="longer than the limit of 0 s"):
            look()
    Deadline(60.0).check()
    assert 0 < Deadline(60.0).patience_s(5.0) <= 5.0


def test_a_source_of_any_scheme_is_copied_in_time(tmp_path: Path) -> None:
    fsspec.filesystem("memory").pipe("/clock/a.mp4", b"film")
    with pytest.raises(TransientFailure, match="fetching took longer"):
        fetch("memory://clock/a.mp4", tmp_path, FetchLimits(10**6, 1e-9, MEMORY))
    assert list(tmp_path.iterdir()) == []


def test_what_does_not_fit_on_the_disk_is_not_begun(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fsspec.filesystem("memory").pipe("/clock/b.mp4", b"film")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(10, 7, 3))  # type: ignore[attr-defined]
    with pytest.raises(NoSpace, match=r"not enough space in .* for 4 bytes"):
        fetch("memory://clock/b.mp4", tmp_path, FetchLimits(10**6, 10.0, MEMORY))
    assert list(tmp_path.iterdir()) == []
