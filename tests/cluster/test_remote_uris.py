"""Videos that are not on this machine: http and s3, against real servers on 127.0.0.1."""

import functools
import http.server
import threading
from collections.abc import Iterator
from pathlib import Path

import boto3
import pytest
from conftest import CommandLine, make_environment
from moto.server import ThreadedMotoServer

from cluster.demo import clips


@pytest.fixture
def web_server() -> Iterator[str]:
    """Serves the demo's clips; the address of the folder."""
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=str(clips()[0].parent))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


@pytest.fixture(scope="module")
def s3_server() -> Iterator[str]:
    server = ThreadedMotoServer("127.0.0.1", 0)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


def test_videos_are_fetched_over_http_and_a_missing_one_is_named(heimdex: CommandLine, web_server: str) -> None:
    there, missing = heimdex.json("process", f"{web_server}/{clips()[0].name}", f"{web_server}/missing.mp4")
    assert (there["status"], there["filename"]) == ("READY", clips()[0].name)
    assert (missing["status"], missing["processing_stage"]) == ("FAILED", "downloading")
    assert "404" in missing["error_message"]
    scratch = Path(heimdex.environment["HEIMDEX_SCRATCH_DIR"])
    assert list(scratch.rglob("*.mp4")) == []


def test_videos_are_fetched_from_s3(s3_server: str, cluster_folder: Path) -> None:
    credentials = {
        "AWS_ENDPOINT_URL": s3_server,
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_DEFAULT_REGION": "us-east-1",
    }
    client = boto3.client(
        "s3",
        endpoint_url=s3_server,
        aws_access_key_id="test",
        aws_secret_access_key="test",
        region_name="us-east-1",
    )
    client.create_bucket(Bucket="videos")
    client.upload_file(str(clips()[0]), "videos", "folder/clip.mp4")
    # Credentials belong to the cluster's environment: a cluster of its own, which `process` brings up and takes down.
    folder = cluster_folder / "s3"
    folder.mkdir()
    alone = CommandLine(make_environment(folder, **credentials), folder)
    (result,) = alone.json("process", "s3://videos/folder/clip.mp4")
    assert (result["status"], result["filename"]) == ("READY", "clip.mp4")
    assert alone.run("status").returncode == 1, "the cluster that process brought up is gone"
