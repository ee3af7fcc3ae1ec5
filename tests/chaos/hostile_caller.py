"""An owner who wants the others to stop: sixteen searches at once of a thousand letters, half-open connections.

``python -m tests.chaos.hostile_caller URL TOKEN searches|connections`` goes on until it is ended.
"""

import itertools
import resource
import socket
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from string import ascii_lowercase
from urllib.parse import urlsplit

import httpx

AT_ONCE = 16
LETTERS = 1000
CONNECTIONS = 2000
HALF = b"GET /v1/videos HTTP/1.1\r\nHost: here\r\nX-Half: "


def queries() -> Iterator[str]:
    """Of two letters, of three, and as many as are allowed."""
    pairs = ["".join(pair) for pair in itertools.product(ascii_lowercase, repeat=2)]
    triples = [f"{first}{pair}" for first in "tmslw" for pair in pairs]
    return itertools.cycle(
        [
            " or ".join(f"{pair}*" for pair in pairs)[:LETTERS],
            ("aa* " + " ".join(f"-{pair}*" for pair in pairs))[:LETTERS],
            " or ".join(f"{triple}*" for triple in triples)[:LETTERS],
            *(" or ".join(f"{triple}*" for triple in triples[start : start + 32]) for start in range(0, 640, 32)),
            *(
                "the " + " ".join(f"-{triple}*" for triple in triples[start : start + 31])
                for start in range(0, 620, 31)
            ),
        ]
    )


def search(url: str, token: str) -> None:
    """Send searches, one after the other on each of so many connections."""
    asked = queries()

    def ask(_: int) -> None:
        with httpx.Client(base_url=url, headers={"Authorization": f"Bearer {token}"}, timeout=60.0) as client:
            while True:
                with suppress(httpx.HTTPError):
                    client.get("/v1/search", params={"q": next(asked)})

    with ThreadPoolExecutor(AT_ONCE) as threads:
        list(threads.map(ask, range(AT_ONCE)))


def connect(url: str, _token: str) -> None:
    """Keep so many connections open with half a request each; what is closed is opened again."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, max(soft, CONNECTIONS + 500)), hard))
    place = urlsplit(url)
    opened: list[socket.socket] = []
    while True:
        with suppress(OSError):
            connection = socket.create_connection((place.hostname, place.port), timeout=5)
            opened.append(connection)
            connection.sendall(HALF)
        if len(opened) >= CONNECTIONS:
            time.sleep(10.0)  # as long as the server waits for the rest
            for connection in opened:
                connection.close()
            opened.clear()


if __name__ == "__main__":
    {"searches": search, "connections": connect}[sys.argv[3]](*sys.argv[1:3])
