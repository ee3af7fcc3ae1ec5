"""One real cluster for all cluster tests: embedded Postgres, Ray on 127.0.0.1, loaded bundled models, Serve.

It is brought up and used by the same commands that a person types, in a folder and on ports of its own.
"""

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
from moto.server import ThreadedMotoServer

from cluster.demo import clips
from cluster.store.database import Pool, open_pool

COMMAND_TIMEOUT_S = 240


@dataclass(frozen=True)
class CommandLine:
    """``heimdex`` with an environment of its own."""

    environment: Mapping[str, str]
    folder: Path

    def run(self, *arguments: str, timeout_s: float = COMMAND_TIMEOUT_S) -> "subprocess.CompletedProcess[str]":
        """Run a command to its end; no test may see a traceback."""
        done = subprocess.run(
            [sys.executable, "-m", "cluster.cli", *arguments],
            env=dict(self.environment),
            cwd=self.folder,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=timeout_s,
            check=False,
        )
        assert "Traceback" not in done.stderr, done.stderr
        return done

    def start(self, *arguments: str) -> "subprocess.Popen[str]":
        """Start a command and leave it running."""
        return subprocess.Popen(
            [sys.executable, "-m", "cluster.cli", *arguments],
            env=dict(self.environment),
            cwd=self.folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
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
        token.write_text("0123456789abcdef" * 4)
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("HEIMDEX_", "RAY_"))}
    return {
        **inherited,
        "RAY_AUTH_TOKEN_PATH": str(token),
        "HEIMDEX_DATA_DIR": str(folder / "data"),
        "HEIMDEX_SCRATCH_DIR": str(folder / "scratch"),
        "HEIMDEX_WHISPER_MODEL": "bundled",
        "HEIMDEX_CLIP_MODEL": "bundled",
        "HEIMDEX_HTTP_PORT": "0",
        "HEIMDEX_DASHBOARD_PORT": "0",
        "HEIMDEX_OBJECT_STORE_MB": "200",
        "HEIMDEX_LEASE_S": "6",
        **settings,
    }


@pytest.fixture(scope="session")
def cluster_folder() -> Iterator[Path]:
    # Not pytest's own folder: its path may be too long for a socket.
    folder = Path(tempfile.mkdtemp(prefix="heimdex-cluster-"))
    yield folder
    shutil.rmtree(folder)


@pytest.fixture(scope="session")
def s3_settings() -> Iterator[dict[str, str]]:
    """How to reach an S3 server on 127.0.0.1, as the usual variables."""
    server = ThreadedMotoServer("127.0.0.1", 0)
    server.start()
    host, port = server.get_host_and_port()
    yield {
        "AWS_ENDPOINT_URL": f"http://{host}:{port}",
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_DEFAULT_REGION": "us-east-1",
    }
    server.stop()


@pytest.fixture(scope="session")
def heimdex(cluster_folder: Path, s3_settings: dict[str, str]) -> Iterator[CommandLine]:
    """The command line of a cluster that is up."""
    command_line = CommandLine(make_environment(cluster_folder, **s3_settings), cluster_folder)
    started = command_line.run("up")
    try:
        assert started.returncode == 0, started.stderr
        yield command_line
    finally:
        command_line.run("down")


@pytest.fixture(scope="session")
def cluster_state(heimdex: CommandLine) -> dict[str, Any]:
    """The cluster's own record of where everything answers."""
    state: dict[str, Any] = json.loads((Path(heimdex.environment["HEIMDEX_DATA_DIR"]) / "cluster.json").read_text())
    return state


@pytest.fixture(scope="session")
def cluster_pool(cluster_state: dict[str, Any]) -> Iterator[Pool]:
    with open_pool(cluster_state["database_url"], max_size=4, name="cluster-tests") as pool:
        yield pool


@pytest.fixture(scope="session")
def http(heimdex: CommandLine, cluster_state: dict[str, Any]) -> Iterator[httpx.Client]:
    """An HTTP client with the token of the data directory's owner, who is an admin."""
    token = heimdex.run("token").stdout.strip()
    with httpx.Client(
        base_url=cluster_state["http_url"], headers={"Authorization": f"Bearer {token}"}, timeout=30.0
    ) as client:
        yield client


@pytest.fixture(scope="session")
def demo_results(heimdex: CommandLine) -> list[dict[str, Any]]:
    """The demo's clips, processed once."""
    results: list[dict[str, Any]] = heimdex.json("process", *map(str, clips()))
    return results
