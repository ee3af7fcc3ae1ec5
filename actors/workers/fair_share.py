"""Chooses the owner whose turn it is: those served least come first, and absence saves nothing up.

Start-time fair queueing (Goyal, Vin, Cheng 1996) over the run seconds of all workers: an owner who comes in is placed
where those in service began, so that a newcomer is next without making up for the time before. In service are owners
with videos that want workers: one whose file is slow to come wants none until it is there.
"""

from collections import Counter
from uuid import UUID


class FairShare:
    """Run seconds by owner, compared with one another. Used on the scheduler's event loop alone."""

    def __init__(self) -> None:
        self._served_s: dict[UUID, float] = {}
        self._owners: dict[int, UUID] = {}
        self._present: Counter[UUID] = Counter()
        self._now_s = 0.0

    def enter(self, token: int, owner_id: UUID) -> None:
        """The owner's video of this lease token wants workers, unless it does already."""
        if token in self._owners:
            return
        self._owners[token] = owner_id
        if owner_id not in self._present:
            self._served_s[owner_id] = max(self.served_s(owner_id), self._now_s)
        self._present[owner_id] += 1
        self._now_s = max(self._now_s, min(map(self.served_s, self._present)))

    def leave(self, token: int) -> None:
        """The video wants no workers, for now or any more; owners who are level with a newcomer are forgotten."""
        owner_id = self._owners.pop(token, None)
        if owner_id is None:
            return
        self._present[owner_id] -= 1
        if self._present[owner_id] <= 0:
            del self._present[owner_id]
            absent = self._served_s.keys() - self._present.keys()
            for owner in [owner for owner in absent if self._served_s[owner] <= self._now_s]:
                del self._served_s[owner]

    def note_run(self, owner_id: UUID, run_s: float) -> None:
        """A worker ran so long for the owner."""
        self._served_s[owner_id] = self.served_s(owner_id) + run_s

    def served_s(self, owner_id: UUID | None) -> float:
        """Service that the owner received, in seconds that only compare with those of other owners; None: nothing."""
        return 0.0 if owner_id is None else self._served_s.get(owner_id, self._now_s)

    def ahead_s(self) -> dict[UUID, float]:
        """By how much the owners who have received more than a newcomer are ahead of one."""
        return {owner: served_s - self._now_s for owner, served_s in self._served_s.items() if served_s > self._now_s}
