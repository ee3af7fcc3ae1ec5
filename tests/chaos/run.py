"""``make chaos``: faults are injected into the cluster, and violated invariants are counted.

Each part runs in a process of its own and says how it goes; a table of all parts is printed and kept in
``tests/chaos.md``. Parts that are not chosen keep the line of their last run, with its seed and commit.
"""

import argparse
import json
import secrets
import shlex
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path

from tests.chaos.parts import PARTS, Outcome
from tests.chaos.table import Row, read_table, write_table

ROOT = Path(__file__).parents[2]
KEPT = ROOT / "tests" / "chaos.md"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the chosen parts; exits with 1 when anything that must hold did not."""
    parser = argparse.ArgumentParser(prog="make chaos", description=__doc__)
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"of: {', '.join(PARTS)} (default: all)")
    parser.add_argument("--seed", type=int, default=secrets.randbelow(10**6), help="default: by chance, and printed")
    parser.add_argument("--kept", type=Path, default=KEPT, help="the table's file")
    parser.add_argument("--into", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    unknown = [part for part in options.parts if part not in PARTS]
    if unknown:
        parser.error(f"there is no part {unknown[0]!r}: {', '.join(PARTS)}")
    if options.into is not None:
        return _run_here(options.parts[0], options.seed, options.into)
    print(f"seed {options.seed}, commit {_commit()}", flush=True)
    rows = read_table(options.kept)
    wrong: list[str] = []
    for name in options.parts or PARTS:
        row, violations = _run_apart(name, options.seed)
        rows[name] = row
        wrong += [f"{name}: {violation}" for violation in violations]
        write_table(options.kept, [rows[name] for name in PARTS if name in rows])
    print(options.kept.read_text())
    print(*(f"VIOLATION {line}" for line in wrong), sep="\n")
    repeat = shlex.join(["python", "-m", "tests.chaos.run", "--seed", str(options.seed), *options.parts])
    print(f"{len(wrong)} violations. Again: {repeat}")
    return 1 if wrong else 0


def _run_apart(name: str, seed: int) -> tuple[Row, list[str]]:
    """Run one part in a process of its own, so that nothing of it is left for the next one."""
    print(f"--- {name}", flush=True)
    started_s = time.monotonic()
    with tempfile.NamedTemporaryFile(suffix=".json") as file:
        command = [sys.executable, "-m", "tests.chaos.run", name, "--seed", str(seed), "--into", file.name]
        with subprocess.Popen(command, cwd=ROOT) as part:
            try:
                status = part.wait()
            except KeyboardInterrupt:  # the part got it too, and takes down what it has running
                part.wait()
                raise
        outcome = Outcome(**json.load(file)) if status == 0 else Outcome("did not come to its end", [])
    violations = [*outcome.violations]
    if status != 0:
        violations.append(f"its process ended with {status if status > 0 else signal.Signals(-status).name}")
    seconds = time.monotonic() - started_s
    row = Row(name, outcome.done, len(violations), round(seconds), seed, _commit(), f"{datetime.now(UTC):%Y-%m-%d}")
    for violation in violations:
        print(f"VIOLATION {name}: {violation}")
    print(f"--- {name}: {row.done}; {row.violations} violations; {seconds:.0f} s", flush=True)
    return row, violations


def _run_here(name: str, seed: int, into: Path) -> int:
    outcome = PARTS[name](seed, lambda line: print(f"{name}: {line}", flush=True))
    into.write_text(json.dumps(asdict(outcome)))
    return 0


def _commit() -> str:
    """The commit that is checked out, with + when the sources differ from it."""
    git = ["git", "-C", str(ROOT)]
    head = subprocess.run([*git, "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False)
    if head.returncode != 0:
        return "unknown"
    changed = subprocess.run([*git, "diff", "--quiet", "HEAD", "--", ":!tests/chaos.md"], check=False).returncode
    return head.stdout.strip() + ("+" if changed else "")


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
