"""A storage service on 127.0.0.3 that asks for its key and has the troubles of real ones: busy, cut off, compressed."""

import gzip
import re
import socket
import urllib.parse
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from tests.support.scripted_web import answer, serving

KEY = "a-service-key"
BUCKET = "/storage/v1/object/videos/"
OK = "HTTP/1.1 200 OK"
LOGIN_PAGE = b"<!DOCTYPE html><html><body>Please log in</body></html>"
_RANGE = re.compile(r"^range: *bytes=(\d+)-", re.IGNORECASE | re.MULTILINE)


@dataclass
class StorageService:
    """``troubles``: by path, the fault of each request for it in turn; after that, and between (""), it is served.

    Troubles: "busy" (503, come back in a second), "cut" (ends after half of what is left), "gzip", "chunked", "page".
    """

    folder: Path
    troubles: Mapping[str, list[str]]
    root: str = ""
    """The URL of its bucket, once it serves."""
    asked: Counter[str] = field(default_factory=Counter)
    resumed: set[str] = field(default_factory=set)
    """Paths of which a part was asked for."""

    def __call__(self, connection: socket.socket, request: str) -> None:
        """One request to its end."""
        head, body = self._answer(request)
        answer(head, body)(connection, request)

    def _answer(self, request: str) -> tuple[str, bytes]:
        place = urllib.parse.unquote(request.split(" ")[1])
        path = place.removeprefix(BUCKET)
        if f"authorization: bearer {KEY}" not in request.lower() or not place.startswith(BUCKET):
            return "HTTP/1.1 403 Forbidden\nContent-Length: 0", b""
        if not (self.folder / path).is_file():
            return "HTTP/1.1 404 Not Found\nContent-Length: 0", b""
        befalls = self.troubles.get(path, [])[self.asked[path] :]
        self.asked[path] += 1
        content = (self.folder / path).read_bytes()
        match befalls[0] if befalls else "":
            case "busy":
                return "HTTP/1.1 503 Busy\nRetry-After: 1\nContent-Length: 0", b""
            case "page":
                return f"{OK}\nContent-Type: text/html\nContent-Length: {len(LOGIN_PAGE)}", LOGIN_PAGE
            case "gzip":
                packed = gzip.compress(content)
                return f"{OK}\nContent-Encoding: gzip\nContent-Length: {len(packed)}", packed
            case "chunked":
                chunks = [content[first : first + 7_000] for first in range(0, len(content), 7_000)]
                body = b"".join(b"%x\r\n%b\r\n" % (len(chunk), chunk) for chunk in [*chunks, b""])
                return f"{OK}\nTransfer-Encoding: chunked", body
            case "cut":
                head, rest = self._part(request, path, content)
                return head, rest[: len(rest) // 2]
        return self._part(request, path, content)

    def _part(self, request: str, path: str, content: bytes) -> tuple[str, bytes]:
        """The requested part: all of it, or from some byte on."""
        head, first = OK, 0
        if wanted := _RANGE.search(request):
            self.resumed.add(path)
            first = int(wanted[1])
            head = f"HTTP/1.1 206 Partial Content\nContent-Range: bytes {first}-{len(content) - 1}/{len(content)}"
        rest = content[first:]
        return f'{head}\nETag: "1"\nAccept-Ranges: bytes\nContent-Length: {len(rest)}', rest


@contextmanager
def storage_service(folder: Path, troubles: Mapping[str, list[str]]) -> Iterator[StorageService]:
    """A service of the files in ``folder``."""
    service = StorageService(folder, troubles)
    with serving(service) as web:
        service.root = web.url + BUCKET
        yield service
