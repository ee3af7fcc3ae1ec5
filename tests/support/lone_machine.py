"""A machine that has public addresses: a network namespace with a web server on each of them, for a process of its own.

``python -m tests.support.lone_machine REQUEST`` fetches as for a submission by HTTP and prints an ``Outcome`` as JSON.
"""

import ctypes
import fcntl
import json
import os
import socket
import struct
import sys
import tempfile
import threading
import time
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from ipaddress import IPv6Address, ip_address, ip_network
from pathlib import Path
from typing import Any
from unittest.mock import patch
from uuid import UUID

from cluster.contracts.errors import HeimdexError
from cluster.contracts.videos import Origin
from cluster.files.origins import limits_for
from cluster.files.own_addresses import is_own
from cluster.files.storage import FetchLimits, fetch

OWN_V4, OWN_V6 = "8.8.4.4", "2a00:1450:4001::5"
OPENED = "127.0.0.3"
PORT = 8000
NAMES = {"own.test": OWN_V4, "own6.test": OWN_V6}
OWNER = UUID(int=1)
NO_NAMESPACE = 77
"""The exit status where this account may make none."""
_NEW_USER, _NEW_NETWORK = 0x10000000, 0x40000000
_SET_FLAGS, _SET_ADDRESS, _UP = 0x8914, 0x8916, 1


@dataclass(frozen=True)
class Request:
    """A fetch. ``is_checked``: by the check before a connection. ``opened``: networks besides ``OPENED``."""

    uris: list[str] = field(default_factory=list)
    opened: list[str] = field(default_factory=list)
    is_checked: bool = True
    any_can_be_bound: bool = False
    addresses: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Outcome:
    """``fetched``: what was read or the error by URI; ``reached``: connections and requests that servers of own
    addresses saw; ``own``: which of the addresses are this machine's."""

    fetched: dict[str, str]
    reached: list[str]
    own: dict[str, bool]


def _isolate() -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(_NEW_NETWORK) and libc.unshare(_NEW_USER | _NEW_NETWORK):
        sys.exit(NO_NAMESPACE)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        fcntl.ioctl(sock, _SET_FLAGS, struct.pack("16sh14x", b"lo", _UP))
        address = struct.pack("HH4s8x", socket.AF_INET, 0, ip_address(OWN_V4).packed)
        fcntl.ioctl(sock, _SET_ADDRESS, struct.pack("16s16s", b"lo:1", address))
    with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as sock:
        index = socket.if_nametoindex("lo")
        fcntl.ioctl(sock, _SET_ADDRESS, struct.pack("16sIi", IPv6Address(OWN_V6).packed, 128, index))
    until_s = time.monotonic() + 10
    while not is_own(ip_address(OWN_V6)) and time.monotonic() < until_s:  # it is tentative at first
        time.sleep(0.01)


def _serve(host: str, family: socket.AddressFamily, reached: list[str]) -> None:
    class Films(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if host != OPENED:
                reached.append(f"request {self.path}")
            elsewhere = {"/4": f"http://{OWN_V4}:{PORT}/film", "/6": f"http://[{OWN_V6}]:{PORT}/film"}.get(self.path)
            self.send_response(302 if elsewhere else 200)
            self.send_header("Location" if elsewhere else "Content-Length", elsewhere or "4")
            self.end_headers()
            self.wfile.write(b"" if elsewhere else b"film")

        def log_message(self, format: str, *arguments: Any) -> None: ...

    class Server(ThreadingHTTPServer):
        address_family = family

        def process_request(self, request: Any, client_address: Any) -> None:
            if host != OPENED:
                reached.append("connection")
            super().process_request(request, client_address)

    server = Server((host, PORT), Films)
    threading.Thread(target=server.serve_forever, daemon=True).start()


def _resolve(host: Any, port: Any, **_options: Any) -> list[Any]:
    return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (NAMES[str(host)], port))]


def _fetched(uri: str, folder: Path, limits: FetchLimits) -> str:
    try:
        return fetch(uri, folder, limits_for(uri, Origin.HTTP, OWNER, limits)).path.read_text()
    except HeimdexError as error:
        return f"{type(error).__name__}: {error}"


def main(request: Request) -> Outcome:
    """Fetch what is asked for."""
    reached: list[str] = []
    _isolate()
    if request.any_can_be_bound:
        for version in ("ipv4", "ipv6"):
            Path(f"/proc/sys/net/{version}/ip_nonlocal_bind").write_text("1")
    for host, family in ((OPENED, socket.AF_INET), (OWN_V4, socket.AF_INET), (OWN_V6, socket.AF_INET6)):
        _serve(host, family, reached)
    networks = tuple(ip_network(network) for network in (f"{OPENED}/32", *request.opened))
    limits = FetchLimits(max_bytes=1000, timeout_s=10.0, private_networks=networks)
    with ExitStack() as stack:
        stack.enter_context(patch("socket.getaddrinfo", _resolve))
        if not request.is_checked:
            stack.enter_context(patch("cluster.files.web_source.is_own", lambda _: False))
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        fetched = {uri: _fetched(uri, folder, limits) for uri in request.uris}
    return Outcome(fetched, reached, {address: is_own(ip_address(address)) for address in request.addresses})


if __name__ == "__main__":
    sys.stdout.write(json.dumps(asdict(main(Request(**json.loads(sys.argv[1]))))))
    sys.stdout.flush()
    os._exit(0)
