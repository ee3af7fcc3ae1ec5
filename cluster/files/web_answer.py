"""What a web server's answer says of a file: whether it may be had, its length, its version, which part of it comes.

Owns how status and headers are read. Leaves connections and redirects to ``web_source``, the body to ``web_body``, and
what follows from two answers that differ to ``web_transfer``.
"""

import http.client
import json
import re
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from email.message import Message
from email.utils import format_datetime, parsedate_to_datetime

from cluster.contracts.errors import ConfigurationError, InvalidVideo, SourceBusy, TransientFailure
from cluster.contracts.uris import shown

TOO_MANY_REQUESTS_S = 60.0
"""Wait for a server that asks to come back, by a 429 or a 202, and does not say when."""

_LONGEST_REFUSAL_BYTES = 4096
_RANGE = re.compile(r"bytes[ =](?P<first>[0-9]{1,18})-(?P<last>[0-9]{1,18})/(?P<total>[0-9]{1,18}|\*)", re.IGNORECASE)
_STRONG_TAG = re.compile(r'"[\x21\x23-\x7e\x80-\xff]*"')


def check_storage(uri: str, response: http.client.HTTPResponse) -> None:
    """Raise for what a storage service refuses. Some answer 400 and put the status that is meant into their JSON.

    ``ConfigurationError`` when it does not take the key.
    """
    status = response.status
    if status == 400:
        with suppress(ValueError, KeyError, TypeError):
            status = int(json.loads(response.read(_LONGEST_REFUSAL_BYTES))["statusCode"])
    if status in {401, 403}:
        raise ConfigurationError(f"the storage refuses HEIMDEX_STORAGE_KEY: {shown(uri)} (HTTP {status})")
    if status != response.status:
        _check(uri, status, response.headers)


def check_status(uri: str, response: http.client.HTTPResponse) -> None:
    """Raise for every answer but the file; 202 says that it is still being made.

    ``InvalidVideo`` where it will stay the same, ``SourceBusy`` where the server asks to come back later,
    ``TransientFailure`` for the rest.
    """
    _check(uri, response.status, response.headers)
    coding = ", ".join(response.headers.get_all("Transfer-Encoding", []))
    if not response.chunked and coding.strip().lower() not in {"", "identity"}:  # then its bytes are not the file's
        raise InvalidVideo(
            f"the server sends the file in the transfer encoding {coding[:40]!r}, which it was not asked for: "
            f"{shown(uri)}"
        )


def _check(uri: str, status: int, headers: Message) -> None:
    if 200 <= status < 300 and status != 202:
        return
    said = f"{shown(uri)} (HTTP {status})"
    if status in {404, 410}:
        raise InvalidVideo(f"no such file: {said}" + (": it was removed for good" if status == 410 else ""))
    if status in {401, 403, 407, 451}:
        raise InvalidVideo(f"access denied: {said}{_DENIED.get(status, '')}")
    wait_s = retry_after_s(headers)
    if wait_s is None and status in {202, 429}:
        wait_s = TOO_MANY_REQUESTS_S
    if wait_s is not None:
        later = f"the server asks to come back in {wait_s:,.0f} s"
        raise SourceBusy(f"cannot fetch {shown(uri)}: HTTP {status}, {later}", wait_s)
    if status < 500 and status not in {408, 421, 423, 425}:
        reason = ": it leads elsewhere and does not say where" if 300 <= status < 400 else ""
        raise InvalidVideo(f"the server refused {said}{reason}")
    raise TransientFailure(f"cannot fetch {shown(uri)}: HTTP {status}")


_DENIED = {
    401: ": the server wants a login",
    407: ": a proxy on the server's side wants a login",
    451: ": the server withholds it for legal reasons",
}


def retry_after_s(headers: Message) -> float | None:
    """Seconds that ``Retry-After`` asks to wait, given as such or as a date; None without a readable one."""
    written = headers.get("Retry-After", "").strip()
    if re.fullmatch(r"[0-9]{1,9}(\.[0-9]{1,9})?", written):
        return float(written)
    moment = _moment(written)
    if moment is None:
        return None
    now = _moment(headers.get("Date", "")) or datetime.now(UTC)  # by the clock that the date was written by
    return max(0.0, (moment - now).total_seconds())


@dataclass(frozen=True)
class Version:
    """Which version of the file an answer is about.

    ``total``: its length in bytes, None where it is not said or what comes is encoded. ``modified`` and ``dated`` are
    the server's clock.
    """

    tag: str | None
    modified: datetime | None
    dated: datetime | None
    total: int | None

    @property
    def is_strong(self) -> bool:
        """Whether the tag differs wherever a byte does."""
        return self.tag is not None and _STRONG_TAG.fullmatch(self.tag) is not None

    @property
    def validator(self) -> str | None:
        """What ``If-Range`` may ask for: a strong tag, or a date that no later version can share."""
        if self.is_strong:
            return self.tag
        if self.tag is None and self.modified is not None and (self.age_s or 0.0) >= 1.0:
            return format_datetime(self.modified.astimezone(UTC), usegmt=True)
        return None

    @property
    def age_s(self) -> float | None:
        """How long before the answer the file was changed last; None where the server does not say."""
        if self.modified is None or self.dated is None:
            return None
        return (self.dated - self.modified).total_seconds()

    def may_be(self, other: "Version") -> bool:
        """Whether nothing that both say differs; a strong tag says more than a date."""
        same_date = self.is_strong or _agree(self.modified, other.modified)
        return same_date and not self.has_become(other)

    def has_become(self, later: "Version") -> bool:
        """Whether a later answer is surely about another one. Some servers date a file by the moment they answer."""
        return not (_agree(self.tag, later.tag) and _agree(self.total, later.total))


def _agree(one: object | None, other: object | None) -> bool:
    return one == other or one is None or other is None


@dataclass(frozen=True)
class Part:
    """The part of a version that an answer brings: from byte ``first`` on, ``length`` bytes where that is said."""

    version: Version
    partial: bool
    first: int | None
    """None where the answer is a part and does not say which one, or says it wrongly."""
    names_range: bool
    """Whether there is a ``Content-Range``, right or wrong."""
    length: int | None
    encoding: str | None
    """Encoding of the body; None where it has none."""
    content_type: str


def part_of(response: http.client.HTTPResponse) -> Part:
    """What a successful answer brings."""
    headers = response.headers
    encodings = [each.strip().lower() for each in headers.get("Content-Encoding", "").split(",")]
    encoding = ", ".join(each for each in encodings if each not in {"", "identity"}) or None
    first, total = _range(headers.get("Content-Range", ""), response.length)
    partial = response.status == 206 or first is not None  # some programs send a part as 200
    if not partial:
        first, total = 0, response.length
    version = Version(
        tag=headers.get("ETag", "").strip() or None,
        modified=_moment(headers.get("Last-Modified", "")),
        dated=_moment(headers.get("Date", "")),
        total=None if encoding else total,
    )
    content_type = headers.get("Content-Type", "").strip()
    return Part(version, partial, first, "Content-Range" in headers, response.length, encoding, content_type)


def _range(written: str, length: int | None) -> tuple[int | None, int | None]:
    """First byte and total of ``Content-Range``; None for what is not said, or said wrongly."""
    found = _RANGE.fullmatch(written.strip())
    if found is None:
        return None, None
    first, end = int(found["first"]), int(found["last"]) + 1
    total = None if found["total"] == "*" else int(found["total"])
    fits = first < end and (total is None or end <= total) and length in {None, end - first}
    return (first, total) if fits else (None, None)


def _moment(written: str) -> datetime | None:
    with suppress(ValueError, TypeError, IndexError, OverflowError):
        moment = parsedate_to_datetime(written)
        return moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)
    return None
