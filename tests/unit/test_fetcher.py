"""Downloads of a node beside each other: attacks cost their own video, and what is stopped or failed leaves nothing."""

import shutil
import socket
import threading
import time
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from ipaddress import ip_network
from pathlib import Path
from uuid import UUID

import pytest

from actors.stages.fetcher import Fetcher
from cluster.contracts.errors import Interrupted, NoRoom, SourceSlow
from cluster.contracts.media import LocalVideo
from cluster.files import disk_space
from cluster.files.deadline import Pace
from cluster.files.storage import FetchLimits
from tests.chaos.watched_network import SERVER
from tests.support.scripted_web import Script, answer, drip, serving

LIMITS = FetchLimits(10**12, 8.0, private_networks=(ip_network(f"{SERVER}/32"),))
ANNA, MALLORY = UUID(int=1), UUID(int=2)
OK = b"HTTP/1.1 200 OK\r\n"
HONEST = answer("HTTP/1.1 200 OK\nContent-Length: 4", b"film")
SLOWLY = {
    "body": drip(OK + b"Content-Length: 90000\r\n\r\n", b"x", 0.1),
    "headers": drip(OK, b"X: y\r\n", 0.1),
    "silence": drip(b"", b"", 0.1),
    "informing": drip(b"", b"HTTP/1.1 103 Early Hints\r\n\r\n", 0.1),
    "chunks": drip(OK + b"Transfer-Encoding: chunked\r\n\r\n", b"1\r\nx\r\n", 0.1),
}


@pytest.fixture
def scratch(tmp_path: Path) -> Path:
    return tmp_path / "scratch"


@pytest.fixture
def fetcher(scratch: Path) -> Fetcher:
    return Fetcher(LIMITS, scratch, 0.5)


def left(scratch: Path) -> list[str]:
    return sorted(path.name for path in scratch.iterdir()) if scratch.exists() else []


def fetching(fetcher: Fetcher, uri: str, key: str, owner: UUID = MALLORY) -> "Future[LocalVideo]":
    """A download in a thread of its own."""
    pool = ThreadPoolExecutor(1)
    future = pool.submit(fetcher.fetch, uri, key, owner)
    pool.shutdown(wait=False)
    return future


def until(is_so: object, within_s: float = 5.0) -> None:
    assert callable(is_so)
    end_s = time.monotonic() + within_s
    while not is_so():
        assert time.monotonic() < end_s
        time.sleep(0.01)


@pytest.mark.parametrize("script", SLOWLY.values(), ids=SLOWLY)
def test_a_source_that_drips_is_given_up_after_a_window(scratch: Path, script: Script) -> None:
    fetcher = Fetcher(replace(LIMITS, pace=Pace(10_000, 0.4)), scratch, 0.5)
    begun_s = time.monotonic()
    with serving(script) as web, pytest.raises(SourceSlow, match=r"too slow: .* at least 4,000 are wanted"):
        fetcher.fetch(f"{web.url}/a", "key", MALLORY)
    assert 0.4 <= time.monotonic() - begun_s < 2.0
    assert left(scratch) == []


def test_a_source_that_keeps_its_pace_is_read_to_the_end(scratch: Path) -> None:
    fetcher = Fetcher(replace(LIMITS, pace=Pace(1_000, 1.0)), scratch, 0.5)

    def steady(connection: socket.socket, _: str) -> None:
        connection.sendall(OK + b"Content-Length: 50000\r\n\r\n")
        for _number in range(25):
            connection.sendall(b"x" * 2000)
            time.sleep(0.1)

    with serving(steady) as web:
        assert fetcher.fetch(f"{web.url}/a", "key", ANNA).size_bytes == 50_000


def test_no_least_pace_lets_a_source_take_its_time(scratch: Path) -> None:
    fetcher = Fetcher(replace(LIMITS, pace=Pace(0, 0.1)), scratch, 0.5)

    def late(connection: socket.socket, request: str) -> None:
        time.sleep(0.4)
        HONEST(connection, request)

    with serving(late) as web:
        assert fetcher.fetch(f"{web.url}/a", "key", ANNA).size_bytes == 4


def small_disk(monkeypatch: pytest.MonkeyPatch, fetcher: Fetcher, size: int) -> None:
    """A disk of so many bytes, on which only what is fetched is stored: as counted, so that no moment matters."""

    def usage(_: Path) -> object:
        used = sum(each.written for each in fetcher._space._held)
        return shutil._ntuple_diskusage(size, used, size - used)  # type: ignore[attr-defined]

    monkeypatch.setattr(shutil, "disk_usage", usage)
    monkeypatch.setattr(disk_space, "KEPT_BYTES", 0)
    monkeypatch.setattr(disk_space, "STEP_BYTES", 10_000)
    monkeypatch.setattr("cluster.files.copied_file.STEP_BYTES", 10_000)


def test_announced_sizes_concern_their_own_videos(
    fetcher: Fetcher, scratch: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    small_disk(monkeypatch, fetcher, 10**9)
    with serving(drip(OK + b"Content-Length: 100000000000\r\n\r\n", b"", 0.1)) as web, serving(HONEST) as honest:
        for number in range(3):
            with pytest.raises(NoRoom, match="no room for 100,000,000,000 bytes"):
                fetcher.fetch(f"{web.url}/{number}", f"mallory-{number}", MALLORY)
        for owner in (ANNA, MALLORY):
            assert fetcher.fetch(f"{honest.url}/a", f"of-{owner}", owner).size_bytes == 4
    assert len(left(scratch)) == 2


def test_bodies_without_end_leave_room_for_others(scratch: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fetcher = Fetcher(replace(LIMITS, max_bytes=10**7), scratch, 0.5)
    small_disk(monkeypatch, fetcher, 10**6)
    endless = drip(OK + b"\r\n", b"x" * 65536, 0)
    size = 240_000  # half of what is left when one owner has half
    with serving(endless) as web, serving(answer(f"HTTP/1.1 200 OK\nContent-Length: {size}", b"f" * size)) as honest:
        attacks = [fetching(fetcher, f"{web.url}/{n}", f"mallory-{n}") for n in range(4)]
        assert fetcher.fetch(f"{honest.url}/a", "anna", ANNA).size_bytes == size
        for attack in attacks:
            assert isinstance(attack.exception(10), NoRoom)
        assert left(scratch) == ["anna"]
        fetcher.discard("anna")
        for key in ("first", "second"):  # all was returned
            assert fetcher.fetch(f"{honest.url}/a", key, MALLORY).size_bytes == size
        with pytest.raises(NoRoom):
            fetcher.fetch(f"{honest.url}/a", "third", MALLORY)  # the others are there until they are discarded
        fetcher.discard("first")
        fetcher.fetch(f"{honest.url}/a", "third", MALLORY)


ENDLESS: dict[str, Script] = {
    "silent": drip(b"", b"", 0.05),
    "dripping": drip(OK + b"\r\n", b"x" * 4096, 0.05),
    "fast": drip(OK + b"\r\n", b"x" * 4096, 0.0),
}


@pytest.mark.parametrize("script", ENDLESS.values(), ids=ENDLESS)
def test_a_discarded_download_ends_soon_and_leaves_nothing(scratch: Path, script: Script) -> None:
    fetcher = Fetcher(LIMITS, scratch, 0.5)
    with serving(script) as web:
        attack = fetching(fetcher, f"{web.url}/a", "key")
        until(lambda: left(scratch) == ["key"] and web.asked)
        begun_s = time.monotonic()
        fetcher.discard("key")
        assert isinstance(attack.exception(5), Interrupted)
        assert time.monotonic() - begun_s < 1.5
    assert left(scratch) == []


def test_a_download_that_waits_for_a_name_is_stopped(scratch: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked, answered = threading.Event(), threading.Event()
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: asked.set() or [answered.wait(30)])  # type: ignore[func-returns-value]
    fetcher = Fetcher(LIMITS, scratch, 0.5)
    attack = fetching(fetcher, "http://slow.test/a", "key")
    try:
        assert asked.wait(5)
        fetcher.discard("key")
        assert isinstance(attack.exception(5), Interrupted)
    finally:
        answered.set()
    for thread in threading.enumerate():
        if thread.name == "resolver":
            thread.join(5)


def test_a_download_that_was_discarded_when_complete_is_removed(fetcher: Fetcher, scratch: Path) -> None:
    with serving(HONEST) as web:
        fetcher.fetch(f"{web.url}/a", "key", ANNA)
    assert fetcher.list_downloads() == ["key"]
    for _ in range(2):
        fetcher.discard("key")
    assert fetcher.list_downloads() == left(scratch) == []


def test_a_download_of_another_process_is_removed(fetcher: Fetcher, scratch: Path) -> None:
    (scratch / "key").mkdir(parents=True)
    (scratch / "key" / "video.mp4").touch()
    assert fetcher.list_downloads() == ["key"]
    fetcher.discard("key")
    assert left(scratch) == []


@pytest.mark.parametrize("key", ["../kept", "/../kept", "a/../../kept"])
def test_nothing_beyond_the_scratch_folder_is_discarded(tmp_path: Path, fetcher: Fetcher, key: str) -> None:
    kept = tmp_path / "kept"
    (tmp_path / "scratch").mkdir()
    kept.mkdir()
    fetcher.discard(key)
    fetcher.discard(str(kept))
    assert kept.is_dir()


def test_downloads_beside_each_other_do_not_wait(fetcher: Fetcher) -> None:
    meeting = threading.Barrier(8)

    def together(connection: socket.socket, request: str) -> None:
        meeting.wait(10)
        HONEST(connection, request)

    with serving(together) as web:
        downloads = [fetching(fetcher, f"{web.url}/{n}", f"key-{n}", ANNA) for n in range(8)]
        assert {download.result(10).size_bytes for download in downloads} == {4}
