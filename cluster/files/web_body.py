"""The body of a web server's answer: decoded where it is encoded, and refused where it is a page.

Owns both; every step answers at most so many bytes, so that no body, however compressed, is held at once. Leaves which
bytes are kept, and how many, to those who read it.
"""

import http.client
import re
import zlib
from collections.abc import Iterator
from typing import Any

from cluster.contracts.errors import InvalidVideo
from cluster.contracts.uris import shown

CHUNK_BYTES = 1 << 20
SNIFFED_BYTES = 1024

# https://mimesniff.spec.whatwg.org/#identifying-a-resource-with-an-unknown-mime-type
_PAGE = re.compile(
    r"\s*(?:<\?xml[^>]*\?>\s*)?"
    r"<(?:!--|(?:!doctype html|html|head|script|iframe|h1|div|font|table|a|style|title|b|body|br|p|meta)[\s/>])",
    re.IGNORECASE,
)
_TEXT_TYPE = re.compile(r"text/(?:html|plain|xml)|application/(?:xhtml\+xml|xml|(?:[a-z.]+\+)?json)", re.IGNORECASE)
_BINARY = re.compile(rb"[\x00-\x08\x0b\x0e-\x1a\x1c-\x1f]")


def chunks_of(response: http.client.HTTPResponse) -> Iterator[bytes]:
    """The body as it arrives, encoded or not; it may end before the length that was announced."""
    while chunk := response.read1(CHUNK_BYTES):
        yield chunk


def decoded(uri: str, chunks: Iterator[bytes], encoding: str | None) -> Iterator[bytes]:
    """The body without its ``Content-Encoding``.

    Raises ``InvalidVideo`` for one that is not read or is not so, ``http.client.IncompleteRead`` for one without end.
    """
    if encoding is None:
        return chunks
    if encoding not in {"gzip", "x-gzip", "deflate"}:
        raise InvalidVideo(
            f"the server sends the file in the encoding {encoding[:40]!r} although it was asked for it as it is: "
            f"{shown(uri)}"
        )
    return _inflated(uri, chunks, encoding)


def _inflated(uri: str, chunks: Iterator[bytes], encoding: str) -> Iterator[bytes]:
    member: Any = None
    rest, ended, more = b"", False, False
    try:
        for chunk in chunks:
            rest += chunk
            while len(rest) > 1 or (member is not None and (rest or more)):
                if member is None and ended and not (encoding != "deflate" and rest.startswith(_GZIP)):
                    rest = b""  # padding behind the last member
                    break
                member = member or zlib.decompressobj(_window(rest, encoding))
                made = member.decompress(rest, CHUNK_BYTES)
                rest, more = member.unconsumed_tail, len(made) == CHUNK_BYTES
                if made:
                    yield made
                if member.eof:  # gzip may have several members
                    rest, member, ended, more = member.unused_data, None, True, False
    except zlib.error:
        sentence = f"the server says that the file is encoded as {encoding}, and it is not: {shown(uri)}"
        raise InvalidVideo(sentence) from None
    if member is not None or (rest and not ended):
        raise http.client.IncompleteRead(b"")


_GZIP = b"\x1f\x8b"


def _window(begin: bytes, encoding: str) -> int:
    """zlib's name of the format: gzip, or of what is called deflate zlib's own or the bare one (RFC 9110, 8.4.1.2)."""
    if encoding != "deflate":
        return 16 + zlib.MAX_WBITS
    has_header = begin[0] & 0x0F == 8 and int.from_bytes(begin[:2], "big") % 31 == 0
    return zlib.MAX_WBITS if has_header else -zlib.MAX_WBITS


def check_no_page(uri: str, begin: bytes, content_type: str) -> None:
    """Raise ``InvalidVideo`` when the body, of which ``begin`` are the first bytes, is a page or another text.

    What looks like HTML is a page whatever it is called; what is called text is one unless its bytes are not.
    """
    if _PAGE.match(_as_text(begin)):
        what = "an HTML page"
    elif _TEXT_TYPE.match(content_type) and begin and not _BINARY.search(begin):
        what = "an HTML page" if "html" in content_type.lower() else f"a text ({content_type.partition(';')[0][:40]})"
    else:
        return
    raise InvalidVideo(
        f"the server answered with {what} and not with a video (a login, consent or error page?): {shown(uri)}"
    )


def _as_text(begin: bytes) -> str:
    for mark, encoding in ((b"\xef\xbb\xbf", "utf-8"), (b"\xff\xfe", "utf-16-le"), (b"\xfe\xff", "utf-16-be")):
        if begin.startswith(mark):
            return begin[len(mark) :].decode(encoding, "replace")
    return begin.decode("iso-8859-1")
