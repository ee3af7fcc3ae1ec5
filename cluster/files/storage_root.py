"""Where the files of relative storage paths are: a folder, a bucket, or a storage service's HTTP API.

Owns which paths count as relative, and that none of them leads out of the root. Leaves opening to ``storage``.
A root is the operator's choice: it may have a private address and any scheme, and its key goes to its own origin only.
"""

import urllib.parse
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from uuid import UUID

from cluster.contracts.errors import InvalidVideo
from cluster.contracts.uris import WebPlace, local_path, scheme_of, shown, web_place

_SAFE = "-._~!$&'()*+,;=:@"
"""Characters that a path segment of a URL may hold as they are (RFC 3986)."""


@dataclass(frozen=True)
class StorageRoot:
    """The root and, for http(s), the key of its service. ``url``: a folder or any URL that fsspec reads."""

    url: str = field(repr=False)
    key: str | None = field(default=None, repr=False)

    def uri_of(self, path: str) -> str:
        """The URI of a stored file. Raises ``InvalidVideo`` for a path that is not strictly below the root."""
        segments = path.split("/")
        if not is_relative(path) or not all(map(_is_name, segments)):
            raise InvalidVideo(f"not a path below HEIMDEX_STORAGE_ROOT: {shown(path)}")
        folder = local_path(self.url)
        if folder is not None:
            return str(_below(folder.absolute(), segments))
        if self.is_web:
            segments = [urllib.parse.quote(segment, safe=_SAFE) for segment in segments]
        return f"{self.url.rstrip('/')}/{'/'.join(segments)}"

    @property
    def is_web(self) -> bool:
        """Whether the files are read by HTTP."""
        return scheme_of(self.url) in {"http", "https"}

    def covers(self, place: WebPlace) -> bool:
        """Whether a place on the web is of the root's origin: only there the key is sent."""
        if not self.is_web:
            return False
        own = web_place(self.url)
        return (own.scheme, own.host, own.port) == (place.scheme, place.host, place.port)

    def hidden_in(self, sentence: str, path: str) -> str:
        """A sentence about a stored file that says its path instead of where the root is."""
        named = shown(path)
        with suppress(InvalidVideo):
            for place in (shown(self.uri_of(path)), self.uri_of(path)):
                sentence = sentence.replace(place, named)
        root = local_path(self.url)
        for place in (shown(self.url), self.url, *([] if root is None else [str(root.absolute())])):
            if place.strip("/"):
                sentence = sentence.replace(place.rstrip("/"), "HEIMDEX_STORAGE_ROOT")
        return sentence

    @property
    def headers(self) -> dict[str, str]:
        """What a request to the root's origin carries."""
        return {} if self.key is None else {"Authorization": f"Bearer {self.key}", "apikey": self.key}


def is_relative(uri: str) -> bool:
    """Whether a video's URI is a path below the storage root, as an existing Heimdex stores them."""
    return scheme_of(uri) == "file" and "://" not in uri and not uri.startswith("/")


def is_copied(uri: str, root_is_remote: bool) -> bool:
    """Whether a video's file has to be fetched to the node that decodes it. ``root_is_remote``: of relative paths."""
    return scheme_of(uri) != "file" or (root_is_remote and is_relative(uri))


def is_of_another_owner(path: str, owner_id: UUID) -> bool:
    """Whether a stored path is in the folder of another user than ``owner_id``."""
    return _owner_of(path) not in {None, owner_id}


def is_in_own_folder(path: str, owner_id: UUID) -> bool:
    """Whether a stored path is in the folder of ``owner_id``."""
    return _owner_of(path) == owner_id


def check_folder(uri: str, owner_id: UUID) -> None:
    """Raise ``InvalidVideo`` for a stored file in the folder of another owner."""
    if is_relative(uri) and is_of_another_owner(uri, owner_id):
        raise InvalidVideo(f"in another owner's folder below HEIMDEX_STORAGE_ROOT: {shown(uri)}")


def check_own_folder(uri: str, owner_id: UUID) -> None:
    """Raise ``InvalidVideo`` for a stored file that is in no folder of the owner: a user may have written the path."""
    check_folder(uri, owner_id)
    if is_relative(uri) and not is_in_own_folder(uri, owner_id):
        raise InvalidVideo(f"not in the folder of its owner below HEIMDEX_STORAGE_ROOT: {shown(uri)}")


def _owner_of(path: str) -> UUID | None:
    """The first of its folders that is called by an id, which is its owner's; folders below may be of other ids."""
    for folder in path.split("/")[:-1]:
        with suppress(ValueError):
            return UUID(folder)
    return None


def _is_name(segment: str) -> bool:
    return segment not in {"", ".", ".."} and "\\" not in segment and segment.isprintable()


def _below(folder: Path, segments: list[str]) -> Path:
    """The file in the folder, links followed; it may not exist."""
    path = folder.joinpath(*segments)
    try:
        inside = path.resolve().is_relative_to(folder.resolve())
    except (OSError, RuntimeError) as error:  # of links in a circle, some Pythons raise the one, some the other
        raise InvalidVideo(f"its links lead nowhere: {shown('/'.join(segments))}") from error
    if not inside:
        raise InvalidVideo(f"a link leads out of HEIMDEX_STORAGE_ROOT: {shown('/'.join(segments))}")
    return path
