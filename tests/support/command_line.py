"""``heimdex`` as the tests run it: with an environment and a folder of its own, never the person's."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from tests.support.json_output import check_json

COMMAND_TIMEOUT_S = 240


@dataclass(frozen=True)
class CommandLine:
    """``heimdex`` with an environment of its own."""

    environment: Mapping[str, str]
    folder: Path

    def run(self, *arguments: str, timeout_s: float = COMMAND_TIMEOUT_S) -> "subprocess.CompletedProcess[str]":
        """Run a command to its end; no test may see a traceback."""
        done = subprocess.run(
            [sys.executable, "-m", "cluster.cli.main", *arguments],
            env=dict(self.environment),
            cwd=self.folder,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=timeout_s,
            check=False,
        )
        assert "Traceback" not in done.stderr, done.stderr
        check_json(arguments, done.stdout)
        return done

    def start(self, *arguments: str) -> "subprocess.Popen[str]":
        """Start a command and leave it running."""
        return subprocess.Popen(
            [sys.executable, "-m", "cluster.cli.main", *arguments],
            env=dict(self.environment),
            cwd=self.folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            preexec_fn=_heed_ctrl_c,
        )

    def submit_job(self, dashboard_url: str, folder: Path, *command: str) -> "subprocess.CompletedProcess[str]":
        """``ray job submit`` of a command, with ``folder`` as its working directory, to the job's end."""
        return subprocess.run(
            [sys.executable, "-m", "ray.scripts.scripts", "job", "submit", "--working-dir", ".", "--", *command],
            env={**self.environment, "RAY_AUTH_MODE": "token", "RAY_API_SERVER_ADDRESS": dashboard_url},
            cwd=folder,
            capture_output=True,
            text=True,
            timeout=240,
            check=False,
        )

    def json(self, *arguments: str) -> Any:
        """What the command prints with --json, whatever its exit status."""
        done = self.run(*arguments, "--json")
        assert done.stdout, done.stderr
        return json.loads(done.stdout)


def make_environment(folder: Path, **settings: str) -> dict[str, str]:
    """Settings of a small cluster below ``folder``; nothing of the person's own environment or home."""
    token = folder / "ray_token"
    if not token.exists():
        token.touch(mode=0o600)
        token.write_text("0123456789abcdef" * 4)
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("HEIMDEX_", "RAY_"))}
    return {
        **inherited,
        "RAY_AUTH_TOKEN_PATH": str(token),
        "HEIMDEX_DATA_DIR": str(folder / "data"),
        "HEIMDEX_SCRATCH_DIR": str(folder / "scratch"),
        "HEIMDEX_WHISPER_MODEL": "bundled",
        "HEIMDEX_CLIP_MODEL": "bundled",
        "HEIMDEX_TEXT_MODEL": "bundled",
        "HEIMDEX_HTTP_PORT": "0",
        "HEIMDEX_DASHBOARD_PORT": "0",
        "HEIMDEX_OBJECT_STORE_MB": "200",
        "HEIMDEX_LEASE_S": "6",
        "HEIMDEX_PRIVATE_NETWORKS": "127.0.0.0/8",  # where the tests' own web server is
        **settings,
    }


def left_running(folder: Path) -> list[Any]:
    """Processes of the clusters below ``folder``."""
    return [process.info for process in psutil.process_iter(["pid", "name"]) if belongs_to(process, folder)]


def belongs_to(process: psutil.Process, folder: Path) -> bool:
    """By its environment, which Ray's processes inherit, its command line or its directory, which is Postgres's."""
    try:
        return str(folder) in str(process.environ()) + str(process.cmdline()) + process.cwd()
    except (psutil.NoSuchProcess, psutil.AccessDenied):
        return False


def _heed_ctrl_c() -> None:
    """Ctrl-C is ignored in what a shell runs in the background, the test suite among it."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
