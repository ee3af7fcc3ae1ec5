"""Attacks that do not stop others: half-open connections by the thousand, against the proxy of a real Ray Serve."""

import resource
import select
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest

SOCKETS = 2000
HALF = b"GET /healthz HTTP/1.1\r\nHost: here\r\nX-Half: "
CLOSED_AFTER_S = 10.0 + 8.0
"""The time for the headers of a request, and what a busy machine may take to notice."""


@pytest.fixture
def half_open(cluster_state: dict[str, Any]) -> Iterator[list[socket.socket]]:
    """So many connections of which each has sent half a request."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, max(soft, SOCKETS + 2000)), hard))
    place = urlsplit(cluster_state["http_url"])
    with ExitStack() as opened:
        connections = []
        for _ in range(SOCKETS):
            connection = opened.enter_context(socket.create_connection((place.hostname, place.port), timeout=10))
            with suppress(ConnectionError):  # the first of them have to give way to the last
                connection.sendall(HALF)
            connections.append(connection)
        yield connections
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_half_open_connections_stop_nobody_and_are_closed(http: httpx.Client, half_open: list[socket.socket]) -> None:
    began_s = time.monotonic()
    with httpx.Client(base_url=http.base_url, headers=http.headers, timeout=10) as newcomer:
        for path in ("/healthz", "/readyz", "/v1/videos"):
            asked_s = time.monotonic()
            assert newcomer.get(path).status_code == 200
            assert time.monotonic() - asked_s < 5
    open_still = set(half_open)
    while open_still:
        assert time.monotonic() - began_s < CLOSED_AFTER_S, f"{len(open_still)} connections are open"
        poll = select.poll()
        for connection in open_still:
            poll.register(connection, select.POLLIN)
        ready = {number for number, _ in poll.poll(500)}
        open_still = {one for one in open_still if one.fileno() not in ready or not is_closed(one)}


def is_closed(connection: socket.socket) -> bool:
    """Whether the server is done with the connection, perhaps after having said why."""
    with suppress(ConnectionError):
        while received := connection.recv(4096):
            assert received.startswith(b"HTTP/1.1 408 Request Timeout\r\n")
    return True


def test_body_of_a_stranger_that_does_not_come_is_not_waited_for(cluster_state: dict[str, Any]) -> None:
    place = urlsplit(cluster_state["http_url"])
    with socket.create_connection((place.hostname, place.port), timeout=20) as connection:
        connection.sendall(b"POST /v1/videos HTTP/1.1\r\nHost: here\r\nContent-Length: 100\r\n\r\n{")
        received = b""
        while part := connection.recv(4096):
            received += part
    assert received.startswith(b"HTTP/1.1 401 ")


def test_caller_cannot_switch_off_the_limit_of_the_proxy(http: httpx.Client) -> None:
    hurried = http.get("/v1/videos", headers={"X-Request-Timeout-Seconds": "0.0001"})
    assert hurried.status_code == 200
