"""A fetch ends within its time and bytes whatever a web server does, and says what was wrong."""

import socket
import threading
import time
from dataclasses import replace
from ipaddress import ip_network
from pathlib import Path

import pytest

from cluster.contracts.errors import InvalidVideo, TransientFailure
from cluster.files import web_transfer
from cluster.files.storage import FetchLimits, fetch
from tests.chaos.watched_network import SERVER
from tests.support.scripted_web import Script, answer, drip, redirecting, serving

LIMITS = FetchLimits(max_bytes=100_000, timeout_s=10.0, private_networks=(ip_network(f"{SERVER}/32"),))
BRIEF = replace(LIMITS, timeout_s=0.4)
OVERRUN = "fetching took longer than the limit of 0.4 s"
NOT_HTTP = "the answer is not HTTP, or its head is longer than 100 lines"
OK = b"HTTP/1.1 200 OK\r\n"


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(web_transfer, "PAUSES_S", (0.0, 0.0, 0.0))


def refusal(uri: str, directory: Path, limits: FetchLimits = LIMITS) -> str:
    with pytest.raises(InvalidVideo) as caught:
        fetch(uri, directory, limits)
    assert list(directory.iterdir()) == []
    return str(caught.value)


def hitch(uri: str, directory: Path, limits: FetchLimits = LIMITS) -> str:
    with pytest.raises(TransientFailure) as caught:
        fetch(uri, directory, limits)
    assert list(directory.iterdir()) == []
    return str(caught.value)


def content(uri: str, directory: Path, limits: FetchLimits = LIMITS) -> bytes:
    return fetch(uri, directory, limits).path.read_bytes()


# Time


@pytest.mark.parametrize(
    "script",
    {
        "no answer": drip(b"", b"", 0.1),
        "status line": drip(b"HTTP/1.1 200 ", b"O"),
        "headers": drip(OK, b"X: y\r\n"),
        "one header": drip(OK + b"X: ", b"y"),
        "continues": drip(b"", b"HTTP/1.1 100 Continue\r\n\r\n"),
        "body": drip(OK + b"Content-Length: 90000\r\n\r\n", b"x"),
        "unsized body": drip(OK + b"\r\n", b"x"),
        "chunk size": drip(OK + b"Transfer-Encoding: chunked\r\n\r\n", b"0"),
        "chunks": drip(OK + b"Transfer-Encoding: chunked\r\n\r\n", b"1\r\nx\r\n"),
        "trailers": drip(OK + b"Transfer-Encoding: chunked\r\n\r\n0\r\n", b"X: y\r\n"),
        "silence in a body": drip(OK + b"Content-Length: 90000\r\n\r\nx", b"", 0.1),
    }.items(),
    ids=lambda item: item[0].replace(" ", "-"),
)
def test_a_trickle_of_anything_meets_the_time_limit(tmp_path: Path, script: tuple[str, Script]) -> None:
    begun = time.monotonic()
    with serving(script[1]) as web:
        assert hitch(f"{web.url}/a", tmp_path, BRIEF) == OVERRUN
        assert 0.4 <= time.monotonic() - begun < 1.5


def test_redirects_and_what_comes_before_them_count_too(tmp_path: Path) -> None:
    def slow(connection: socket.socket, request: str) -> None:
        time.sleep(0.15)
        redirecting(lambda number: f"/{number + 1}")(connection, request)

    with serving(slow) as web:
        assert hitch(f"{web.url}/1", tmp_path, BRIEF) == OVERRUN
        assert len(web.asked) <= 4


def test_a_handshake_that_is_not_answered_meets_the_time_limit(tmp_path: Path) -> None:
    begun = time.monotonic()
    with socket.create_server((SERVER, 0)) as silent:
        uri = f"https://{SERVER}:{silent.getsockname()[1]}/a"
        assert hitch(uri, tmp_path, BRIEF) == OVERRUN
    assert time.monotonic() - begun < 1.5


def test_a_resolver_that_does_not_answer_meets_the_time_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    answered = threading.Event()
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: [answered.wait(30)])
    begun = time.monotonic()
    try:
        assert hitch("http://slow.test/a", tmp_path, BRIEF) == OVERRUN
        assert time.monotonic() - begun < 1.5
    finally:
        answered.set()
    for thread in threading.enumerate():
        if thread.name == "resolver":
            thread.join(5)
            assert not thread.is_alive()


# Bytes


def test_a_body_without_end_meets_the_byte_limit(tmp_path: Path) -> None:
    too_large = "the file is larger than the limit of 100,000 bytes"
    block = b"x" * 4096
    with serving(drip(OK + b"\r\n", block, 0)) as web:
        assert refusal(f"{web.url}/a", tmp_path) == too_large
    with serving(drip(OK + b"Transfer-Encoding: chunked\r\n\r\n", b"1000\r\n" + block + b"\r\n", 0)) as web:
        assert refusal(f"{web.url}/a", tmp_path) == too_large
    with serving(drip(OK + b"Transfer-Encoding: chunked\r\n\r\nffffffffffff\r\n", block, 0)) as web:
        assert refusal(f"{web.url}/a", tmp_path) == too_large


def test_the_body_of_a_redirect_is_not_read(tmp_path: Path) -> None:
    def endless(connection: socket.socket, request: str) -> None:
        if request.startswith("GET /1 "):
            drip(b"HTTP/1.1 302 Found\r\nLocation: /file\r\n\r\n", b"x" * 4096, 0)(connection, request)
        redirecting(lambda _: "")(connection, request)

    with serving(endless) as web:
        assert content(f"{web.url}/1", tmp_path) == b"film"


@pytest.mark.parametrize("stated", ["", "²", "-4", "x", "4, 4", "0x4", "9" * 5000])
def test_a_length_that_is_no_number_is_none(tmp_path: Path, stated: str) -> None:
    def script(connection: socket.socket, _: str) -> None:
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: " + stated.encode("iso-8859-1") + b"\r\n\r\nfilm")

    with serving(script) as web:
        assert content(f"{web.url}/a", tmp_path) == b"film"


def test_a_length_that_lies_is_found_out(tmp_path: Path) -> None:
    with serving(answer("HTTP/1.1 200 OK\nContent-Length: 9", b"film")) as web:
        assert hitch(f"{web.url}/a", tmp_path) == f"the connection ended after 4 of 9 bytes: {web.url}/a"
    with serving(answer("HTTP/1.1 200 OK\nContent-Length: 2", b"film")) as web:
        assert content(f"{web.url}/a", tmp_path) == b"fi"
    with serving(answer("HTTP/1.1 200 OK\nContent-Length: 100001", b"film")) as web:
        assert refusal(f"{web.url}/b", tmp_path / "b").startswith("the file has 100,001 bytes")
    head = "HTTP/1.1 200 OK\nContent-Length: 999999\nTransfer-Encoding: chunked"
    with serving(answer(head, b"4\r\nfilm\r\n0\r\n\r\n")) as web:
        assert content(f"{web.url}/a", tmp_path) == b"film"


@pytest.mark.parametrize(
    ("body", "sentence"),
    [
        (b"9\r\nfilm", "the connection ended early"),
        (b"x\r\nfilm", "the connection ended early"),
        (b"", "the connection ended early"),
        (b"f" * 70_000, NOT_HTTP),
    ],
)
def test_chunks_that_are_none_are_worth_another_try(tmp_path: Path, body: bytes, sentence: str) -> None:
    with serving(answer("HTTP/1.1 200 OK\nTransfer-Encoding: chunked", body)) as web:
        assert hitch(f"{web.url}/a", tmp_path) == f"cannot fetch {web.url}/a: {sentence}"


# Answers


@pytest.mark.parametrize(
    "reply",
    [
        b"SSH-2.0-server\r\n",
        b"\x1b[2Jsecret\r\n",
        b"HTTP/1.1 abc\r\n\r\n",
        b"HTTP/3 200 OK\r\n\r\n",
        b"HTTP/1.1 200 " + b"O" * 10**6,
        OK + b"X: " + b"y" * 10**6,
        OK + b"X: y\r\n" * 10**5,
    ],
    ids=["ssh", "terminal", "no-number", "http3", "long-status", "long-header", "many-headers"],
)
def test_what_is_no_answer_is_said_and_not_repeated(tmp_path: Path, reply: bytes) -> None:
    with serving(lambda connection, _: connection.sendall(reply)) as web:
        assert hitch(f"{web.url}/a", tmp_path) == f"cannot fetch {web.url}/a: {NOT_HTTP}"


def test_a_server_that_hangs_up_is_worth_another_try(tmp_path: Path) -> None:
    with serving(lambda *_: None) as web:
        assert hitch(f"{web.url}/a", tmp_path) == (
            f"cannot fetch {web.url}/a: Remote end closed connection without response"
        )


def test_a_server_without_tls_is_worth_another_try(tmp_path: Path) -> None:
    def speak_plainly() -> None:
        connection, _ = server.accept()
        with connection:
            connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")

    with socket.create_server((SERVER, 0)) as server:
        thread = threading.Thread(target=speak_plainly)
        thread.start()
        uri = f"https://{SERVER}:{server.getsockname()[1]}/a"
        assert hitch(uri, tmp_path).startswith(f"cannot fetch {uri}: [SSL")
        thread.join()


def test_ten_redirects_are_followed_and_no_more(tmp_path: Path) -> None:
    with serving(redirecting(lambda number: f"/{number - 1}" if number > 1 else "/file")) as web:
        assert content(f"{web.url}/10", tmp_path) == b"film"
        assert refusal(f"{web.url}/11", tmp_path / "b") == f"more than 10 redirects: {web.url}/11"
    with serving(redirecting(lambda number: f"/{number}")) as web:
        assert refusal(f"{web.url}/1", tmp_path / "b") == f"more than 10 redirects: {web.url}/1"
        assert len(web.asked) == 11


def test_a_redirect_to_nowhere_is_refused(tmp_path: Path) -> None:
    for head in ("HTTP/1.1 302 Found", "HTTP/1.1 302 Found\nLocation: ", "HTTP/1.1 300 Choices\nLocation: /a"):
        with serving(answer(head)) as web:
            assert refusal(f"{web.url}/a", tmp_path).startswith(f"the server refused {web.url}/a (HTTP 30")
