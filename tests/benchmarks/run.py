"""``make bench``: each line held against what a person would use instead, in a process of its own; a table is kept.

``--quick`` takes smaller inputs and fewer rounds, leaves out the lines that bring a cluster up unless they are named,
and keeps nothing. A ratio is theirs over ours, the median of rounds that were run in turn; it counts only when what
both found has been compared. Exits with 1 when an output was worse.
"""

import argparse
import importlib
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from tests.benchmarks.machine import machine
from tests.benchmarks.rounds import Comparison, Spent

ROOT = Path(__file__).parents[2]
RESULTS = Path(__file__).with_name("results.md")
LINES = ("media_of_a_file", "detection", "short_clips", "whole_way", "waiting", "claims", "scheduling")
"""The modules, each with a function ``compare(rounds, quick, say)``."""
LINES_QUICK = tuple(line for line in LINES if line not in ("whole_way", "waiting"))
"""Bringing up a cluster, a script and Ray Data takes minutes, however little they do then."""
ROUNDS, ROUNDS_QUICK = 5, 2


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the chosen lines; exits with 1 when an output was worse than what it was held against."""
    parser = argparse.ArgumentParser(prog="make bench", description=__doc__)
    parser.add_argument("lines", nargs="*", metavar="LINE", help=f"of: {', '.join(LINES)} (default: all)")
    parser.add_argument("--quick", action="store_true", help="smaller inputs, fewer rounds; results.md stays as it is")
    parser.add_argument("--into", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    unknown = [line for line in options.lines if line not in LINES]
    if unknown:
        parser.error(f"there is no line {unknown[0]!r}: {', '.join(LINES)}")
    if options.into is not None:
        return _run_here(options.lines[0], options.quick, options.into)
    began_s = time.monotonic()
    lines = options.lines or (LINES_QUICK if options.quick else LINES)
    done = [comparison for name in lines for comparison in _run_apart(name, options.quick)]
    report = _report(done, time.monotonic() - began_s)
    print(report)
    if not options.quick and not options.lines:
        RESULTS.write_text(report)
        print(f"kept in {RESULTS.relative_to(ROOT)}", file=sys.stderr)
    return 1 if any(comparison.wrong for comparison in done) else 0


def _run_apart(name: str, quick: bool) -> list[Comparison]:
    """In a process of its own: what one line has loaded costs the next one nothing."""
    with tempfile.NamedTemporaryFile(suffix=".json") as file:
        command = [sys.executable, "-m", "tests.benchmarks.run", name, "--into", file.name]
        subprocess.run([*command, *(["--quick"] if quick else [])], cwd=ROOT, check=True)
        return [_comparison(record) for record in json.load(file)]


def _run_here(name: str, quick: bool, into: Path) -> int:
    def say(text: str) -> None:
        print(f"{name}: {text}", file=sys.stderr, flush=True)

    module = importlib.import_module(f"tests.benchmarks.{name}")
    done: list[Comparison] = module.compare(ROUNDS_QUICK if quick else ROUNDS, quick, say)
    into.write_text(json.dumps([asdict(comparison) for comparison in done]))
    return 0


def _comparison(record: dict[str, object]) -> Comparison:
    sides = {side: [Spent(**spent) for spent in record.pop(side)] for side in ("of_ours", "of_theirs")}  # type: ignore[attr-defined]
    return Comparison(**record, **sides)  # type: ignore[arg-type]


def _report(done: Sequence[Comparison], seconds: float) -> str:
    lines = [
        "# Benchmarks",
        "",
        f"{machine(['procrastinate'])}. Made by `make bench` in {seconds / 60:.0f} minutes.",
        "",
        "A ratio is what the other one took over what this one took, the median of rounds run in turn, with the "
        "smallest and the largest round. Outputs were compared before: the last column.",
        "",
        "| what | against | measured | ratio | reach | | outputs |",
        "|---|---|---|---:|---:|---|---|",
        *map(_row, done),
        "",
    ]
    for comparison in done:
        if comparison.limit or comparison.details:
            lines += [f"**{comparison.title}**", ""]
            lines += [f"- {sentence}" for sentence in (*comparison.details, comparison.limit) if sentence]
            lines.append("")
    return "\n".join(lines)


def _row(line: Comparison) -> str:
    ratios = line.ratios
    ratio = f"**{line.ratio:.2f}** ({min(ratios):.2f} to {max(ratios):.2f}; {len(ratios)})"
    verdict = line.wrong or ("reached" if line.is_reached else "not reached")
    measured = {"cpu": "CPU seconds", "wall": "wall time"}[line.measure]
    return f"| {line.title} | {line.against} | {measured} | {ratio} | {line.reach:g} | {verdict} | {line.gate} |"


if __name__ == "__main__":
    sys.exit(main())
