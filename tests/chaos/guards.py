"""Every guard is removed in turn, and the ordinary tests must notice: ``python -m tests.chaos.guards [--only NAME]``.

A test that passes with and without what it is said to guard guards nothing. Owns what counts as noticed: the guard's
tests pass on the whole sources, and each of them fails without it, by an assertion or an error of the product's, not
because something cannot be imported, parsed or set up. Removing is ``guards_trial``'s, the guards are the tables'.
"""

import argparse
import os
import queue
import random
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from tests.chaos.guards_of_callers import CALLS
from tests.chaos.guards_of_decoders import DECODERS
from tests.chaos.guards_of_downloads import DOWNLOADS
from tests.chaos.guards_of_fetches import FETCHES, POSTPONEMENTS, VERSIONS
from tests.chaos.guards_of_hosts import HOSTS
from tests.chaos.guards_of_http import HTTP
from tests.chaos.guards_of_leases import LEASES
from tests.chaos.guards_of_logs import LOGS
from tests.chaos.guards_of_media import MEDIA
from tests.chaos.guards_of_models import SEARCHED
from tests.chaos.guards_of_origins import ORIGIN
from tests.chaos.guards_of_owners import OWNERS
from tests.chaos.guards_of_places import PLACES
from tests.chaos.guards_of_roles import ROLE_RIGHTS
from tests.chaos.guards_of_search import ENGINE
from tests.chaos.guards_of_secrets import SECRETS
from tests.chaos.guards_of_sources import SOURCES
from tests.chaos.guards_of_sql import SQL
from tests.chaos.guards_of_submissions import SUBMISSIONS
from tests.chaos.guards_of_tokens import TOKENS
from tests.chaos.guards_of_ways import WAYS
from tests.chaos.guards_of_writes import WRITES
from tests.chaos.guards_trial import Copy, Guard, Seen, StaleGuard

ROOT = Path(__file__).parents[2]
GUARDS = [
    *LEASES,
    *WRITES,
    *WAYS,
    *SUBMISSIONS,
    *OWNERS,
    *SQL,
    *ROLE_RIGHTS,
    *TOKENS,
    *HTTP,
    *CALLS,
    *SOURCES,
    *DOWNLOADS,
    *ORIGIN,
    *SECRETS,
    *FETCHES,
    *POSTPONEMENTS,
    *VERSIONS,
    *LOGS,
    *MEDIA,
    *PLACES,
    *HOSTS,
    *SEARCHED,
    *ENGINE,
    *DECODERS,
]
JOBS = min(2, os.cpu_count() or 1)
WHOLE_S = 600.0
"""Longest time for all the tests on the whole sources."""
BROKEN = {
    "SyntaxError", "ImportError", "NameError", "UndefinedColumn", "UndefinedTable", "UndefinedFunction",
    "UndefinedParameter", "AmbiguousColumn", "GroupingError",
}  # fmt: skip
"""Errors that say that the change broke the sources, and not that a promise was."""

Progress = Callable[[str], None]


@dataclass(frozen=True)
class Counts:
    """What was run and what was wrong."""

    seed: int
    seconds: float
    guards: int
    tests: int
    noticed: int
    violations: list[str]

    def lines(self) -> Iterator[str]:
        """As people read it."""
        yield f"seed {self.seed}: {self.guards} guards removed one by one, {self.tests} tests, {self.seconds:.0f} s"
        yield f"noticed {self.noticed}"
        yield f"violations {len(self.violations)}"
        yield from (f"VIOLATION {line}" for line in self.violations)


def run(seed: int, progress: Progress, guards: Sequence[Guard] = GUARDS, project: Path = ROOT) -> Counts:
    """Remove each of the guards, in an order made from ``seed``; those whose tests start a Ray come last."""
    started_s = time.monotonic()
    order = random.Random(seed).sample(list(guards), len(guards))
    trial = _Trial(project, progress)
    with trial, ThreadPoolExecutor(JOBS) as threads:
        trial.prove_whole([guard for guard in order if not guard.on_ray])
        list(threads.map(trial.remove, [guard for guard in order if not guard.on_ray]))
        on_ray = [guard for guard in order if guard.on_ray]
        if on_ray and _another_ray_runs():
            trial.violations += [f"{guard.name}: not tried, another Ray runs on this machine" for guard in on_ray]
        elif on_ray:
            trial.prove_whole(on_ray)
            for guard in on_ray:
                trial.remove(guard)
    tests = {test for guard in guards for test in guard.tests}
    seconds = time.monotonic() - started_s
    return Counts(seed, seconds, len(guards), len(tests), trial.noticed, sorted(trial.violations))


class _Trial:
    """The copies, which of the tests pass on the whole sources, and what was found."""

    def __init__(self, project: Path, progress: Progress) -> None:
        self.violations: list[str] = []
        self.noticed = 0
        self._project = project
        self._progress = progress
        self._passing: set[str] = set()
        self._copies: queue.SimpleQueue[Copy] = queue.SimpleQueue()
        self._stack = ExitStack()

    def __enter__(self) -> "_Trial":
        for _ in range(JOBS):
            folder = self._stack.enter_context(tempfile.TemporaryDirectory(prefix="hxg-", ignore_cleanup_errors=True))
            self._copies.put(Copy(self._project, Path(folder)))
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def prove_whole(self, guards: Sequence[Guard]) -> None:
        """Run all that the guards name on the whole sources: what fails there would prove nothing later."""
        tests = sorted({test for guard in guards for test in guard.tests})
        if not tests:
            return
        copy = self._copies.get()
        try:
            seen = copy.run(tests, WHOLE_S, changed=False)
        finally:
            self._copies.put(copy)
        passing = {test for test in tests if seen.has_passed(test)} if not _elsewhere(seen, copy) else set()
        self._passing |= passing
        self._progress(f"{len(passing)} of {len(tests)} tests pass on the whole sources")
        if not passing:
            self._progress(seen.output)

    def remove(self, guard: Guard) -> None:
        """Remove one guard and judge what its tests say."""
        unproven = [test for test in guard.tests if test not in self._passing]
        faults = [f"{test} does not pass on the whole sources" for test in unproven]
        if not faults:
            faults = self._faults(guard)
        for fault in faults:
            self.violations.append(f"{guard.name}: {fault}")
            self._progress(f"VIOLATION {self.violations[-1]}")
        self.noticed += not faults

    def _faults(self, guard: Guard) -> list[str]:
        copy = self._copies.get()
        try:
            with copy.without(guard):
                seen = copy.run(guard.tests)
            return list(self._judged(guard, seen, copy))
        except StaleGuard as error:
            return [f"its entry is stale, {error}"]
        finally:
            self._copies.put(copy)

    def _judged(self, guard: Guard, seen: Seen, copy: Copy) -> Iterator[str]:
        if seen.status is None:
            yield "its tests come to no end"
            return
        if seen.status not in (0, 1) or seen.uncollected:
            yield f"its tests cannot be run: {'; '.join(seen.uncollected) or seen.output[-500:]}"
            return
        yield from _elsewhere(seen, copy)
        if guard.file.endswith(".py") and str((copy.root / guard.file).resolve()) not in seen.sources:
            yield f"{guard.file} is not what its tests import"
        for test in guard.tests:
            failures = seen.failures_of(test)
            if not failures:
                yield f"removed, and {test} does not notice"
            else:
                yield from _misplaced(test, failures)
                self._progress(f"{guard.name}: {test.rpartition('::')[2]} says {failures[0]['said'][:150]}")


def _misplaced(test: str, failures: Sequence[dict[str, Any]]) -> Iterator[str]:
    """Failures that say nothing about the guard."""
    if all(failure["phase"] == "setup" for failure in failures):
        yield f"{test} cannot be set up without it: {failures[0]['said']}"
    for failure in failures:
        if BROKEN.intersection(failure["kinds"]):
            yield f"{test} fails because the sources are broken: {failure['said']}"


def _elsewhere(seen: Seen, copy: Copy) -> list[str]:
    """Sources that the tests took from another tree than the copy."""
    root = copy.root.resolve()
    return [
        f"{source} was imported from outside the copy" for source in seen.sources if root not in Path(source).parents
    ]


def _another_ray_runs() -> bool:
    return any(process.info["name"] in ("raylet", "gcs_server") for process in psutil.process_iter(["name"]))


def main() -> int:
    """Run from the command line; exits with 1 when there are violations."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only", action="append", metavar="NAME", help="guards whose name contains this")
    options = parser.parse_args()
    chosen = [guard for guard in GUARDS if not options.only or any(part in guard.name for part in options.only)]
    counts = run(options.seed, lambda line: print(line, flush=True), chosen)
    print(*counts.lines(), sep="\n")
    return 1 if counts.violations else 0


if __name__ == "__main__":
    sys.exit(main())
