"""A server in a folder of its own, which is gone afterwards."""

import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol, TypeVar


class Server(Protocol):
    """A server that can be started in a folder."""

    def start(self) -> object: ...

    def stop(self) -> None: ...


AnyServer = TypeVar("AnyServer", bound=Server)


@contextmanager
def running(server_in: Callable[[Path], AnyServer]) -> Iterator[AnyServer]:
    """The server that ``server_in`` makes for a folder, while it runs."""
    # Not pytest's own folder, whose path may be too long for a socket and which root would have to open.
    folder = Path(tempfile.mkdtemp(prefix="heimdex-test-"))
    folder.chmod(0o711)  # a server of another account passes through, a pooler to the database's socket as well
    server = server_in(folder)
    try:
        server.start()
        yield server
    finally:
        server.stop()
        shutil.rmtree(folder)
