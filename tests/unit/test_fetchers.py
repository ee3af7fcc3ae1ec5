"""Downloads beside decoding: nodes, places, owners, and fetchers that die, hang or are stopped. Fetchers are played."""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
import ray
from ray.exceptions import ActorDiedError, ActorUnavailableError, RayError

from actors.workers.fetch_slots import FetchLimit
from actors.workers.fetchers import Fetchers
from actors.workers.turns import Turn
from actors.workers.worker import StageReply, WorkerInfo
from cluster.contracts.errors import NodeLost, StageTimeout, WorkerLost
from cluster.contracts.media import LocalVideo
from cluster.contracts.results import StageFailure, StageReport
from cluster.contracts.stages import Blame

ANNA, BERT, MALLORY = UUID(int=1), UUID(int=2), UUID(int=3)
FILE = LocalVideo(Path("/scratch/key/video.mp4"), 4, temporary=True)
NO_ROOM = StageFailure("NoRoom", "the disk has no room", Blame.POSTPONEMENT, 60.0)


@dataclass(frozen=True)
class _Method:
    remote: Callable[..., Awaitable[Any]]


@dataclass(eq=False)
class Played:
    """A fetcher: a download runs until the test answers it, or until it is discarded."""

    name: str
    node_id: str
    running: "dict[str, asyncio.Future[StageFailure | None]]" = field(default_factory=dict)
    discarded: list[str] = field(default_factory=list)
    is_deaf: bool = False
    killed: bool = False
    beside_error: RayError | None = None

    def __post_init__(self) -> None:
        self.watch: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.describe, self.wait_until_death = _Method(self._describe), _Method(self._last)
        self.run, self.run_beside = _Method(self._run), _Method(self._beside)

    def die(self) -> None:
        if not self.watch.done():
            self.watch.set_exception(ActorDiedError())
        for key in self.running:
            self.lose(key, ActorDiedError())

    def lose(self, key: str, error: RayError) -> None:
        if not self.running[key].done():
            self.running[key].set_exception(error)

    def reply(self, value: Any, failure: StageFailure | None = None) -> list[StageReply]:
        report = StageReport(0.0, 1, "127.0.0.1", self.name, "cpu", 0.0, failure)
        return [StageReply(report, value, self.node_id, 1)]

    async def _describe(self) -> WorkerInfo:
        return WorkerInfo(self.name, self.node_id, "127.0.0.1", "cpu", None, 1)

    async def _last(self) -> None:
        await self.watch

    async def _run(self, call: str, batch: Sequence[tuple[Any, ...]], _: object) -> list[StageReply]:
        ((_, key, _),) = batch
        download = self.running[key] = asyncio.get_running_loop().create_future()
        try:
            failure = await download
        finally:
            del self.running[key]
        return self.reply(None if failure else FILE, failure)

    async def _beside(self, call: str, batch: Sequence[tuple[Any, ...]]) -> list[StageReply]:
        ((key,),) = batch
        if self.beside_error is not None:
            raise self.beside_error
        self.discarded.append(key)
        if key in self.running and not self.is_deaf:
            self.running[key].set_result(StageFailure("Interrupted", "stopped", Blame.INTERRUPTION))
        return self.reply(None)


class Nodes:
    """The nodes of a cluster, and the fetchers that were started on them."""

    def __init__(self, limit: FetchLimit | None = None, deadline_s: float = 60.0, **media: int) -> None:
        self.media = media or {"node": 2}
        self.started: list[Played] = []
        self.tasks: list[asyncio.Task[StageReply]] = []
        self.fetchers = Fetchers(self._spawn, lambda: self.media, limit or FetchLimit(5, 2), deadline_s, self._kill)

    def _spawn(self, name: str, node_id: str) -> Played:
        self.started.append(Played(name, node_id))
        return self.started[-1]

    @staticmethod
    def _kill(played: Played) -> None:
        played.killed = True
        played.die()

    def fetch(self, key: str, owner: UUID = ANNA, *, alone: bool = False) -> "asyncio.Task[StageReply]":
        fetch = self.fetchers.fetch(("http://a/b", key, owner), Turn(owner), alone, lambda: None)
        task = asyncio.create_task(fetch)
        self.tasks.append(task)
        return task

    def running(self) -> dict[str, str]:
        """The node of every download that runs."""
        return {key: played.node_id for played in self.started for key in played.running}

    def answer(self, key: str, failure: StageFailure | None = None) -> None:
        (download,) = (played.running[key] for played in self.started if key in played.running)
        download.set_result(failure)


async def rest() -> None:
    """Until everything that can happen has happened."""
    for _ in range(20):
        await asyncio.sleep(0)


@pytest.fixture(autouse=True)
def living_nodes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("actors.workers.node_watch.SETTLE_S", 0.0)
    monkeypatch.setattr("actors.workers.node_watch.POLL_S", 0.0)
    monkeypatch.setattr(ray, "nodes", lambda: [{"NodeID": name, "Alive": True} for name in ("node", "one", "two")])


def run(test: Callable[[Nodes], Coroutine[Any, Any, None]], nodes: Callable[[], Nodes] = Nodes) -> None:
    async def whole() -> None:
        made = nodes()
        await made.fetchers.ready()
        await test(made)
        made.fetchers.close()
        await asyncio.gather(*made.tasks, return_exceptions=True)
        await rest()

    asyncio.run(asyncio.wait_for(whole(), 20))


def test_an_owner_never_takes_the_places_of_others() -> None:
    async def test(nodes: Nodes) -> None:
        for number in range(10):
            nodes.fetch(f"mallory-{number}", MALLORY)
        await rest()
        assert len(nodes.running()) == 2
        for owner in (ANNA, BERT):
            nodes.fetch(f"of-{owner.int}", owner)
        await rest()
        assert set(nodes.running()) == {"mallory-0", "mallory-1", "of-1", "of-2"}
        nodes.answer("mallory-0")
        await rest()
        assert "mallory-2" in nodes.running()

    run(test)


def test_owners_with_fewest_downloads_are_next() -> None:
    async def test(nodes: Nodes) -> None:
        for owner, count in ((MALLORY, 4), (ANNA, 2)):
            for number in range(count):
                nodes.fetch(f"{owner.int}-{number}", owner)
        await rest()
        assert set(nodes.running()) == {"3-0", "3-1", "3-2", "1-0"}
        nodes.answer("3-0")
        await rest()
        assert set(nodes.running()) == {"3-1", "3-2", "1-0", "1-1"}

    run(test, lambda: Nodes(FetchLimit(5, 3)))


def test_a_download_goes_where_media_workers_have_fewest_files() -> None:
    async def test(nodes: Nodes) -> None:
        for number in range(3):
            nodes.fetch(str(number), UUID(int=number))
        await rest()
        assert sorted(nodes.running().values()) == ["one", "two", "two"]
        nodes.media = {"one": 1}
        nodes.fetch("last", UUID(int=9))
        await rest()
        assert nodes.running()["last"] == "one"

    run(test, lambda: Nodes(FetchLimit(8, 8), one=1, two=2))


def test_a_new_node_gets_a_fetcher() -> None:
    async def test(nodes: Nodes) -> None:
        nodes.media = {"node": 2, "two": 1}
        nodes.fetchers.follow_nodes()
        await rest()
        assert nodes.fetchers.nodes() == {"node", "two"}
        nodes.fetchers.follow_nodes()
        assert len(nodes.started) == 2

    run(test)


def test_cancelled_download_stops_and_keeps_its_slot_until_then() -> None:
    async def test(nodes: Nodes) -> None:
        nodes.started[0].is_deaf = True
        tasks = [nodes.fetch(f"mallory-{number}", MALLORY) for number in range(3)]
        await rest()
        tasks[0].cancel()
        await rest()
        assert nodes.started[0].discarded == ["mallory-0"]
        assert set(nodes.running()) == {"mallory-0", "mallory-1"}
        nodes.started[0].is_deaf = False
        nodes.answer("mallory-0", StageFailure("Interrupted", "stopped", Blame.INTERRUPTION))
        await rest()
        assert set(nodes.running()) == {"mallory-1", "mallory-2"}

    run(test)


def test_a_cancelled_download_that_waits_is_forgotten() -> None:
    async def test(nodes: Nodes) -> None:
        tasks = [nodes.fetch(f"mallory-{number}", MALLORY) for number in range(3)]
        await rest()
        tasks[2].cancel()
        nodes.answer("mallory-0")
        await rest()
        assert set(nodes.running()) == {"mallory-1"}

    run(test)


def test_a_file_that_comes_when_it_is_given_up_is_removed() -> None:
    async def test(nodes: Nodes) -> None:
        nodes.started[0].is_deaf = True
        task = nodes.fetch("late")
        await rest()
        task.cancel()
        await rest()
        nodes.answer("late")
        await rest()
        assert nodes.started[0].discarded == ["late", "late"]

    run(test)


def test_a_fetcher_that_dies_loses_its_downloads_and_their_files() -> None:
    async def test(nodes: Nodes) -> None:
        tasks = [nodes.fetch(str(number), UUID(int=number)) for number in range(3)]
        await rest()
        nodes.started[0].die()
        for task in tasks:
            with pytest.raises(WorkerLost):
                await task
        await rest()
        assert nodes.fetchers.nodes() == {"node"}
        assert sorted(nodes.started[1].discarded) == ["0", "1", "2"]
        task = nodes.fetch("next")
        await rest()
        nodes.answer("next")
        assert (await task).value == FILE

    run(test)


def test_a_fetcher_whose_node_is_gone_interrupts_its_downloads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ray, "nodes", list)

    async def test(nodes: Nodes) -> None:
        task = nodes.fetch("key")
        await rest()
        nodes.media = {}
        nodes.started[0].die()
        with pytest.raises(NodeLost):
            await task
        assert nodes.fetchers.nodes() == set()

    run(test)


@pytest.mark.parametrize("seen_by", ["a download", "a removal", "the watch"])
def test_downloads_of_a_killed_fetcher_share_its_first_cause(monkeypatch: pytest.MonkeyPatch, seen_by: str) -> None:
    nodes_alive = ["node"]
    monkeypatch.setattr(ray, "nodes", lambda: [{"NodeID": name, "Alive": True} for name in nodes_alive])
    away = ActorUnavailableError("Socket closed", b"\0" * 16)

    async def test(nodes: Nodes) -> None:
        tasks = [nodes.fetch("0"), nodes.fetch("1")]
        await rest()
        nodes.media = {}
        played = nodes.started[0]
        if seen_by == "a download":
            played.lose("1", away)
        elif seen_by == "a removal":
            played.beside_error = away
            tasks.append(asyncio.create_task(nodes.fetchers.run_beside("discard", ("key",), 10.0, "node")))
        else:
            played.watch.set_exception(away)
        await asyncio.wait(tasks, timeout=0.2)
        assert played.killed
        nodes_alive.clear()  # Ray's health checks find it out later
        for task in tasks:
            with pytest.raises(NodeLost):
                await task

    run(test)


def test_a_download_that_hangs_harms_no_other() -> None:
    async def test(nodes: Nodes) -> None:
        hung = nodes.fetch("hung", MALLORY)
        await asyncio.sleep(0.1)
        other = nodes.fetch("other")
        with pytest.raises(StageTimeout):
            await hung
        assert (len(nodes.started), nodes.started[0].killed) == (2, False)
        nodes.answer("other")
        assert (await other).value == FILE
        await rest()
        assert nodes.started[0].killed
        assert nodes.started[1].discarded == ["hung"]

    run(test, lambda: Nodes(deadline_s=0.2))


def test_a_suspected_download_runs_in_a_process_of_its_own() -> None:
    async def test(nodes: Nodes) -> None:
        suspect, other = nodes.fetch("suspect", MALLORY, alone=True), nodes.fetch("other")
        await rest()
        shared, own = nodes.started
        assert (list(shared.running), list(own.running)) == (["other"], ["suspect"])
        own.die()
        with pytest.raises(WorkerLost):
            await suspect
        assert not shared.killed
        nodes.answer("other")
        assert (await other).value == FILE
        again = nodes.fetch("again", MALLORY, alone=True)
        await rest()
        nodes.answer("again")
        await again
        assert [played.killed for played in nodes.started] == [False, True, True]

    run(test)


def test_claims_are_capped_by_owner_downloads_and_disk() -> None:
    async def test(nodes: Nodes) -> None:
        assert nodes.fetchers.caps() == {}
        tasks = [nodes.fetch(f"mallory-{number}", MALLORY) for number in range(3)]
        nodes.fetch("anna", ANNA)
        await rest()
        assert nodes.fetchers.caps() == {MALLORY: 1, ANNA: 3}
        nodes.answer("mallory-0", NO_ROOM)
        assert (await tasks[0]).report.failure == NO_ROOM
        assert nodes.fetchers.caps() == {MALLORY: 0, ANNA: 3}
        nodes.answer("mallory-1")
        await tasks[1]
        assert nodes.fetchers.caps() == {MALLORY: 3, ANNA: 3}

    run(test)


def test_what_waits_or_runs_is_lost_when_the_cluster_stops() -> None:
    async def test(nodes: Nodes) -> None:
        tasks = [nodes.fetch(str(number), MALLORY) for number in range(3)]
        await rest()
        nodes.fetchers.close()
        for task in tasks:
            with pytest.raises(NodeLost, match="the cluster is stopping"):
                await task
        with pytest.raises(NodeLost):
            await nodes.fetch("late")

    run(test)
