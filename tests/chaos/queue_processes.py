"""Processes to be killed: forked in milliseconds by a nursery that has imported everything, and never left behind.

The nursery is the only parent of the processes, so their ids stay theirs until it has waited for them; when its own
parent goes, however that is, it reads the end of its input, kills them all and goes too. Killing and stopping is the
parent's.
"""

import importlib
import json
import logging
import os
import signal
import subprocess
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn

ROOT = Path(__file__).parents[2]
MODULES = ("tests.chaos.queue_worker", "tests.chaos.crash_scenarios")


class ProcessPool:
    """The parent's end. Statuses are as ``subprocess`` gives them: -9 is SIGKILL."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.chaos.queue_processes"],
            cwd=ROOT,
            env={**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,  # Ctrl-C is the parent's to handle
        )
        self._alive: set[int] = set()

    def start(self, call: str, argument: str) -> int:
        """Fork a process that calls ``module:function`` with ``argument``; returns its id."""
        pid: int = self._ask("start", call, argument)
        self._alive.add(pid)
        return pid

    def kill(self, pid: int) -> int:
        """SIGKILL, also to a stopped process; returns when it is gone."""
        os.kill(pid, signal.SIGKILL)
        return self.wait(pid)

    def wait(self, pid: int) -> int:
        """Until it has ended; returns its status."""
        status: int = self._ask("wait", pid)
        self._alive.discard(pid)
        return status

    def signal(self, pid: int, number: signal.Signals) -> None:
        """Send a signal to a process that was not waited for."""
        assert pid in self._alive
        os.kill(pid, number)

    def ended(self) -> dict[int, int]:
        """Those that ended on their own since the last time, with their statuses."""
        ended = {int(pid): status for pid, status in self._ask("ended").items()}
        self._alive -= ended.keys()
        return ended

    def cpu_s(self) -> float:
        """CPU seconds that all ended processes used."""
        seconds: float = self._ask("cpu_s")
        return seconds

    def close(self) -> None:
        """Kill whatever is left, and the nursery."""
        with self._process:
            assert self._process.stdin is not None
            self._process.stdin.close()
            self._process.wait()

    def _ask(self, *request: object) -> Any:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()
        answer = self._process.stdout.readline()
        if not answer:
            raise RuntimeError("the nursery died")
        return json.loads(answer)


@contextmanager
def nursery() -> Iterator[ProcessPool]:
    """A nursery that leaves no process behind."""
    opened = ProcessPool()
    try:
        yield opened
    finally:
        opened.close()


# The nursery's own end


def main() -> None:
    """Answer one line for each line, until there are no more."""
    for module in MODULES:
        importlib.import_module(module)
    logging.disable(logging.WARNING)  # that sessions break is what they are for
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])  # until a forked child can handle it
    children: set[int] = set()
    try:
        for line in sys.stdin:
            print(json.dumps(_answer(children, *json.loads(line))), flush=True)
    finally:
        for pid in children:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)


def _answer(children: set[int], verb: str, *arguments: Any) -> object:
    if verb == "start":
        pid = os.fork()
        if pid == 0:
            _be(*arguments)
        children.add(pid)
        return pid
    if verb == "wait":
        children.discard(arguments[0])
        return os.waitstatus_to_exitcode(os.waitpid(arguments[0], 0)[1])
    if verb == "ended":
        return dict(_ended(children))
    used = os.times()
    return used.children_user + used.children_system


def _ended(children: set[int]) -> Iterator[tuple[int, int]]:
    for pid in list(children):
        found, status = os.waitpid(pid, os.WNOHANG)
        if found:
            children.discard(pid)
            yield pid, os.waitstatus_to_exitcode(status)


def _be(call: str, argument: str) -> NoReturn:
    status = 1
    try:
        nothing = os.open(os.devnull, os.O_RDWR)
        os.dup2(nothing, 0)
        os.dup2(nothing, 1)
        module, function = call.split(":")
        getattr(importlib.import_module(module), function)(argument)
        status = 0
    except BaseException:
        traceback.print_exc()
        raise
    finally:
        os._exit(status)


if __name__ == "__main__":
    main()
