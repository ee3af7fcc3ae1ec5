"""The real OpenSearch of the tests: it searches, comes back after a crash, and leaves nothing running."""

import json
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from cluster.contracts.errors import ConfigurationError
from tests.support.real_opensearch import RealOpenSearch

REPOSITORY = Path(__file__).parents[2]
START = "import sys; from pathlib import Path; from tests.support.real_opensearch import RealOpenSearch as R; "
START += "R(Path(sys.argv[1])).start()"
COMMAND = ["-m", "tests.support.opensearch_command", "--folder"]
MAIN_CLASS = "org.opensearch.bootstrap.OpenSearch"  # of the server, not of what its script asks before
BROKEN = "#!/bin/sh\necho TerribleException: no luck\necho '    at main'\nexit 1"

MAPPING = {
    "settings": {"index.knn": True, "number_of_shards": 1, "number_of_replicas": 0},
    "mappings": {
        "properties": {
            "owner": {"type": "keyword"},
            "embedding": {
                "type": "knn_vector",
                "dimension": 8,
                "method": {"name": "hnsw", "engine": "lucene", "space_type": "cosinesimil"},
            },
        }
    },
}


@pytest.fixture
def folder(opensearch: RealOpenSearch) -> Iterator[Path]:
    """For a server of the test's own; the session's has shown that this machine can run one."""
    made = Path(tempfile.mkdtemp(prefix="heimdex-test-opensearch-"))
    yield made / "opensearch"
    shutil.rmtree(made)


@pytest.fixture
def index(opensearch_url: str) -> Iterator[str]:
    """The URL of an index with a scene along each of eight axes. Even numbers are ada's, odd ones bob's."""
    url = f"{opensearch_url}/scenes"
    lines: list[dict[str, Any]] = []
    for axis in range(8):
        lines += [{"index": {"_id": str(axis)}}, {"owner": "bob" if axis % 2 else "ada", "embedding": along(axis)}]
    body = "".join(json.dumps(line) + "\n" for line in lines)
    headers = {"Content-Type": "application/x-ndjson"}
    with client() as http:
        http.put(url, json=MAPPING).raise_for_status()
        filled = http.post(f"{url}/_bulk?refresh=true", content=body, headers=headers).raise_for_status().json()
        assert filled["errors"] is False
        yield url
        http.delete(url).raise_for_status()


def along(axis: int) -> list[float]:
    return [1.0 if number == axis else 0.1 for number in range(8)]


def client() -> httpx.Client:
    return httpx.Client(trust_env=False, timeout=30)


def nearest(index: str, axis: int, owner: str) -> list[str]:
    knn = {"vector": along(axis), "k": 2, "filter": {"term": {"owner": owner}}}
    with client() as http:
        found = http.post(f"{index}/_search", json={"query": {"knn": {"embedding": knn}}}).raise_for_status().json()
    return [hit["_id"] for hit in found["hits"]["hits"]]


def test_the_nearest_scenes_of_an_owner_are_found(index: str) -> None:
    assert nearest(index, 3, "bob")[0] == "3"
    found = nearest(index, 3, "ada")
    assert len(found) == 2
    assert set(found) < {"0", "2", "4", "6"}


def test_it_is_the_version_that_was_asked_for_with_its_plugin(opensearch_url: str) -> None:
    with client() as http:
        assert http.get(opensearch_url).json()["version"]["number"] == "3.5.0"
        plugins = http.get(f"{opensearch_url}/_cat/plugins?format=json").json()
    assert [(plugin["component"], plugin["version"]) for plugin in plugins] == [("opensearch-knn", "3.5.0.0")]


def test_it_listens_on_the_loopback_only(opensearch: RealOpenSearch) -> None:
    listening = [
        connection.laddr.ip
        for process in running_in(opensearch.folder, MAIN_CLASS)
        for connection in process.net_connections(kind="inet")
        if connection.status == psutil.CONN_LISTEN
    ]
    assert len(listening) == 2  # HTTP, and what servers say to each other
    assert {ip.removeprefix("::ffff:") for ip in listening} == {"127.0.0.1"}


def test_killed_server_restarts_with_its_documents_and_url(opensearch: RealOpenSearch, index: str) -> None:
    url = opensearch.url
    opensearch.kill()
    try:
        assert not opensearch.is_running()
        with client() as http, pytest.raises(httpx.ConnectError):
            http.get(index)
    finally:
        opensearch.start()
    assert opensearch.url == url
    assert nearest(index, 3, "bob")[0] == "3"


def test_a_second_server_on_the_same_data_is_refused(opensearch: RealOpenSearch) -> None:
    with pytest.raises(ConfigurationError, match="another OpenSearch runs in"):
        RealOpenSearch(opensearch.folder).start()
    assert opensearch.is_running()


def test_a_port_that_is_taken_is_refused(opensearch: RealOpenSearch, folder: Path) -> None:
    taken = int(opensearch.url.rsplit(":", 1)[1])
    with pytest.raises(ConfigurationError, match=f"cannot have port {taken}: Address already in use"):
        RealOpenSearch(folder, taken).start()


def test_a_folder_that_cannot_be_written_is_refused(folder: Path) -> None:
    folder.write_text("a file")
    with pytest.raises(ConfigurationError, match=r"cannot be started in .*File exists"):
        RealOpenSearch(folder).start()


def test_why_a_server_does_not_start_is_said_in_one_line(folder: Path) -> None:
    program = folder / "program"
    for name, text in [("config/jvm.options", ""), ("bin/opensearch", BROKEN)]:
        (program / name).parent.mkdir(parents=True)
        (program / name).write_text(text)
        (program / name).chmod(0o755)
    with pytest.raises(
        ConfigurationError, match=r"OpenSearch does not start: TerribleException: no luck \(whole log: "
    ):
        RealOpenSearch(folder / "server", program=program).start()


def test_it_dies_with_the_process_that_started_it(folder: Path) -> None:
    with starting(folder, "-c", START, until=MAIN_CLASS) as (starter, server):
        starter.kill()
        server.wait(30)
        assert_nothing_runs_in(folder)


@pytest.mark.parametrize("until", ["", MAIN_CLASS], ids=["before the server itself", "while the server starts"])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_during_the_start_leaves_nothing_running(folder: Path, number: signal.Signals, until: str) -> None:
    with starting(folder, *COMMAND, until=until) as (starter, _):
        starter.send_signal(number)
        assert starter.wait(60) == 0
        assert_nothing_runs_in(folder)


@pytest.mark.long
def test_opensearch_command_says_usage_and_ends_on_a_signal(folder: Path) -> None:
    with starting(folder, *COMMAND, until=MAIN_CLASS) as (starter, _):
        assert starter.stdout is not None
        said = starter.stdout.readline()
        assert said.startswith("export HEIMDEX_OPENSEARCH_URL=http://127.0.0.1:")
        with client() as http:
            http.get(said.split("=", 1)[1].strip()).raise_for_status()
        starter.terminate()
        assert starter.wait(60) == 0
        assert_nothing_runs_in(folder)
    assert "] closed\n" in (folder / "server.log").read_text()


@contextmanager
def starting(folder: Path, *arguments: str, until: str) -> Iterator[tuple["subprocess.Popen[str]", psutil.Process]]:
    """A Python process that starts a server, and the first process of it that has this in its command line."""
    command = [sys.executable, *arguments, str(folder)]
    starter = subprocess.Popen(command, cwd=REPOSITORY, stdout=subprocess.PIPE, text=True)
    try:
        while not (servers := running_in(folder, until)):
            with pytest.raises(subprocess.TimeoutExpired):
                starter.wait(0.1)
        yield starter, servers[0]
    finally:
        starter.kill()
        starter.communicate()


def running_in(folder: Path, what: str = "") -> list[psutil.Process]:
    """Java processes of a server, by whichever process they were started."""
    words = [str(folder / "config"), what]
    processes = [(process, " ".join(process.info["cmdline"] or [])) for process in psutil.process_iter(["cmdline"])]
    return [process for process, line in processes if "java" in line and all(word in line for word in words)]


def assert_nothing_runs_in(folder: Path) -> None:
    _, alive = psutil.wait_procs(running_in(folder), timeout=10)
    assert alive == []
