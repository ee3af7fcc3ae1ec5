"""Downloads of one node: files brought here, each in a folder of its own, stopped and removed again.

Several run at once, each in the thread of its caller. Leaves what may be fetched, and how, to
``cluster.files.storage``; no media library is loaded here, and nothing of a file is read but its first bytes.
"""

import shutil
import threading
from dataclasses import dataclass, field, replace
from pathlib import Path
from uuid import UUID

from cluster.contracts.errors import Interrupted
from cluster.contracts.media import LocalVideo
from cluster.contracts.videos import Origin
from cluster.files.disk_space import DiskSpace, Reservation
from cluster.files.origins import limits_for
from cluster.files.storage import Copy, FetchLimits, fetch


@dataclass(frozen=True)
class _Kept:
    """A download: the bytes that it holds, whether it is to stop, and whether it has ended."""

    reservation: Reservation
    stopped: threading.Event = field(default_factory=threading.Event)
    ended: threading.Event = field(default_factory=threading.Event)


class Fetcher:
    """Brings files to this node; fetched files are in ``scratch_dir``. ``owner_share``: see ``DiskSpace``."""

    def __init__(self, limits: FetchLimits, scratch_dir: Path, owner_share: float) -> None:
        self._limits = limits
        self._scratch_dir = scratch_dir
        self._space = DiskSpace(scratch_dir, owner_share)
        self._kept: dict[str, _Kept] = {}

    def fetch(self, uri: str, key: str, owner_id: UUID | None = None, origin: Origin = Origin.COMMAND) -> LocalVideo:
        """Copy ``uri`` to this node; ``key`` (a video's and attempt's) names its folder.

        Raises as ``cluster.files.storage.fetch`` does, ``Interrupted`` when it is discarded meanwhile, and
        ``InvalidVideo`` for what a submission of that origin, of ``owner_id``, may not have. Then nothing of it is
        left.
        """
        limits = self._limits
        if owner_id is not None:
            limits = limits_for(uri, origin, owner_id, limits)
        directory = self._scratch_dir / key
        kept = _Kept(self._space.reserve(owner_id))
        self._kept[key] = kept
        try:
            video = fetch(uri, Copy(directory, self._space, kept.reservation, kept.stopped), limits)
            self._space.settle(kept.reservation)
            kept.ended.set()
            if kept.stopped.is_set():  # whichever of both threads comes second removes the file
                raise Interrupted("the download was stopped")
        except BaseException:
            shutil.rmtree(directory, ignore_errors=True)
            self._forget(key)
            raise
        return replace(video, owner_id=owner_id)

    def discard(self, key: str) -> None:
        """Remove what was fetched under ``key``; a download that runs is stopped and removes it. Safe to call twice."""
        kept = self._kept.get(key)
        if kept is not None:
            kept.stopped.set()
            if not kept.ended.is_set():
                return
        shutil.rmtree(self._scratch_dir / Path(key).name, ignore_errors=True)
        self._forget(key)

    def list_downloads(self) -> list[str]:
        """The keys under which something is stored on this node, also of other processes."""
        if not self._scratch_dir.exists():
            return []
        return [folder.name for folder in self._scratch_dir.iterdir()]

    def _forget(self, key: str) -> None:
        kept = self._kept.pop(key, None)
        if kept is not None:
            self._space.release(kept.reservation)
