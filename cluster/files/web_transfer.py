"""A file on its way from a web server: gone on with where it broke off, and whole, of one version, or not kept.

Owns when a transfer is resumed, what proves that two answers are about the same version, and whether the file is still
being written on its server. Leaves addresses and redirects, checked again for every request, to ``web_source``.

A transfer goes on by ``Range`` (RFC 9110, 14), ``If-Range`` where the server names its version. Where that is no strong
tag, the answer must repeat the last bytes that are here already. The length must be the same in any case. What does not
fit is begun again from the first byte: bytes of two versions are never put together.
"""

import http.client
import itertools
from collections.abc import Iterator
from dataclasses import replace
from typing import Protocol

from cluster.contracts.errors import SourceBusy, SourceChanging, TransientFailure
from cluster.contracts.uris import shown
from cluster.files.web_answer import Part, Version, check_status, part_of
from cluster.files.web_body import SNIFFED_BYTES, check_no_page, chunks_of, decoded
from cluster.files.web_source import LONGEST_PAUSE_S, WebReach, open_web

PAUSES_S = (0.2, 1.0, 3.0)
"""Between connections that brought nothing more; after the last one the transfer is given up."""
MAX_RESTARTS = 5
"""Times that a transfer is begun again from the first byte."""
OVERLAP_BYTES = 16 * 1024
"""Bytes that a server that does not name its versions by strong tags has to repeat."""
FRESH_S = 10.0
"""A file that was changed so shortly before it was asked for may still be growing: it is asked about again."""
SETTLED_S = 3.0
"""Time for which such a file has to be unchanged."""
CHANGING_RETRY_S = 10.0


class Sink(Protocol):
    """Destination of the file; every method may raise, which ends the transfer."""

    @property
    def size(self) -> int:
        """Bytes so far."""
        ...

    def expect(self, total: int) -> None:
        """Take note of the length that was announced."""
        ...

    def write(self, chunk: bytes) -> None:
        """Add to the end."""
        ...

    def read_at(self, first: int, count: int) -> bytes:
        """Bytes that were written."""
        ...

    def restart(self) -> None:
        """Drop all that was written."""
        ...


def transfer(uri: str, reach: WebReach, sink: Sink) -> None:
    """Bring the whole file that ``uri`` leads to into ``sink``.

    Raises ``InvalidVideo`` for what can never be had or is a page and no file, ``SourceBusy`` and ``SourceChanging``
    for what has to be waited for, ``TransientFailure``, ``OSError`` or ``http.client.HTTPException`` for what may pass.
    """
    _Transfer(uri, reach, sink).run()


class _Transfer:
    """One file on its way; ``_version`` is the one whose first bytes are in the sink, None while nothing is."""

    def __init__(self, uri: str, reach: WebReach, sink: Sink) -> None:
        self._uri = uri
        self._reach = reach
        self._sink = sink
        self._version: Version | None = None
        self._content_type = ""
        self._encoded = False
        self._judged = False
        self._restarts = 0
        self._parts_have_names = True

    def run(self) -> None:
        farthest, fruitless = 0, 0
        while (trouble := self._trouble()) is not _WHOLE:
            if self._sink.size > farthest:
                farthest, fruitless = self._sink.size, 0
                continue
            if fruitless == len(PAUSES_S):
                raise self._given_up(trouble)
            self._pause(PAUSES_S[fruitless])
            fruitless += 1
        self._judge()
        self._check_settled()

    def _trouble(self) -> Exception:
        """Bring more of the file; why that is not all of it, or ``_WHOLE``."""
        try:
            return _WHOLE if self._bring() else http.client.IncompleteRead(b"")
        except SourceBusy as busy:
            if not self._sink.size or busy.retry_after_s > LONGEST_PAUSE_S:
                raise
            self._pause(busy.retry_after_s)
            return busy
        except (OSError, http.client.HTTPException) as error:
            if isinstance(error, TimeoutError):
                self._reach.deadline.check()
            if not self._sink.size:
                raise
            return error

    def _given_up(self, trouble: Exception) -> Exception:
        total = self._version.total if self._version else None
        if total is None or isinstance(trouble, SourceBusy):
            return trouble
        return TransientFailure(
            f"the connection ended after {self._sink.size:,} of {total:,} bytes: {shown(self._uri)}"
        )

    def _bring(self) -> bool:
        """One request and what it brings; whether the file is whole then."""
        if self._encoded and self._sink.size:
            self._restart()
        first, headers = self._wanted()
        with open_web(self._uri, self._reach, headers) as response:
            if response.status == 416 and headers:
                self._restart()
                return False
            check_status(self._uri, response)
            part, chunks = self._understood(part_of(response), first), chunks_of(response)
            if part.partial and self._sink.size:
                chunks = self._following(part, first, chunks)
            elif part.first == 0:
                if self._sink.size:
                    self._restart()
                chunks = self._begun(part, chunks)
            else:
                raise TransientFailure(f"the server answered with another part of the file: {shown(self._uri)}")
            for chunk in chunks:
                self._sink.write(chunk)
                if not self._judged and self._sink.size >= SNIFFED_BYTES:
                    self._judge()
        return self._is_whole()

    def _wanted(self) -> tuple[int, dict[str, str]]:
        """The first byte to ask for, and the headers that ask for it."""
        size, version = self._sink.size, self._version
        if not size or version is None:
            return 0, {}
        is_enough = version.is_strong and self._parts_have_names
        first = size if is_enough else max(0, size - OVERLAP_BYTES)
        condition = {} if version.validator is None else {"If-Range": version.validator}
        return first, {"Range": f"bytes={first}-", **condition}

    def _understood(self, part: Part, first: int) -> Part:
        """``part``; where it is as long as what was asked for, some programs mean that and say that it is the whole."""
        total = self._version.total if self._version else None
        if part.partial or not first or total is None or part.length != total - first:
            return part
        return replace(part, partial=True, first=None, version=replace(part.version, total=None))

    def _begun(self, part: Part, chunks: Iterator[bytes]) -> Iterator[bytes]:
        """The body of an answer that begins with the file's first byte."""
        self._version, self._content_type = part.version, part.content_type
        self._encoded, self._judged = part.encoding is not None, False
        if part.version.total is not None:
            self._sink.expect(part.version.total)
        return decoded(self._uri, chunks, part.encoding)

    def _following(self, part: Part, first: int, chunks: Iterator[bytes]) -> Iterator[bytes]:
        """What follows the bytes in the sink, out of an answer that is about the same version; else nothing."""
        version = self._version
        assert version is not None
        total = version.total if version.total is not None else part.version.total
        repeated = self._sink.size - first
        placed = part.first == first or (part.first is None and repeated and part.length == (total or 0) - first)
        if not placed or total is None or part.encoding is not None or not version.may_be(part.version):
            self._parts_have_names = part.names_range
            self._restart()
            return iter(())
        begin = b""
        while len(begin) < repeated:
            begin += next(chunks, b"") or _ended()
        if begin[:repeated] != self._sink.read_at(first, repeated):
            self._restart()
            return iter(())
        if version.total is None:
            self._sink.expect(total)
            self._version = replace(version, total=total)
        return itertools.chain([begin[repeated:]], chunks)

    def _is_whole(self) -> bool:
        """After a body that came to its end."""
        if self._version is None:
            return False
        total = self._version.total
        if total is not None and self._sink.size > total:
            self._restart()
        return total is None or self._sink.size == total

    def _restart(self) -> None:
        """From the first byte again: the version is another one, or cannot be gone on with."""
        self._restarts += 1
        if self._restarts > MAX_RESTARTS:
            sentence = f"the file was another one each of {MAX_RESTARTS} times that it was gone on with"
            raise TransientFailure(f"{sentence}, or its server gives no parts of it: {shown(self._uri)}")
        self._sink.restart()
        self._version = None

    def _judge(self) -> None:
        self._judged = True
        check_no_page(self._uri, self._sink.read_at(0, SNIFFED_BYTES), self._content_type)

    def _check_settled(self) -> None:
        """Raise ``SourceChanging`` when the file, changed shortly before it came, has become another one since."""
        version = self._version
        if version is None or version.age_s is None or version.age_s > FRESH_S:
            return
        self._pause(min(SETTLED_S, max(0.0, SETTLED_S - version.age_s)))  # a server's clock may go back
        with open_web(self._uri, self._reach, {"Range": "bytes=0-0"}) as response:
            if response.status in {200, 206} and version.has_become(part_of(response).version):
                sentence = f"the file is still being written on its server: {shown(self._uri)}"
                raise SourceChanging(sentence, CHANGING_RETRY_S)

    def _pause(self, seconds: float) -> None:
        self._reach.deadline.pause(seconds)


_WHOLE = Exception("nothing is missing")


def _ended() -> bytes:
    raise http.client.IncompleteRead(b"")
