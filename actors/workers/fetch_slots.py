"""Slots for downloads: so many at once on a node, so many of one owner, and places kept for newcomers.

Owns the counting. A place costs a thread that waits for a socket, so a slow download takes nothing from the others but
its place; and as no owner gets the last ones beside its own, a newcomer never waits for another owner's download.
"""

import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from uuid import UUID

KEPT_PART = 4
"""One place in so many is given to owners alone who have no download on the node."""
FIRST_PAUSE_S = 10.0
MAX_PAUSE_S = 300.0


@dataclass(frozen=True)
class FetchLimit:
    """Downloads at once on a node, and those of one owner among them."""

    per_node: int = 32
    per_owner: int = 8


@dataclass(eq=False)
class FetchSlots:
    """The places of all nodes. Used on the scheduler's event loop alone."""

    limit: FetchLimit
    _by_node: Counter[str] = field(default_factory=Counter)
    _by_owner: Counter[tuple[str, UUID | None]] = field(default_factory=Counter)

    def may_begin(self, node_id: str, owner_id: UUID | None) -> bool:
        """Whether a download of the owner may begin on the node."""
        of_owner = self._by_owner[node_id, owner_id]
        kept = max(1, self.limit.per_node // KEPT_PART) if of_owner else 0
        return of_owner < self.limit.per_owner and self._by_node[node_id] < self.limit.per_node - kept

    def begin(self, node_id: str, owner_id: UUID | None) -> None:
        """A download of the owner takes a place."""
        self._by_node[node_id] += 1
        self._by_owner[node_id, owner_id] += 1

    def end(self, node_id: str, owner_id: UUID | None) -> None:
        """It gives the place back."""
        self._by_node[node_id] -= 1
        self._by_owner[node_id, owner_id] -= 1
        if not self._by_owner[node_id, owner_id]:
            del self._by_owner[node_id, owner_id]

    def taken_by(self, owner_id: UUID | None) -> int:
        """Downloads of the owner, on all nodes."""
        return sum(taken for (_, owner), taken in self._by_owner.items() if owner == owner_id)


class OwnerPauses:
    """Owners of whom nothing is claimed for a while, since a file of theirs found no room on a disk.

    The pause of one owner grows while its files find none, and is over as soon as one does.
    """

    def __init__(self, now_s: Callable[[], float] = time.monotonic) -> None:
        self._now_s = now_s
        self._until_s: dict[UUID, float] = {}
        self._pause_s: dict[UUID, float] = {}

    def note_no_room(self, owner_id: UUID) -> None:
        """A file of the owner did not fit. What fails while the owner is paused anyway says nothing new."""
        now_s = self._now_s()
        if self._until_s.get(owner_id, 0.0) > now_s:
            return
        pause_s = self._pause_s.get(owner_id, FIRST_PAUSE_S)
        self._until_s[owner_id] = now_s + pause_s
        self._pause_s[owner_id] = min(2 * pause_s, MAX_PAUSE_S)

    def note_room(self, owner_id: UUID) -> None:
        """A file of the owner is there."""
        self._until_s.pop(owner_id, None)
        self._pause_s.pop(owner_id, None)

    def paused(self) -> set[UUID]:
        """The owners who are paused now; those who were long ago are forgotten."""
        now_s = self._now_s()
        for owner in [owner for owner, until_s in self._until_s.items() if now_s - until_s > 2 * MAX_PAUSE_S]:
            self.note_room(owner)
        return {owner for owner, until_s in self._until_s.items() if until_s > now_s}


def caps_of(waiting: Iterable[UUID], most: int, paused: Iterable[UUID]) -> Mapping[UUID, int]:
    """Number of further videos of an owner that may be claimed, where that is limited.

    ``waiting``: the owner of each download that runs or waits for a place, of which one owner has at most ``most``.
    """
    caps = {owner: max(0, most - count) for owner, count in Counter(waiting).items()}
    return caps | dict.fromkeys(paused, 0)
