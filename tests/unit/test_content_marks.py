"""Marks of the content of files: equal for the same file, another once it was written to, none where it is unknown."""

import os
import socket
import time
from collections.abc import Iterator
from ipaddress import ip_network
from pathlib import Path

import boto3
import fsspec
import pytest
from moto.server import ThreadedMotoServer

from cluster.files.content_marks import content_marks
from cluster.files.storage import FetchLimits
from tests.support.scripted_web import serving

LIMITS = FetchLimits(10**6, 10.0, private_networks=(ip_network("127.0.0.0/8"),))


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0)
    server.start()
    host, port = server.get_host_and_port()
    for name, value in {
        "AWS_ENDPOINT_URL": f"http://{host}:{port}",
        "AWS_ACCESS_KEY_ID": "key",
        "AWS_SECRET_ACCESS_KEY": "secret",
        "AWS_DEFAULT_REGION": "us-east-1",
    }.items():
        monkeypatch.setenv(name, value)
    boto3.client("s3").create_bucket(Bucket="clips")
    yield "s3://clips"
    server.stop()
    fsspec.get_filesystem_class("s3").clear_instance_cache()


def test_content_marks_of_a_local_file_change_with_it(tmp_path: Path) -> None:
    file = tmp_path / "a.mp4"
    file.write_bytes(b"abc")
    (mark,) = content_marks([str(file)], LIMITS)
    assert content_marks([str(file), f"file://{file}"], LIMITS) == [mark, mark]
    os.utime(file, (1, 1))
    (touched,) = content_marks([str(file)], LIMITS)
    file.write_bytes(b"abcd")
    os.utime(file, (1, 1))
    assert len({None, mark, touched, *content_marks([str(file)], LIMITS)}) == 4


def test_content_marks_of_an_object_change_with_it(bucket: str) -> None:
    client = boto3.client("s3")
    found = []
    for content in (b"one", b"one", b"two"):
        client.put_object(Bucket="clips", Key="a.mp4", Body=content)
        fsspec.get_filesystem_class("s3").clear_instance_cache()
        found += content_marks([f"{bucket}/a.mp4"], LIMITS)
    assert found[0] is not None
    assert (found[0] == found[1], found[1] == found[2]) == (True, False)
    assert content_marks([f"{bucket}/missing.mp4"], LIMITS) == [None]


def test_content_marks_on_the_web_are_etags() -> None:
    def script(connection: socket.socket, request: str) -> None:
        status = "404 Not Found" if "missing" in request else "206 Partial Content"
        tag = "" if "untagged" in request else 'ETag: "v1"\r\n'
        connection.sendall(f"HTTP/1.1 {status}\r\n{tag}Content-Length: 1\r\nConnection: close\r\n\r\na".encode())

    with serving(script) as web:
        uris = [f"{web.url}/{name}.mp4" for name in ("tagged", "untagged", "missing")]
        assert content_marks(uris, LIMITS) == ['etag "v1"', None, None]
        closed = FetchLimits(10**6, 10.0)
        assert content_marks(uris[:1], closed) == [None], "addresses that may not be read are not asked"


def test_content_marks_do_not_wait_for_a_silent_server() -> None:
    with serving(lambda *_: time.sleep(2)) as web:
        began_s = time.monotonic()
        assert content_marks([f"{web.url}/{number}.mp4" for number in range(40)], LIMITS, within_s=0.5) == [None] * 40
        assert time.monotonic() - began_s < 1.5


def test_content_marks_are_unknown_of_what_is_missing(tmp_path: Path) -> None:
    assert content_marks([str(tmp_path / "missing.mp4"), "gopher://host/a.mp4", "a\0b.mp4"], LIMITS) == [None] * 3
