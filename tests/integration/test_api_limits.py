"""The limits of one request, on a real server and a real database; and that every error has the same shape."""

import asyncio
import io
import json
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import timedelta
from typing import Any
from uuid import UUID

import httpx
import psutil
import pytest
from PIL import Image
from starlette.types import Message

from cluster.decoders.pictures import MAX_PIXELS, MEMORY_BYTES
from cluster.search import query_picture
from cluster.search.query_picture import read_picture
from cluster.settings import Settings
from cluster.store.postgres.connections import Pool, connect
from serve_app.limits import DEFAULT_LIMITS, MAX_ADDRESS_BYTES, MAX_HEADER_BYTES, ApiLimits
from serve_app.pools import open_api_pool
from tests.support.api_client import ALICE, BOB, ApiMaker, headers, make_picture
from tests.support.decoder_copies import resident_bytes
from tests.support.served_api import serving

KIB = 1024
SMALL = ApiLimits(max_body_bytes=64 * KIB, request_timeout_s=30.0, submissions_per_minute=5)
HURRIED = ApiLimits(max_body_bytes=64 * KIB, request_timeout_s=0.5, submissions_per_minute=5)
JSON = {"Content-Type": "application/json", **headers(ALICE, timedelta(days=1))}  # made long before the tests run
ONE = {"uri": "https://example.org/a.mp4"}
HEAD = "\r\n".join(["POST /v1/videos HTTP/1.1", "Host: here", *(f"{name}: {value}" for name, value in JSON.items())])


def body_of(size: int) -> bytes:
    """A submission of exactly so many bytes."""
    return json.dumps(ONE).encode().ljust(size)


def refused(answer: Any, status: int, *words: str) -> None:
    """The answer is this error, in the one shape, and says so many words."""
    assert (answer.status_code, list(answer.json())) == (status, ["detail"]), answer.text
    assert all(word in answer.json()["detail"] for word in words), answer.text


def answer_to(connection: socket.socket) -> tuple[int, dict[str, Any]]:
    """Status and JSON of what the server answers on a raw connection."""
    received = b""
    while b"}" not in received.partition(b"\r\n\r\n")[2]:
        part = connection.recv(64 * KIB)
        assert part, received
        received += part
    head, _, body = received.partition(b"\r\n\r\n")
    return int(head.split()[1]), json.loads(body)


def hung_up(connection: socket.socket) -> bool:
    """Whether the server closes the connection at once; it keeps others for five seconds."""
    connection.settimeout(3)
    with suppress(ConnectionError):
        return connection.recv(KIB) == b""
    return True


def test_the_defaults_are_those_of_the_settings() -> None:
    settings = Settings.model_fields
    assert vars(DEFAULT_LIMITS) == {name: settings[name].default for name in vars(DEFAULT_LIMITS)}


def test_a_body_may_be_as_large_as_the_limit_and_no_larger(make_api: ApiMaker) -> None:
    api = make_api(limits=SMALL)
    assert api.post("/v1/videos", content=body_of(64 * KIB), headers=JSON).status_code == 202
    refused(api.post("/v1/videos", content=body_of(64 * KIB + 1), headers=JSON), 413, "65536 bytes")
    refused(api.request("GET", "/healthz", content=bytes(64 * KIB + 1)), 413, "65536 bytes")


def test_a_body_without_length_is_counted_while_it_comes(make_api: ApiMaker) -> None:
    with serving(make_api(limits=SMALL)) as place, socket.create_connection(place) as connection:
        connection.settimeout(20)
        connection.sendall(f"{HEAD}\r\nTransfer-Encoding: chunked\r\n\r\n".encode())
        for _ in range(64 + 1):
            connection.sendall(b"400\r\n" + b" " * KIB + b"\r\n")
        assert answer_to(connection) == (413, {"detail": "The body is larger than 65536 bytes."})
        assert hung_up(connection)


@pytest.mark.parametrize("length", [b"10", b"-1", b"1e9", b"", None])
def test_a_length_that_lies_does_not_help(make_api: ApiMaker, length: bytes | None) -> None:
    api, sent = make_api(limits=SMALL), []
    parts = iter([bytes(40 * KIB), bytes(40 * KIB), bytes(40 * KIB)])
    given: list[Message] = []

    async def receive() -> Message:
        given.append({"type": "http.request", "body": next(parts), "more_body": True})
        return given[-1]

    async def send(message: Message) -> None:
        sent.append(message)

    scope = {
        "type": "http",
        "method": "POST",
        "path": "/v1/videos",
        "query_string": b"",
        "headers": [
            *((name.lower().encode(), value.encode()) for name, value in JSON.items()),
            *([(b"content-length", length)] if length is not None else []),
        ],
    }

    async def ask() -> None:
        await api.app(scope, receive, send)

    asyncio.run(ask())
    assert (sent[0]["status"], len(given)) == (413, 2)


def test_a_body_that_comes_too_slowly_is_given_up(make_api: ApiMaker) -> None:
    with serving(make_api(limits=HURRIED)) as place, socket.create_connection(place) as connection:
        connection.settimeout(20)
        connection.sendall(f'{HEAD}\r\nContent-Length: 100\r\n\r\n{{"uri": '.encode())
        status, answer = answer_to(connection)
        assert (status, list(answer)) == (504, ["detail"])
        assert "longer than 0.5 s" in answer["detail"]
        assert hung_up(connection)


def test_request_waiting_for_the_database_is_answered_in_time(make_api: ApiMaker, database_url: str) -> None:
    """Although its thread cannot be stopped: here its statement may run for a minute."""
    api = make_api(limits=HURRIED)
    with connect(database_url) as other:
        other.execute("LOCK TABLE videos")
        began = time.monotonic()
        refused(api.get("/v1/videos", headers=JSON), 504, "longer than 0.5 s")
        assert time.monotonic() - began < 10
        assert api.get("/healthz").status_code == 200
    assert api.get("/v1/videos", headers=JSON).status_code == 200


def test_a_statement_runs_no_longer_than_a_request_may_take(make_api: ApiMaker, database_url: str) -> None:
    with open_api_pool(database_url, HURRIED.request_timeout_s) as pool, connect(database_url) as other:
        api = make_api(limits=HURRIED, pool=pool)
        other.execute("LOCK TABLE videos")
        refused(api.get("/v1/videos", headers=JSON), 504)
        end = time.monotonic() + 20
        waiting = "SELECT 1 FROM pg_stat_activity WHERE application_name = 'heimdex-api' AND wait_event_type = 'Lock'"
        with connect(database_url, autocommit=True) as watcher:
            while watcher.execute(waiting).fetchone() is not None:
                assert time.monotonic() < end
                time.sleep(0.05)
        other.rollback()
        while (status := api.get("/v1/videos", headers=JSON).status_code) != 200:
            assert status in {503, 504}  # half a second may be too short for a busy machine
            assert time.monotonic() < end


def test_an_owner_submits_no_more_than_so_many_within_a_minute(make_api: ApiMaker, pool: Pool) -> None:
    first, second = make_api(limits=SMALL), make_api(limits=SMALL)
    assert first.post("/v1/videos", json=[ONE] * 3, headers=JSON).status_code == 202
    for replica in (first, second):
        answer = replica.post("/v1/videos", json=[ONE] * 3, headers=JSON)
        refused(answer, 429, "5 videos", "within a minute")
        assert answer.headers["retry-after"] == "60"
    assert second.post("/v1/videos", json=[ONE] * 2, headers=JSON).status_code == 202
    assert first.post("/v1/videos", json=ONE, headers=JSON).status_code == 429
    assert first.post("/v1/videos", json=ONE, headers=headers(BOB)).status_code == 202
    refused(first.post("/v1/videos", json=[ONE] * 6, headers=headers(BOB)), 400, "6 videos at once", "(5)")
    with pool.connection() as connection:
        connection.execute("UPDATE owner_requests SET requested_at = requested_at - interval '60 s'")
    assert first.post("/v1/videos", json=[ONE] * 5, headers=JSON).status_code == 202


def test_no_more_gets_in_by_submitting_at_once(make_api: ApiMaker, pool: Pool) -> None:
    replicas = [make_api(limits=SMALL), make_api(limits=SMALL)]

    def send(number: int) -> int:
        return replicas[number % 2].post("/v1/videos", json=[ONE] * 2, headers=JSON).status_code

    with ThreadPoolExecutor(8) as threads:
        assert sorted(threads.map(send, range(16))) == [202] * 2 + [429] * 14
    with pool.connection() as connection:
        assert connection.execute("SELECT count(*) AS n FROM videos").fetchone() == {"n": 4}


def test_a_submission_that_is_repeated_is_not_counted_again(make_api: ApiMaker) -> None:
    api = make_api(limits=SMALL)
    named = {**JSON, "Idempotency-Key": "batch 7"}
    ids = [api.post("/v1/videos", json=[ONE] * 5, headers=named).json()["ids"] for _ in range(3)]
    assert ids[0] == ids[1] == ids[2]
    assert api.post("/v1/videos", json=ONE, headers=JSON).status_code == 429


def test_addresses_and_headers_have_an_end(make_api: ApiMaker) -> None:
    api = make_api()
    longest = "%F0%9F%8E%AC" * 1000
    assert api.get(f"/v1/search?q={longest}", headers=JSON).status_code == 200
    refused(api.get(f"/v1/search?q={'a' * MAX_ADDRESS_BYTES}", headers=JSON), 414, str(MAX_ADDRESS_BYTES))
    refused(api.get("/healthz", headers={"X-Long": "a" * MAX_HEADER_BYTES}), 431, str(MAX_HEADER_BYTES))
    assert api.get("/healthz", headers={"X-Long": "a" * (MAX_HEADER_BYTES // 2)}).status_code == 200


WRONG: list[tuple[str, str, bytes, str, int, str]] = [
    ("GET", "/v1/nothing", b"", "", 404, "nothing at this address"),
    ("GET", "/v1/videos/", b"", "", 404, "nothing at this address"),
    ("DELETE", "/v1/videos", b"", "", 405, "method"),
    ("PUT", "/healthz", b"", "", 405, "method"),
    ("BREW", "/v1/search", b"", "", 405, "method"),
    ("POST", "/v1/videos", b"{", "application/json", 400, "The body is not JSON: Expecting property name"),
    ("POST", "/v1/videos", b'{"uri": "\xff"}', "application/json", 400, "not JSON in UTF-8"),
    ("POST", "/v1/videos", b"[" * 60_000, "application/json", 400, "nested too deeply"),
    ("POST", "/v1/videos", b'{"a":' * 9_000 + b"1" + b"}" * 9_000, "application/json", 400, "nested too deeply"),
    ("POST", "/v1/videos", b"[" * 900 + b"]" * 900, "application/json", 400, "0: Input should be"),
    ("POST", "/v1/videos", b"9" * 60_000, "application/json", 400, "not JSON in UTF-8, or"),
    ("POST", "/v1/videos", b"NaN", "application/json", 400, "valid dictionary"),
    ("POST", "/v1/videos", b'{"uri": "https://a.org/a", "priority": NaN}', "application/json", 400, "priority:"),
    ("POST", "/v1/videos", b'{"uri": "https://a.org/a", "priority": 1e999}', "application/json", 400, "priority:"),
    ("POST", "/v1/videos", b'{"uri": "https://a.org/a", "priority": 11}', "application/json", 400, "priority:"),
    ("POST", "/v1/videos", b'{"uri": "https://a.org/a", "priority": false}', "application/json", 400, "priority:"),
    ("POST", "/v1/videos", b'{"uri": "https://a.org/a", "priority": true}', "application/json", 400, "priority:"),
    ("POST", "/v1/videos", b'{"uri": "https://a.org/a", "priority": "1"}', "application/json", 400, "priority:"),
    ("POST", "/v1/videos", b'{"uri": "https://a.org/a", "priority": null}', "application/json", 400, "priority:"),
    ("POST", "/v1/videos", b'[{"uri": "https://a.org/a", "priority": false}]', "application/json", 400, "0.priority:"),
    ("POST", "/v1/videos", b'{"uri": 7}', "application/json", 400, "uri:"),
    ("POST", "/v1/videos", b'{"uri": true}', "application/json", 400, "uri:"),
    ("POST", "/v1/videos", b'{"uri": "https://a.org/a", "language": false}', "application/json", 400, "language:"),
    ("POST", "/v1/videos", b'{"uri": "https://a.org/\\ud800"}', "application/json", 400, "uri:"),
    ("POST", "/v1/videos", b"uri=a", "application/x-www-form-urlencoded", 415, "application/json"),
    ("POST", "/v1/videos", b"--x", "multipart/form-data; boundary=x", 415, "application/json"),
    ("POST", "/v1/videos", b'{"uri": "https://a.org/a"}', "text/plain", 415, "application/json"),
    ("POST", "/v1/videos", b'{"uri": "https://a.org/a"}', "", 415, "application/json"),
    ("POST", "/v1/videos", b"", "application/json", 400, "Field required"),
    ("GET", "/v1/videos?page=1000001", b"", "", 400, "page:"),
    ("GET", "/v1/videos?page=1_0", b"", "", 400, "page:"),
    ("GET", "/v1/videos?page=1.0", b"", "", 400, "page:"),
    ("GET", "/v1/videos?page_size=%2B5", b"", "", 400, "page_size:"),
    ("GET", "/v1/search?q=a&limit=5.0", b"", "", 400, "limit:"),
    ("GET", "/v1/search?q=a&since=1700000000", b"", "", 400, "since:"),
    ("GET", "/v1/search?q=a&since=2026-01-31%0A", b"", "", 400, "since:"),
    ("GET", "/v1/search?q=a&by=words%0A", b"", "", 400, "by:"),
    ("GET", f"/v1/search?q=a&cursor={'A' * 24}%0A", b"", "", 400, "cursor:"),
    ("GET", "/v1/videos/5f0c7a526f4e4a3a9d0e0f4f6f1f8c11", b"", "", 400, "video_id:"),
    ("GET", f"/v1/videos?page={'9' * 5000}", b"", "", 400, "page:"),
    ("GET", "/v1/videos?page_size=101", b"", "", 400, "page_size:"),
    ("GET", "/v1/videos?status=%00", b"", "", 400, "status:"),
    ("GET", "/v1/search?q=%FF%00", b"", "", 400, "q:"),
    ("GET", "/v1/videos/%00", b"", "", 400, "video_id:"),
    ("POST", "/v1/videos/%F0%9F%8E%AC/cancel", b"", "", 400, "video_id:"),
]


@pytest.mark.parametrize(("method", "path", "content", "content_type", "status", "words"), WRONG)
def test_every_error_has_the_same_shape(
    make_api: ApiMaker, method: str, path: str, content: bytes, content_type: str, status: int, words: str
) -> None:
    sent = {**headers(ALICE), **({"Content-Type": content_type} if content_type else {})}
    refused(make_api(limits=SMALL).request(method, path, content=content, headers=sent), status, words)


def test_wrong_parameter_is_named_before_the_body(make_api: ApiMaker) -> None:
    """A picture is no JSON, and neither is text: what is wrong beside them comes first."""
    api = make_api(limits=SMALL)
    for content_type in ("image/png", "application/json", "text/plain", "application/x-www-form-urlencoded"):
        for asked, name in (("limit=0", "limit"), ("since=x", "since"), ("cursor=x", "cursor"), ("tag=%00", "tag")):
            sent = {**JSON, "Content-Type": content_type}
            refused(api.post(f"/v1/search/image?{asked}", content=make_picture(), headers=sent), 400, f"{name}: ")
    text = {**JSON, "Content-Type": "text/plain"}
    long = {**text, "Idempotency-Key": "k" * 256}
    refused(api.post("/v1/videos", content=b"{}", headers=long), 400, "Idempotency-Key: ")
    refused(api.post("/v1/videos/x/reprocess", content=b"{}", headers=text), 400, "video_id: ")
    refused(api.post("/v1/videos", content=b"{}", headers=text), 415, "application/json")


def test_picture_is_read_whatever_its_type_is_called(make_api: ApiMaker) -> None:
    api = make_api(limits=SMALL)
    for content_type in ("image/png", "image/jpeg", "application/octet-stream", "application/json", "text/plain"):
        sent = {**JSON, "Content-Type": content_type}
        assert api.post("/v1/search/image", content=make_picture(), headers=sent).status_code == 200
    refused(api.post("/v1/search/image", content=b"", headers=JSON), 400, "no picture")
    refused(api.post("/v1/search/image", content=b'{"a": 1}', headers=JSON), 400, "no picture")


def test_six_large_pictures_at_once_are_decoded_two_at_a_time(make_api: ApiMaker) -> None:
    file = io.BytesIO()
    Image.new("RGB", (4096, 2048), (250, 10, 10)).save(file, "WEBP", lossless=True)
    assert MAX_PIXELS == 4096 * 2048
    api = make_api()
    read_picture(make_picture())  # the decoder process is there
    pid = query_picture._decoder.pid
    assert pid is not None
    decoding: list[int] = []
    largest_bytes: list[int] = []
    ended = threading.Event()

    def look() -> None:
        while not ended.wait(0.002):
            found = resident_bytes(psutil.Process(pid).children())
            decoding.append(len(found))
            largest_bytes.append(sum(found))

    def search(number: int, address: str) -> int:
        user = UUID(int=number)  # as six owners: each is limited separately
        return httpx.post(
            f"http://{address}/v1/search/image", content=file.getvalue(), headers=headers(user)
        ).status_code

    with serving(api) as (host, port), ThreadPoolExecutor(7) as threads:
        looking = threads.submit(look)
        statuses = list(threads.map(search, range(1, 7), [f"{host}:{port}"] * 6))
        ended.set()
        looking.result()
    assert statuses == [200] * 6
    assert max(decoding) == query_picture.AT_ONCE
    assert max(largest_bytes) < query_picture.AT_ONCE * MEMORY_BYTES


def test_a_page_elsewhere_may_read_what_was_refused(make_api: ApiMaker) -> None:
    api = make_api(limits=SMALL, cors_origins=("https://admin.example.org",))
    sent = {**JSON, "Origin": "https://admin.example.org"}
    for answer in (
        api.post("/v1/videos", content=body_of(64 * KIB + 1), headers=sent),
        api.get("/v1/nothing", headers=sent),
        api.get("/healthz", headers={**sent, "X-Long": "a" * MAX_HEADER_BYTES}),
    ):
        assert answer.headers["access-control-allow-origin"] == "https://admin.example.org"
    preflight = {"Origin": sent["Origin"], "Access-Control-Request-Method": "POST"}
    asked = api.options("/v1/videos", headers={**preflight, "Access-Control-Request-Headers": "idempotency-key"})
    assert asked.status_code == 200
