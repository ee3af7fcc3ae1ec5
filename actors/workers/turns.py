"""Which of the items that wait make up a worker's next call.

They are taken in turn: urgent ones first, then those of the owner who has received least, of each owner's those that
are due first, by their time in the queue and their priority, then the oldest. A second of waiting counts as one that
was not received, so that an item in flight waits no longer than its owner is ahead, however many others come in. Items
of the same call share it up to its limit, and as long as it is expected to stay short. What a worker is and
does is the pool's.
"""

import asyncio
import math
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from actors.workers.fair_share import FairShare
from actors.workers.run_estimates import RunEstimates
from actors.workers.worker import StageReply

SHARED_CALL_S = 0.5
"""Longest expected run of a call that several videos share: what comes next waits for it."""
LONG_CALL_S = 20.0
"""From here on a call is long: a call is not interrupted, so what comes next waits for it."""


@dataclass(frozen=True)
class BatchLimit:
    """Number of items that may share a call, and their total size; a single item may be of any size.

    ``spread``: sharing saves no more than the asking, so a worker leaves the others of its pool their share of what
    waits.
    """

    count: int
    size: float = math.inf
    spread: bool = False


ALONE = BatchLimit(1)


@dataclass(frozen=True)
class Turn:
    """Whose item it is and when it is taken, beside others.

    ``urgent`` goes first; ``due_s`` orders an owner's videos, as in the queue; ``length_s`` is the video's, from which
    its run is expected; None: unknown. ``about``: fields of what its worker logs meanwhile.
    """

    owner_id: UUID | None = None
    urgent: bool = False
    due_s: float = 0.0
    length_s: float | None = None
    about: Mapping[str, object] = field(default_factory=dict, compare=False)


ANY_TURN = Turn()


@dataclass(eq=False)
class Item:
    """A call for one video that waits for a worker, or that a worker has."""

    call: str
    arguments: tuple[Any, ...]
    deadline_s: float
    node_id: str | None
    alone: bool
    size: float
    added_s: float
    turn: Turn
    since_s: float
    on_start: Callable[[], None]
    reply: "asyncio.Future[StageReply]"
    stranded_since_s: float | None = None


@dataclass(frozen=True)
class Turns:
    """The order in which the items of a pool are taken, and what may share a call.

    ``limits``: by call name; where none is named, an item has a call to itself. ``deferred``: calls that wait for all
    others. ``shares``: what owners have received in this and other pools; ``estimates``: how long calls run; what
    runs here is added to both.
    """

    limits: Mapping[str, BatchLimit]
    deferred: Collection[str]
    shares: FairShare
    estimates: RunEstimates

    def in_order(self, waiting: Collection[Item], now_s: float) -> list[Item]:
        """The items as they are taken at ``now_s``; those of the same place stay as they came."""
        if len(waiting) < 2:
            return list(waiting)
        ordered = sorted(waiting, key=lambda item: item.turn.due_s)
        places_s: dict[tuple[UUID | None, bool], float] = {}
        for item in ordered:  # an owner's place is that of the item that would be taken
            if (group := self._group(item)) not in places_s:
                waited_s = now_s - item.since_s
                places_s[group] = self.shares.served_s(item.turn.owner_id) - waited_s

        def place(item: Item) -> tuple[bool, bool, float]:
            group = self._group(item)
            return not item.turn.urgent, group[1], places_s[group]

        return sorted(ordered, key=place)

    def _group(self, item: Item) -> tuple[UUID | None, bool]:
        """Items of one owner that come one after the other."""
        return item.turn.owner_id, item.call in self.deferred

    def next_batch(self, ordered: Collection[Item], node_id: str, workers: int, *, no_long: bool) -> list[Item]:
        """The first items of those ``in_order`` that share a call of a worker on the node.

        ``workers`` is how many there are of the kind; ``no_long`` leaves out long calls that are not urgent.
        """
        batch: list[Item] = []
        share = math.ceil(len(ordered) / workers)
        for item in ordered:
            if item.node_id not in (None, node_id) or (batch and not self._may_join(item, batch)):
                continue
            if no_long and self.is_long(item) and not item.turn.urgent:
                continue
            batch.append(item)
            limit = self.limits.get(item.call, ALONE)
            most = min(limit.count, share) if limit.spread else limit.count
            if item.alone or len(batch) == most:
                break
        return batch

    def is_long(self, item: Item) -> bool:
        """Whether the item's call is expected to keep its worker for long."""
        return self._expected_s(item) > LONG_CALL_S

    def learn(self, item: Item, reply: StageReply) -> None:
        """Note what an item ran, before the next call is chosen."""
        if item.turn.owner_id is not None:
            self.shares.note_run(item.turn.owner_id, reply.report.run_s)
        if reply.report.failure is None:
            self.estimates.note_run(item.call, item.turn.length_s, reply.report.run_s)

    def _may_join(self, item: Item, batch: Collection[Item]) -> bool:
        first = next(iter(batch))
        if item.alone or item.call != first.call or item.turn.urgent != first.turn.urgent:
            return False
        if item.size + sum(other.size for other in batch) > self.limits.get(item.call, ALONE).size:
            return False
        return sum(map(self._expected_s, (item, *batch))) <= SHARED_CALL_S

    def _expected_s(self, item: Item) -> float:
        return self.estimates.run_s(item.call, item.turn.length_s) or 0.0
