"""Relative storage paths are read below the root, and nothing else is."""

import json
import os
import socket
import threading
import urllib.parse
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from uuid import UUID

import boto3
import fsspec
import pytest
from moto.server import ThreadedMotoServer

from actors.stages.fetcher import Fetcher
from actors.workers.catalog import _MediaLoader
from actors.workers.configs import MediaConfig
from cluster.contracts.errors import ConfigurationError, InvalidVideo, TransientFailure
from cluster.contracts.media import MediaLimits
from cluster.files.fetch_limits import fetch_limits
from cluster.files.storage import FetchLimits, check_stored, fetch, locate
from cluster.files.storage_root import StorageRoot, is_of_another_owner, is_relative
from cluster.files.stored_files import remove_file
from cluster.settings import load_settings

CONTENT = bytes(range(256)) * 400
KEY = "a service key"
OWNER = UUID("aaaaaaaa-0000-4000-8000-000000000002")
FILE = f"{OWNER}/holiday #1 ä?100%.mp4"
OUTSIDE = [
    "../secret.mp4",
    "a/../../secret.mp4",
    "a/./b.mp4",
    "./secret.mp4",
    "a//b.mp4",
    "a/",
    "a\\..\\..\\secret.mp4",
    "a\nb.mp4",
    "..",
    "",
    "\0.mp4",
]


def limits(root: str | None, key: str | None = None) -> FetchLimits:
    return FetchLimits(2_000_000, 10.0, frozenset({"https"}), storage_root=StorageRoot(root, key) if root else None)


def refusal(path: str, directory: Path, of: FetchLimits) -> str:
    with pytest.raises(InvalidVideo) as caught:
        fetch(path, directory, of)
    return str(caught.value)


@contextmanager
def storage_api(location: str = "") -> Iterator[tuple[str, list[tuple[str, str | None]]]]:
    """An HTTP server that answers as Supabase Storage does for a bucket ``videos`` with one file."""
    asked: list[tuple[str, str | None]] = []

    class Answers(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append((self.path, self.headers.get("Authorization")))
            if self.headers.get("Authorization") != f"Bearer {KEY}" or self.headers.get("apikey") != KEY:
                self._say(400, {"statusCode": "403", "error": "Unauthorized", "message": "invalid signature"})
            elif location:
                self.send_response(302)
                self.send_header("Location", location)
                self.end_headers()
            elif self.path.endswith("/busy.mp4"):
                self._say(400, {"statusCode": "503", "error": "SlowDown", "message": "slow down"})
            elif urllib.parse.unquote(self.path) != f"/storage/v1/object/videos/{FILE}":
                self._say(400, {"statusCode": "404", "error": "not_found", "message": "Object not found"})
            else:
                self.send_response(200)
                self.send_header("Content-Length", str(len(CONTENT)))
                self.end_headers()
                self.wfile.write(CONTENT)

        def _say(self, status: int, body: dict[str, str]) -> None:
            written = json.dumps(body).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(written)))
            self.end_headers()
            self.wfile.write(written)

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Answers) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}/storage/v1/object/videos/", asked
        finally:
            server.shutdown()
            thread.join()


@pytest.fixture(scope="module")
def bucket() -> Iterator[str]:
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0)
    server.start()
    host, port = server.get_host_and_port()
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("AWS_ENDPOINT_URL", f"http://{host}:{port}")
        environment.setenv("AWS_ACCESS_KEY_ID", "key")
        environment.setenv("AWS_SECRET_ACCESS_KEY", "secret")
        environment.setenv("AWS_DEFAULT_REGION", "us-east-1")
        client = boto3.client("s3")
        client.create_bucket(Bucket="videos")
        client.put_object(Bucket="videos", Key=f"base/{FILE}", Body=CONTENT)
        client.put_object(Bucket="videos", Key="secret.mp4", Body=b"secret")
        client.close()
        yield "s3://videos/base"
        fsspec.get_filesystem_class("s3").clear_instance_cache()
    server.stop()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    root = tmp_path / "root"
    (root / FILE).parent.mkdir(parents=True)
    (root / FILE).write_bytes(CONTENT)
    (tmp_path / "secret.mp4").write_bytes(b"secret")
    (root / "link.mp4").symlink_to(tmp_path / "secret.mp4")
    return root


def test_storage_root_folder_is_read_in_place(folder: Path, tmp_path: Path) -> None:
    for root in (str(folder), folder.as_uri()):
        video = fetch(FILE, tmp_path / "to", limits(root))
        assert (video.path, video.temporary) == (folder / FILE, False)
    check_stored(FILE, limits(str(folder)))


def test_storage_root_bucket_is_read(bucket: str, tmp_path: Path) -> None:
    for number, root in enumerate((bucket, f"{bucket}/")):
        video = fetch(FILE, tmp_path / str(number), limits(root))
        assert (video.path.read_bytes(), video.temporary) == (CONTENT, True)
        check_stored(FILE, limits(root))
    assert refusal("gone.mp4", tmp_path, limits(bucket)) == "no such file: gone.mp4"


def test_storage_api_is_read_with_its_key(tmp_path: Path) -> None:
    with storage_api() as (root, asked):
        video = fetch(FILE, tmp_path, limits(root, KEY))
        check_stored(FILE, limits(root, KEY))
    assert video.path.read_bytes() == CONTENT
    assert [authorization for _, authorization in asked] == [f"Bearer {KEY}"] * 2


def test_storage_api_missing_object_is_no_such_file(tmp_path: Path) -> None:
    with storage_api() as (root, _):
        assert refusal("gone.mp4", tmp_path, limits(root, KEY)) == "no such file: gone.mp4 (HTTP 404)"
        with pytest.raises(InvalidVideo):
            check_stored("gone.mp4", limits(root, KEY))


def test_storage_api_that_is_busy_is_tried_again(tmp_path: Path) -> None:
    with storage_api() as (root, _), pytest.raises(TransientFailure, match="HTTP 503"):
        fetch("busy.mp4", tmp_path, limits(root, KEY))


@pytest.mark.parametrize("key", [None, "wrong"])
def test_storage_api_wrong_key_names_the_setting(key: str | None, tmp_path: Path) -> None:
    with storage_api() as (root, _), pytest.raises(ConfigurationError, match="HEIMDEX_STORAGE_KEY") as caught:
        fetch(FILE, tmp_path, limits(root, key))
    assert KEY not in str(caught.value)


def test_storage_key_is_not_sent_to_another_origin(tmp_path: Path) -> None:
    with storage_api() as (elsewhere, asked), storage_api(location=f"{elsewhere}{FILE.split('/')[0]}/x") as (root, _):
        redirecting = FetchLimits(2_000_000, 10.0, frozenset({"http", "https"}), storage_root=StorageRoot(root, KEY))
        assert "not public" in refusal(FILE, tmp_path, redirecting)
    assert asked == []


def test_private_addresses_stay_closed_to_other_uris(tmp_path: Path) -> None:
    with storage_api() as (root, _), storage_api() as (other, asked):
        open_to_web = FetchLimits(2_000_000, 10.0, frozenset({"http"}), storage_root=StorageRoot(root, KEY))
        assert "not public" in refusal(f"{other}{OWNER}/a.mp4", tmp_path, open_to_web)
    assert asked == []


@pytest.mark.parametrize("path", OUTSIDE)
def test_no_path_leads_out_of_the_root(path: str, folder: Path, tmp_path: Path) -> None:
    for root in (str(folder), "s3://videos/base", "https://example.org/videos"):
        assert refusal(path, tmp_path / "to", limits(root)).startswith("not a path below HEIMDEX_STORAGE_ROOT")


def test_a_link_that_leaves_the_folder_is_refused(folder: Path, tmp_path: Path) -> None:
    assert "leads out of" in refusal("link.mp4", tmp_path / "to", limits(str(folder)))


def make_odd(folder: Path) -> dict[str, str]:
    """Paths below the root that cannot be read, each with a part of the reason."""
    (folder / "itself.mp4").symlink_to("itself.mp4")
    (folder / "ring").symlink_to("gnir")
    (folder / "gnir").symlink_to("ring")
    for number in range(60):
        (folder / f"link{number}").symlink_to(f"link{number + 1}" if number < 59 else FILE)
    (folder / "folder.mp4").mkdir()
    os.mkfifo(folder / "pipe.mp4")
    with socket.socket(socket.AF_UNIX) as opened:
        opened.bind(str(folder / "s"))
    return {
        "itself.mp4": "links",
        "ring/a.mp4": "links",
        "ring": "links",
        "link0": "links",
        f"{FILE}/a.mp4": "no such file",
        "x" * 300: "too long",
        "a/" * 3000 + "a.mp4": "too long",
        "folder.mp4": "the folder is empty",
        "pipe.mp4": "not a regular file",
        "s": "not a regular file",
    }


def test_stored_path_that_no_system_call_takes_is_refused(folder: Path, tmp_path: Path) -> None:
    for path, reason in make_odd(folder).items():
        assert reason in refusal(path, tmp_path / "to", limits(str(folder)))
        for read in (check_stored, locate):
            with pytest.raises(InvalidVideo, match=reason) as caught:
                read(path, limits(str(folder)))
            assert str(tmp_path) not in str(caught.value)


def test_file_that_cannot_be_there_is_removed_already(folder: Path) -> None:
    remove_file(f"{FILE}/a.mp4", StorageRoot(str(folder)), OWNER)
    make_odd(folder)
    for path in ("itself.mp4", "ring/a.mp4", "x" * 300):
        with pytest.raises((InvalidVideo, TransientFailure)):
            remove_file(path, StorageRoot(str(folder)), OWNER)


@pytest.mark.parametrize(
    "uri", ["{folder}/x::y.mp4", "file://{folder}/x::y.mp4", "x::y.mp4", "file://{folder}/x%3A:y.mp4"]
)
def test_only_the_file_that_is_named_is_removed(tmp_path: Path, uri: str) -> None:
    (tmp_path / "x").write_bytes(CONTENT)
    (tmp_path / "x::y.mp4").write_bytes(CONTENT)
    remove_file(uri.format(folder=tmp_path), StorageRoot(str(tmp_path)), OWNER)
    assert [path.name for path in tmp_path.iterdir()] == ["x"]


@pytest.mark.parametrize("uri", ["memory://b/x::y.mp4", "memory://b/z.mp4::file://{folder}/kept.mp4"])
def test_only_the_object_that_is_named_is_removed(tmp_path: Path, uri: str) -> None:
    (tmp_path / "kept.mp4").write_bytes(CONTENT)
    memory = fsspec.filesystem("memory")
    named = uri.format(folder=tmp_path)
    for name in ("memory://b/x", "memory://b/z.mp4", named):
        memory.pipe_file(name, CONTENT)
    remove_file(named, None, OWNER)
    assert memory.exists("memory://b/x")
    assert memory.exists("memory://b/z.mp4")
    assert not memory.exists(named)
    assert (tmp_path / "kept.mp4").exists()


@pytest.mark.parametrize("mode", [0o000, 0o400, 0o100], ids=["closed", "listed alone", "entered alone"])
def test_stored_path_of_a_folder_without_rights_is_refused(folder: Path, tmp_path: Path, mode: int) -> None:
    (folder / "closed" / "below").mkdir(parents=True)
    (folder / "closed" / "a.mp4").write_bytes(CONTENT)
    (folder / "closed" / "a.mp4").chmod(0o000)
    (folder / "closed").chmod(mode)
    with as_another_account(tmp_path):
        for path in ("closed/a.mp4", "closed", "closed/below", "closed/below/a.mp4"):
            with pytest.raises(InvalidVideo):
                check_stored(path, limits(str(folder)))


@contextmanager
def as_another_account(folder: Path) -> Iterator[None]:
    """Root may read everything: then as the folder's owner, whom it is given to for this."""
    if os.geteuid() != 0:
        yield
        return
    for place in [folder, *folder.rglob("*")]:
        os.lchown(place, 65534, 65534)
    modes = {place: place.stat().st_mode for place in folder.parents}
    for place, mode in modes.items():
        place.chmod(mode | 0o011)
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)
        for place, mode in modes.items():
            place.chmod(mode)


def test_percent_encoding_does_not_lead_out_of_the_root(folder: Path, bucket: str, tmp_path: Path) -> None:
    assert refusal("%2e%2e/secret.mp4", tmp_path, limits(str(folder))).startswith("no such file")
    assert refusal("%2e%2e/secret.mp4", tmp_path, limits(bucket)).startswith("no such file")
    with storage_api() as (root, asked):
        assert refusal("%2e%2e%2fx.mp4", tmp_path, limits(root, KEY)).startswith("no such file")
    assert asked[0][0].endswith("/%252e%252e%252fx.mp4")


def test_only_relative_paths_are_read_below_the_root(folder: Path, tmp_path: Path) -> None:
    for uri in (str(folder / FILE), "file:///etc/passwd", "memory://x/y", "//host/share.mp4", "S3://videos/a.mp4"):
        assert not is_relative(uri)
        assert "is not allowed" in refusal(uri, tmp_path, limits(str(folder)))


def test_relative_path_without_a_root_names_the_setting(tmp_path: Path) -> None:
    assert "HEIMDEX_STORAGE_ROOT is not set" in refusal(FILE, tmp_path, limits(None))


def test_path_of_another_owner_is_seen() -> None:
    assert is_of_another_owner("bbbbbbbb-0000-4000-8000-000000000002/a.mp4", OWNER)
    assert not any(is_of_another_owner(path, OWNER) for path in (FILE, "a.mp4", "talks/a.mp4"))


def test_stored_file_of_another_owner_is_not_touched(folder: Path, tmp_path: Path) -> None:
    other = UUID(int=7)
    fetcher = Fetcher(limits(str(folder)), tmp_path / "scratch", 1.0)
    media = MediaConfig(MediaLimits(60.0, 10**7, 60.0, 8, 10**9), limits(str(folder)), 64, 1)
    locate = _MediaLoader(media)().calls["locate"]
    assert locate(FILE, OWNER).size_bytes == fetcher.fetch(FILE, "key", OWNER).size_bytes == len(CONTENT)
    with pytest.raises(InvalidVideo, match="another owner's folder"):
        fetcher.fetch(FILE, "key", other)
    with pytest.raises(InvalidVideo, match="another owner's folder"):
        locate(FILE, other)
    root = StorageRoot(str(folder))
    with pytest.raises(InvalidVideo, match="another owner's folder"):
        remove_file(FILE, root, other)
    assert (folder / FILE).exists()
    remove_file(FILE, root, OWNER)
    assert not (folder / FILE).exists()


@pytest.mark.parametrize("root", ["https://user:password@example.org/videos/", "https://127.1/videos/"])
def test_storage_root_that_is_no_address_is_refused(root: str) -> None:
    with pytest.raises(ConfigurationError, match="HEIMDEX_STORAGE_ROOT") as caught:
        fetch_limits(load_settings(storage_root=root))
    assert "password" not in str(caught.value).replace("user or password", "")


def test_storage_key_without_a_web_root_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="HEIMDEX_STORAGE_KEY"):
        load_settings(storage_key="k", storage_root="s3://videos/")
