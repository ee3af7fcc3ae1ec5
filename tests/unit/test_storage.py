"""Every URI becomes a local file, or one clear error of the right kind, whatever the network does."""

import errno
import os
import socket
import stat
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from ipaddress import IPv4Network
from pathlib import Path
from urllib.parse import quote

import fsspec
import pytest
from typer.testing import CliRunner

from cluster.cli.main import app
from cluster.contracts.errors import ConfigurationError, InvalidVideo, SourceBusy, TransientFailure
from cluster.contracts.uris import expand, filename_of
from cluster.files import web_transfer
from cluster.files.storage import FetchLimits, fetch, locate

CONTENT = bytes(range(256)) * 4000
LIMITS = FetchLimits(max_bytes=2_000_000, timeout_s=10.0, private_networks=(IPv4Network("127.0.0.0/8"),))


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(web_transfer, "PAUSES_S", (0.0, 0.0, 0.0))


def refusal(uri: str, directory: Path, limits: FetchLimits = LIMITS) -> str:
    with pytest.raises(InvalidVideo) as caught:
        fetch(uri, directory, limits)
    assert_left_clean(directory)
    return str(caught.value)


def hitch(uri: str, directory: Path, limits: FetchLimits = LIMITS) -> str:
    with pytest.raises(TransientFailure) as caught:
        fetch(uri, directory, limits)
    assert_left_clean(directory)
    return str(caught.value)


def assert_left_clean(directory: Path) -> None:
    assert not [path for path in directory.glob("video*") if not path.is_symlink()]


# Local files


@pytest.mark.parametrize(
    "name", ["plain.mp4", "-dash.mp4", "a b.mp4", "ü 日.mp4", "50%.mp4", "a#1?.mp4", "a:b.mp4", "x"]
)
def test_a_local_path_is_used_in_place_whatever_its_name(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.write_bytes(CONTENT)
    for uri in (str(path), f"file://{quote(str(path))}", f"file://localhost{quote(str(path))}"):
        video = fetch(uri, tmp_path / "scratch", LIMITS)
        assert (video.path, video.size_bytes, video.temporary) == (path, len(CONTENT), False)
        assert filename_of(uri) == name
    assert not (tmp_path / "scratch").exists()


def test_a_file_is_located_without_copying_and_nothing_else_is(tmp_path: Path) -> None:
    path = tmp_path / "mine.mp4"
    path.write_bytes(CONTENT)
    assert locate(str(path), LIMITS).path == path
    with pytest.raises(InvalidVideo, match="not a file of this machine"):
        locate("http://127.0.0.1/a.mp4", LIMITS)
    with pytest.raises(InvalidVideo, match="file:// is not allowed"):
        locate(str(path), replace(LIMITS, allowed_schemes=frozenset({"http"})))


def test_what_is_no_readable_local_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "empty.mp4").touch()
    (tmp_path / "large.mp4").write_bytes(bytes(LIMITS.max_bytes + 1))
    for name, sentence in {
        "gone.mp4": f"no such file: {tmp_path}/gone.mp4",
        "empty.mp4/below.mp4": f"no such file: {tmp_path}/empty.mp4/below.mp4",
        "": f"a folder, not a video file: {tmp_path}",
        "empty.mp4": "the file is empty",
        "large.mp4": "the file has 2,000,001 bytes, the limit is 2,000,000 bytes",
        "x" * 300: f"File name too long: {tmp_path}/{'x' * 300}",
    }.items():
        assert refusal(str(tmp_path / name), tmp_path / "scratch") == sentence
    assert refusal("/dev/null", tmp_path) == "not a regular file: /dev/null"
    assert refusal("file://elsewhere/a.mp4", tmp_path).startswith("file:// names a file of this machine")
    assert refusal("/a\0b.mp4", tmp_path).startswith("not a file name")


def test_scheme_not_allowed_is_refused_naming_those_allowed(tmp_path: Path) -> None:
    allowed = " (allowed: file, http, https, s3): "
    assert refusal("ftp://host/a.mp4", tmp_path) == f"the scheme ftp:// is not allowed{allowed}ftp://host/a.mp4"
    assert refusal("GOPHER://host/a", tmp_path).startswith("the scheme gopher:// is not allowed")
    only_web = FetchLimits(10**6, 10.0, frozenset({"https"}))
    assert refusal("/etc/hostname", tmp_path, only_web).startswith("the scheme file:// is not allowed")


def test_chained_schemes_do_not_bypass_the_allowed_ones(tmp_path: Path) -> None:
    secret = tmp_path / "secret.mp4"
    secret.write_bytes(CONTENT)
    limits = FetchLimits(10**7, 10.0, frozenset({"memory"}))
    refusal(f"simplecache::file://{secret}", tmp_path / "scratch", limits)
    refusal(f"memory://x::file://{secret}", tmp_path / "scratch", limits)


def test_allowed_scheme_of_fsspec_is_fetched(tmp_path: Path) -> None:
    limits = FetchLimits(10**7, 10.0, frozenset({"memory", "nothing", "gs"}))
    fsspec.filesystem("memory").pipe("/folder/a.mp4", CONTENT)
    video = fetch("memory://folder/a.mp4", tmp_path, limits)
    assert (video.path.read_bytes(), video.temporary) == (CONTENT, True)
    video.path.unlink()
    assert refusal("memory://folder/b.mp4", tmp_path, limits) == "no such file: memory://folder/b.mp4"
    assert refusal("memory://folder", tmp_path, limits) == "a folder, not a video file: memory://folder"
    assert refusal("nothing://a", tmp_path, limits).startswith("nothing here reads the scheme nothing://")
    with pytest.raises(ConfigurationError, match="gs:// needs a driver that is not installed"):
        fetch("gs://bucket/a.mp4", tmp_path, limits)


def test_a_full_disk_is_no_fault_of_the_video(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fsspec.filesystem("memory").pipe("/full/a.mp4", CONTENT)
    monkeypatch.setattr("cluster.files.storage.open_new_descriptor", lambda _: os.open("/dev/full", os.O_RDWR))
    limits = FetchLimits(10**7, 10.0, frozenset({"memory"}))
    assert hitch("memory://full/a.mp4", tmp_path, limits) == "the disk for downloads is full"


def test_fetch_link_planted_at_its_place_is_not_followed(tmp_path: Path) -> None:
    fsspec.filesystem("memory").pipe("/planted/a.mp4", CONTENT)
    (tmp_path / "mine").write_text("not to be overwritten")
    (tmp_path / "scratch").mkdir()
    (tmp_path / "scratch" / "video.mp4").symlink_to(tmp_path / "mine")
    video = fetch("memory://planted/a.mp4", tmp_path / "scratch", FetchLimits(10**7, 10.0, frozenset({"memory"})))
    assert (tmp_path / "mine").read_text() == "not to be overwritten"
    assert video.path.read_bytes() == CONTENT
    assert stat.S_IMODE(video.path.lstat().st_mode) == 0o600


def test_a_store_that_asks_to_slow_down_is_busy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def slow_down(*_: object, **__: object) -> None:
        raise OSError(errno.EBUSY, "Please reduce your request rate.")  # as s3fs says it

    monkeypatch.setattr(type(fsspec.filesystem("memory")), "info", slow_down)
    limits = FetchLimits(10**7, 10.0, frozenset({"memory"}))
    with pytest.raises(SourceBusy) as caught:
        fetch("memory://slow/a.mp4", tmp_path, limits)
    assert str(caught.value) == "cannot fetch memory://slow/a.mp4: Please reduce your request rate."
    assert caught.value.retry_after_s == 60.0


# The web


class Web(BaseHTTPRequestHandler):
    """Answers by what the path says."""

    def do_GET(self) -> None:
        kind = self.path.rsplit("/", 1)[-1].split("?")[0]
        if kind.isdigit():
            self.send_error(int(kind))
        elif kind == "redirect":
            self.send_response(302)
            self.send_header("Location", "/whole.mp4")
            self.end_headers()
        elif kind == "redirect-to-file":
            self.send_response(302)
            self.send_header("Location", "file:///etc/hostname")
            self.end_headers()
        else:
            self.send_response(200)
            if kind != "unsized.mp4":
                self.send_header("Content-Length", "0" if kind == "empty.mp4" else str(len(CONTENT)))
            self.end_headers()
            self.send_body(kind)

    def send_body(self, kind: str) -> None:
        if kind == "cut.mp4":
            self.wfile.write(CONTENT[:5000])
        elif kind == "slow.mp4":
            for _ in range(40):
                self.wfile.write(CONTENT[:10])
                self.wfile.flush()
                time.sleep(0.05)
        elif kind != "empty.mp4":
            self.wfile.write(CONTENT)

    def log_message(self, format: str, *args: object) -> None:
        pass


class Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, *_: object) -> None:
        """Clients hang up on purpose."""


@pytest.fixture(scope="module")
def web() -> Iterator[str]:
    server = Server(("127.0.0.1", 0), Web)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.mark.parametrize("path", ["whole.mp4", "unsized.mp4", "redirect", "a b/ü/whole.mp4", "whole.mp4?key=1#2"])
def test_http_is_fetched_whole(web: str, tmp_path: Path, path: str) -> None:
    video = fetch(f"{web}/{path}", tmp_path / "scratch", LIMITS)
    assert video.path.read_bytes() == CONTENT
    assert (video.size_bytes, video.temporary, video.path.parent) == (
        len(CONTENT),
        True,
        tmp_path / "scratch",
    )


def test_http_answers_are_told_apart(web: str, tmp_path: Path) -> None:
    assert refusal(f"{web}/404", tmp_path) == f"no such file: {web}/404 (HTTP 404)"
    assert refusal(f"{web}/403", tmp_path) == f"access denied: {web}/403 (HTTP 403)"
    assert refusal(f"{web}/empty.mp4", tmp_path) == "the file is empty"
    assert hitch(f"{web}/503", tmp_path).startswith(f"cannot fetch {web}/503: HTTP 503")
    assert hitch(f"{web}/429", tmp_path).startswith(f"cannot fetch {web}/429: HTTP 429")


def test_a_redirect_never_leads_to_a_local_file(web: str, tmp_path: Path) -> None:
    refusal(f"{web}/redirect-to-file", tmp_path)


def test_a_cut_connection_says_how_much_came(web: str, tmp_path: Path) -> None:
    assert hitch(f"{web}/cut.mp4", tmp_path) == f"the connection ended after 5,000 of 1,024,000 bytes: {web}/cut.mp4"


def test_the_byte_limit_holds_by_header_and_while_copying(web: str, tmp_path: Path) -> None:
    limits = replace(LIMITS, max_bytes=100_000)
    assert refusal(f"{web}/whole.mp4", tmp_path, limits) == "the file has 1,024,000 bytes, the limit is 100,000 bytes"
    assert refusal(f"{web}/unsized.mp4", tmp_path, limits) == "the file is larger than the limit of 100,000 bytes"


def test_the_time_limit_holds_against_a_trickle(web: str, tmp_path: Path) -> None:
    limits = replace(LIMITS, timeout_s=0.3)
    assert hitch(f"{web}/slow.mp4", tmp_path, limits) == "fetching took longer than the limit of 0.3 s"


def test_nobody_answering_is_worth_another_try(tmp_path: Path) -> None:
    with closing(socket.create_server(("127.0.0.1", 0))) as silent:
        address = f"http://127.0.0.1:{silent.getsockname()[1]}/a.mp4"
        assert (
            hitch(address, tmp_path, replace(LIMITS, timeout_s=0.3)) == "fetching took longer than the limit of 0.3 s"
        )
    assert hitch(address, tmp_path) == f"cannot fetch {address}: Connection refused"


def test_errors_do_not_tell_passwords_and_signatures(web: str, tmp_path: Path) -> None:
    uri = web.replace("http://", "http://me:secret@") + "/404?signature=secret"
    assert "secret" not in hitch_or_refusal(uri, tmp_path)
    assert "secret" not in refusal("ftp://me:secret@host/a", tmp_path)


def hitch_or_refusal(uri: str, directory: Path) -> str:
    with pytest.raises((InvalidVideo, TransientFailure)) as caught:
        fetch(uri, directory, LIMITS)
    return str(caught.value)


@pytest.mark.parametrize("uri", ["http://", "http:///a.mp4", "http://127.0.0.1:port/a.mp4", "http://[::1/a.mp4"])
def test_what_is_no_url_is_refused(tmp_path: Path, uri: str) -> None:
    assert refusal(uri, tmp_path).startswith("not a URL: ")


# Many videos


def test_folders_and_globs_stand_for_the_videos_in_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("b.mp4", "a.MKV", "notes.txt", ".hidden.mp4", "deep/c.webm", ".cache/d.mp4", "[x].mp4"):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"x")
    (tmp_path / "bare").mkdir()
    monkeypatch.chdir(tmp_path)
    here = str(tmp_path)
    assert expand(["."]) == [f"{here}/{name}" for name in ("[x].mp4", "a.MKV", "b.mp4", "deep/c.webm")]
    assert expand(["*.mp4"]) == [f"{here}/[x].mp4", f"{here}/b.mp4"]
    assert expand(["**/*.webm", "b.mp4"]) == [f"{here}/deep/c.webm", f"{here}/b.mp4"]
    assert expand(["[x].mp4"]) == [f"{here}/[x].mp4"]
    assert expand([f"file://{here}/deep"]) == [f"{here}/deep/c.webm"]


def test_a_folder_without_videos_says_so(tmp_path: Path) -> None:
    assert refusal(str(tmp_path), tmp_path / "scratch") == f"the folder is empty: {tmp_path}"
    (tmp_path / "notes.txt").touch()
    (tmp_path / ".cache").mkdir()
    (tmp_path / ".cache" / "a.mp4").touch()
    sentence = refusal(tmp_path.as_uri(), tmp_path / "scratch")
    assert sentence.startswith("the folder holds no video, a file that ends in 3g2, ")
    assert sentence.endswith(f": {tmp_path.as_uri()}")


@pytest.mark.parametrize("command", ["process", "submit"])
def test_a_command_on_bare_folders_alone_starts_nothing(
    tmp_path: Path, command: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HEIMDEX_DATA_DIR", str(tmp_path / "data"))
    folders = [tmp_path / name for name in ("one", "two")]
    for folder in folders:
        folder.mkdir()
    done = CliRunner().invoke(app, [command, *map(str, folders)])
    assert (done.exit_code, done.stdout) == (2, "")
    assert done.stderr.splitlines() == [f"error: the folder is empty: {folder}" for folder in folders]
    assert not (tmp_path / "data").exists()


def test_what_names_no_video_stays_to_fail_by_itself(tmp_path: Path) -> None:
    (tmp_path / "bare").mkdir()
    uris = [
        f"{tmp_path}/bare",
        f"{tmp_path}/gone.mp4",
        f"{tmp_path}/*.mp4",
        "http://host/a*.mp4",
        "s3://b/c.mp4",
    ]
    assert expand(uris) == uris


@pytest.mark.parametrize(
    ("uri", "name"),
    [
        ("https://host/a/b%20c.mp4?token=1#t", "b c.mp4"),
        ("s3://bucket/a/b%20c?.mp4", "b%20c?.mp4"),
        ("https://host/", "https://host/"),
        ("clips/a.mp4", "a.mp4"),
    ],
)
def test_a_video_is_known_by_the_last_part_of_its_uri(uri: str, name: str) -> None:
    assert filename_of(uri) == name


def test_a_file_name_that_is_no_utf8_is_read_and_can_be_stored(tmp_path: Path) -> None:
    path = os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9.mp4")
    Path(path).write_bytes(b"pictures")
    (uri,) = expand([path])
    assert uri == tmp_path.as_uri() + "/caf%E9.mp4"
    assert expand([str(tmp_path)]) == [uri]
    assert filename_of(uri) == "caf?.mp4"
    assert fetch(uri, tmp_path, LIMITS).path.read_bytes() == b"pictures"
