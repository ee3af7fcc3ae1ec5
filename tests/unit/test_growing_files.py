"""A file that is still being written, wherever it is, has to wait; one that was finished is taken."""

import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from email.utils import formatdate
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import av
import fsspec
import numpy as np
import pytest

from actors.stages import growing_file
from actors.stages.fetcher import Fetcher
from actors.workers.catalog import _MediaLoader
from actors.workers.configs import MediaConfig
from cluster.contracts.errors import InvalidVideo, SourceChanging
from cluster.contracts.media import MediaLimits
from cluster.files import web_transfer
from cluster.files.storage import FetchLimits, fetch
from tests.chaos.watched_network import SERVER
from tests.support.scripted_web import answer, serving

LIMITS = FetchLimits(10**6, 10.0, frozenset({"file", "http", "memory"}), (ip_network(f"{SERVER}/32"),))
FILM = bytes(range(256)) * 1000
MEDIA_LIMITS = MediaLimits(max_duration_s=600, max_pixels=10**6, max_fps=60, max_streams=4, max_bytes=10**7)


@contextmanager
def written_to(path: Path, piece: bytes = FILM[:1000]) -> Iterator[None]:
    """While the block runs, ``piece`` is added to the file again and again."""
    ended = threading.Event()

    def write() -> None:
        with path.open("ab", buffering=0) as file:
            while not ended.wait(0.1):
                file.write(piece)

    writer = threading.Thread(target=write)
    writer.start()
    try:
        yield
    finally:
        ended.set()
        writer.join()


def changing(uri: str, directory: Path) -> str:
    with pytest.raises(SourceChanging) as caught:
        fetch(uri, directory, LIMITS)
    assert list(directory.iterdir()) == []
    assert caught.value.retry_after_s > 0
    return str(caught.value)


# On a web server


@pytest.fixture
def shared_folder(tmp_path: Path) -> Iterator[tuple[Path, str]]:
    """A folder, and where a real web server serves it, without ranges."""
    folder = tmp_path / "shared"
    folder.mkdir()

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, format: str, *args: object) -> None:
            pass

        def copyfile(self, source: Any, outputfile: Any) -> None:
            outputfile.write(source.read()[: int(os.fstat(source.fileno()).st_size)])

    class Server(ThreadingHTTPServer):
        def handle_error(self, *_: object) -> None:
            """The client hangs up once it has what was announced."""

    with Server((SERVER, 0), partial(Quiet, directory=str(folder))) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield folder, f"http://{SERVER}:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


def test_a_file_that_grows_on_its_server_has_to_wait(tmp_path: Path, shared_folder: tuple[Path, str]) -> None:
    folder, url = shared_folder
    (folder / "recording.ts").write_bytes(FILM)
    with written_to(folder / "recording.ts"):
        sentence = changing(f"{url}/recording.ts", tmp_path / "scratch")
    assert sentence == f"the file is still being written on its server: {url}/recording.ts"


def test_a_file_that_was_finished_just_now_is_taken(
    tmp_path: Path, shared_folder: tuple[Path, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    paused_s: list[float] = []
    monkeypatch.setattr(web_transfer._Transfer, "_pause", lambda _, seconds: paused_s.append(seconds))
    folder, url = shared_folder
    path = folder / "a.ts"
    path.write_bytes(FILM)
    for written_s in (0.0, -60.0, 7200.0):  # at last by a clock that is ahead
        age(path, -written_s)
        assert fetch(f"{url}/a.ts", tmp_path / "scratch", LIMITS).path.read_bytes() == FILM
    assert len(paused_s) == 2
    assert max(paused_s) <= web_transfer.SETTLED_S


@pytest.mark.parametrize("tag", ['ETag: "1"\n', ""])
def test_a_file_dated_by_each_answer_does_not_grow(tmp_path: Path, tag: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(web_transfer, "SETTLED_S", 1.1)  # the dates differ then

    def dated(*of: Any) -> None:
        now = formatdate(usegmt=True)
        head = f"HTTP/1.1 200 OK\n{tag}Date: {now}\nLast-Modified: {now}\nContent-Length: {len(FILM)}"
        answer(head, FILM)(*of)

    with serving(dated) as web:
        assert fetch(f"{web.url}/a", tmp_path, LIMITS).path.read_bytes() == FILM
        assert ["Range: bytes=0-0" in request for request in web.asked] == [False, True]


# In another store


def test_a_file_that_grows_in_its_store_has_to_wait(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = fsspec.filesystem("memory")
    store.pipe("/growing/a.ts", FILM)
    kind = type(store)
    opened = kind.open

    def grow(self: Any, path: str, *rest: Any, **options: Any) -> Any:
        file = opened(self, path, *rest, **options)
        if rest[:1] == ("rb",):
            self.pipe("/growing/a.ts", FILM + FILM)
        return file

    monkeypatch.setattr(kind, "open", grow)
    sentence = changing("memory://growing/a.ts", tmp_path)
    assert sentence == "the file is still being written where it is stored: memory://growing/a.ts"
    monkeypatch.undo()
    assert fetch("memory://growing/a.ts", tmp_path, LIMITS).size_bytes == 2 * len(FILM)


# On this machine


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """A second of pictures as MPEG-TS: half of it is a film as well."""
    path = tmp_path_factory.mktemp("film") / "a.ts"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg2video", rate=25, width=64, height=48, pix_fmt="yuv420p")
        for n in range(50):
            picture = np.full((48, 64, 3), n * 5, np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture)))
        container.mux(stream.encode(None))
    return path.read_bytes()


@pytest.fixture
def calls(tmp_path: Path) -> dict[str, Callable[..., Any]]:
    """The calls that a media worker answers."""
    return dict(_MediaLoader(MediaConfig(MEDIA_LIMITS, LIMITS, 64, 1))().calls)


def age(path: Path, seconds: float) -> None:
    then = time.time() - seconds
    os.utime(path, (then, then))


def test_a_file_that_grew_while_it_was_read_has_to_wait(
    tmp_path: Path, film: bytes, calls: dict[str, Callable[..., Any]]
) -> None:
    path = tmp_path / "a.ts"
    path.write_bytes(film)
    age(path, 60)
    video = calls["locate"](str(path))
    info = calls["probe"](video)
    assert len(list(calls["detect"](video, info))) == 1
    path.write_bytes(film + film)
    age(path, 60)
    sentence = f"the file is still being written: {path}"
    for call, arguments in (("probe", (video,)), ("read_speech", (video, info)), ("detect", (video, info))):
        with pytest.raises(SourceChanging) as caught:
            list(calls[call](*arguments)) if call != "probe" else calls[call](*arguments)
        assert str(caught.value) == sentence


def test_a_file_that_is_recorded_meanwhile_has_to_wait(
    tmp_path: Path, film: bytes, calls: dict[str, Callable[..., Any]]
) -> None:
    path = tmp_path / "a.ts"
    path.write_bytes(film)

    def read() -> None:
        video = calls["locate"](str(path))
        list(calls["detect"](video, calls["probe"](video)))

    with written_to(path, film), pytest.raises(SourceChanging):
        read()


@pytest.mark.parametrize("share", [0.5, 0.02])
def test_a_file_that_cannot_be_read_yet_has_to_wait(
    tmp_path: Path, share: float, calls: dict[str, Callable[..., Any]]
) -> None:
    path = tmp_path / "a.mp4"  # its index comes last
    path.write_bytes(b"\0\0\0\x14ftypisom\0\0\0\0isom" + b"\0\xff\xff\xffmdat" + FILM[: int(share * len(FILM))])
    video = calls["locate"](str(path))
    with pytest.raises(SourceChanging, match="the file is still being written: "):
        calls["probe"](video)
    age(path, 60)
    with pytest.raises(SourceChanging):  # since it was found
        calls["probe"](video)
    with pytest.raises(InvalidVideo):
        calls["probe"](calls["locate"](str(path)))


def test_a_file_without_a_byte_yet_has_to_wait(tmp_path: Path, calls: dict[str, Callable[..., Any]]) -> None:
    path = tmp_path / "a.mp4"
    path.touch()
    with pytest.raises(SourceChanging, match="the file is still being written: "):
        calls["locate"](path.as_uri())
    age(path, 60)
    with pytest.raises(InvalidVideo, match="the file is empty"):
        calls["locate"](str(path))
    with pytest.raises(InvalidVideo, match="no such file"):
        calls["locate"](str(tmp_path / "none.mp4"))


def test_a_finished_file_is_waited_for_shortly_and_once(
    tmp_path: Path, film: bytes, calls: dict[str, Callable[..., Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    slept_s: list[float] = []
    monkeypatch.setattr("actors.stages.growing_file.time.sleep", slept_s.append)
    path = tmp_path / "a.ts"
    path.write_bytes(film)
    for written_s in (0.0, -60.0, 7200.0):  # at last by a share's clock that is ahead
        age(path, -written_s)
        video = calls["locate"](str(path))
        assert len(list(calls["detect"](video, calls["probe"](video)))) == 1
    assert 0.0 <= slept_s[0] <= growing_file.SETTLED_S
    assert slept_s[1:] == [0.0, 0.0]


def test_a_copy_of_our_own_never_grows(tmp_path: Path, calls: dict[str, Callable[..., Any]]) -> None:
    with serving(answer(f"HTTP/1.1 200 OK\nContent-Length: {len(FILM)}", FILM)) as web:
        video = Fetcher(LIMITS, tmp_path / "scratch", 1.0).fetch(f"{web.url}/a.mp4", "key")
    assert video.temporary
    with pytest.raises(InvalidVideo):
        calls["probe"](video)
