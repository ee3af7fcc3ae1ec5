"""Web servers on 127.0.0.3 that do what a test says, however wrong that is."""

import select
import socket
import socketserver
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from tests.chaos.watched_network import SERVER

Script = Callable[[socket.socket, str], None]


@dataclass
class Web:
    """A server that does what its script says; ``asked``: the requests so far."""

    port: int
    asked: list[str] = field(default_factory=list)

    @property
    def url(self) -> str:
        return f"http://{SERVER}:{self.port}"


@contextmanager
def serving(script: Script, tls: ssl.SSLContext | None = None) -> Iterator[Web]:
    """A server whose every connection ends when its script does, or when the client is gone."""

    class Connection(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            try:
                with tls.wrap_socket(self.request, server_side=True) if tls else self.request as connection:
                    request = b""
                    while not request.endswith(b"\r\n\r\n"):
                        request += connection.recv(1) or b"\r\n\r\n"
                    web.asked.append(request.decode())
                    script(connection, request.decode())
            except OSError:
                pass  # the client hung up, as it should

    with socketserver.ThreadingTCPServer((SERVER, 0), Connection) as server:
        web = Web(server.server_address[1])
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield web
        finally:
            server.shutdown()
            thread.join()


def answer(head: str, body: bytes = b"") -> Script:
    """The same answer to every client; ``head`` in lines."""
    return lambda connection, _: connection.sendall(head.replace("\n", "\r\n").encode() + b"\r\n\r\n" + body)


def drip(start: bytes, endless: bytes, pause_s: float = 0.02) -> Script:
    """``start``, and then ``endless`` again and again until the client is gone."""

    def script(connection: socket.socket, _: str) -> None:
        connection.sendall(start)
        while True:
            connection.sendall(endless)
            if select.select([connection], [], [], pause_s)[0] and not connection.recv(1):
                return

    return script


def redirecting(location: Callable[[int], str]) -> Script:
    """To ``/n``: a redirect to ``location(n)``; below ``/file``, the file."""

    def script(connection: socket.socket, request: str) -> None:
        path = request.split(" ")[1].removeprefix("/")
        if path == "file":
            answer("HTTP/1.1 200 OK\nContent-Length: 4", b"film")(connection, request)
        else:
            answer(f"HTTP/1.1 302 Found\nLocation: {location(int(path))}")(connection, request)

    return script


FILM = answer("HTTP/1.1 200 OK\nContent-Length: 4", b"film")
