"""Videos in S3 come from the endpoint of the environment, whatever their URI says."""

import socket
from collections.abc import Iterator
from pathlib import Path

import boto3
import fsspec
import pytest
from moto.server import ThreadedMotoServer

from cluster.contracts.errors import InvalidVideo
from cluster.contracts.uris import filename_of
from cluster.files.storage import FetchLimits, fetch

CONTENT = bytes(range(256)) * 4000
LIMITS = FetchLimits(max_bytes=2_000_000, timeout_s=10.0)


def refusal(uri: str, directory: Path, limits: FetchLimits = LIMITS) -> str:
    with pytest.raises(InvalidVideo) as caught:
        fetch(uri, directory, limits)
    assert list(directory.iterdir()) == []
    return str(caught.value)


@pytest.fixture(scope="module")
def s3() -> Iterator[str]:
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
def bucket(s3: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    for name, value in {
        "AWS_ENDPOINT_URL": s3,
        "AWS_ACCESS_KEY_ID": "key",
        "AWS_SECRET_ACCESS_KEY": "secret",
        "AWS_DEFAULT_REGION": "us-east-1",
    }.items():
        monkeypatch.setenv(name, value)
    client = boto3.client("s3")
    client.create_bucket(Bucket="clips")
    client.put_object(Bucket="clips", Key="folder/a #1?.mp4", Body=CONTENT)
    client.put_object(Bucket="clips", Key="empty.mp4", Body=b"")
    client.close()
    yield "s3://clips"
    fsspec.get_filesystem_class("s3").clear_instance_cache()


def test_s3_is_fetched_from_the_endpoint_of_the_environment(bucket: str, tmp_path: Path) -> None:
    for uri in (f"{bucket}/folder/a #1?.mp4", "S3://clips/folder/a #1?.mp4"):
        video = fetch(uri, tmp_path, LIMITS)
        assert (video.path.read_bytes(), video.temporary) == (CONTENT, True)
        assert filename_of(uri) == "a #1?.mp4"
        video.path.unlink()


def test_nothing_in_an_s3_uri_leads_to_another_endpoint(bucket: str, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as elsewhere:
        elsewhere.setblocking(False)
        there = f"127.0.0.1:{elsewhere.getsockname()[1]}"
        for key in (f"gone?endpoint_url=http://{there}", f"gone&client_kwargs={there}", f"@{there}/gone"):
            assert refusal(f"{bucket}/{key}", tmp_path) == f"no such file: {bucket}/{key.partition('?')[0]}"
        for place in (f"clips@{there}", there, "arn:aws:s3:us-east-1:123456789012:accesspoint:clips"):
            assert refusal(f"s3://{place}/a.mp4", tmp_path).startswith("not the name of a bucket: s3://")
        with pytest.raises(BlockingIOError):
            elsewhere.accept()


def test_s3_answers_are_told_apart(bucket: str, tmp_path: Path) -> None:
    assert refusal(f"{bucket}/gone.mp4", tmp_path) == f"no such file: {bucket}/gone.mp4"
    assert refusal("s3://no-bucket/a.mp4", tmp_path) == "no such file: s3://no-bucket/a.mp4"
    assert refusal(f"{bucket}/empty.mp4", tmp_path) == "the file is empty"
    assert refusal(f"{bucket}/folder", tmp_path) == f"a folder, not a video file: {bucket}/folder"
    limits = FetchLimits(max_bytes=1000, timeout_s=10.0)
    assert refusal(f"{bucket}/folder/a #1?.mp4", tmp_path, limits).startswith("the file has 1,024,000 bytes")
