"""A transfer that breaks off goes on where it was, in one version of the file, or begins again; nothing is glued."""

import random
import re
import socket
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from email.utils import formatdate
from ipaddress import ip_network
from pathlib import Path

import pytest

from cluster.contracts.errors import HeimdexError, InvalidVideo, SourceBusy, TransientFailure
from cluster.files import web_transfer
from cluster.files.storage import FetchLimits, fetch
from tests.chaos.watched_network import SERVER, watched_network
from tests.support.scripted_web import Web, answer, serving

LIMITS = FetchLimits(max_bytes=2_000_000, timeout_s=10.0, private_networks=(ip_network(f"{SERVER}/32"),))
FILM = random.Random(1).randbytes(300_000)
OTHER = random.Random(2).randbytes(300_000)
NOW = formatdate(usegmt=True)
OLD = formatdate(time.time() - 3600, usegmt=True)


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(web_transfer, "PAUSES_S", (0.0, 0.0, 0.0))


@dataclass
class Files:
    """A server that breaks off after ``most`` bytes; ``versions``: what it has for the first request, the second..."""

    versions: list[bytes] = field(default_factory=lambda: [FILM])
    most: int = 100_000
    ranges: bool = True
    tag: Callable[[bytes], str | None] = lambda _: None
    modified: Callable[[bytes], str | None] = lambda _: None
    if_range: bool = True
    content_range: Callable[[int, int], str | None] = lambda first, total: f"bytes {first}-{total - 1}/{total}"
    sized: bool = True
    part_status: str = "206 Partial"
    requests: int = 0

    def __call__(self, connection: socket.socket, request: str) -> None:
        content = self.versions[min(self.requests, len(self.versions) - 1)]
        self.requests += 1
        asked = re.search(r"\r\nRange: bytes=(\d+)-", request)
        condition = re.search(r"\r\nIf-Range: (.*?)\r\n", request)
        known = condition is None or not self.if_range or condition[1] in (self.tag(content), self.modified(content))
        first = int(asked[1]) if asked and self.ranges and known else 0
        partial = asked is not None and self.ranges and known
        if partial and first >= len(content):
            answer(f"HTTP/1.1 416 No\nContent-Range: bytes */{len(content)}")(connection, request)
            return
        head = [f"HTTP/1.1 {self.part_status if partial else '200 OK'}", f"Date: {formatdate(usegmt=True)}"]
        named = {"ETag": self.tag(content), "Last-Modified": self.modified(content)}
        named["Content-Range"] = self.content_range(first, len(content)) if partial else None
        named["Content-Length"] = str(len(content) - first) if self.sized else None
        head += [f"{name}: {value}" for name, value in named.items() if value is not None]
        body = content[first : first + self.most]
        if not self.sized:
            head.append("Transfer-Encoding: chunked")
            whole = first + self.most >= len(content)
            chunk = b"%x\r\n%b\r\n" % (len(body), body) if body else b""
            body = chunk + (b"0\r\n\r\n" if whole else b"")
        answer("\n".join(head), body)(connection, request)


def by_content(content: bytes) -> str:
    return f'"{hash(content)}"'


def weak(content: bytes) -> str:
    return f'W/"{hash(content)}"'


def long_ago(content: bytes) -> str:
    return OLD


def just_now(content: bytes) -> str:
    return NOW


def none(content: bytes) -> None:
    return None


def ranges(web: Web) -> list[str | None]:
    found = [re.search(r"\r\nRange: (.*?)\r\n", request) for request in web.asked]
    return [match[1] if match else None for match in found]


def content(uri: str, directory: Path, limits: FetchLimits = LIMITS) -> bytes:
    video = fetch(uri, directory, limits)
    assert video.path.stat().st_size == video.size_bytes
    return video.path.read_bytes()


def failure(kind: type[HeimdexError], uri: str, directory: Path, limits: FetchLimits = LIMITS) -> HeimdexError:
    with pytest.raises(kind) as caught:
        fetch(uri, directory, limits)
    assert type(caught.value) is kind
    assert list(directory.iterdir()) == []
    assert "secret" not in str(caught.value)
    return caught.value


# Going on


def test_a_transfer_goes_on_where_it_broke_off(tmp_path: Path) -> None:
    with serving(Files(tag=by_content)) as web:
        assert content(f"{web.url}/a?signature=secret", tmp_path) == FILM
        assert ranges(web) == [None, "bytes=100000-", "bytes=200000-"]
        assert all(f"If-Range: {by_content(FILM)}\r\n" in request for request in web.asked[1:])


@pytest.mark.parametrize("modified", [long_ago, just_now, none])
@pytest.mark.parametrize("tag", [weak, none])
def test_a_transfer_without_strong_tag_repeats_some_bytes(
    tmp_path: Path,
    tag: Callable[[bytes], str | None],
    modified: Callable[[bytes], str | None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(web_transfer, "FRESH_S", -1.0)
    with serving(Files(tag=tag, modified=modified)) as web:
        assert content(f"{web.url}/a", tmp_path) == FILM
        assert ranges(web)[:2] == [None, f"bytes={100_000 - web_transfer.OVERLAP_BYTES}-"]


@pytest.mark.parametrize("sized", [True, False])
def test_a_transfer_of_many_pieces_goes_on_while_it_progresses(tmp_path: Path, sized: bool) -> None:
    with serving(Files(tag=by_content, most=9_000, sized=sized)) as web:
        assert content(f"{web.url}/a", tmp_path) == FILM
        assert len(web.asked) == 34


@pytest.mark.parametrize("tag", [none, weak, by_content])
@pytest.mark.parametrize("status", ["206 Partial", "200 OK"])
def test_a_part_that_does_not_say_which_is_proven_by_its_bytes(
    tmp_path: Path, tag: Callable[[bytes], str | None], status: str
) -> None:
    with serving(Files(content_range=lambda *_: None, tag=tag, part_status=status, most=200_000)) as web:
        assert content(f"{web.url}/a", tmp_path) == FILM
    with serving(Files([FILM, OTHER], content_range=lambda *_: None, part_status=status, most=200_000)) as web:
        assert content(f"{web.url}/b", tmp_path) == OTHER


@pytest.mark.parametrize(
    "said", ["bytes {}-{}/{}", "bytes {}-{}/*", "Bytes {}-{}/{}", "bytes={}-{}/{}"], ids=["", "open", "Bytes", "="]
)
@pytest.mark.parametrize("status", ["206 Partial", "200 OK"])
def test_a_part_is_known_by_its_range_whatever_its_status(tmp_path: Path, said: str, status: str) -> None:
    def content_range(first: int, total: int) -> str:
        return said.format(first, total - 1, total)

    with serving(Files(content_range=content_range, tag=by_content, part_status=status)) as web:
        assert content(f"{web.url}/a", tmp_path) == FILM
        assert len(web.asked) == 3


def test_a_server_may_give_smaller_parts_than_asked_for(tmp_path: Path) -> None:
    def parts(connection: socket.socket, request: str) -> None:
        first = int((re.search(r"bytes=(\d+)-", request) or [0, 0])[1])
        part = FILM[first : first + 70_000]
        head = f'HTTP/1.1 206 Partial\nETag: "1"\nContent-Range: bytes {first}-{first + len(part) - 1}/{len(FILM)}'
        answer(f"{head}\nContent-Length: {len(part)}", part)(connection, request)

    with serving(parts) as web:
        assert content(f"{web.url}/a", tmp_path) == FILM
        assert len(web.asked) == 5


def test_a_stalled_transfer_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cluster.files.deadline.Deadline.wait_for.__defaults__", (0.2,))
    stalled = threading.Event()

    def stalls(connection: socket.socket, request: str) -> None:
        files(connection, request)
        if not stalled.is_set():
            stalled.set()
            connection.recv(1)  # until the client hangs up

    files = Files(tag=by_content)
    with serving(stalls) as web:
        assert content(f"{web.url}/a", tmp_path) == FILM


# Beginning again


@pytest.mark.parametrize("tag", [by_content, weak, none])
@pytest.mark.parametrize("if_range", [True, False])
@pytest.mark.parametrize(
    "other",
    [OTHER, OTHER[:200_000], OTHER + OTHER[:9], FILM[:150_000] + OTHER[:150_000], FILM + OTHER],
    ids=["another", "shorter", "longer", "of-one-beginning", "grown"],
)
def test_bytes_of_two_versions_are_never_put_together(
    tmp_path: Path, tag: Callable[[bytes], str | None], if_range: bool, other: bytes
) -> None:
    files = Files([FILM, other, other], tag=tag, if_range=if_range, most=100_000)
    with serving(files) as web:
        assert content(f"{web.url}/a", tmp_path) == other


def test_a_version_of_equal_length_and_date_is_another_one(tmp_path: Path) -> None:
    with serving(Files([FILM, OTHER, OTHER], modified=long_ago)) as web:
        assert content(f"{web.url}/a", tmp_path) == OTHER


def test_a_server_without_ranges_begins_again(tmp_path: Path) -> None:
    class Recovering(Files):
        def __call__(self, connection: socket.socket, request: str) -> None:
            super().__call__(connection, request)
            self.most += 100_000

    with serving(Recovering(ranges=False, tag=by_content)) as web:
        assert content(f"{web.url}/a", tmp_path) == FILM
        assert len(web.asked) == 3


@pytest.mark.parametrize(
    "said", ["bytes 5-299999/300000", "bytes 100000-299999/300001", "bytes 100000-99/300000", "bytes x", "items 1-2/3"]
)
def test_a_part_that_was_not_asked_for_is_not_used(tmp_path: Path, said: str) -> None:
    with serving(Files([FILM], tag=by_content, content_range=lambda *_: said)) as web:
        sentence = str(failure(TransientFailure, f"{web.url}/a?signature=secret", tmp_path))
        assert sentence.endswith(f"or its server gives no parts of it: {web.url}/a") or "connection ended" in sentence


def test_a_part_of_another_place_is_not_used(tmp_path: Path) -> None:
    def shifted(connection: socket.socket, request: str) -> None:
        if "Range" in request:
            head = 'HTTP/1.1 206 Partial\nETag: "1"\nContent-Range: bytes 99995-299994/300000'
            answer(f"{head}\nContent-Length: 200000", FILM[99_995:299_995])(connection, request)
        else:
            answer('HTTP/1.1 200 OK\nETag: "1"\nContent-Length: 300000', FILM[:100_000])(connection, request)

    with serving(shifted) as web:
        failure(TransientFailure, f"{web.url}/a", tmp_path)


def test_a_part_in_answer_to_the_first_request_is_no_file(tmp_path: Path) -> None:
    head = "HTTP/1.1 206 Partial\nContent-Range: bytes 4-7/8\nContent-Length: 4"
    with serving(answer(head, b"film")) as web:
        sentence = str(failure(TransientFailure, f"{web.url}/a", tmp_path))
        assert sentence == f"the server answered with another part of the file: {web.url}/a"


def test_a_file_that_keeps_changing_is_given_up(tmp_path: Path) -> None:
    class Progressing(Files):
        def __call__(self, connection: socket.socket, request: str) -> None:
            self.most = 20_000 * (self.requests + 1)
            super().__call__(connection, request)

    versions = [random.Random(n).randbytes(300_000) for n in range(20)]
    with serving(Progressing(versions, tag=by_content)) as web:
        sentence = str(failure(TransientFailure, f"{web.url}/a?signature=secret", tmp_path))
        assert sentence.startswith("the file was another one each of 5 times that it was gone on with")
        assert len(web.asked) == web_transfer.MAX_RESTARTS + 2


# Giving up


def test_a_transfer_without_progress_is_given_up(tmp_path: Path) -> None:
    class Stuck(Files):
        def __call__(self, connection: socket.socket, request: str) -> None:
            self.most = 100_000 if not self.requests else 0
            super().__call__(connection, request)

    with serving(Stuck(tag=by_content)) as web:
        sentence = str(failure(TransientFailure, f"{web.url}/a?signature=secret", tmp_path))
        assert sentence == f"the connection ended after 100,000 of 300,000 bytes: {web.url}/a"
        assert len(web.asked) == 2 + len(web_transfer.PAUSES_S)


def test_the_byte_limit_holds_over_all_parts(tmp_path: Path) -> None:
    limits = FetchLimits(250_000, 10.0, private_networks=LIMITS.private_networks)
    with serving(Files(tag=by_content, sized=False)) as web:
        sentence = str(failure(InvalidVideo, f"{web.url}/a", tmp_path, limits))
        assert sentence in {
            "the file is larger than the limit of 250,000 bytes",
            "the file has 300,000 bytes, the limit is 250,000 bytes",
        }


def test_the_time_limit_holds_over_all_parts(tmp_path: Path) -> None:
    def slow(connection: socket.socket, request: str) -> None:
        time.sleep(0.1)
        files(connection, request)

    files = Files(tag=by_content, most=1_000)
    limits = FetchLimits(10**6, 0.5, private_networks=LIMITS.private_networks)
    begun = time.monotonic()
    with serving(slow) as web:
        sentence = str(failure(TransientFailure, f"{web.url}/a", tmp_path, limits))
    assert sentence == "fetching took longer than the limit of 0.5 s"
    assert time.monotonic() - begun < 5.0


def test_addresses_are_checked_again_when_a_transfer_goes_on(tmp_path: Path) -> None:
    names = {"rebound.test": [[SERVER], ["127.0.0.1"]]}
    with serving(Files(tag=by_content)) as web, watched_network(names) as watch:
        sentence = str(failure(InvalidVideo, f"http://rebound.test:{web.port}/a", tmp_path))
        assert "leads to an address that is not public" in sentence
        assert (watch.asked, watch.seen()) == ({"rebound.test": 2}, [])


def test_redirects_are_followed_again_when_a_transfer_goes_on(tmp_path: Path) -> None:
    with serving(Files(tag=by_content)) as here, serving(Files(tag=by_content)) as there:
        turn = iter([here.url, there.url, here.url])
        with serving(lambda *of: answer(f"HTTP/1.1 302 Found\nLocation: {next(turn)}/a")(*of)) as web:
            assert content(f"{web.url}/a", tmp_path) == FILM
        assert (ranges(here), ranges(there)) == ([None, "bytes=200000-"], ["bytes=100000-"])


# Busy servers


@pytest.mark.parametrize("status", [429, 503, 502])
def test_a_busy_server_says_when_to_come_back(tmp_path: Path, status: int) -> None:
    with serving(answer(f"HTTP/1.1 {status} Busy\nRetry-After: 1200")) as web:
        busy = failure(SourceBusy, f"{web.url}/a?signature=secret", tmp_path)
    assert isinstance(busy, SourceBusy)
    assert busy.retry_after_s == 1200
    sentence = f"HTTP {status}, the server asks to come back in 1,200 s"
    assert str(busy) == f"cannot fetch {web.url}/a: {sentence}"


def test_a_busy_server_is_waited_for_in_the_middle_of_a_file(tmp_path: Path) -> None:
    class Busy(Files):
        def __call__(self, connection: socket.socket, request: str) -> None:
            if self.requests == 1:
                self.requests += 1
                answer("HTTP/1.1 503 Busy\nRetry-After: 0")(connection, request)
            else:
                super().__call__(connection, request)

    with serving(Busy(tag=by_content)) as web:
        assert content(f"{web.url}/a", tmp_path) == FILM


# By chance


@pytest.mark.parametrize("seed", range(20))
def test_a_transfer_by_chance_is_one_version_or_none(tmp_path: Path, seed: int) -> None:
    rng = random.Random(seed)
    base = rng.randbytes(60_000)
    versions = [base] + [
        rng.choice([base, rng.randbytes(60_000), base[:30_000] + rng.randbytes(30_000), base + b"x", base[:50_000]])
        for _ in range(rng.randrange(6))
    ]

    class Chance(Files):
        def __call__(self, connection: socket.socket, request: str) -> None:
            self.most = rng.choice([0, 1, 999, 20_000, 45_000, 10**6])
            self.ranges, self.sized = rng.random() < 0.8, rng.random() < 0.8
            if rng.random() < 0.1:
                self.requests += 1
                return
            super().__call__(connection, request)

    tag = rng.choice([by_content, weak, none])
    served = Chance(
        versions,
        tag=tag,
        modified=rng.choice([long_ago, none]) if tag is not none else none,
        if_range=rng.random() < 0.7,
    )
    if rng.random() < 0.5:
        served.content_range = lambda *_: None
    with serving(served) as web:
        try:
            assert content(f"{web.url}/a", tmp_path) in versions
        except TransientFailure:
            assert list(tmp_path.iterdir()) == []
