"""Programs beside this file that load once, then answer again and again."""

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from functools import partial
from typing import Any

from tests.benchmarks.rounds import timed


@contextmanager
def answering(module: str, *arguments: str) -> Iterator[Callable[[object], Any]]:
    """Ask ``module``, which says ``ready`` once it has loaded and answers a line of JSON by one; gone afterwards."""
    command = [sys.executable, "-m", f"tests.benchmarks.{module}", *arguments]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        stdin, stdout = process.stdin, process.stdout

        def next_line() -> str:
            line = stdout.readline()
            if not line:
                raise SystemExit(f"{module} has ended")
            return line

        def ask(question: object) -> Any:
            stdin.write(json.dumps(question) + "\n")
            stdin.flush()
            return json.loads(next_line())

        try:
            while next_line() != "ready\n":
                pass
            yield ask
        finally:
            stdin.close()


def answer(work: Callable[[Any], Any]) -> None:
    """Be such a program: answer each question with what ``work`` found and what that took, until there are no more."""
    print("ready", flush=True)
    for line in sys.stdin:
        found, spent = timed(partial(work, json.loads(line)))
        print(json.dumps({"found": found, "spent": asdict(spent)}), flush=True)
