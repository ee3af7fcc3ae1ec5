"""The answers of a web server about a file are understood: when to come back, how it is encoded, that it is a page."""

import gzip
import http.client
import socket
import time
import zlib
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from ipaddress import ip_network
from pathlib import Path

import pytest

from cluster.contracts.errors import HeimdexError, InvalidVideo, SourceBusy, TransientFailure
from cluster.files import web_source, web_transfer
from cluster.files.storage import FetchLimits, fetch
from cluster.files.web_answer import TOO_MANY_REQUESTS_S, retry_after_s
from cluster.files.web_body import CHUNK_BYTES, decoded
from tests.chaos.watched_network import SERVER
from tests.support.scripted_web import Script, answer, serving

LIMITS = FetchLimits(max_bytes=100_000, timeout_s=10.0, private_networks=(ip_network(f"{SERVER}/32"),))
FILM = bytes(range(256)) * 100
NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(web_transfer, "PAUSES_S", (0.0, 0.0, 0.0))


def failure(kind: type[HeimdexError], script: Script, directory: Path) -> str:
    """The sentence, without the place."""
    with serving(script) as web:
        with pytest.raises(kind) as caught:
            fetch(f"{web.url}/a?signature=secret", directory, LIMITS)
        assert type(caught.value) is kind
        assert list(directory.iterdir()) == []
        return str(caught.value).replace(f"{web.url}/a", "URL")


def content(script: Script, directory: Path) -> bytes:
    with serving(script) as web:
        return fetch(f"{web.url}/a", directory, LIMITS).path.read_bytes()


def headers(**values: str) -> http.client.HTTPMessage:
    message = http.client.HTTPMessage()
    for name, value in values.items():
        message[name.replace("_", "-")] = value
    return message


@pytest.mark.parametrize("before", ["HTTP/1.1 103 Early Hints\nLink: </a.css>\n\n", "HTTP/1.1 102 Processing\n\n" * 3])
def test_answers_that_only_inform_are_passed_over(tmp_path: Path, before: str) -> None:
    assert content(answer(f"{before}HTTP/1.1 200 OK\nContent-Length: {len(FILM)}", FILM), tmp_path) == FILM


def test_answers_that_only_inform_come_to_an_end(tmp_path: Path) -> None:
    failure(TransientFailure, answer("HTTP/1.1 103 Early Hints\n\n" * 1000), tmp_path)


IRREGULAR = {
    "blank before the colon": "200 OK\nContent-Length : {size}",
    "blank in a name": "200 OK\nCache Control: no\nContent-Length: {size}",
    "letter that is not ASCII in a name": "200 OK\nX-\xe4: no\nContent-Length: {size}",
    "line without a colon": "200 OK\nContent-Length: {size}\nServer",
    "NUL in a value": "200 OK\nContent-Disposition: a\x00b\nContent-Length: {size}",
    "two lengths": "200 OK\nContent-Length: {size}\nContent-Length: 9",
    "no reason": "200\nContent-Length: {size}",
    "transfer encoding that is none": "200 OK\nTransfer-Encoding: identity\nContent-Length: {size}",
}
"""Heads that players and browsers read and that a strict parser of HTTP refuses."""


@pytest.mark.parametrize("head", IRREGULAR.values(), ids=IRREGULAR)
def test_irregular_head_is_read_as_players_read_it(tmp_path: Path, head: str) -> None:
    assert content(answer(f"HTTP/1.1 {head.format(size=len(FILM))}", FILM), tmp_path) == FILM


@pytest.mark.parametrize("coding", ["gzip, chunked", "gzip", "identity, chunked", "x"])
def test_unread_transfer_encoding_is_refused(tmp_path: Path, coding: str) -> None:
    body = b"4\r\nfilm\r\n0\r\n\r\n"
    sentence = f"the server sends the file in the transfer encoding '{coding}', which it was not asked for: URL"
    assert failure(InvalidVideo, answer(f"HTTP/1.1 200 OK\nTransfer-Encoding: {coding}", body), tmp_path) == sentence


# When to come back


@pytest.mark.parametrize(
    ("written", "wait_s"),
    [("20", 20.0), (" 0 ", 0.0), ("1.5", 1.5), ("999999999", 999999999.0), ("-5", None), ("²", None), ("", None),
     ("soon", None), ("1e9", None), ("9" * 5000, None), ("Wed, 99 Mar 2026 12:00:00 GMT", None)],
)  # fmt: skip
def test_retry_after_in_seconds_is_read(written: str, wait_s: float | None) -> None:
    assert retry_after_s(headers(Retry_After=written)) == wait_s


@pytest.mark.parametrize("ahead", [timedelta(0), timedelta(days=400)])
def test_retry_after_as_a_date_is_read_by_the_servers_clock(ahead: timedelta) -> None:
    then = format_datetime(NOON + ahead + timedelta(minutes=5), usegmt=True)
    assert retry_after_s(headers(Retry_After=then, Date=format_datetime(NOON + ahead, usegmt=True))) == 300.0
    soon = format_datetime(datetime.now(UTC) + timedelta(minutes=5), usegmt=True)
    assert retry_after_s(headers(Retry_After=soon)) == pytest.approx(300, abs=5)
    assert retry_after_s(headers(Retry_After="Sun Mar  1 12:05:00 2026", Date="Sunday, 01-Mar-26 12:00:00 GMT")) == 300
    assert retry_after_s(headers(Retry_After=format_datetime(NOON - ahead), Date=format_datetime(NOON))) == 0.0


def test_too_many_requests_are_waited_for_even_without_a_time(tmp_path: Path) -> None:
    with serving(answer("HTTP/1.1 429 Too Many")) as web, pytest.raises(SourceBusy) as caught:
        fetch(f"{web.url}/a", tmp_path, LIMITS)
    assert caught.value.retry_after_s == TOO_MANY_REQUESTS_S
    assert failure(TransientFailure, answer("HTTP/1.1 503 Busy"), tmp_path) == "cannot fetch URL: HTTP 503"


@pytest.mark.parametrize(
    ("head", "wait_s"),
    [
        ("202 Later\nContent-Type: application/json\nRetry-After: 5\nContent-Length: 2\n\n{}", 5.0),
        ("202 Later", TOO_MANY_REQUESTS_S),
        ("301 Later\nRetry-After: 5", 5.0),
        ("409 Later\nRetry-After: 5", 5.0),
        ("413 Later\nRetry-After: 5", 5.0),
        ("302 Found\nLocation: a?signature=secret\nRetry-After: 5", 5.0),
    ],
)
def test_any_answer_that_asks_to_come_back_is_waited_for(tmp_path: Path, head: str, wait_s: float) -> None:
    with serving(answer(f"HTTP/1.1 {head}")) as web, pytest.raises(SourceBusy) as caught:
        fetch(f"{web.url}/a?signature=secret", tmp_path, LIMITS)
    assert caught.value.retry_after_s == wait_s
    assert "secret" not in str(caught.value)
    assert len(web.asked) == 1
    assert list(tmp_path.iterdir()) == []


def test_a_redirect_is_followed_when_it_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(web_source, "LONGEST_PAUSE_S", 0.5)

    def script(connection: socket.socket, request: str) -> None:
        if "/made" in request:
            answer(f"HTTP/1.1 200 OK\nContent-Length: {len(FILM)}", FILM)(connection, request)
        else:
            answer("HTTP/1.1 302 Found\nLocation: /made\nRetry-After: 3600")(connection, request)

    begun_s = time.monotonic()
    assert content(script, tmp_path) == FILM
    assert 0.5 <= time.monotonic() - begun_s < 5


@pytest.mark.parametrize(
    ("head", "sentence"),
    [
        ("401 No", "access denied: URL (HTTP 401): the server wants a login"),
        ("403 No\nRetry-After: 5", "access denied: URL (HTTP 403)"),
        ("404 No", "no such file: URL (HTTP 404)"),
        ("410 No", "no such file: URL (HTTP 410): it was removed for good"),
        ("451 No", "access denied: URL (HTTP 451): the server withholds it for legal reasons"),
        ("304 No", "the server refused URL (HTTP 304): it leads elsewhere and does not say where"),
        ("302 No", "the server refused URL (HTTP 302): it leads elsewhere and does not say where"),
        ("400 No", "the server refused URL (HTTP 400)"),
        ("204 None", "the file is empty"),
        ("200 OK\nContent-Length: 0", "the file is empty"),
        ("200 OK\nTransfer-Encoding: chunked\n\n0\n", "the file is empty"),
        ("200 OK\nContent-Encoding: gzip\nContent-Length: 0", "the file is empty"),
    ],
)
def test_an_answer_that_stays_the_same_says_what_happened(tmp_path: Path, head: str, sentence: str) -> None:
    assert failure(InvalidVideo, answer(f"HTTP/1.1 {head}"), tmp_path) == sentence


# Pages

PAGE = b"<!DOCTYPE html><html><body>Please log in</body></html>"
HTML = "the server answered with an HTML page and not with a video (a login, consent or error page?): URL"


@pytest.mark.parametrize(
    "called", ["text/html", "video/mp4", "application/octet-stream", ""], ids=["page", "film", "bytes", "nothing"]
)
@pytest.mark.parametrize(
    "body",
    [PAGE, b"\n  <html lang=de>", b"\xef\xbb\xbf<HTML>", b"<!-- hi --><p>", b"<script>x",
     b'<?xml version="1.0"?>\n<html>', PAGE.decode().encode("utf-16"), PAGE + bytes(5000), b"<head>", b"<H1>No</H1>"],
    ids=range(10),
)  # fmt: skip
def test_a_page_is_refused_whatever_it_is_called(tmp_path: Path, called: str, body: bytes) -> None:
    named = f"HTTP/1.1 200 OK\nContent-Type: {called}"
    assert failure(InvalidVideo, answer(f"{named}\nContent-Length: {len(body)}", body), tmp_path) == HTML
    zipped = gzip.compress(body)
    head = f"{named}\nContent-Encoding: gzip\nContent-Length: {len(zipped)}"
    assert failure(InvalidVideo, answer(head, zipped), tmp_path) == HTML


@pytest.mark.parametrize(
    ("called", "body", "what"),
    [
        ("text/html; charset=utf-8", b"Bitte anmelden \xfc", "an HTML page"),
        ("application/json", b'{"error": "expired"}', "a text (application/json)"),
        ("application/problem+json", b'{"title": "expired"}', "a text (application/problem+json)"),
        ("application/xml", b"<Error><Code>AccessDenied</Code></Error>", "a text (application/xml)"),
        ("text/plain", b"Too many downloads today", "a text (text/plain)"),
    ],
)
def test_a_text_is_refused_by_its_type(tmp_path: Path, called: str, body: bytes, what: str) -> None:
    head = f"HTTP/1.1 200 OK\nContent-Type: {called}\nContent-Length: {len(body)}"
    assert failure(InvalidVideo, answer(head, body), tmp_path) == HTML.replace("an HTML page", what)


@pytest.mark.parametrize("called", ["text/html", "text/plain", "application/json"])
def test_a_film_is_taken_whatever_it_is_called(tmp_path: Path, called: str) -> None:
    head = f"HTTP/1.1 200 OK\nContent-Type: {called}\nContent-Length: {len(FILM)}"
    assert content(answer(head, FILM), tmp_path) == FILM


def test_a_page_without_end_is_refused_by_its_beginning(tmp_path: Path) -> None:
    head = "HTTP/1.1 200 OK\nContent-Length: 90000"
    with serving(answer(head, PAGE + bytes(2000))) as web:
        with pytest.raises(InvalidVideo, match="an HTML page"):
            fetch(f"{web.url}/a", tmp_path, LIMITS)
        assert len(web.asked) == 1


# Encodings


def bare(data: bytes) -> bytes:
    squeezer = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    return squeezer.compress(data) + squeezer.flush()


ENCODED = {
    "gzip": gzip.compress(FILM),
    "x-gzip": gzip.compress(FILM),
    "GZIP, identity": gzip.compress(FILM),
    "deflate": zlib.compress(FILM),
    "Deflate": bare(FILM),
    "gzip ": gzip.compress(FILM[:500]) + gzip.compress(FILM[500:]) + bytes(99),
    "identity": FILM,
    "": FILM,
}


@pytest.mark.parametrize("encoding", ENCODED)
@pytest.mark.parametrize("step", [1, 7, 10**6])
def test_an_encoding_that_was_not_asked_for_is_undone(tmp_path: Path, encoding: str, step: int) -> None:
    body = ENCODED[encoding]
    pieces = [body[first : first + step] for first in range(0, len(body), step)]
    chunked = b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces) + b"0\r\n\r\n"
    head = f"HTTP/1.1 200 OK\nContent-Encoding: {encoding}\nTransfer-Encoding: chunked"
    with serving(answer(head, chunked)) as web:
        assert fetch(f"{web.url}/a", tmp_path, LIMITS).path.read_bytes() == FILM
        assert "\r\nAccept-Encoding: identity\r\n" in web.asked[0]
    if step > 7:
        sized = f"HTTP/1.1 200 OK\nContent-Encoding: {encoding}\nContent-Length: {len(body)}"
        assert content(answer(sized, body), tmp_path) == FILM


@pytest.mark.parametrize("encoding", ["gzip", "deflate"])
def test_a_bomb_meets_the_byte_limit(tmp_path: Path, encoding: str) -> None:
    bomb = gzip.compress(bytes(10**8), 1) if encoding == "gzip" else zlib.compress(bytes(10**8), 1)
    head = f"HTTP/1.1 200 OK\nContent-Encoding: {encoding}\nContent-Length: {len(bomb)}"
    assert failure(InvalidVideo, answer(head, bomb), tmp_path) == "the file is larger than the limit of 100,000 bytes"


def test_a_bomb_is_undone_in_steps() -> None:
    bomb = gzip.compress(bytes(10**8), 1)
    steps = [len(made) for made in decoded("http://host/a", iter([bomb]), "gzip")]
    assert sum(steps) == 10**8
    assert max(steps) <= CHUNK_BYTES


@pytest.mark.parametrize(
    "encoding", ["br", "zstd", "gzip, gzip", "compress", "x" * 900], ids=["br", "zstd", "twice", "compress", "long"]
)
def test_an_encoding_that_is_not_read_is_named(tmp_path: Path, encoding: str) -> None:
    head = f"HTTP/1.1 200 OK\nContent-Encoding: {encoding}\nContent-Length: 4"
    sentence = failure(InvalidVideo, answer(head, b"film"), tmp_path)
    wanted = f"the server sends the file in the encoding {encoding[:40]!r} although it was asked for it as it is: URL"
    assert sentence == wanted


@pytest.mark.parametrize("encoding", ["gzip", "deflate"])
def test_an_encoding_that_is_none_is_said(tmp_path: Path, encoding: str) -> None:
    head = f"HTTP/1.1 200 OK\nContent-Encoding: {encoding}\nContent-Length: {len(FILM)}"
    sentence = failure(InvalidVideo, answer(head, b"\xff\xff" + FILM[2:]), tmp_path)
    assert sentence == f"the server says that the file is encoded as {encoding}, and it is not: URL"


@pytest.mark.parametrize("body", [ENCODED["gzip"][:200], ENCODED["gzip"][:-1], ENCODED["gzip"][:1]], ids=[200, -1, 1])
@pytest.mark.parametrize("sized", [True, False])
def test_an_encoded_file_that_breaks_off_begins_again(tmp_path: Path, body: bytes, sized: bool) -> None:
    stated = len(ENCODED["gzip"]) if sized else len(body)
    head = f'HTTP/1.1 200 OK\nETag: "1"\nContent-Encoding: gzip\nContent-Length: {stated}'
    with serving(answer(head, body)) as web:
        with pytest.raises(TransientFailure, match="the connection ended early"):
            fetch(f"{web.url}/a", tmp_path, LIMITS)
        assert not any("Range" in request for request in web.asked)
    turns = iter([body, ENCODED["gzip"]])
    recovering = f"{head[: head.rindex(':')]}: {{}}"

    def script(*of: object) -> None:
        turn = next(turns)
        answer(recovering.format(len(ENCODED["gzip"])), turn)(*of)  # type: ignore[arg-type]

    if len(body) > 20:
        assert content(script, tmp_path) == FILM
