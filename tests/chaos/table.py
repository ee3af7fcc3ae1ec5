"""The table of what was run: how it is written for people, and read again to keep the lines of parts not run."""

from collections.abc import Sequence
from dataclasses import astuple, dataclass
from pathlib import Path

HEAD = """# Chaos

Faults injected, and how often an invariant was violated: no video lost or invented, none finalized
twice, no stale write accepted, the stage that failed named truthfully, the ledger consistent, nothing left behind.
Made by `make chaos`; the seed makes a run's choices again, not its timing. A `+` behind the commit: with changes that
were not committed.

"""
COLUMNS = ("part", "what was run", "violations", "s", "seed", "commit", "day")


@dataclass(frozen=True)
class Row:
    """One part's last run."""

    part: str
    done: str
    violations: int
    seconds: int
    seed: int
    commit: str
    day: str


def write_table(path: Path, rows: Sequence[Row]) -> None:
    """Write the whole file again."""
    lines = [
        _line(COLUMNS),
        _line(["---"] * len(COLUMNS)),
        *(_line([str(cell) for cell in astuple(row)]) for row in rows),
    ]
    path.write_text(HEAD + "\n".join(lines) + "\n")


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def read_table(path: Path) -> dict[str, Row]:
    """The rows of the file, by part; none when there is no file."""
    lines = path.read_text().splitlines() if path.exists() else []
    cells = [line.strip("| ").split(" | ") for line in lines if line.startswith("| ")][2:]
    return {
        part: Row(part, done, int(n), int(s), int(seed), commit, day) for part, done, n, s, seed, commit, day in cells
    }
