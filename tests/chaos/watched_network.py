"""A network that is watched: made-up names, one server that may be reached, and a record of what should not have been.

Owns three witnesses. Listeners on 127.0.0.1 and ::1 that no fetch may reach; the sockets' own ``connect``, which also
sees what no listener could (169.254.169.254) and lets nothing leave this machine; and a web server on 127.0.0.3, the
one address that is allowed, whose redirects lead elsewhere. Leaves what is fetched to those who use it.
"""

import errno
import os
import socket
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from ipaddress import ip_address
from typing import Any
from unittest.mock import patch

SERVER = "127.0.0.3"
PUBLIC = "93.184.215.14"
"""A public address; nothing ever gets there."""

Answers = Sequence[str]
"""The addresses of a name."""


@dataclass
class Watch:
    """Addresses of the traps and what they saw; ``asked`` counts look-ups by name."""

    port: int = 0
    server_port: int = 0
    locations: dict[str, str] = field(default_factory=dict)
    asked: dict[str, int] = field(default_factory=dict)
    tried: list[str] = field(default_factory=list)
    listeners: list[socket.socket] = field(default_factory=list)

    def seen(self) -> list[str]:
        """Connections since the last call that should not have been: those that came, and those that were tried."""
        seen, self.tried = [f"tried to connect to {address}" for address in self.tried], []
        for listener in self.listeners:
            while True:
                try:
                    connection, _ = listener.accept()
                except BlockingIOError:
                    break
                connection.close()
                seen.append(f"connected to {listener.getsockname()[0]}")
        return seen

    def redirect(self, location: str) -> str:
        """The URL on the allowed server that leads to ``location``."""
        path = f"/{len(self.locations)}"
        self.locations[path] = location
        return f"http://{SERVER}:{self.server_port}{path}"


@contextmanager
def watched_network(names: Mapping[str, Sequence[Answers]]) -> Iterator[Watch]:
    """A watched network. ``names``: what each answers to the first look-up, the second, and so on; the last stays."""
    watch = Watch()
    with ExitStack() as stack:
        watch.listeners = _listeners(stack)
        watch.port = watch.listeners[0].getsockname()[1]
        watch.server_port = stack.enter_context(_server(watch))
        stack.enter_context(patch("socket.getaddrinfo", _resolver(names, watch)))
        stack.enter_context(patch.object(socket.socket, "connect", _connect(watch)))
        yield watch


def _listeners(stack: ExitStack) -> list[socket.socket]:
    """Listeners on one port of 127.0.0.1, 127.0.0.2 and, where there is IPv6, ::1; they take without answering."""
    first = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
    port = first.getsockname()[1]
    listeners = [first, stack.enter_context(socket.create_server(("127.0.0.2", port)))]
    try:
        listeners.append(stack.enter_context(socket.create_server(("::1", port), family=socket.AF_INET6)))
    except OSError as error:
        if error.errno not in {errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT}:
            raise
    for listener in listeners:
        listener.setblocking(False)
    return listeners


@contextmanager
def _server(watch: Watch) -> Iterator[int]:
    class Redirects(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            location = watch.locations.get(self.path)
            self.send_response(404 if location is None else 302)
            if location is not None:
                self.send_header("Location", location.encode().decode("iso-8859-1"))
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:
            pass

    with ThreadingHTTPServer((SERVER, 0), Redirects) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield server.server_port
        finally:
            server.shutdown()
            thread.join()


def _resolver(names: Mapping[str, Sequence[Answers]], watch: Watch) -> Callable[..., Any]:
    real = socket.getaddrinfo

    def getaddrinfo(host: Any, port: Any, *rest: Any, **options: Any) -> Any:
        name = host.decode() if isinstance(host, bytes) else str(host)
        turn = watch.asked[name] = watch.asked.get(name, 0) + 1
        if name in names:
            answers = names[name][min(turn, len(names[name])) - 1]
            return [_answer(address, int(port)) for address in answers]
        if name.lower().rstrip(".") == "localhost":
            return real(host, port, *rest, **options)
        options["flags"] = options.get("flags", 0) | socket.AI_NUMERICHOST  # numbers in every form, and no name
        return real(host, port, *rest, **options)

    return getaddrinfo


def _answer(address: str, port: int) -> tuple[Any, ...]:
    written, _, scope = address.partition("%")
    if ip_address(written).version == 4:
        return (socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", (written, port))
    return (socket.AF_INET6, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", (written, port, 0, int(scope or 0)))


def _connect(watch: Watch) -> Callable[[socket.socket, Any], None]:
    real = socket.socket.connect

    def connect(self: socket.socket, address: Any) -> None:
        host = str(address[0]) if isinstance(address, tuple) else str(address)
        if host not in {SERVER, PUBLIC}:
            watch.tried.append(host)
        if not host.startswith("127.") and host != "::1":
            raise ConnectionRefusedError(errno.ECONNREFUSED, os.strerror(errno.ECONNREFUSED))
        real(self, address)

    return connect
