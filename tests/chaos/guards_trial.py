"""Removal of a guard: a copy of the working tree, one change in it, and the tests that must notice.

Owns the copy, the change, the pytest process with its bound in time, and the proof that it ran on the copy's sources.
What a guard is and which there are is the tables'; what counts as a violation is ``guards``'.
"""

import ast
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from importlib.util import cache_from_source
from pathlib import Path
from typing import Any

import psutil

TEST_S = 30
"""A test that hangs without its guard has failed then; whole, it takes a few seconds."""
TRIAL_S = 120.0
WITNESS = "guards_witness"


@dataclass(frozen=True)
class Guard:
    """A line of defence: ``text`` in ``file``, which ``without`` takes its place when it is removed.

    ``tests`` are pytest's node ids; each must fail then. ``on_ray``: they start a Ray.
    """

    name: str
    file: str
    text: str
    without: str
    tests: tuple[str, ...]
    on_ray: bool = False

    def removed_from(self, root: Path) -> str:
        """The file's text without the guard.

        Raises:
            StaleGuard: the guard is not in exactly one place, or what is left is no Python.
        """
        path = root / self.file
        if not path.is_file():
            raise StaleGuard(f"there is no {self.file}")
        whole = path.read_text()
        places = whole.count(self.text)
        if places != 1:
            raise StaleGuard(f"the text is in {places} places of {self.file}")
        left = whole.replace(self.text, self.without)
        if path.suffix == ".py":
            try:
                ast.parse(left)
            except SyntaxError as error:
                raise StaleGuard(f"without it {self.file} is no Python: {error}") from None
        return left


class StaleGuard(Exception):
    """The table no longer fits the sources."""


@dataclass(frozen=True)
class Seen:
    """The outcome of the tests; ``status`` is pytest's, None when they had to be ended."""

    status: int | None
    output: str
    passed: list[str] = field(default_factory=list)
    failures: list[dict[str, Any]] = field(default_factory=list)
    uncollected: list[str] = field(default_factory=list)
    sources: list[str] = field(default_factory=list)

    def failures_of(self, test: str) -> list[dict[str, Any]]:
        """Those of a node id, or of what is parametrized below it."""
        return [failure for failure in self.failures if _is_of(failure["test"], test)]

    def has_passed(self, test: str) -> bool:
        """Whether the test was run, and all of it passed."""
        return any(_is_of(passed, test) for passed in self.passed) and not self.failures_of(test)


def _is_of(node_id: str, test: str) -> bool:
    return node_id == test or node_id.startswith((f"{test}[", f"{test}::"))


class Copy:
    """A copy of the working tree, without what git ignores, and a folder for what its tests leave behind."""

    def __init__(self, project: Path, folder: Path) -> None:
        self.root = folder / "tree"
        self._folder = folder
        self._witness = folder / "witness"
        listing = ["git", "-C", str(project), "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
        for name in subprocess.run(listing, capture_output=True, check=True).stdout.decode().split("\0"):
            if name and (project / name).is_file():
                (self.root / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(project / name, self.root / name)
        self._witness.mkdir()
        shutil.copy2(Path(__file__).with_name(f"{WITNESS}.py"), self._witness)

    @contextmanager
    def without(self, guard: Guard) -> Iterator[None]:
        """The copy without the guard, within the block."""
        path = self.root / guard.file
        whole, left = path.read_text(), guard.removed_from(self.root)
        compiled = Path(cache_from_source(str(path)))
        try:
            compiled.unlink(missing_ok=True)  # a change within a second may have the same size
            path.write_text(left)
            yield
        finally:
            path.write_text(whole)
            compiled.unlink(missing_ok=True)

    def run(self, tests: Sequence[str], limit_s: float = TRIAL_S, *, changed: bool = True) -> Seen:
        """Run tests on the copy. What they leave running is ended, and so are they when ``limit_s`` is over."""
        scratch = Path(tempfile.mkdtemp(dir=self._folder, prefix=""))  # short: a socket's path is limited in length
        report = scratch / "seen.json"
        command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", WITNESS]
        command += [f"--timeout={TEST_S}", "--rootdir", str(self.root), *tests]
        with (scratch / "output").open("w+", errors="replace") as output:
            process = subprocess.Popen(
                command,
                cwd=self.root,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
                env=self._environment(scratch, report, changed),
            )
            try:
                with suppress(subprocess.TimeoutExpired):
                    process.wait(limit_s)
                status = process.poll()
            finally:
                _end(process, scratch)
            output.seek(0)
            text = output.read()
        told = json.loads(report.read_text()) if status is not None and report.exists() else {}
        shutil.rmtree(scratch, ignore_errors=True)
        return Seen(status, text, **told)

    def _environment(self, scratch: Path, report: Path, changed: bool) -> dict[str, str]:
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("PYTEST_", "HEIMDEX_"))}
        return {
            **kept,
            "PYTHONPATH": os.pathsep.join([str(self.root), str(self._witness)]),
            "PYTHONDONTWRITEBYTECODE": "1" if changed else "",
            "TMPDIR": str(scratch),
            "GUARDS_WITNESS": str(report),
        }


def _end(process: "subprocess.Popen[bytes]", scratch: Path) -> None:
    """End the tests and all that they started: their session, their children, servers that have a folder in theirs."""
    begun = [other for other in psutil.process_iter() if _is_of_session(other, process.pid)]
    if process.poll() is None:
        begun += psutil.Process(process.pid).children(recursive=True)
    for file in scratch.rglob("postmaster.pid"):
        with suppress(OSError, ValueError, IndexError, psutil.NoSuchProcess):
            begun.append(psutil.Process(int(file.read_text().splitlines()[0])))
    for left in begun:
        with suppress(psutil.NoSuchProcess):
            left.kill()
    process.wait()
    psutil.wait_procs(begun, timeout=10)


def _is_of_session(process: psutil.Process, leader: int) -> bool:
    try:
        return os.getsid(process.pid) == leader
    except OSError:
        return False
