"""Another account of the machine, which tries all that it can against a cluster; the standard library alone.

Run as that account, with the places to try as JSON on standard input; prints what succeeded as JSON.
"""

import contextlib
import http.client
import json
import os
import socket
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

TIMEOUT_S = 5.0
METRICS = b"# HELP"
"""Ray's own metrics are public on this machine: its metrics ports know no token."""
OPEN_PATHS = ("/", "/metrics", "/api/version", "/api/jobs/", "/nodes?view=summary", "/api/serve/applications/")
USER_PATHS = ("/v1/videos", "/v1/admin/overview", "/v1/search?q=red", "/v1/admin/quarantine")
JOB = {"entrypoint": "id", "runtime_env": {}}


def tried(places: dict[str, Any]) -> Iterator[str]:
    """The attempts that succeeded."""
    for path in places["files"]:
        yield from _succeeded(f"read {path}", partial(_open, path, os.O_RDONLY))
        yield from _succeeded(f"write {path}", partial(_open, path, os.O_WRONLY | os.O_APPEND))
    for path in places["folders"]:
        yield from _succeeded(f"list {path}", partial(os.scandir, path))
        yield from _succeeded(f"plant in {path}", (Path(path) / "planted").mkdir)
        yield from _succeeded(f"move {path}", partial(Path(path).rename, path + ".moved"))
    for path in places["sockets"]:
        yield from _succeeded(f"connect to {path}", partial(_connect, path))
        yield from _succeeded(f"move {path}", partial(Path(path).rename, path + ".moved"))
    for port in places["ports"]:
        for path in OPEN_PATHS:
            yield from _succeeded(f"GET {port}{path}", partial(_ask, port, "GET", path))
        yield from _succeeded(f"submit to {port}", partial(_ask, port, "POST", "/api/jobs/", JOB))
        yield from _succeeded(f"submit to {port}", partial(_ask, port, "POST", "/api/job_agent/jobs/", JOB))
    for path in USER_PATHS:
        yield from _succeeded(f"GET {path}", partial(_ask, places["http_port"], "GET", path))


def _succeeded(what: str, attempt: Callable[[], object]) -> Iterator[str]:
    with contextlib.suppress(OSError, http.client.HTTPException, _RefusedError):
        attempt()
        yield what


class _RefusedError(Exception):
    pass


def _open(path: str, flags: int) -> None:
    os.close(os.open(path, flags | os.O_NONBLOCK))


def _connect(path: str) -> None:
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(TIMEOUT_S)
        client.connect(path)


def _ask(port: int, method: str, path: str, body: object = None) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=TIMEOUT_S)
    with contextlib.closing(connection):
        text = None if body is None else json.dumps(body)
        connection.request(method, path, text, {"Content-Type": "application/json"})
        answer = connection.getresponse()
        if answer.status >= 300 or answer.read(len(METRICS)) == METRICS:
            raise _RefusedError


if __name__ == "__main__":
    sys.stdout.write(json.dumps(list(tried(json.load(sys.stdin)))))
