"""What a video's URI says by itself, without opening it: scheme, name, local path, and the videos a folder
stands for.

Owns how a URI is shown in messages (without what may be secret). Leaves opening to ``storage``.
"""

import glob
import os
import re
import urllib.parse
from collections.abc import Iterable
from pathlib import Path

_SUFFIXES = "3g2 3gp asf avi f4v flv m2ts m2v m4v mkv mov mp4 mpeg mpg mts mxf ogm ogv ts vob webm wmv y4m"
VIDEO_SUFFIXES = frozenset(_SUFFIXES.split(" "))
"""What counts as a video in a folder; a file that is named itself may be called anything."""

_SCHEME = re.compile(r"^([A-Za-z][A-Za-z0-9+.-]*)://")


def scheme_of(uri: str) -> str:
    """The URI's scheme in lower case; ``file`` for a local path."""
    match = _SCHEME.match(uri)
    return match[1].lower() if match else "file"


def filename_of(uri: str) -> str:
    """The name that people know the video by: the last part of the URI, without query. Never raises."""
    path = local_path(uri)
    if path is not None:
        return (path.name or uri).encode(errors="replace").decode()
    web = scheme_of(uri) in {"http", "https"}
    place = _SCHEME.sub("", shown(uri))
    name = place.rstrip("/").rsplit("/", 1)[-1] if "/" in place.rstrip("/") else ""
    return (urllib.parse.unquote(name) if web else name) or shown(uri)


def expand(uris: Iterable[str]) -> list[str]:
    """The videos that ``uris`` name, in order: local folders and globs opened, local paths made absolute.

    A folder stands for the files below it with one of ``VIDEO_SUFFIXES``, hidden ones left out; a glob for
    whatever it matches; both sorted. What does not exist, or holds no video, stays as it is: it then fails by
    itself in ``downloading`` with one clear line. Only the local machine is looked at. A path that is no UTF-8 comes
    as a ``file://`` URI, its bytes percent-encoded.
    """
    return [_as_text(video) for uri in uris for video in _expanded(uri)]


def _as_text(uri: str) -> str:
    try:
        uri.encode()
    except UnicodeEncodeError:
        return Path(uri).absolute().as_uri()
    return uri


def _expanded(uri: str) -> list[str]:
    local = local_path(uri)
    if local is None or "\0" in uri:
        return [uri]
    path = local.absolute()
    if path.is_dir():
        return _videos_below(path) or [str(path)]
    if not path.is_symlink() and not path.exists() and glob.has_magic(str(path)):
        found = glob.glob(str(path), recursive=True)  # noqa: PTH207  # a shell's rule: * leaves hidden files out
        return sorted(match for match in found if Path(match).is_file()) or [str(path)]
    return [str(path)]


def _videos_below(folder: Path) -> list[str]:
    videos: list[Path] = []
    for place, folders, files in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".")]
        videos += [Path(place) / name for name in files if _looks_like_video(name)]
    return sorted(str(video) for video in videos if video.is_file())


def _looks_like_video(name: str) -> bool:
    return not name.startswith(".") and Path(name).suffix.lower().removeprefix(".") in VIDEO_SUFFIXES


def local_path(uri: str) -> Path | None:
    """The path that a path or ``file://`` URI names; None when it names nothing on this machine."""
    if scheme_of(uri) != "file":
        return None
    if not _SCHEME.match(uri):
        return Path(uri)
    host, slash, path = _SCHEME.sub("", uri).partition("/")
    # Bytes that are no UTF-8 stay what they are: the name of a file is bytes.
    return Path(urllib.parse.unquote(slash + path, errors="surrogateescape")) if host in {"", "localhost"} else None


def shown(uri: str) -> str:
    """``uri`` as messages may show it: without user, password and, on the web, query. Never raises."""
    scheme, mark, rest = uri.partition("://")
    if not mark or scheme_of(uri) == "file":
        return uri
    if scheme_of(uri) in {"http", "https"}:
        rest = re.split("[?#]", rest, maxsplit=1)[0]
    host, slash, path = rest.partition("/")
    return f"{scheme}{mark}{host.rpartition('@')[2]}{slash}{path}"
