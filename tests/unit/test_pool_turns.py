"""In which order a pool takes what waits: urgent ones, then the owner who received least, then what is due."""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

import pytest

from actors.workers.fair_share import FairShare
from actors.workers.pool import WORKERS_PER_KEPT, WorkerPool
from actors.workers.run_estimates import RunEstimates
from actors.workers.turns import LONG_CALL_S, SHARED_CALL_S, BatchLimit, Item, Turn, Turns
from actors.workers.worker import StageReply, WorkerInfo
from cluster.contracts.results import StageReport
from cluster.contracts.stages import WorkerKind

ANNA, BERT, CARL = UUID(int=1), UUID(int=2), UUID(int=3)
USUAL, URGENT = Turn(ANNA), Turn(ANNA, urgent=True)


@dataclass(frozen=True)
class _Method:
    remote: Callable[..., Awaitable[Any]]


@dataclass
class Cluster:
    """A pool of one worker that is busy until ``go``; ``calls`` are the batches that it was given."""

    limits: dict[str, BatchLimit] = field(default_factory=dict)
    shares: FairShare = field(default_factory=FairShare)
    estimates: RunEstimates = field(default_factory=RunEstimates)
    calls: list[list[str]] = field(default_factory=list)
    started: list[tuple[str, int]] = field(default_factory=list)
    workers: int = 1
    run_s: float = 0.0
    deferred: tuple[str, ...] = ()

    def after(self, *items: tuple[str, str, Turn]) -> list[list[str]]:
        """The batches in which items are taken that all came while the worker was busy; each is call, name, turn."""
        return asyncio.run(self._serve(items))

    async def _serve(self, items: Sequence[tuple[str, str, Turn]]) -> list[list[str]]:
        self._go, self._over = asyncio.Event(), asyncio.Event()
        pool = WorkerPool(
            WorkerKind.MEDIA,
            lambda _: self,
            self.workers,
            self.limits,
            self.deferred,
            shares=self.shares,
            estimates=self.estimates,
            kill=lambda _: self._over.set(),
        )
        pool.start()
        await pool.ready()
        waiting = [asyncio.create_task(self._ask(pool, "busy", "busy", Turn())) for _ in range(self.workers)]
        for call, name, turn in items:
            await asyncio.sleep(0)
            waiting.append(asyncio.create_task(self._ask(pool, call, name, turn)))
        await asyncio.sleep(0.01)
        self._go.set()
        await asyncio.wait_for(asyncio.gather(*waiting), 10)
        pool.close()
        assert self.calls[: self.workers] == [["busy"]] * self.workers
        return self.calls[self.workers :]

    def _ask(self, pool: WorkerPool, call: str, name: str, turn: Turn) -> Coroutine[Any, Any, StageReply]:
        def on_start() -> None:
            self.started.append((name, len(self.calls)))

        return pool.run(call, (name,), deadline_s=60.0, turn=turn, on_start=on_start)

    # The worker

    @property
    def describe(self) -> _Method:
        return _Method(self._describe)

    @property
    def wait_until_death(self) -> _Method:
        return _Method(self._over.wait)

    @property
    def run(self) -> _Method:
        return _Method(self._run)

    async def _describe(self) -> WorkerInfo:
        return WorkerInfo("worker", "node", "127.0.0.1", "cpu", None, 1)

    async def _run(self, _: str, batch: Sequence[tuple[str]], _about: object) -> list[StageReply]:
        self.calls.append([name for (name,) in batch])
        await self._go.wait()
        report = StageReport(self.run_s, len(batch), "127.0.0.1", "worker", "cpu", 0.0)
        return [StageReply(report, name, "node", 1) for (name,) in batch]


def one_by_one(*names: str) -> list[list[str]]:
    return [[name] for name in names]


def test_pool_takes_items_of_one_turn_by_age() -> None:
    assert Cluster().after(*(("work", name, USUAL) for name in "abc")) == one_by_one(*"abc")


def test_pool_takes_urgent_items_first() -> None:
    items = [
        ("work", "old", USUAL),
        ("work", "urgent", URGENT),
        ("work", "new", USUAL),
        ("work", "more urgent", URGENT),
    ]
    assert Cluster().after(*items) == one_by_one("urgent", "more urgent", "old", "new")


def test_pool_takes_urgent_items_before_calls_not_deferred() -> None:
    cluster = Cluster(deferred=("pictures",))
    items = [("pictures", "pictures", USUAL), ("work", "words", USUAL), ("pictures", "urgent pictures", URGENT)]
    assert cluster.after(*items) == one_by_one("urgent pictures", "words", "pictures")


def test_pool_takes_the_owner_served_least_first() -> None:
    cluster = Cluster()
    for owner, run_s in ((ANNA, 30.0), (BERT, 10.0), (CARL, 20.0)):
        cluster.shares.enter(owner.int, owner)
        cluster.shares.note_run(owner, run_s)
    items = [("work", str(owner.int), Turn(owner)) for owner in (ANNA, BERT, CARL)]
    assert cluster.after(*items) == one_by_one("2", "3", "1")


def test_pool_takes_what_is_due_first_within_an_owner_only() -> None:
    cluster = Cluster()
    for owner in (ANNA, BERT):
        cluster.shares.enter(owner.int, owner)
    cluster.shares.note_run(ANNA, 1.0)
    items = [
        ("work", "anna", Turn(ANNA)),
        ("work", "anna first", Turn(ANNA, due_s=-10.0)),
        ("work", "bert", Turn(BERT, due_s=10.0)),
    ]
    assert cluster.after(*items) == one_by_one("bert", "anna first", "anna")


def test_pool_an_urgent_item_shares_no_call_with_others() -> None:
    cluster = Cluster({"work": BatchLimit(8)})
    items = [("work", "a", USUAL), ("work", "urgent", URGENT), ("work", "b", USUAL)]
    assert cluster.after(*items) == [["urgent"], ["a", "b"]]


@pytest.mark.parametrize(("run_s", "together"), [(SHARED_CALL_S / 4, 4), (SHARED_CALL_S, 1), (10 * SHARED_CALL_S, 1)])
def test_pool_bounds_a_shared_call_by_its_expected_run(run_s: float, together: int) -> None:
    cluster = Cluster({"work": BatchLimit(8)}, run_s=run_s)
    cluster.estimates.note_run("work", 22.0, run_s)
    calls = cluster.after(*(("work", str(n), Turn(ANNA, length_s=22.0)) for n in range(8)))
    assert [len(call) for call in calls] == [together] * (8 // together)


def test_pool_expects_long_videos_to_run_longer() -> None:
    cluster = Cluster({"work": BatchLimit(8)})
    cluster.estimates.note_run("work", 22.0, SHARED_CALL_S / 4)
    items = [("work", "long", Turn(ANNA, length_s=70.0)), *(("work", n, Turn(ANNA, length_s=22.0)) for n in "ab")]
    assert cluster.after(*items) == [["long"], ["a", "b"]]


def test_pool_of_many_keeps_a_worker_from_long_calls() -> None:
    cluster = Cluster(workers=WORKERS_PER_KEPT)
    cluster.estimates.note_run("work", 22.0, 2 * LONG_CALL_S)
    cluster.estimates.note_run("short", 22.0, LONG_CALL_S / 2)
    long = [("work", f"long {n}", Turn(ANNA, length_s=22.0)) for n in range(2 * WORKERS_PER_KEPT)]
    calls = cluster.after(*long, ("short", "short", Turn(BERT, length_s=22.0)))
    assert calls.index(["short"]) <= WORKERS_PER_KEPT
    assert len(calls) == len(long) + 1


def test_pool_learns_what_ran_before_it_takes_the_next() -> None:
    cluster = Cluster({"work": BatchLimit(8)}, run_s=SHARED_CALL_S)
    first, *others = (("work", str(n), Turn(ANNA, length_s=22.0)) for n in range(4))
    assert [len(call) for call in cluster.after(first)] == [1]
    cluster.calls.clear()
    assert [len(call) for call in cluster.after(*others)] == [1, 1, 1]
    assert cluster.shares.served_s(ANNA) == 4 * SHARED_CALL_S


def test_pool_says_when_an_item_is_handed_to_a_worker() -> None:
    cluster = Cluster()
    assert cluster.after(*(("work", name, USUAL) for name in "ab")) == one_by_one(*"ab")
    assert cluster.started == [("busy", 0), ("a", 1), ("b", 2)]  # and how many calls had been made before


def test_item_for_a_node_is_taken_by_its_workers_only() -> None:
    async def taken(node_id: str) -> list[str]:
        reply: asyncio.Future[StageReply] = asyncio.get_running_loop().create_future()
        waiting = [
            Item("detect", (name,), 60.0, on_node, False, 0.0, 0.0, USUAL, 0.0, lambda: None, reply)
            for name, on_node in (("here", "a"), ("there", "b"), ("anywhere", None))
        ]
        turns = Turns({"detect": BatchLimit(3)}, frozenset(), FairShare(), RunEstimates())
        return [item.arguments[0] for item in turns.next_batch(waiting, node_id, 1, no_long=False)]

    assert asyncio.run(taken("a")) == ["here", "anywhere"]
    assert asyncio.run(taken("b")) == ["there", "anywhere"]
    assert asyncio.run(taken("c")) == ["anywhere"]
