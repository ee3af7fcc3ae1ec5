"""The processes of a Ray cluster as the operating system sees them, and the cluster's own end of a ``ray_host``.

All processes of a cluster belong to the session of its host, whatever their parent is by now. Workers show by their
title whether a method runs in them.
"""

import contextlib
import json
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
ANSWER_S = 300.0
END_S = 30.0
_NO_PRESTART = {"RAY_prestart_worker_first_driver": "0"}  # else: a process for each CPU, all unused
_ONE_THREAD = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}


@dataclass(frozen=True)
class Process:
    """A process that is no zombie. ``title``: its command line, or what it calls itself."""

    pid: int
    parent: int
    title: str


def session_of(leader: int) -> list[Process]:
    """The processes of a session."""
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            state, parent, _, session = (entry / "stat").read_text().rpartition(")")[2].split()[:4]
            if int(session) == leader and state not in "ZX":
                title = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
                found.append(Process(int(entry.name), int(parent), title))
    return found


class RayCluster:
    """One life of a cluster. ``folder`` is where its Ray keeps its session; its path must be short."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir()
        with (folder / "log").open("w") as log:
            self._host = subprocess.Popen(
                [sys.executable, "-m", "tests.chaos.ray_host", str(folder)],
                cwd=ROOT,
                env={**os.environ, **_NO_PRESTART, **_ONE_THREAD},
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                start_new_session=True,
            )

    def ask(self, verb: str, *arguments: object) -> Any:
        """Have the host do something; raises RuntimeError when it fails or takes too long."""
        assert self._host.stdin is not None
        self._host.stdin.write(json.dumps([verb, *arguments]).encode() + b"\n")
        self._host.stdin.flush()
        answer = json.loads(self._line(verb))
        if "error" in answer:
            raise RuntimeError(f"{verb}: {answer['error']}")
        return answer["value"]

    def _line(self, verb: str) -> bytes:
        assert self._host.stdout is not None
        output = self._host.stdout.fileno()
        line, end_s = b"", time.monotonic() + ANSWER_S
        while not line.endswith(b"\n"):
            ready, _, _ = select.select([output], [], [], max(0.0, end_s - time.monotonic()))
            part = os.read(output, 65536) if ready else b""
            if not part:
                raise RuntimeError(f"{verb}: the host {'died' if ready else 'does not answer'}")
            line += part
        return line

    def processes(self) -> list[Process]:
        """All that are alive."""
        return session_of(self._host.pid)

    def workers(self) -> list[Process]:
        """The workers of all pools, those that load included."""
        ours = [process for process in self.processes() if process.title.startswith("ray::heimdex ")]
        return [process for process in ours if process not in self.schedulers()]

    def schedulers(self) -> list[Process]:
        return [process for process in self.processes() if process.title.startswith("ray::heimdex scheduler")]

    def kill_all(self) -> int:
        """SIGKILL to every process of the cluster, the host included; returns how many there were."""
        if self._host.returncode is not None:  # it was collected: its session's number may be another's by now
            return 0
        killed: set[int] = set()
        end_s = time.monotonic() + END_S
        while alive := self.processes():
            for process in alive:
                signal_to(process.pid, signal.SIGKILL)
                killed.add(process.pid)
            if time.monotonic() > end_s:
                break
            time.sleep(0.02)
        self._collect()
        return len(killed)

    def close(self) -> list[str]:
        """Let the host end what is left of its session; returns the titles of those that were left then."""
        end_s = time.monotonic() + END_S
        while (left := self._left()) and time.monotonic() < end_s:
            time.sleep(0.1)
        self.kill_all()
        return [f"{process.pid} {process.title[:80]}" for process in left]

    def _left(self) -> list[Process]:
        return [process for process in self.processes() if process.pid != self._host.pid]

    def _collect(self) -> None:
        with self._host:  # closes the pipes
            assert self._host.stdin is not None
            with contextlib.suppress(BrokenPipeError):
                self._host.stdin.close()
            self._host.wait(END_S)


def started(folder: Path, tries: int = 3) -> RayCluster:
    """A cluster that answers; a head that does not start in time, on a busy machine, is tried again."""
    cluster = RayCluster(folder.with_name(f"{folder.name}.{tries}"))
    try:
        cluster.ask("connect")
    except RuntimeError:
        cluster.kill_all()
        if tries == 1:
            raise
        return started(folder, tries - 1)
    return cluster


def signal_to(pid: int, number: signal.Signals) -> bool:
    """Whether the process was there to be signalled."""
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return False
    return True


@contextlib.contextmanager
def stopped(pid: int) -> Iterator[bool]:
    """Hold a process still meanwhile; whether it was there."""
    there = signal_to(pid, signal.SIGSTOP)
    try:
        yield there
    finally:
        signal_to(pid, signal.SIGCONT)
