"""What downloads may take of a disk: bytes are reserved before they are written, and returned with the file.

Owns the arithmetic of one disk in one process. An owner's downloads hold no more than a share of what the disk has
free without them: what others need is left, however many come, however large, and whatever a server announces.
"""

import shutil
import threading
from collections.abc import Hashable
from dataclasses import dataclass
from pathlib import Path

from cluster.contracts.errors import NoRoom

STEP_BYTES = 16 * 2**20
"""Bytes that are reserved ahead for a body whose length was not announced."""
KEPT_BYTES = 2 * 2**30
KEPT_PART = 50
"""Downloads leave so many bytes free, or one part in so many of a small disk: databases are on it, too."""
NO_ROOM_RETRY_S = 60.0


@dataclass(eq=False)
class Reservation:
    """The bytes of one file: ``reserved`` for it, of which ``written`` are on the disk."""

    owner: Hashable
    reserved: int = 0
    written: int = 0


class DiskSpace:
    """The disk that ``directory`` is on. ``owner_share``: what one owner may hold of what is free without it.

    ``keeps_free``: whether some is left that no download gets. Used by several threads.
    """

    def __init__(self, directory: Path, owner_share: float = 1.0, *, keeps_free: bool = True) -> None:
        self._directory = directory
        self._owner_share = owner_share
        self._keeps_free = keeps_free
        self._lock = threading.Lock()
        self._held: dict[Reservation, None] = {}

    def reserve(self, owner: Hashable = None) -> Reservation:
        """A reservation for a file of the owner's, of no bytes yet."""
        with self._lock:
            reservation = Reservation(owner)
            self._held[reservation] = None
            return reservation

    def extend(self, reservation: Reservation, total: int) -> None:
        """Reserve ``total`` bytes for the whole file. Raises ``NoRoom``, and then nothing has changed."""
        with self._lock:
            more = total - reservation.reserved
            if more <= 0:
                return
            if more > self._room(reservation.owner):
                raise NoRoom(f"the disk has no room for {total:,} bytes beside what it holds", NO_ROOM_RETRY_S)
            reservation.reserved = total

    def settle(self, reservation: Reservation) -> None:
        """The file is complete: what it did not need is returned."""
        with self._lock:
            reservation.reserved = reservation.written

    def release(self, reservation: Reservation) -> None:
        """The file is gone. Safe to call twice."""
        with self._lock:
            self._held.pop(reservation, None)

    def _room(self, owner: Hashable) -> float:
        """Number of further bytes that the owner may reserve."""
        disk = shutil.disk_usage(self._directory)
        kept = min(KEPT_BYTES, disk.total // KEPT_PART) if self._keeps_free else 0
        free = disk.free - kept - sum(each.reserved - each.written for each in self._held)
        held = sum(each.reserved for each in self._held if each.owner == owner)
        return min(free, self._owner_share * (free + held) - held)
