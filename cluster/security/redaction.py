"""What error texts may say of places: no secret of a URI ever, and to owners no folder of this machine.

Owns the border between what raises and what is written down: the ledger, ``videos``, logs, JSON and HTTP. Drivers of
stores put endpoints, signed URLs and credentials into their errors; of those, ``store_reason`` lets words through.
What is a secret outside of URLs is ``named_secrets``'.
"""

import errno
import os
import re

from cluster.contracts.uris import shown
from cluster.security.named_secrets import HIDDEN, without_secrets

MOST_SHOWN = 1000
"""Characters of a text that lists show to admins; another system's may have any length."""

_URL = re.compile(r"(?<![A-Za-z0-9+.-])[A-Za-z0-9+.-]++://(?:[^\s\"'<>|]|[\"'](?=[\w/?&=@%]))++")
_PASSWORD = re.compile(r"(?<=://)[^\s/?#:@]{0,128}:[^\s/?#]{0,256}@")
_WORD = r"(?:[^\s:()]|:(?=\S)|(?<=\S)\()++"
_PATH = re.compile(
    r"(?s)(?P<quote>[\"'`])(?i:file:(?://[^/\s]{0,255})?)?/(?!/)(?:(?!(?P=quote)|\n)(?:\\.|[^\\]))++"
    r"|(?<![\w/.~%@-])(?i:file:(?://[^/\s]{0,255})?)?/(?=[^\s/:()])" + _WORD + r"(?:[ \t]++(?!for\s)" + _WORD + r")*+"
)
_LAST_WORD = re.compile(r"(?<!\S)\S++\Z")
_ENDS_SENTENCE = ".,;:!?)]}"
_WORDS = re.compile(r"[A-Za-z][A-Za-z ,'-]{0,200}\.?")
_UNEXPECTED = re.compile(r"(unexpected \w+): ")


def redacted(text: str) -> str:
    """``text`` with every URL as people may see it, and without secrets. Never raises."""
    return without_secrets(_URL.sub(_shown_url, _PASSWORD.sub("", text)))


def redacted_or_none(text: str | None) -> str | None:
    """``text``, redacted, where there is one: what others wrote into the database is shown too."""
    return None if text is None else redacted(text)


def redacted_beginning(text: str | None) -> str | None:
    """``text``, redacted, which SQL cut after ``MOST_SHOWN`` characters: a word at the cut may be half a password."""
    if text is not None and len(text) >= MOST_SHOWN:
        text = _LAST_WORD.sub("", text)
    return redacted_or_none(text)


def without_folders(text: str) -> str:
    """``text``, redacted, without absolute paths of this machine: for owners who are not its operators.

    Of an error that nothing here expected only its kind is left: what libraries say is for the log.
    """
    unexpected = _UNEXPECTED.match(text)
    return unexpected[1] if unexpected is not None else _PATH.sub(_hidden_path, redacted(text))


def store_reason(error: BaseException) -> str:
    """Why a store or a file could not be read or written, in words that name no place.

    What a driver says is passed on where it is words alone. Endpoints, buckets, paths, requests and keys have signs or
    digits in them: then its kind of error is said instead.
    """
    if isinstance(error, TimeoutError):
        return "no answer in time"
    said = (getattr(error, "strerror", None) or str(error)).strip()
    if _WORDS.fullmatch(said):
        return said
    code = getattr(error, "errno", None)
    if isinstance(error, OSError) and isinstance(code, int) and code in errno.errorcode:
        return os.strerror(code)
    name = type(error).__name__
    if isinstance(error, ConnectionError) or "Connect" in name:
        return "the store cannot be reached"
    return f"the store failed ({name})"


def _shown_url(found: re.Match[str]) -> str:
    whole = found[0]
    before = whole[: len(whole) - len(whole.lstrip("0123456789+.-"))]
    url = whole[len(before) :].rstrip(_ENDS_SENTENCE)
    return before + shown(url) + whole[len(before) + len(url) :]


def _hidden_path(found: re.Match[str]) -> str:
    return (found["quote"] or "") + HIDDEN
