"""What a video's URI says without being opened: scheme, name, local path, place on the web, and the videos that a
folder represents.

Owns how a URI is shown in messages (without what may be secret), and the one strict reading of web addresses: what is
checked is what is connected to, so two libraries never read one address in two ways. Leaves opening to ``storage``,
and where a host's name leads to ``web_source``.
"""

import glob
import os
import re
import urllib.parse
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path

from cluster.contracts.errors import InvalidVideo

_SUFFIXES = "3g2 3gp asf avi f4v flv m2ts m2v m4v mkv mov mp4 mpeg mpg mts mxf ogm ogv ts vob webm wmv y4m"
VIDEO_SUFFIXES = frozenset(_SUFFIXES.split(" "))
"""Suffixes that count as a video in a folder; a file that is named itself may be called anything."""

_SCHEME = re.compile(r"^([A-Za-z][A-Za-z0-9+.-]*)://")
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")
_NO_PORT = re.compile(r"^[^][]*:(?![0-9]*$)")
_BUCKET_SCHEMES = {"s3", "gs", "gcs"}
_CONTAINER_SCHEMES = {"az", "abfs", "abfss", "wasb", "wasbs"}
_BUCKET = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{1,254}")
"""Names of buckets. An ARN, which names an endpoint of its own, is no bucket; an access point's alias is."""
_WEB = re.compile(
    r"(?P<scheme>https?)://"
    r"(?P<host>\[[0-9a-fA-F:.]+\]|[^][/?#@:%\\]+)(?::(?P<port>[0-9]{1,5}))?"
    r"(?P<target>(?:[/?][^#]*)?)(?:#.*)?",
    re.IGNORECASE | re.DOTALL,
)
_LABEL = re.compile(r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?")
_NUMBER = re.compile(r"[0-9]+|0x[0-9a-f]*")
_PORTS = {"http": 80, "https": 443}


def scheme_of(uri: str) -> str:
    """The URI's scheme in lower case; ``file`` for a local path."""
    match = _SCHEME.match(uri)
    return match[1].lower() if match else "file"


def filename_of(uri: str) -> str:
    """The name that people know the video by: the last part of the URI, without query. Never raises."""
    path = local_path(uri)
    if path is not None:
        return _on_one_line((path.name or uri).encode(errors="replace").decode())
    web = scheme_of(uri) in _PORTS
    place = _SCHEME.sub("", shown(uri))
    name = place.rstrip("/").rsplit("/", 1)[-1] if "/" in place.rstrip("/") else ""
    return _on_one_line(urllib.parse.unquote(name) if web else name) or shown(uri)


def video_name(filename: str | None, uri: str, video_id: object) -> str:
    """What people call a video: its name, else the last part of where it is, else its id."""
    return filename or (filename_of(uri) if uri else str(video_id))


def expand(uris: Iterable[str]) -> list[str]:
    """The videos that ``uris`` name, in order: local folders and globs opened, local paths made absolute.

    A folder represents the files below it with one of ``VIDEO_SUFFIXES``, hidden ones left out; a glob for
    whatever it matches; both sorted. What does not exist, or holds no video, stays as it is: it then fails
    alone in ``downloading`` with one clear line. Only the local machine is looked at. A path that is no UTF-8 comes
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


def folder_without_videos(uri: str) -> str | None:
    """A sentence about the local folder that ``uri`` names, when it holds no video; None for anything else."""
    path = local_path(uri)
    if path is None or "\0" in uri or not path.is_dir() or _videos_below(path.absolute()):
        return None
    if not any(path.iterdir()):
        return f"the folder is empty: {shown(uri)}"
    return f"the folder holds no video, a file that ends in {_SUFFIXES.replace(' ', ', ')}: {shown(uri)}"


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
    """``uri`` as people may see it: on one line, without user, password and query. Never raises.

    A key of an object store may have a question mark in it: what follows one is a query if it has the form of one.
    """
    uri = _on_one_line(uri)
    scheme, mark, rest = uri.partition("://")
    if not mark or scheme_of(uri) == "file":
        return uri
    rest = _without_user(scheme_of(uri), rest)
    if scheme_of(uri) in _PORTS:
        return scheme + mark + re.split("[?#]", rest, maxsplit=1)[0]
    before, _, query = rest.partition("?")
    return scheme + mark + (before if "=" in query else rest)


def _without_user(scheme: str, rest: str) -> str:
    """What follows ``://``, without user and password, also where the password has a slash or a question mark in it.

    In Azure's ``container@account`` the container stays.
    """
    host = re.split("[/?#]", rest, maxsplit=1)[0]
    user, at, place = host.rpartition("@")
    if at:
        return rest if scheme in _CONTAINER_SCHEMES and ":" not in user else place + rest[len(host) :]
    return rest.rpartition("@")[2] if _NO_PORT.search(host) else rest


def distinct_names(videos: Iterable[tuple[str, str]]) -> list[str]:
    """What lines about several videos call each, by name and place: its name, where several share it its place."""
    known = list(videos)
    count = Counter(name for name, _ in known)
    return [name if count[name] == 1 else place for name, place in known]


def _on_one_line(text: str) -> str:
    """``text`` without what would break a line or move a terminal's cursor."""
    return _CONTROL.sub(lambda found: f"\\x{ord(found[0]):02x}", text)


def check_remote(uri: str) -> None:
    """Raise ``InvalidVideo`` when ``uri``, of any scheme but ``file``, can be seen to be wrong without opening it."""
    scheme, place = scheme_of(uri), _SCHEME.sub("", uri).partition("/")[0]
    if scheme in _PORTS:
        web_place(uri)
    elif _CONTROL.search(uri):
        raise InvalidVideo(f"a URI with control characters is not read: {shown(uri)}")
    elif not place:
        raise InvalidVideo(f"not a URI, it names no host or bucket: {shown(uri)}")
    elif scheme in _BUCKET_SCHEMES and not _BUCKET.fullmatch(place):
        raise InvalidVideo(f"not the name of a bucket: {shown(uri)}")


@dataclass(frozen=True)
class WebPlace:
    """What is asked of whom on the web: ``target`` is path and query, percent-encoded; ``host`` a name or an IP address
    in ASCII, without brackets.
    """

    scheme: str
    host: str
    port: int
    target: str

    @property
    def authority(self) -> str:
        """Host and port as a Host header has them."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == _PORTS[self.scheme] else f"{host}:{self.port}"


def web_place(uri: str) -> WebPlace:
    """Read an http(s) URI. Spaces and letters beyond ASCII in its path are percent-encoded, a fragment is dropped.

    Raises ``InvalidVideo`` for what is read differently by different programs: control characters, user and password,
    a backslash or a percent sign in the host, an IP address other than in its full form (``127.1``, ``0x7f000001``,
    a dot at the end, digits beyond ASCII).
    """
    if _CONTROL.search(uri):
        raise InvalidVideo(f"a URL with control characters is not read: {shown(uri)}")
    if "@" in re.split("[/?#]", uri.partition("://")[2], maxsplit=1)[0]:
        raise InvalidVideo(f"a URL with user or password is not read: {shown(uri)}")
    found = _WEB.fullmatch(uri)
    scheme = scheme_of(uri)
    try:
        if found is None or not 0 < (port := int(found["port"] or _PORTS[scheme])) < 65536:
            raise ValueError
        target = urllib.parse.quote(found["target"], safe="%/:?=&+,;@!$'()*[]~-._")
    except ValueError:  # half a letter in the path (UnicodeEncodeError) is one too
        raise InvalidVideo(f"not a URL: {shown(uri)}") from None
    try:
        host = _web_host(found["host"])
    except ValueError:
        raise InvalidVideo(f"the URL's host is neither a plain name nor a full address: {shown(uri)}") from None
    return WebPlace(scheme, host, port, target if target.startswith("/") else f"/{target}")


def _web_host(written: str) -> str:
    if written.startswith("["):
        return str(IPv6Address(written[1:-1]))
    labels = _ascii(written).split(".")
    if not all(_LABEL.fullmatch(label) for label in labels):
        raise ValueError
    host = ".".join(labels)
    if _NUMBER.fullmatch(labels[-1]):  # what the resolver would read as an address, in whatever base
        return str(IPv4Address(host))
    return host


def _ascii(name: str) -> str:
    if len(name) > 253:
        raise ValueError
    labels = [(label, label.encode("idna").decode()) for label in name.lower().split(".")]
    # "１２７" becomes "127", and "straße" another domain's "strasse": only what keeps its letters is a name.
    if any(not label.isascii() and not encoded.startswith("xn--") for label, encoded in labels):
        raise ValueError
    return ".".join(encoded for _, encoded in labels)
