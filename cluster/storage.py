"""URI -> local file: the only place where a video's URI is opened.

Owns which schemes are read, the limits on size and time while copying, and what a failed fetch means: the
video's fault or the network's. Leaves what a URI says by itself to ``video_uris``, what is inside the file to
``actors.stages.media_reader``.

Local paths and ``file://`` are read where they lie. ``http(s)://`` goes through urllib with no other handler
installed, every other scheme through fsspec, without its URL chaining (``zip::http://``).
"""

import errno
import http.client
import io
import re
import shutil
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import fsspec

from cluster.contracts.errors import ConfigurationError, HeimdexError, InvalidVideo, TransientFailure
from cluster.contracts.media import LocalVideo
from cluster.video_uris import expand, filename_of, local_path, scheme_of, shown

__all__ = ["FetchLimits", "expand", "fetch", "filename_of", "scheme_of"]

_CHUNK_BYTES = 1 << 20
_STALL_S = 60.0
"""A connection that delivers nothing for this long is given up, however much time the limit leaves."""


@dataclass(frozen=True)
class FetchLimits:
    """How much may be fetched, how long that may take, and from where.

    ``allowed_schemes``: lower case, without ``://``; ``file`` stands for local paths too.
    """

    max_bytes: int
    timeout_s: float
    allowed_schemes: frozenset[str] = frozenset({"file", "http", "https", "s3"})


class _Source(Protocol):
    """An opened remote file; ``read`` returns b"" at the end."""

    def read(self, size: int, /) -> bytes: ...


def fetch(uri: str, directory: Path, limits: FetchLimits) -> LocalVideo:
    """Make ``uri`` a local file: used in place when it is one, else copied to a file of its own in
    ``directory``.

    Raises ``InvalidVideo`` when the URI can never be read (missing, forbidden, empty, too large, scheme not
    allowed), ``TransientFailure`` when another attempt may succeed (network, time limit, disk full),
    ``ConfigurationError`` when this machine lacks what the scheme needs (driver, credentials).
    """
    scheme = scheme_of(uri)
    if scheme not in limits.allowed_schemes:
        allowed = ", ".join(sorted(limits.allowed_schemes))
        raise InvalidVideo(f"the scheme {scheme}:// is not allowed (allowed: {allowed}): {shown(uri)}")
    if scheme == "file":
        return _in_place(uri, limits)
    return _copied(uri, directory, limits)


def _in_place(uri: str, limits: FetchLimits) -> LocalVideo:
    local = local_path(uri)
    if local is None:
        raise InvalidVideo(f"file:// names a file of this machine, not of another host: {uri}")
    path = local.absolute()
    try:
        size = path.stat().st_size
        if path.is_file():
            path.open("rb").close()
    except (OSError, ValueError) as error:
        raise _local_failure(path, error) from error
    if not path.is_file():
        what = "a folder, not a video file" if path.is_dir() else "not a regular file"
        raise InvalidVideo(f"{what}: {path}")
    _check_size(size, limits)
    return LocalVideo(path=path, size_bytes=size, temporary=False)


def _local_failure(path: Path, error: OSError | ValueError) -> HeimdexError:
    if isinstance(error, ValueError):  # a NUL in the name
        return InvalidVideo(f"not a file name: {str(path)!r}")
    if isinstance(error, (FileNotFoundError, NotADirectoryError)):
        return InvalidVideo(f"no such file: {path}")
    if isinstance(error, PermissionError):
        return InvalidVideo(f"permission denied: {path}")
    if error.errno in {errno.ENAMETOOLONG, errno.ELOOP}:
        return InvalidVideo(f"{error.strerror}: {path}")
    return TransientFailure(f"cannot read {path}: {error.strerror}")


def _check_size(size: int, limits: FetchLimits) -> None:
    if size == 0:
        raise InvalidVideo("the file is empty")
    if size > limits.max_bytes:
        raise InvalidVideo(f"the file has {size:,} bytes, the limit is {limits.max_bytes:,} bytes")


def _copied(uri: str, directory: Path, limits: FetchLimits) -> LocalVideo:
    suffix = re.sub(r"[^A-Za-z0-9.]", "", Path(filename_of(uri)).suffix)[:10]
    target = directory / f"video{suffix}"
    deadline = time.monotonic() + limits.timeout_s
    try:
        with _blaming_this_machine(directory):
            directory.mkdir(parents=True, exist_ok=True)
        with _blaming_the_source(uri), _open(uri, limits) as (source, stated_size):
            if stated_size is not None:
                _check_size(stated_size, limits)
                if stated_size > shutil.disk_usage(directory).free:
                    raise TransientFailure(f"not enough space in {directory} for {stated_size:,} bytes")
            size = _copy(source, target, limits, deadline)
            if stated_size is not None and size < stated_size:
                progress = f"{size:,} of {stated_size:,} bytes"
                raise TransientFailure(f"the connection ended after {progress}: {shown(uri)}")
    except BaseException:
        if not target.is_symlink():
            target.unlink(missing_ok=True)
        raise
    return LocalVideo(path=target, size_bytes=size, temporary=True)


def _copy(source: _Source, target: Path, limits: FetchLimits, deadline: float) -> int:
    size = 0
    with _blaming_this_machine(target.parent):
        out = target.open("wb", buffering=0)
    with out:
        while chunk := source.read(_CHUNK_BYTES):
            size += len(chunk)
            if size > limits.max_bytes:
                raise InvalidVideo(f"the file is larger than the limit of {limits.max_bytes:,} bytes")
            if time.monotonic() > deadline:
                raise TransientFailure(f"fetching took longer than the limit of {limits.timeout_s:g} s")
            with _blaming_this_machine(target.parent):
                _write_all(out, chunk)
    _check_size(size, limits)
    return size


def _write_all(out: io.FileIO, chunk: bytes) -> None:
    rest = memoryview(chunk)
    while rest:
        rest = rest[out.write(rest) :]


@contextmanager
def _blaming_this_machine(directory: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno in {errno.ENOSPC, errno.EDQUOT}:
            raise TransientFailure(f"the disk is full: {directory}") from error
        raise TransientFailure(f"cannot write to {directory}: {error.strerror}") from error


@contextmanager
def _open(uri: str, limits: FetchLimits) -> Iterator[tuple[_Source, int | None]]:
    """The one place where a remote URI is opened: what may be connected to is decided here."""
    if scheme_of(uri) in {"http", "https"}:
        with _web_opener().open(_quoted(uri), timeout=min(_STALL_S, limits.timeout_s)) as response:
            stated = response.headers.get("Content-Length", "")
            yield _WebSource(response), int(stated) if stated.isdigit() else None
        return
    filesystem, path = _filesystem(uri)
    info = filesystem.info(path)
    if info.get("type") == "directory":
        raise InvalidVideo(f"a folder, not a video file: {shown(uri)}")
    with filesystem.open(path, "rb", block_size=8 * _CHUNK_BYTES) as source:
        yield source, info.get("size")


class _WebSource:
    """Reads what has arrived instead of waiting for a whole chunk, so that a trickle meets the time limit."""

    def __init__(self, response: http.client.HTTPResponse) -> None:
        self._response = response

    def read(self, size: int, /) -> bytes:
        return self._response.read1(size)


def _web_opener() -> urllib.request.OpenerDirector:
    """An opener that speaks only HTTP(S), so that no redirect leads to a file or an FTP server."""
    opener = urllib.request.OpenerDirector()
    for handler in (
        urllib.request.ProxyHandler(),
        urllib.request.HTTPHandler(),
        urllib.request.HTTPSHandler(),
        urllib.request.HTTPDefaultErrorHandler(),
        urllib.request.HTTPRedirectHandler(),
        urllib.request.HTTPErrorProcessor(),
    ):
        opener.add_handler(handler)
    opener.addheaders = [("User-Agent", "heimdex-cluster")]
    return opener


def _quoted(url: str) -> str:
    """``url`` with spaces and letters beyond ASCII percent-encoded, everything else as it is."""
    try:
        parts = urllib.parse.urlsplit(url)
        valid = bool(parts.hostname) and parts.port != 0
    except ValueError:
        valid = False
    if not valid:
        raise InvalidVideo(f"not a URL: {shown(url)}")
    return urllib.parse.quote(url.partition("#")[0], safe="%/:?=&+,;@!$'()*[]~-._")


def _filesystem(uri: str) -> tuple[Any, str]:
    # fsspec.url_to_fs would follow "::" chains out of the allowed scheme; the class alone does not.
    scheme = scheme_of(uri)
    try:
        kind = fsspec.get_filesystem_class(scheme)
    except ImportError as error:
        raise ConfigurationError(f"reading {scheme}:// needs a driver that is not installed: {error}") from error
    except ValueError as error:
        raise InvalidVideo(f"nothing here reads the scheme {scheme}://: {shown(uri)}") from error
    options = kind._get_kwargs_from_urls(uri)
    if scheme == "s3":
        options["config_kwargs"] = {
            "connect_timeout": 10,
            "read_timeout": _STALL_S,
            "retries": {"max_attempts": 2},
        }
    return kind(**options), kind._strip_protocol(uri)


@contextmanager
def _blaming_the_source(uri: str) -> Iterator[None]:
    """Turn whatever a driver raises into the cluster's own errors."""
    try:
        yield
    except HeimdexError:
        raise
    except urllib.error.HTTPError as error:
        with error:
            raise _web_failure(uri, error) from error
    except Exception as error:
        raise _source_failure(uri, error) from error


def _source_failure(uri: str, error: Exception) -> HeimdexError:
    for kind, sentence in _INVALID.items():
        if isinstance(error, kind):
            return InvalidVideo(f"{sentence}: {shown(uri)}")
    if type(error).__name__ in {"NoCredentialsError", "PartialCredentialsError"}:
        return ConfigurationError(f"no credentials for {shown(uri)}: set AWS_ACCESS_KEY_ID and so on")
    return TransientFailure(f"cannot fetch {shown(uri)}: {_reason(error)}")


_INVALID: dict[type[Exception], str] = {
    FileNotFoundError: "no such file",
    PermissionError: "access denied",
    IsADirectoryError: "a folder, not a video file",
    http.client.InvalidURL: "not a URL",
    UnicodeError: "not a URL",
}


def _web_failure(uri: str, error: urllib.error.HTTPError) -> HeimdexError:
    if error.code in {404, 410}:
        return InvalidVideo(f"no such file: {shown(uri)} (HTTP {error.code})")
    if error.code in {401, 403, 407, 451}:
        return InvalidVideo(f"access denied: {shown(uri)} (HTTP {error.code})")
    if error.code < 500 and error.code not in {408, 425, 429}:
        return InvalidVideo(f"the server refused {shown(uri)} (HTTP {error.code})")
    return TransientFailure(f"cannot fetch {shown(uri)}: HTTP {error.code} {error.reason}")


def _reason(error: Exception) -> str:
    cause = error.reason if isinstance(error, urllib.error.URLError) else error
    if isinstance(cause, TimeoutError):
        return "no answer in time"
    return (getattr(cause, "strerror", None) or str(cause) or type(cause).__name__).splitlines()[0]
