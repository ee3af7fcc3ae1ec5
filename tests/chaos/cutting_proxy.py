"""A proxy in front of Postgres; cuts a session when a write is committed but its answer not yet passed on.

The client then sees an error of something that succeeded. What it makes of it is the caller's to watch.
"""

import asyncio
import contextlib
import re
import threading
from asyncio import StreamReader, StreamWriter
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from queue import Queue
from urllib.parse import parse_qs, urlsplit

WRITES = {
    "submit": b"-- Enqueue videos",
    "cancel waiting": b"-- What waits is cancelled",
    "cancel claimed": b"-- What is on its way loses its lease",
    "user retry": b"-- What FAILED or was cancelled is tried again",
    "claim": b"-- Lease up to n waiting videos",
    "heartbeat": b"-- Prolong every lease",
    "record media": b"-- What the probe found",
    "ledger open": b"-- Begin stage runs",
    "ledger close": b"-- End stage runs",
    "keep result": b"INSERT INTO video_stage_results",
    "scenes": b"INSERT INTO video_transcripts",
    "finish": b"-- READY: the leases end",
    "fail": b"-- FAILED for good",
    "retry": b"-- PENDING again",
    "take back": b"heimdex.taken_back",
}
"""Each of the queue's writes, and words that only it contains."""
ANY = "any"

_ROWS = re.compile(rb"(COMMIT|(?:INSERT 0|UPDATE|DELETE|SELECT) [1-9]\d*)\0")


def kind_of(statement: bytes) -> str | None:
    """The kind of write that a statement is; None: none of the queue's."""
    return next((kind for kind, words in WRITES.items() if words in statement), None)


class CuttingProxy:
    """Listens on a Unix socket of its own. ``cuts``: how many answers were withheld, by what had been written."""

    def __init__(self, folder: Path, server_url: str) -> None:
        self.cuts: Counter[str] = Counter()
        self.armed: str | None = None
        parts = urlsplit(server_url)
        where = parse_qs(parts.query)
        socket = f".s.PGSQL.{where['port'][0]}"
        self._server = Path(where["host"][0]) / socket
        self._own = folder / socket
        self.url = parts._replace(query=f"host={folder}&port={where['port'][0]}").geturl()

    def arm(self, kind: str) -> None:
        """Cut the next session that commits a write of this kind (``ANY``: of whichever)."""
        self.armed = kind

    async def serve(self, ready: Callable[[Callable[[], object]], None]) -> None:
        """Calls ``ready`` with what ends it, from whichever thread."""
        over, loop = asyncio.Event(), asyncio.get_running_loop()
        listening = await asyncio.start_unix_server(self._meet, self._own)
        ready(lambda: loop.call_soon_threadsafe(over.set))
        await over.wait()
        listening.close()

    async def _meet(self, reader: StreamReader, writer: StreamWriter) -> None:
        try:
            upstream = await asyncio.open_unix_connection(self._server)
        except OSError:  # Postgres is away
            writer.close()
            return
        session = _Session(self)
        directions = [
            asyncio.ensure_future(session.pass_requests(reader, upstream[1])),
            asyncio.ensure_future(session.pass_answers(upstream[0], writer)),
        ]
        try:
            await asyncio.wait(directions, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for direction in directions:
                direction.cancel()
            await asyncio.gather(*directions, return_exceptions=True)
            for end in (writer, upstream[1]):
                end.close()


@dataclass
class _Session:
    """One session: what it has written since its last transaction, and whether the answer to come is withheld."""

    proxy: CuttingProxy
    statements: dict[bytes, bytes] = field(default_factory=dict)
    written: list[str] = field(default_factory=list)
    in_transaction: bool = False
    withholding: bool = False

    async def pass_requests(self, client: StreamReader, server: StreamWriter) -> None:
        """From the client to the server, until either ends."""
        with contextlib.suppress(OSError, EOFError):
            server.write(await _message(client, kind_length=0))
            while True:
                message = await _message(client)
                self._read(message)
                server.write(message)
                await server.drain()

    async def pass_answers(self, server: StreamReader, client: StreamWriter) -> None:
        """From the server to the client; ends where an answer is withheld."""
        withheld = b""
        with contextlib.suppress(OSError, EOFError):
            while True:
                message = await _message(server)
                withheld += message
                is_over = message[:1] == b"Z"
                if is_over:
                    self.in_transaction = message[5:6] != b"I"
                    if self.withholding and self._is_cut(withheld):
                        return
                    self.withholding = False
                    if not self.in_transaction:
                        self.written.clear()
                if not self.withholding:
                    client.write(withheld)
                    withheld = b""
                    await client.drain()

    def _read(self, message: bytes) -> None:
        """Notice what is asked for, and whether its answer is to be withheld."""
        kind, body = message[:1], message[5:]
        if kind == b"P":
            name, statement, _ = body.split(b"\0", 2)
            self.statements[name] = statement
        statement = body if kind == b"Q" else self.statements.get(body.split(b"\0", 2)[1], b"") if kind == b"B" else b""
        written = kind_of(statement)
        if written is not None:
            self.written.append(written)
        ends = statement.startswith(b"COMMIT") if self.in_transaction else written is not None
        if ends and self.proxy.armed is not None and self.written:
            self.withholding = self.proxy.armed in (ANY, *self.written)

    def _is_cut(self, answer: bytes) -> bool:
        """Whether what was asked for has changed something, for good."""
        if self.proxy.armed is None or self.in_transaction or not _ROWS.search(answer):
            return False
        armed, self.proxy.armed = self.proxy.armed, None
        self.proxy.cuts[self.written[-1] if armed == ANY else armed] += 1
        return True


async def _message(reader: StreamReader, kind_length: int = 1) -> bytes:
    """One message of the protocol, its kind and length included; the first one of a session has no kind."""
    head = await reader.readexactly(kind_length + 4)
    return head + await reader.readexactly(int.from_bytes(head[kind_length:]) - 4)


@contextmanager
def cutting_proxy(folder: Path, server_url: str) -> Iterator[CuttingProxy]:
    """A proxy that serves from a thread of its own."""
    proxy = CuttingProxy(folder, server_url)
    ends: Queue[Callable[[], object]] = Queue()
    thread = threading.Thread(target=lambda: asyncio.run(proxy.serve(ends.put)), daemon=True)
    thread.start()
    end = ends.get()
    try:
        yield proxy
    finally:
        end()
        thread.join()
