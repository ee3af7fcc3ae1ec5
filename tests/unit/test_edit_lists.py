"""Parts that an edit list leaves out are not there: durations, cuts and sound are those that a player shows."""

from pathlib import Path

import pytest

from tests.support.clock_files import Clip, write_clip
from tests.support.edit_lists import Edit, edit
from tests.support.read_files import Expected, assert_read, read

WITH_CUTS = Clip(20.0, 20.0, (2.0, 5.0, 15.0), (0.5, 2.5, 15.5), group=250)
TRIMMED: dict[str, tuple[list[Edit], Expected]] = {
    "all": ([(0.0, 20.0)], Expected(20.0, (2.0, 5.0, 15.0), (0.5, 2.5, 15.5))),
    "end": ([(0.0, 3.5)], Expected(3.5, (2.0,), (0.5, 2.5))),
    "beginning": ([(4.0, 16.0)], Expected(16.0, (1.0, 11.0), (11.5,))),
    "both ends": ([(1.0, 12.0)], Expected(12.0, (1.0, 4.0), (1.5,))),
    "middle": ([(0.0, 4.0), (10.0, 10.0)], Expected(14.0, (2.0, 4.0, 9.0), (0.5, 2.5, 9.5))),
    "two middles": ([(0.0, 3.0), (4.0, 3.0), (14.0, 6.0)], Expected(12.0, (2.0, 3.0, 4.0, 6.0, 7.0), (0.5, 2.5, 7.5))),
    "order": ([(14.0, 6.0), (0.0, 4.0)], Expected(10.0, (1.0, 6.0, 8.0), (1.5, 6.5, 8.5))),
}


@pytest.mark.parametrize(
    ("case", "suffix", "group"),
    [*((case, "mp4", 250) for case in TRIMMED), ("both ends", "mov", 25), ("order", "mov", 25)],
)
def test_what_an_edit_list_leaves_out_is_not_there(tmp_path: Path, case: str, suffix: str, group: int) -> None:
    edits, expected = TRIMMED[case]
    clip = Clip(20.0, 20.0, WITH_CUTS.cuts_s, WITH_CUTS.beeps_s, group=group)
    found = assert_read(edit(write_clip(tmp_path / f"clip.{suffix}", clip), *edits), expected)
    assert found.info.warnings == ()
    assert found.blocks[-1].warnings == ()


def test_pictures_trimmed_alone_end_before_the_sound(tmp_path: Path) -> None:
    path = edit(write_clip(tmp_path / "clip.mp4", WITH_CUTS), (0.0, 10.0), tracks=["vide"])
    found = read(path)
    assert found.info.duration_s == pytest.approx(20.0, abs=0.1)
    assert found.starts_s == pytest.approx([0.0, 2.0, 5.0], abs=0.1)
    assert found.beeps_s == pytest.approx([0.5, 2.5, 15.5], abs=0.1)


def test_rate_is_that_of_what_is_shown(tmp_path: Path) -> None:
    path = edit(write_clip(tmp_path / "clip.mp4", WITH_CUTS), (0.0, 3.5))
    assert read(path).info.fps == pytest.approx(25.0, abs=0.5)
