"""Small files of one owner, decoded one after another by the same copy of a decoder process.

A copy costs more processor time (page faults of a fork) than decoding a short clip. So a small file is copied into a
folder, the only one that the decoder of its owner can read, and that decoder is kept for the owner's next file. A
decoder that was broken by a file can reach the files of no other owner: they are never in that folder. Large files, and
files whose owner is not known, are read in place, each by a process of its own.
"""

import fcntl
import os
import shutil
import tempfile
import threading
from collections.abc import Generator, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from uuid import UUID

from cluster.contracts.media import LocalVideo
from cluster.decoders.process import DecoderCopy, DecoderProcess

SMALL_BYTES = 4 * 2**20
"""Files up to this size are copied: that takes about a millisecond at most."""
MAX_CALLS = 300
"""Calls after which a decoder is replaced, so that memory that it lost is returned."""
MAX_KEPT_BYTES = 512 * 2**20
"""A decoder that holds more after a call is replaced as well: what a file has it lose is not there for the next one.
Loaded, it holds some 120 MiB, and of what it freed it keeps up to 64 MiB."""
MAX_IDLE = 2
"""Decoders that are kept while nothing is decoded; the one that was used longest ago is ended."""
LOCK_TRIES = 3
"""Folders that are made before files are read in place: some file systems know no locks."""
_PREFIX = "decoder-"
_AS_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


@dataclass(eq=False)
class _Kept:
    """A decoder of one owner. ``folder``: where its files are put."""

    owner_id: UUID
    folder: Path
    copy: DecoderCopy
    calls: int = 0


class OwnerDecoders:
    """The decoders of a worker, for several threads. ``root``: a private folder, which other workers use as well."""

    def __init__(self, decoder: DecoderProcess, root: Path) -> None:
        self._decoder = decoder
        self._root = root
        self._lock = threading.Lock()
        self._idle: list[_Kept] = []
        self._folder: Path | None = None

    def parts(self, name: str, video: LocalVideo, *arguments: Any) -> Generator[Any, None, None]:
        """What the call answers about the video, part by part. Raises as ``DecoderProcess.call``."""
        kept = self._take(video)
        if kept is None:
            yield from self._decoder.parts(name, video, *arguments)
            return
        try:
            with _copied(video, kept.folder) as copy:
                if copy is None:
                    yield from self._decoder.parts(name, video, *arguments)
                else:
                    kept.calls += 1
                    yield from kept.copy.parts(name, copy, *arguments)
        finally:
            self._give_back(kept)

    def close(self) -> None:
        """End the decoders that are kept, and remove their folders."""
        with self._lock:
            idle, self._idle = self._idle, []
        for kept in idle:
            _end(kept)

    def _take(self, video: LocalVideo) -> _Kept | None:
        """The decoder of the video's owner; None when the video is read in place, as where no folder can be made."""
        owner_id = video.owner_id
        if owner_id is None or video.size_bytes > SMALL_BYTES:
            return None
        with self._lock:
            self._end_dead()
            for kept in self._idle:
                if kept.owner_id == owner_id:
                    self._idle.remove(kept)
                    return kept
            try:
                folder = Path(tempfile.mkdtemp(dir=self._own_folder()))
            except OSError:
                return None
        try:
            return _Kept(owner_id, folder, self._decoder.copy(readable=folder))
        except BaseException:
            folder.rmdir()
            raise

    def _end_dead(self) -> None:
        """A decoder that died while it had nothing to do costs no video anything."""
        for kept in [kept for kept in self._idle if not kept.copy.is_open]:
            self._idle.remove(kept)
            _end(kept)

    def _give_back(self, kept: _Kept) -> None:
        ended = []
        with self._lock:
            if kept.copy.is_open and kept.calls < MAX_CALLS and kept.copy.memory_bytes <= MAX_KEPT_BYTES:
                self._idle.append(kept)
            else:
                ended.append(kept)
            while len(self._idle) > MAX_IDLE:
                ended.append(self._idle.pop(0))
        for each in ended:
            _end(each)

    def _own_folder(self) -> Path:
        """This process's folder, locked for as long as it lives; those of processes that are gone are removed."""
        if self._folder is not None:
            return self._folder
        for left in self._root.glob(f"{_PREFIX}*"):
            with suppress(OSError), _locked(left):
                shutil.rmtree(left)
        for _ in range(LOCK_TRIES):
            folder = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=self._root))
            with suppress(OSError):  # another process took it for one that was left, and removed it
                fcntl.flock(os.open(folder, _AS_FOLDER), fcntl.LOCK_EX | fcntl.LOCK_NB)
                if folder.exists():
                    self._folder = folder
                    return folder
            shutil.rmtree(folder, ignore_errors=True)
        raise OSError(f"no folder in {self._root} can be locked")


def _end(kept: _Kept) -> None:
    kept.copy.close()
    shutil.rmtree(kept.folder, ignore_errors=True)


@contextmanager
def _copied(video: LocalVideo, folder: Path) -> Iterator[LocalVideo | None]:
    """The file's copy in the folder, under its own name, of the length that it had when it was found.

    None when it cannot be copied: the disk is full, or the file is gone, which reading it in place reports.
    """
    copy = folder / video.path.name
    try:
        with video.path.open("rb") as file:
            copy.write_bytes(file.read(video.size_bytes))
    except OSError:
        copy.unlink(missing_ok=True)
        yield None
        return
    try:
        yield replace(video, path=copy)
    finally:
        copy.unlink(missing_ok=True)


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Raises OSError when a living process has locked it."""
    opened = os.open(folder, _AS_FOLDER)
    try:
        fcntl.flock(opened, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    finally:
        os.close(opened)
