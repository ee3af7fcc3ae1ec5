"""The queue against procrastinate's, on one server: taking what waits and settling it, with work that does nothing.

Both are used as their documentation advises. procrastinate: its own worker with several jobs at once, jobs that were
deferred in a batch. This one: claims of many videos, and a second thread that makes them READY, as the scheduler does.
What is compared are videos or jobs a second; both commit durably, by the server's defaults.
``python -m tests.benchmarks.claims``
"""

import asyncio
import logging
import queue
import statistics
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

import procrastinate

from cluster.store.postgres.connections import EmbeddedPostgres, Pool, connect, open_pool
from cluster.store.queue.video_queue import Finish, VideoQueue
from tests.benchmarks.postgres_server import database_beside, fill, postgres_server, server_cpu_s
from tests.benchmarks.rounds import Comparison, Spent, timed
from tests.chaos import queue as killed_queue

BATCH = 1000
JOBS_AT_ONCE = 10
PER = 1000
"""Number of videos or jobs that the reported figures are for."""
WAITING = (1_000, 100_000)
SEED = 6


@dataclass(frozen=True)
class _Size:
    """The load of a round: videos in batches, videos one at a time, jobs."""

    videos: int
    single_videos: int
    jobs: int
    waiting: Sequence[int]
    kills: int


FULL = _Size(videos=20_000, single_videos=400, jobs=1000, waiting=WAITING, kills=20)
QUICK = _Size(videos=5_000, single_videos=200, jobs=400, waiting=WAITING, kills=8)


def compare(rounds: int, quick: bool, say: Callable[[str], None]) -> list[Comparison]:
    """Claim and complete: many at a time, and one at a time."""
    size = QUICK if quick else FULL
    gate, wrong = _killed(size.kills)
    say(gate)
    logging.getLogger("procrastinate").setLevel(logging.ERROR)
    with postgres_server() as server, open_pool(server.url, max_size=3, name="bench") as pool:
        url = database_beside(server.url, "procrastinate")
        asyncio.run(_prepare(url))
        rate = _Rate(server, pool, url, say)
        details = [rate.at(waiting) for waiting in size.waiting]
        limit = rate.bare(size.videos)
        shared: dict[str, Any] = {
            "measure": "wall",
            "against": f"procrastinate {version('procrastinate')}",
            "gate": gate,
            "wrong": wrong,
        }
        batched = rate.in_turn(rounds, size.videos, BATCH, size.jobs, JOBS_AT_ONCE)
        single = rate.in_turn(rounds, size.single_videos, 1, size.jobs, 1)
    return [
        Comparison(
            "Claim and complete, many at a time",
            f"{BATCH} videos a claim",
            reach=50.0,
            of_ours=batched[0],
            of_theirs=batched[1],
            limit=limit,
            details=[_rates(batched), *details],
            **shared,
        ),
        Comparison(
            "Claim and complete, one at a time",
            "one video a claim",
            reach=1.0,
            of_ours=single[0],
            of_theirs=single[1],
            details=[_rates(single)],
            **shared,
        ),
    ]


def _killed(kills: int) -> tuple[str, str | None]:
    """Schedulers that are killed in the middle of their batches lose nothing and do nothing twice."""
    counts = killed_queue.run(SEED, videos=50 * kills, kills=kills, stops=0)
    gate = f"{kills} schedulers killed within batches: {counts.videos} videos ended, none twice, none lost"
    return gate, "; ".join(counts.violations) or None


@dataclass(frozen=True)
class _Rate:
    server: EmbeddedPostgres
    pool: Pool
    jobs_url: str
    say: Callable[[str], None]

    def in_turn(self, rounds: int, videos: int, batch: int, jobs: int, at_once: int) -> tuple[list[Spent], list[Spent]]:
        """Both sides ``rounds`` times in turn, after each has run once."""
        spent: tuple[list[Spent], list[Spent]] = ([], [])
        for number in range(-1, rounds):
            ours, theirs = self.ours(videos, videos, batch), self.theirs(jobs, at_once)
            if number >= 0:
                spent[0].append(ours)
                spent[1].append(theirs)
                self.say(
                    f"round {number + 1}, {batch} a claim: {PER / ours.wall_s:.0f} against {PER / theirs.wall_s:.0f}/s"
                )
        return spent

    def ours(self, waiting: int, videos: int, batch: int) -> Spent:
        """Work off ``videos`` of those that wait."""
        fill(self.server.url, waiting)
        claims = VideoQueue(self.pool, "bench", 60.0)
        spent = self._timed(lambda: _work_off(claims, videos, batch))
        if (ready := _count(self.server.url, "SELECT count(*) AS n FROM videos WHERE status = 'READY'")) != videos:
            raise RuntimeError(f"{ready} of {videos} videos are READY")
        return _per_thousand(spent, videos)

    def theirs(self, jobs: int, at_once: int) -> Spent:
        """Work off ``jobs``, which are all that wait."""
        asyncio.run(_defer(self.jobs_url, jobs))
        spent = self._timed(lambda: asyncio.run(_work(self.jobs_url, at_once)))
        if (
            done := _count(self.jobs_url, "SELECT count(*) AS n FROM procrastinate_jobs WHERE status = 'succeeded'")
        ) != jobs:
            raise RuntimeError(f"{done} of {jobs} jobs have succeeded")
        return _per_thousand(spent, jobs)

    def at(self, waiting: int) -> str:
        """The rate at which videos are worked off while so many wait."""
        spent = self.ours(waiting, min(waiting, 20 * BATCH), BATCH)
        cpu_ms = spent.cpu_s * 1000 / PER
        return f"of {waiting:,} waiting videos: {PER / spent.wall_s:,.0f} a second, CPU {cpu_ms:.3f} ms each"

    def bare(self, videos: int) -> str:
        """The cost of the same changes of the same rows in statements that do nothing else."""
        fill(self.server.url, videos)
        with connect(self.server.url, autocommit=True) as connection:
            ids = [
                row["id"] for row in connection.execute("SELECT video_id AS id FROM video_processing ORDER BY due_at")
            ]

            def change() -> None:
                for start in range(0, videos, BATCH):
                    for statement in _BARE:
                        connection.execute(statement, (ids[start : start + BATCH],))

            spent = _per_thousand(self._timed(change), videos)
        return (
            f"the bare changes of the same rows, {BATCH} a statement, one session, no locks, no order, no fence, "
            f"nothing read back: {PER / spent.wall_s:,.0f} a second, CPU {spent.cpu_s * 1000 / PER:.3f} ms each"
        )

    def _timed(self, work: Callable[[], None]) -> Spent:
        """By the clock, and of the CPUs by this process and by the server."""
        before_s = server_cpu_s(self.server)
        spent = timed(work)[1]
        return Spent(spent.wall_s, spent.cpu_s + server_cpu_s(self.server) - before_s)


_BARE = (
    "UPDATE video_processing SET attempt = attempt + 1, available_at = NULL WHERE video_id = ANY (%s)",
    "UPDATE videos SET status = 'PROCESSING', updated_at = clock_timestamp(), "
    "processing_started_at = clock_timestamp() WHERE id = ANY (%s)",
    "INSERT INTO video_leases SELECT id, nextval('video_lease_tokens'), 'bench', clock_timestamp() "
    "FROM unnest(%s::uuid[]) AS id",
    "DELETE FROM video_leases WHERE video_id = ANY (%s)",
    "UPDATE videos SET status = 'READY', updated_at = clock_timestamp(), "
    "processing_finished_at = clock_timestamp(), processing_duration_ms = 1 WHERE id = ANY (%s)",
)


def _work_off(claims: VideoQueue, videos: int, batch: int) -> None:
    """Claim until so many are claimed, while another thread finishes what was claimed."""
    claimed: queue.SimpleQueue[list[Finish]] = queue.SimpleQueue()

    def finish() -> None:
        while done := claimed.get():
            claims.finish(done)

    finishing = threading.Thread(target=finish)
    finishing.start()
    for start in range(0, videos, batch):
        claimed.put([Finish(video, 0.0, "node", "worker") for video in claims.claim(min(batch, videos - start))])
    claimed.put([])
    finishing.join()


def _per_thousand(spent: Spent, count: int) -> Spent:
    return Spent(spent.wall_s * PER / count, spent.cpu_s * PER / count)


def _rates(spent: tuple[list[Spent], list[Spent]]) -> str:
    ours, theirs = ([PER / one.wall_s for one in side] for side in spent)
    cpus_ms = [statistics.median(one.cpu_s for one in side) * 1000 / PER for side in spent]
    return (
        f"a second, from the slowest to the fastest round: {min(ours):,.0f} to {max(ours):,.0f} videos against "
        f"{min(theirs):,.0f} to {max(theirs):,.0f} jobs; CPU of client and server: {cpus_ms[0]:.3f} ms a video against "
        f"{cpus_ms[1]:.3f} ms a job, a ratio of {cpus_ms[1] / cpus_ms[0]:.1f}"
    )


def _count(url: str, statement: str) -> int:
    with connect(url) as connection:
        row = connection.execute(statement).fetchone()
    assert row is not None
    return int(row["n"])


# procrastinate


def _application(url: str) -> procrastinate.App:
    connector = procrastinate.PsycopgConnector(conninfo=url, min_size=1, max_size=JOBS_AT_ONCE)
    application = procrastinate.App(connector=connector)

    @application.task(name="nothing")
    async def nothing(number: int) -> None:
        pass

    return application


async def _prepare(url: str) -> None:
    async with _application(url).open_async() as application:
        await application.schema_manager.apply_schema_async()


async def _defer(url: str, jobs: int) -> None:
    """So many jobs wait, and none else is there."""
    async with _application(url).open_async() as application:
        await application.connector.execute_query_async("TRUNCATE procrastinate_jobs CASCADE")
        arguments: list[dict[str, Any]] = [{"number": number} for number in range(jobs)]
        await application.configure_task("nothing").batch_defer_async(*arguments)
        await application.connector.execute_query_async("ANALYZE procrastinate_jobs")


async def _work(url: str, at_once: int) -> None:
    async with _application(url).open_async() as application:
        await application.run_worker_async(wait=False, concurrency=at_once, install_signal_handlers=False)


if __name__ == "__main__":
    for line in compare(5, False, lambda text: print(text, flush=True)):
        print(
            line.title,
            f"{line.ratio:.1f}",
            [f"{ratio:.1f}" for ratio in line.ratios],
            line.wrong,
            *line.details,
            line.limit,
            sep="\n  ",
        )
