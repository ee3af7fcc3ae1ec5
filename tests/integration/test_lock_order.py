"""Sessions that lock several leases lock them in the order of their tokens, so that none wait for each other."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from psycopg import sql

from cluster.contracts.stages import Stage
from cluster.contracts.videos import ClaimedVideo
from cluster.store.postgres.connections import Pool, connect, open_pool
from cluster.store.queue.stage_runs import OpenRun, StageLedger
from cluster.store.queue.submissions import cancel
from cluster.store.queue.video_queue import Finish, VideoQueue
from tests.support.queued_videos import enqueue, recovery, until_a_session_waits


@pytest.fixture
def pool(database_url: str) -> Iterator[Pool]:
    """Sessions that read rows as they are stored, not along an index, whose order would hide one that is missing."""
    with connect(database_url, autocommit=True) as connection:
        name = connection.info.dbname
        for scan in ("indexscan", "bitmapscan", "indexonlyscan"):
            connection.execute(sql.SQL(f"ALTER DATABASE {{}} SET enable_{scan} = off").format(sql.Identifier(name)))
    with open_pool(database_url, max_size=4, name="tests") as opened:
        yield opened


def lockers(pool: Pool, queue: VideoQueue, videos: list[ClaimedVideo]) -> dict[str, Callable[[], object]]:
    tokens = [video.lease_token for video in videos]
    opened = [OpenRun(video, Stage.DOWNLOADING, video.claimed_at) for video in videos]
    return {
        "heartbeat": lambda: queue.heartbeat(tokens),
        "ledger": lambda: StageLedger(pool).write(opened, []),
        "finish": lambda: queue.finish([Finish(video, 0.0, "node", "worker") for video in videos]),
        "hand_back": recovery(pool, "first").hand_back,
        "cancel": lambda: cancel(pool, [video.id for video in videos]),
    }


@pytest.mark.parametrize("locker", ["heartbeat", "ledger", "finish", "hand_back", "cancel"])
def test_leases_are_locked_in_the_order_of_their_tokens(pool: Pool, locker: str) -> None:
    queue = VideoQueue(pool, "first", 60.0)
    enqueue(pool, 2)
    first, second = sorted(queue.claim(2), key=lambda video: video.lease_token)
    queue.heartbeat([first.lease_token])  # a row that is written again is stored behind the rest
    lock = "SELECT FROM video_leases WHERE lease_token = %s FOR UPDATE"
    with ThreadPoolExecutor(1) as threads:
        with pool.connection() as blocker:
            blocker.execute(lock, (first.lease_token,))
            locking = threads.submit(lockers(pool, queue, [second, first])[locker])
            until_a_session_waits(pool)
            blocker.execute(f"{lock} NOWAIT", (second.lease_token,))  # who waits for the first holds no later one
        locking.result(timeout=10)
