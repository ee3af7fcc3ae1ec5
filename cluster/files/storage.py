"""URI -> local file: the only place where a video's URI is opened.

Owns which schemes are read, the limits on size and time while copying, and what a failed fetch means: the
video's fault or the network's. Leaves how long a source is waited for to ``deadline``, the disk to ``disk_space``,
what a URI alone says to ``contracts.uris``, where the web may be read to ``web_source``, what is inside the file to
``actors.stages.media_reader``.

Local paths and ``file://`` are read in place. ``http(s)://`` goes through ``web_source``, every other scheme
through fsspec, without its URL chaining (``zip::http://``). Which server answers for ``s3://`` or ``gs://`` is said by
the environment alone: a URI names a bucket and a key. Schemes whose URIs name the host themselves (``ftp``, ``sftp``)
connect to wherever they say, so only those who trust their users allow them. A relative path is below the storage
root, see ``storage_root``.
"""

import errno
import http.client
import os
import re
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from ipaddress import IPv4Network, IPv6Network
from pathlib import Path
from typing import IO, Any

import fsspec

from cluster.contracts.errors import (
    ConfigurationError,
    HeimdexError,
    InvalidVideo,
    SourceBusy,
    SourceChanging,
    TransientFailure,
)
from cluster.contracts.media import LocalVideo
from cluster.contracts.uri_prefixes import WEB_ALONE, HttpRules
from cluster.contracts.uris import (
    check_remote,
    expand,
    filename_of,
    folder_without_videos,
    local_path,
    scheme_of,
    shown,
)
from cluster.files.copied_file import CopiedFile, blaming_this_machine, check_size
from cluster.files.deadline import ANY_PACE, STALL_S, Deadline, Pace
from cluster.files.disk_space import DiskSpace, Reservation
from cluster.files.driver_thread import read_beside
from cluster.files.storage_root import StorageRoot, is_relative
from cluster.files.web_answer import TOO_MANY_REQUESTS_S, check_status
from cluster.files.web_source import WebReach, open_web
from cluster.files.web_transfer import CHANGING_RETRY_S, transfer
from cluster.security.private_files import PRIVATE_FOLDER, open_new_descriptor
from cluster.security.redaction import redacted, store_reason, without_folders

__all__ = ["Copy", "FetchLimits", "check_stored", "expand", "fetch", "filename_of", "locate", "scheme_of"]

_SMALLEST_READ_BYTES, _LARGEST_READ_BYTES = 64 * 2**10, 4 * 2**20
"""Bytes that a driver is asked for at once; each reads ahead by the smallest."""
_BRIEF_READ_S, _LONG_READ_S = 0.5, 4.0
_WEB_SCHEMES = {"http", "https"}


@dataclass(frozen=True)
class FetchLimits:
    """How much may be fetched, how long that may take, and from where.

    ``allowed_schemes``: lower case, without ``://``; ``file`` includes local paths. ``private_networks``:
    addresses that http(s) may lead to although they are not public.
    """

    max_bytes: int
    timeout_s: float
    allowed_schemes: frozenset[str] = frozenset({"file", "http", "https", "s3"})
    private_networks: tuple[IPv4Network | IPv6Network, ...] = ()
    storage_root: StorageRoot | None = None
    """The root of relative paths, whatever the other rules allow; None: there are none."""
    http: HttpRules = WEB_ALONE
    """Rules for what of it is fetched for submissions by HTTP; ``cluster.files.origins`` applies them."""
    pace: Pace = ANY_PACE
    """The least that a source must send."""

    def without_key(self) -> "FetchLimits":
        """The same for a process that opens files of this machine alone: the storage root's key is left out."""
        root = self.storage_root
        return replace(self, storage_root=None if root is None else StorageRoot(root.url))


@dataclass(frozen=True)
class Copy:
    """Where a copy goes: a file of its own in ``directory``, whose bytes are reserved on the disk.

    ``stopped``: set by another thread to end the copying.
    """

    directory: Path
    space: DiskSpace
    reservation: Reservation
    stopped: threading.Event = field(default_factory=threading.Event)

    @staticmethod
    def alone(directory: Path) -> "Copy":
        """A copy that shares the disk with no others that this process knows of."""
        space = DiskSpace(directory, keeps_free=False)
        return Copy(directory, space, space.reserve())


def fetch(uri: str, directory: Path | Copy, limits: FetchLimits) -> LocalVideo:
    """Make ``uri`` a local file: used in place when it is one, else copied to a file of its own in
    ``directory``.

    Raises ``InvalidVideo`` when the URI can never be read (missing, forbidden, empty, too large, scheme not
    allowed), ``TransientFailure`` when another attempt may succeed (network, time limit, disk full),
    ``ConfigurationError`` when this machine lacks what the scheme needs (driver, credentials).
    """
    with _hiding_root(uri, limits):
        found = _permitted(uri, limits)
        if scheme_of(found) == "file":
            return _in_place(found, limits)
        return _copied(found, directory if isinstance(directory, Copy) else Copy.alone(directory), limits)


def locate(uri: str, limits: FetchLimits) -> LocalVideo:
    """The file of this machine that ``uri`` names, used in place. Raises as :func:`fetch` does; copies nothing."""
    with _hiding_root(uri, limits):
        found = _permitted(uri, limits)
        if scheme_of(found) != "file":
            raise InvalidVideo(f"not a file of this machine: {shown(uri)}")
        return _in_place(found, limits)


def _permitted(uri: str, limits: FetchLimits) -> str:
    """The full form of ``uri``, if its scheme is allowed; a relative path is below the storage root."""
    if is_relative(uri):
        return _stored(uri, limits)
    scheme = scheme_of(uri)
    if scheme not in limits.allowed_schemes:
        allowed = ", ".join(sorted(limits.allowed_schemes))
        raise InvalidVideo(f"the scheme {scheme}:// is not allowed (allowed: {allowed}): {shown(uri)}")
    return uri


def check_stored(path: str, limits: FetchLimits) -> None:
    """Find out whether the file of a relative path is there. Raises as :func:`fetch` does, copies nothing."""
    with _hiding_root(path, limits):
        _check_stored(_stored(path, limits), limits)


def _check_stored(uri: str, limits: FetchLimits) -> None:
    if scheme_of(uri) == "file":
        _in_place(uri, limits)
        return
    deadline = Deadline(limits.timeout_s)
    with _blaming_the_source(uri, deadline):
        if scheme_of(uri) in _WEB_SCHEMES:
            with open_web(uri, _reach(limits, deadline)) as response:
                check_status(uri, response)
        else:
            _found(uri)


def _stored(path: str, limits: FetchLimits) -> str:
    if limits.storage_root is None:
        raise InvalidVideo(f"a relative path, and HEIMDEX_STORAGE_ROOT is not set: {shown(path)}")
    return limits.storage_root.uri_of(path)


@contextmanager
def _hiding_root(path: str, limits: FetchLimits) -> Iterator[None]:
    """Have errors name a stored file by its path: where the root is, is the operator's alone to know."""
    try:
        yield
    except HeimdexError as error:
        root = limits.storage_root
        if root is not None and is_relative(path):
            error.args = (root.hidden_in(str(error), path), *error.args[1:])
        raise


def _in_place(uri: str, limits: FetchLimits) -> LocalVideo:
    local = local_path(uri)
    if local is None:
        raise InvalidVideo(f"file:// names a file of this machine, not of another host: {uri}")
    path = local.absolute()
    try:
        found = path.stat()
        if not path.is_file():
            raise InvalidVideo(folder_without_videos(uri) or f"{_what_it_is(path)}: {path}")
        path.open("rb").close()
    except (OSError, ValueError) as error:
        raise _local_failure(path, error) from error
    check_size(found.st_size, limits.max_bytes)
    return LocalVideo(path, found.st_size, temporary=False, modified_ns=found.st_mtime_ns)


def _what_it_is(path: Path) -> str:
    return "a folder, not a video file" if path.is_dir() else "not a regular file"


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


def _copied(uri: str, into: Copy, limits: FetchLimits) -> LocalVideo:
    suffix = re.sub(r"[^A-Za-z0-9.]", "", Path(filename_of(uri)).suffix)[:10]
    path = into.directory / f"video{suffix}"
    deadline = Deadline(limits.timeout_s, limits.pace, into.stopped)
    try:
        with blaming_this_machine():
            into.directory.mkdir(mode=PRIVATE_FOLDER, parents=True, exist_ok=True)
            path.unlink(missing_ok=True)  # of a worker that was killed meanwhile
            file = os.fdopen(open_new_descriptor(path), "r+b", buffering=0)
        with file, _blaming_the_source(uri, deadline):
            copy = CopiedFile(file, into.space, into.reservation, limits.max_bytes, deadline)
            _open(uri, limits, deadline, copy)
            check_size(copy.size, limits.max_bytes)
    except BaseException:
        if not path.is_symlink():
            path.unlink(missing_ok=True)
        raise
    return LocalVideo(path=path, size_bytes=copy.size, temporary=True)


def _open(uri: str, limits: FetchLimits, deadline: Deadline, copy: CopiedFile) -> None:
    """The one place where a remote URI is opened: what may be connected to is decided here."""
    if scheme_of(uri) in _WEB_SCHEMES:
        transfer(uri, _reach(limits, deadline), copy)
        return
    stated_size: int | None = None
    for part in read_beside(lambda: _driver_parts(uri), deadline):
        if not isinstance(part, _Announced):
            copy.write(part)
        elif part.size is not None:
            stated_size = part.size
            copy.expect(stated_size)
    if stated_size is not None and copy.size < stated_size:
        progress = f"{copy.size:,} of {stated_size:,} bytes"
        raise TransientFailure(f"the connection ended after {progress}: {shown(uri)}")


@dataclass(frozen=True)
class _Announced:
    """The size that a driver states before it reads; None: it states none."""

    size: int | None


def _driver_parts(uri: str) -> Iterator[bytes | _Announced]:
    """What a driver says and reads, for a thread of its own."""
    filesystem, path, info = _found(uri)
    yield _Announced(info.get("size"))
    with filesystem.open(path, "rb", block_size=_SMALLEST_READ_BYTES) as source:
        yield from _reads(source)
    filesystem.invalidate_cache(path)
    if _stamp(filesystem.info(path)) != _stamp(info):
        raise SourceChanging(f"the file is still being written where it is stored: {shown(uri)}", CHANGING_RETRY_S)


def _reads(source: IO[bytes]) -> Iterator[bytes]:
    """All of it, in reads that take about a second: so a slow source is seen to send, and a fast one is asked less."""
    size = 4 * _SMALLEST_READ_BYTES
    while True:
        since_s = time.monotonic()
        chunk = source.read(size)
        if not chunk:
            return
        took_s = time.monotonic() - since_s
        yield chunk
        if took_s < _BRIEF_READ_S:
            size = min(2 * size, _LARGEST_READ_BYTES)
        elif took_s > _LONG_READ_S:
            size = max(size // 2, _SMALLEST_READ_BYTES)


def _reach(limits: FetchLimits, deadline: Deadline) -> WebReach:
    return WebReach(deadline, limits.allowed_schemes, limits.private_networks, limits.storage_root)


def _found(uri: str) -> tuple[Any, str, dict[str, Any]]:
    """The driver, the path and what the driver says of the file there."""
    filesystem, path = driver_of(uri)
    info = filesystem.info(path)
    if info.get("type") == "directory":
        raise InvalidVideo(f"a folder, not a video file: {shown(uri)}")
    return filesystem, path, info


def _stamp(info: Mapping[str, Any]) -> tuple[Any, ...]:
    """The properties that distinguish versions of a file, as far as its driver states them."""
    return tuple(info.get(name) for name in ("size", "ETag", "etag", "mtime", "LastModified", "updated", "modify"))


def driver_of(uri: str) -> tuple[Any, str]:
    """The driver that reaches the object that ``uri``, of no web scheme, names, and the object's path there.

    Raises:
        ConfigurationError: the driver is not installed.
        InvalidVideo: there is no driver for such a URI.
    """
    # fsspec.url_to_fs would follow "::" chains out of the allowed scheme; the class alone does not.
    scheme = scheme_of(uri)
    check_remote(uri)
    try:
        kind = fsspec.get_filesystem_class(scheme)
    except ImportError as error:
        raise ConfigurationError(
            f"reading {scheme}:// needs a driver that is not installed: {without_folders(str(error))}"
        ) from error
    except ValueError as error:
        raise InvalidVideo(f"nothing here reads the scheme {scheme}://: {shown(uri)}") from error
    uri = scheme + uri[len(scheme) :]  # drivers take off "s3://", not "S3://"
    path = kind._strip_protocol(uri)
    options = kind._get_kwargs_from_urls(uri)
    if scheme == "s3":
        options["config_kwargs"] = {
            "connect_timeout": 10,
            "read_timeout": STALL_S,
            "retries": {"max_attempts": 2},
        }
    return kind(**options), path


@contextmanager
def _blaming_the_source(uri: str, deadline: Deadline) -> Iterator[None]:
    """Turn whatever a driver raises into the cluster's own errors."""
    try:
        yield
    except HeimdexError:
        raise
    except Exception as error:
        if isinstance(error, TimeoutError):
            deadline.check()
        raise _source_failure(uri, error) from error


def _source_failure(uri: str, error: Exception) -> HeimdexError:
    for kind, sentence in _INVALID.items():
        if isinstance(error, kind) and scheme_of(uri) not in _WEB_SCHEMES:  # there, a firewall's EPERM is one too
            return InvalidVideo(f"{sentence}: {shown(uri)}")
    if type(error).__name__ in {"NoCredentialsError", "PartialCredentialsError"}:
        return ConfigurationError(f"no credentials for {shown(uri)}: set AWS_ACCESS_KEY_ID and so on")
    reason = _reason(error) if scheme_of(uri) in _WEB_SCHEMES else store_reason(error)
    sentence = f"cannot fetch {shown(uri)}: {reason}"
    if isinstance(error, OSError) and error.errno == errno.EBUSY:  # S3: SlowDown, or written to while it is read
        return SourceBusy(sentence, TOO_MANY_REQUESTS_S)
    return TransientFailure(sentence)


_INVALID: dict[type[Exception], str] = {
    FileNotFoundError: "no such file",
    PermissionError: "access denied",
    IsADirectoryError: "a folder, not a video file",
    UnicodeError: "not a URL",
}


def _reason(error: Exception) -> str:
    if isinstance(error, TimeoutError):
        return "no answer in time"
    if isinstance(error, http.client.IncompleteRead):
        return "the connection ended early"
    if isinstance(error, http.client.HTTPException) and not isinstance(error, OSError):
        return "the answer is not HTTP, or its head is longer than 100 lines"  # nothing of what it is instead
    return redacted((getattr(error, "strerror", None) or str(error) or type(error).__name__).splitlines()[0])
