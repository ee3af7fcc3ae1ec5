"""The URIs that ``POST /v1/videos`` accepts, as a regular expression for the OpenAPI document.

``cluster.video_uris`` decides; what matches here passes there. A few spellings that it reads too (letters beyond ASCII
in a host's name, shortened IPv6 addresses) have no place in a pattern.
"""

from collections.abc import Iterable

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
_PLACES = {"http": _WEB, "https": _WEB, "s3": _BUCKET, "gs": _BUCKET, "gcs": _BUCKET}


def uri_pattern(schemes: Iterable[str]) -> str | None:
    """What a URI of one of ``schemes`` looks like; None where local paths are among them, which may be anything."""
    wanted = sorted(schemes)
    if "file" in wanted:
        return None
    return f"^({'|'.join(f'{_any_case(scheme)}://{_PLACES.get(scheme, _OTHER)}' for scheme in wanted)})$"


def _any_case(scheme: str) -> str:
    return "".join(f"[{letter}{letter.upper()}]" if letter.isalpha() else f"[{letter}]" for letter in scheme)
