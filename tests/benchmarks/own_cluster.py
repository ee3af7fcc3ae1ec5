"""A cluster of this program's own, through the real commands, with the bundled models; gone afterwards."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from tests.benchmarks.rounds import Spent

Result = dict[str, Any]


@dataclass(frozen=True)
class OwnCluster:
    """A cluster that is up; ``up_s`` is how long that took."""

    environment: dict[str, str]
    up_s: float

    def process(self, uris: Sequence[str]) -> tuple[list[Result], Spent]:
        """The results, all of them READY, and what they took: from the submission to the last READY by the
        database's clock; of the CPUs, what the whole machine used meanwhile, but for the command that waits. Decoders
        end within, and the kernel adds what they used to no process that is still there.
        """
        before = _cpu_s()
        answered: list[Result] = json.loads(self.heimdex("process", "--json", *uris))
        cpu_s = _cpu_s() - before
        failed = [result for result in answered if result["status"] != "READY"]
        if failed:
            raise SystemExit(f"not READY: {failed}")
        return answered, Spent(max(r["queue_ms"] + r["processing_ms"] for r in answered) / 1000, cpu_s)

    def heimdex(self, *arguments: str) -> str:
        """Standard output of a command; progress goes to standard error."""
        return _heimdex(self.environment, *arguments)

    @property
    def http_url(self) -> str:
        """The URL of its HTTP endpoints."""
        state = json.loads((Path(self.environment["HEIMDEX_DATA_DIR"]) / "cluster.json").read_text())
        return str(state["http_url"])


def _cpu_s() -> float:
    """Seconds that all CPUs together were busy, without those of the commands that this process has waited for."""
    machine, commands = psutil.cpu_times(), psutil.Process().cpu_times()
    return machine.user + machine.nice + machine.system - commands.children_user - commands.children_system


@contextmanager
def own_cluster(folder: Path, **settings: str) -> Iterator[OwnCluster]:
    """Bring a cluster up below ``folder``; ``settings`` are further environment variables."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("HEIMDEX_")}
    environment = {
        **inherited,
        "HEIMDEX_DATA_DIR": str(folder / "data"),
        "HEIMDEX_SCRATCH_DIR": str(folder / "scratch"),
        "HEIMDEX_WHISPER_MODEL": "bundled",
        "HEIMDEX_CLIP_MODEL": "bundled",
        "HEIMDEX_TEXT_MODEL": "bundled",
        "HEIMDEX_HTTP_PORT": "0",
        "HEIMDEX_DASHBOARD_PORT": "0",
        **settings,
    }
    started_s = time.monotonic()
    try:
        _heimdex(environment, "up")
        yield OwnCluster(environment, time.monotonic() - started_s)
    finally:
        _heimdex(environment, "down")


def _heimdex(environment: dict[str, str], *arguments: str) -> str:
    command = [sys.executable, "-m", "cluster.cli.main", *arguments]
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode != 0:
        raise SystemExit(f"heimdex {arguments[0]} ended with {done.returncode}")
    return done.stdout
