"""What may be submitted by HTTP: schemes as a whole, and object stores below prefixes of the submitting owner.

Owns the reading of prefixes and the comparison. Pure: nothing is opened. A URI is compared as it is written, with its
scheme in lower case, and what follows the prefix must be plain names however often it is percent-decoded: no driver,
whichever way it reads a path, ends anywhere else.
"""

import re
import urllib.parse
from dataclasses import dataclass
from uuid import UUID

from cluster.contracts.errors import InvalidVideo
from cluster.contracts.uris import check_remote, scheme_of

OWNER = "{owner}"
"""Placeholder for the id of the owner in a prefix."""
_EXAMPLE_OWNER = UUID(int=0)
_MOST_DECODINGS = 8
_WEB_SCHEMES = {"http", "https"}
_NO_NAME = re.compile(r"[\\\x00-\x1f\x7f-\x9f]")
_NOT_IN_PREFIX = re.compile(r"[?#%{}]")


@dataclass(frozen=True)
class UriPrefix:
    """A folder of an object store; ``template`` ends with a slash and may have ``{owner}`` in it."""

    template: str

    @staticmethod
    def read(written: str) -> "UriPrefix":
        """Read a prefix as the settings have it; one without a slash at its end is a folder too.

        Raises:
            ValueError: it is no folder of an object store; the sentence says why.
        """
        scheme = scheme_of(written)
        if scheme == "file" or scheme in _WEB_SCHEMES:
            raise ValueError(f"{written!r} is no object store: a prefix is scheme://bucket/folder/")
        rest = written[len(scheme) + 3 :].removesuffix("/")
        if not all(map(_is_name, rest.split("/"))) or _NOT_IN_PREFIX.search(rest.replace(OWNER, "")):
            raise ValueError(f"{written!r} is no plain folder; of placeholders there is {OWNER} alone")
        prefix = UriPrefix(f"{scheme}://{rest}/")
        try:
            check_remote(prefix.of(_EXAMPLE_OWNER))
        except InvalidVideo as error:
            raise ValueError(str(error)) from None
        return prefix

    @property
    def scheme(self) -> str:
        """The scheme of all URIs below it."""
        return scheme_of(self.template)

    def of(self, owner_id: UUID) -> str:
        """The prefix of one owner."""
        return self.template.replace(OWNER, str(owner_id))

    def covers(self, uri: str, owner_id: UUID) -> bool:
        """Whether ``uri`` is strictly below the owner's prefix."""
        scheme = scheme_of(uri)
        written = scheme + uri[len(scheme) :]
        prefix = self.of(owner_id)
        return written.startswith(prefix) and _is_path(written[len(prefix) :])


@dataclass(frozen=True)
class HttpRules:
    """What ``POST /v1/videos`` accepts and the workers fetch of it.

    ``schemes``: lower case, without ``://``, accepted whatever follows; ``file`` includes local paths.
    ``prefixes``: what is accepted of the other schemes.
    """

    schemes: frozenset[str] = frozenset(_WEB_SCHEMES)
    prefixes: tuple[UriPrefix, ...] = ()

    def refusal(self, uri: str, owner_id: UUID) -> str | None:
        """Why the owner may not submit ``uri``, as a sentence without the URI; None: it may be submitted."""
        scheme = scheme_of(uri)
        if scheme in self.schemes or any(prefix.covers(uri, owner_id) for prefix in self.prefixes):
            return None
        what = "a local path" if scheme == "file" else f"{scheme}://"
        below = [prefix.of(owner_id) for prefix in self.prefixes if prefix.scheme == scheme]
        if below:
            return f"{what} is accepted here only below {' or '.join(below)}"
        allowed = ", ".join(sorted(self.schemes)) or "none"
        return f"{what} is not accepted here (allowed schemes: {allowed})"


WEB_ALONE = HttpRules()
"""Rules that apply unless the settings say otherwise."""


def _is_path(below: str) -> bool:
    """Whether it stays what it is, names joined by single slashes, however often it is percent-decoded."""
    for _ in range(_MOST_DECODINGS):
        if not all(map(_is_name, below.split("/"))):
            return False
        decoded = urllib.parse.unquote(below)
        if decoded == below:
            return True
        below = decoded
    return False


def _is_name(segment: str) -> bool:
    return segment not in {"", ".", ".."} and not _NO_NAME.search(segment)
