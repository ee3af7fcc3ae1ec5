"""One real cluster for all cluster tests: embedded Postgres, Ray on 127.0.0.1, loaded bundled models, Serve.

It is brought up and used by the same commands that a person types, in a folder and on ports of its own.
"""

import functools
import json
import shutil
import threading
from collections.abc import Iterator
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest
from moto.server import ThreadedMotoServer

from cluster.demo import clips
from cluster.store.postgres.connections import Pool, open_pool
from tests.support.command_line import CommandLine, make_environment
from tests.support.own_server import quick_folder


@pytest.fixture(scope="session")
def cluster_folder() -> Iterator[Path]:
    folder = quick_folder("heimdex-cluster-")
    yield folder
    shutil.rmtree(folder)


@pytest.fixture(scope="session")
def s3_settings() -> Iterator[dict[str, str]]:
    """The usual variables that lead to an S3 server on 127.0.0.1."""
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


@pytest.fixture
def web_server() -> Iterator[str]:
    """Serves the demo's clips; the address of the folder."""
    handler = functools.partial(SimpleHTTPRequestHandler, directory=str(clips()[0].parent))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()
