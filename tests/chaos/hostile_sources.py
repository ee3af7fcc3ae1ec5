"""Servers of an owner who wants the others to stop: bodies that drip, that never end, that are announced too large.

They are on 127.0.0.3, and send no more than a line to the internet would carry.
"""

import select
import socket
import time
from dataclasses import dataclass
from pathlib import Path

from tests.support.scripted_web import Script, answer, drip

OK = b"HTTP/1.1 200 OK\r\n"
ANNOUNCED_BYTES = 100 * 10**9
BLOCK = b"x" * 65_536
BYTES_PER_S = 8 * 2**20


@dataclass(frozen=True)
class Attack:
    """``count`` URLs whose server does what ``script`` says."""

    name: str
    count: int
    script: Script


def _flood(connection: socket.socket, _: str) -> None:
    connection.sendall(OK + b"\r\n")
    while True:
        connection.sendall(BLOCK)
        time.sleep(len(BLOCK) / BYTES_PER_S)
        if select.select([connection], [], [], 0)[0] and not connection.recv(1):
            return


ATTACKS = [
    Attack("a byte every 25 s", 8, drip(OK + b"Content-Length: 1000000\r\n\r\n", b"x", 25.0)),
    Attack("bodies without end", 4, _flood),
    Attack("announced sizes", 3, drip(OK + b"Content-Length: %d\r\n\r\n" % ANNOUNCED_BYTES, b"", 1.0)),
]


def honest(path: Path) -> Script:
    """The file, to every client."""
    content = path.read_bytes()
    return answer(f"HTTP/1.1 200 OK\nContent-Length: {len(content)}", content)
