"""The URIs that ``POST /v1/videos`` accepts, as a regular expression for the OpenAPI document.

``cluster.contracts.uris`` and ``cluster.contracts.uri_prefixes`` decide; what matches here, with the user's own id in a
prefix, passes there. A few spellings that they read too have no place in a pattern: letters beyond ASCII in a host's
name, shortened IPv6 addresses, and, below a prefix, names that begin with a dot or have a percent sign in them.
"""

import re

from cluster.contracts.uri_prefixes import OWNER, HttpRules, UriPrefix

_TEXT = r"[^\x00-\x1f\x7f-\x9f]"
_PATH_TEXT = r"[^#\x00-\x1f\x7f-\x9f]"
_LABEL = "[A-Za-z0-9_]([A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?"
_LAST_LABEL = "[A-Za-z_]([A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?"
_OCTET = "(25[0-5]|2[0-4][0-9]|1[0-9]{2}|[1-9]?[0-9])"
_HEXADECIMAL = "[0-9A-Fa-f]{1,4}"
_HOST = rf"(({_LABEL}\.){{0,126}}{_LAST_LABEL}|{_OCTET}(\.{_OCTET}){{3}}|\[{_HEXADECIMAL}(:{_HEXADECIMAL}){{7}}\])"
_PORT = "(:(6553[0-5]|655[0-2][0-9]|65[0-4][0-9]{2}|6[0-4][0-9]{3}|[1-5][0-9]{4}|[1-9][0-9]{0,3}))?"
_WEB = rf"{_HOST}{_PORT}([/?]{_PATH_TEXT}*)?(#{_TEXT}*)?"
_BUCKET = rf"[A-Za-z0-9][A-Za-z0-9._-]{{1,254}}(/{_TEXT}*)?"
_OTHER = rf"[^/\x00-\x1f\x7f-\x9f]+(/{_TEXT}*)?"
_NAME = r"[^/\\%.\x00-\x1f\x7f-\x9f][^/\\%\x00-\x1f\x7f-\x9f]*"
_ID = "[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}"
_PLACES = {"http": _WEB, "https": _WEB, "s3": _BUCKET, "gs": _BUCKET, "gcs": _BUCKET}


def uri_pattern(rules: HttpRules) -> str | None:
    """What a URI looks like that ``rules`` accept; None where local paths are among them, which may be anything."""
    if "file" in rules.schemes:
        return None
    below = [_below(prefix) for prefix in rules.prefixes if prefix.scheme not in rules.schemes]
    return f"^({'|'.join([*map(_of_scheme, sorted(rules.schemes)), *below])})$"


def _of_scheme(scheme: str) -> str:
    return f"{_any_case(scheme)}://{_PLACES.get(scheme, _OTHER)}"


def _below(prefix: UriPrefix) -> str:
    place = prefix.template.removeprefix(prefix.scheme)
    return f"{_any_case(prefix.scheme)}{_ID.join(map(re.escape, place.split(OWNER)))}{_NAME}(/{_NAME})*"


def _any_case(scheme: str) -> str:
    return "".join(f"[{letter}{letter.upper()}]" if letter.isalpha() else f"[{letter}]" for letter in scheme)
