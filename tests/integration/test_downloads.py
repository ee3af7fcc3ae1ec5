"""Files that attempts leave on the nodes: removed between two calls, waited for a moment only, swept away later."""

import asyncio
from typing import Any, cast

import pytest

from actors.attempt.pipeline import download_key
from actors.maintenance import downloads
from actors.maintenance.downloads import MAX_TRIES, Downloads
from actors.workers.fetchers import Fetchers
from actors.workers.worker import StageReply
from cluster.contracts.errors import WorkerLost
from cluster.contracts.results import StageReport
from cluster.store.postgres.connections import Pool
from cluster.store.queue.video_queue import VideoQueue
from tests.support.played_workers import Workers, attempt
from tests.support.queued_videos import claim_one, row

REPORT = StageReport(0.0, 1, "10.0.0.1", "fetcher-1", "cpu", 0.0)


class Node:
    """The fetchers of one node, on which ``left`` is stored; ``stuck`` kills the one that removes it."""

    def __init__(self, left: list[str], stuck: str | None = None) -> None:
        self.left = left
        self.stuck = stuck
        self.tried: list[str] = []
        self.swept = asyncio.Event()

    def nodes(self) -> set[str]:
        return {"node"}

    async def run_beside(self, call: str, arguments: tuple[Any, ...], _deadline_s: float, node_id: str) -> StageReply:
        await asyncio.sleep(0)
        if call == "list_downloads":
            return StageReply(REPORT, list(self.left), node_id, 1)
        (key,) = arguments
        self.tried.append(key)
        if key == self.stuck:
            raise WorkerLost("worker fetcher-1 died")
        self.left.remove(key)
        self.swept.set()
        return StageReply(REPORT, None, node_id, 1)


@pytest.fixture
def queue(pool: Pool) -> VideoQueue:
    return VideoQueue(pool, "first", 60.0)


def test_video_is_ready_although_its_node_is_busy(
    pool: Pool, queue: VideoQueue, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(downloads, "SOON_S", 0.05)
    video, until = claim_one(pool, queue), asyncio.Event()
    removed: list[str] = []

    async def busy() -> None:
        await until.wait()
        removed.append("removed")

    async def release(processing: "asyncio.Task[None]") -> None:
        await processing
        assert (row(pool, video.id)["status"], removed) == ("READY", [])
        until.set()
        while not removed:
            await asyncio.sleep(0.01)

    attempt(pool, queue, video, Workers(discard=busy), during=release)


def test_worker_that_dies_removing_a_file_costs_no_attempt(pool: Pool, queue: VideoQueue) -> None:
    video = claim_one(pool, queue)
    attempt(pool, queue, video, Workers(discard=WorkerLost("worker fetcher-1 died")))
    stored = row(pool, video.id)
    assert (stored["status"], stored["crashes"]) == ("READY", 0)


def test_what_no_lease_is_for_is_swept_away(pool: Pool, queue: VideoQueue, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(downloads, "SWEEP_S", 0.01)
    under_way = download_key(claim_one(pool, queue))

    async def sweep() -> Node:
        node = Node([under_way, "left-behind"])
        sweeping = asyncio.create_task(Downloads(cast(Fetchers, node), queue).sweep_forever())
        await asyncio.wait_for(node.swept.wait(), 10)
        sweeping.cancel()
        return node

    node = asyncio.run(sweep())
    assert (node.left, node.tried) == ([under_way], ["left-behind"])


def test_what_kills_whoever_removes_it_is_left_alone_in_the_end(
    queue: VideoQueue, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(downloads, "SWEEP_S", 0.001)

    async def sweep() -> list[str]:
        node = Node(["stuck"], stuck="stuck")
        sweeping = asyncio.create_task(Downloads(cast(Fetchers, node), queue).sweep_forever())
        while len(node.tried) < MAX_TRIES:
            await asyncio.sleep(0.01)
        node.left.append("last")
        await asyncio.wait_for(node.swept.wait(), 10)
        sweeping.cancel()
        return node.tried

    assert asyncio.run(sweep()) == ["stuck"] * MAX_TRIES + ["last"]
