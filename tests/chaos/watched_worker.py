"""The process that takes media files, watched from outside; killed and replaced as a pool would do it.

Owns how a file's end is found: by the worker's own answer, or by what became of the worker. Leaves to ``media`` which
ends are violations.
"""

import json
import os
import selectors
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Any

from cluster.contracts.media import MediaLimits

ROOT = Path(__file__).parents[2]
PIPES_OF_KEPT = 6
"""Of the decoder that is kept for the owner's next file: two pipes, its process, its folder's lock; and two that
``media_worker`` has open for a moment while it looks."""


@dataclass(frozen=True)
class Ending:
    """The end of a file. ``outcome``: "ready", the name of an error of the cluster's, "defect", "hung" or "died"."""

    outcome: str
    message: str
    stage: str
    seconds: float
    peak_bytes: int = 0
    traceback: str = ""
    left_behind: tuple[str, ...] = ()

    def __str__(self) -> str:
        return f"{self.outcome} in {self.stage}: {self.message}"


class WatchedWorker:
    """A worker that takes one file after another."""

    def __init__(self, scratch: Path, limits: MediaLimits, deadline_s: float) -> None:
        """Fetched files are stored in ``scratch``; a file that is not done after ``deadline_s`` is given up."""
        self._command = [sys.executable, "-m", "tests.chaos.media_worker", str(scratch), json.dumps(asdict(limits))]
        self.deadline_s = deadline_s
        self._process: subprocess.Popen[str] | None = None
        self._held_before: dict[str, Any] = {}
        self._pipes_at_first = 0

    @property
    def pid(self) -> int | None:
        """The process of the last file; None when there is none."""
        return self._process.pid if self._process else None

    def take(self, uri: str, meanwhile: Callable[[], None] | None = None) -> Ending:
        """The end of ``uri``; ``meanwhile`` happens while it is read."""
        process = self._process = self._process or self._started()
        given, answers = _pipes(process)
        aside = threading.Thread(target=meanwhile) if meanwhile else None
        started_s = time.monotonic()
        try:
            given.write(json.dumps(uri) + "\n")
            given.flush()
        except BrokenPipeError:
            pass  # it died after its last answer: there will be none
        if aside:
            aside.start()
        line = _line_within(answers, self.deadline_s)
        if aside:
            aside.join()
        if not line:
            outcome = "hung" if line is None else "died"
            return Ending(outcome, f"exit status {self._end()}", "?", time.monotonic() - started_s)
        return self._ending(json.loads(line))

    def _ending(self, answer: dict[str, Any]) -> Ending:
        held = answer.pop("held")
        left_behind = tuple(_left_behind(self._held_before, held))
        if held["pipes"] > max(self._held_before["pipes"], self._pipes_at_first + PIPES_OF_KEPT):
            left_behind += (f"{held['pipes']} pipes to decoders",)
        self._held_before = held
        return Ending(**answer, peak_bytes=held["peak_bytes"], left_behind=left_behind)

    def close(self) -> None:
        """End the process."""
        if self._process is not None:
            self._end()

    def _started(self) -> "subprocess.Popen[str]":
        process = subprocess.Popen(
            self._command,
            cwd=ROOT,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        self._held_before = json.loads(_pipes(process)[1].readline())
        self._pipes_at_first = self._held_before["pipes"]
        return process

    def _end(self) -> int:
        process, self._process = self._process, None
        assert process is not None
        process.kill()
        with process:  # closes its pipes
            return process.wait()


def _pipes(process: "subprocess.Popen[str]") -> tuple[IO[str], IO[str]]:
    assert process.stdin is not None
    assert process.stdout is not None
    return process.stdin, process.stdout


def _line_within(answers: IO[str], seconds: float) -> str | None:
    """The next line, "" when the process is gone, None when the time is over."""
    with selectors.DefaultSelector() as selector:
        selector.register(answers, selectors.EVENT_READ)
        return answers.readline() if selector.select(seconds) else None


def _left_behind(before: dict[str, Any], after: dict[str, Any]) -> Iterator[str]:
    if after["temporary"]:
        yield f"temporary files {after['temporary']}"
    more_files = Counter(after["files"]) - Counter(before["files"])
    if more_files:
        yield f"open files {list(more_files)}"
    for threads in ("os_threads", "python_threads"):
        if after[threads] > before[threads]:
            yield f"{after[threads] - before[threads]} {threads}"
    if after["data_limit"] != before["data_limit"]:
        yield f"a bound of {after['data_limit']} bytes on its memory"
    kept, now = before["decoder"], after["decoder"]
    if kept and now and kept["pid"] == now["pid"] and kept != now:
        yield f"in its decoder: {now} after {kept}"
