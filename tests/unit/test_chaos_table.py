"""``make chaos`` keeps what it ran: a part's line is replaced, the others stay, and a broken part is no good one."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.chaos import run
from tests.chaos.parts import PARTS, Outcome
from tests.chaos.table import Row, read_table, write_table

ROWS = [
    Row("rights", "7 functions (3 of them odd)", 0, 4, 1, "abc1234", "2026-11-24"),
    Row("tokens", "300 videos", 2, 1900, 77, "abc1234+", "2026-11-24"),
]


def test_the_table_is_read_as_it_was_written(tmp_path: Path) -> None:
    assert read_table(tmp_path / "chaos.md") == {}
    write_table(tmp_path / "chaos.md", ROWS)
    assert list(read_table(tmp_path / "chaos.md").values()) == ROWS


@pytest.mark.long
def test_chaos_part_runs_alone_and_other_rows_stay(tmp_path: Path) -> None:
    kept = tmp_path / "chaos.md"
    write_table(kept, ROWS)
    command = [sys.executable, "-m", "tests.chaos.run", "rights", "--seed", "5", "--kept", str(kept)]
    ended = subprocess.run(command, cwd=run.ROOT, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
    rows = read_table(kept)
    assert rows["tokens"] == ROWS[1]
    assert (rows["rights"].seed, rows["rights"].violations) == (5, 0)
    assert re.match(r"^\d+ SQL functions", rows["rights"].done)
    assert ended.stdout.startswith("seed 5, commit ")
    assert "0 violations. Again: python -m tests.chaos.run --seed 5 rights" in ended.stdout


def test_a_violation_and_a_part_that_dies_are_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    into = tmp_path / "result.json"
    monkeypatch.setitem(PARTS, "uris", lambda seed, _: Outcome(f"one URI of {seed}", ["it was read"]))
    assert run.main(["uris", "--seed", "3", "--into", str(into)]) == 0
    assert into.read_text() == '{"done": "one URI of 3", "violations": ["it was read"]}'
    monkeypatch.setattr(sys, "executable", "false")
    assert run.main(["uris", "--seed", "3", "--kept", str(tmp_path / "chaos.md")]) == 1
    assert "VIOLATION uris: its process ended with 1" in capsys.readouterr().out
    assert read_table(tmp_path / "chaos.md")["uris"].violations == 1


def test_an_unknown_part_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        run.main(["ladders"])
    assert "there is no part 'ladders'" in capsys.readouterr().err
