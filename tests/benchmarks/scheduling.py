"""Videos a second that the scheduler takes from claim to READY when its stages do nothing, ledger included.

The real scheduler on a real Postgres with its default durability; the workers answer at once, in its own process. Once
few videos wait and once a million, in turn. Then the same on Ray, held against what Ray's bare calls take.
``python -m tests.benchmarks.scheduling``
"""

import asyncio
import statistics
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import ray

from actors.scheduler.scheduler import SchedulerConfig, VideoScheduler
from actors.workers.worker import remote_stage_actor
from cluster.contracts.stages import RetryRule
from cluster.store.postgres.connections import Pool, open_pool
from cluster.store.postgres.migrations import apply_migrations
from tests.benchmarks.idle_workers import LOCAL, IdlePlan, IdleScheduler
from tests.benchmarks.postgres_server import database_beside, fill, postgres_server
from tests.benchmarks.rounds import Comparison, Spent
from tests.chaos.invariants import CHECKS, failing

REACH_PER_S = 200
MANY, MANY_QUICK = 1_000_000, 100_000
FEW = 1000
IN_PROCESS = IdlePlan(media_workers=64, others=64, max_in_flight=512)
ON_RAY = IdlePlan(media_workers=4, others=1, max_in_flight=128)
CALLS_PER_VIDEO = 9
PER = 1000
"""Number of videos that the reported figures are for."""
LEASE_S = 60.0
POLL_S = 0.05
STOP_S = 10.0
LEDGER = (
    "a READY video's last attempt lacks a stage",
    "the stages of a READY video do not add up to its time",
    "a pause between two stages of a READY video",
    "a stage began before what it needs was there",
    "wait + run is not the time from ready to finished",
    "a stage run is open without a lease",
    "a lease without a video on its way",
    "a video on its way without a lease",
    "an ended video's times are not whole",
)
assert set(LEDGER) <= CHECKS.keys()

Schedulers = Callable[[SchedulerConfig, str], VideoScheduler]


def compare(rounds: int, quick: bool, say: Callable[[str], None]) -> list[Comparison]:
    """With few and with many videos that wait; and on Ray."""
    videos, many = (600, MANY_QUICK) if quick else (1500, MANY)
    with postgres_server() as server:
        other = database_beside(server.url, "many")
        apply_migrations(other)
        say(f"{many:,} videos are enqueued")
        fill(other, many)
        few_spent, many_spent, wrong = [], [], []
        for number in range(-1, rounds):
            fill(server.url, FEW + videos)
            few, of_many = [_spent(url, IdleScheduler, IN_PROCESS, videos) for url in (server.url, other)]
            if number >= 0:
                few_spent.append(few)
                many_spent.append(of_many)
                say(f"round {number + 1} of {rounds}: {_rates([few])}, with {many:,} waiting: {_rates([of_many])}")
        for url in (server.url, other):
            wrong += _wrong(url)
        details = _on_ray(server.url, videos // 3, say)
        wrong += _wrong(server.url)
    gate = f"the ledger of every READY video is whole: {len(LEDGER)} checks over all rows"
    shared: dict[str, Any] = {"measure": "wall", "gate": gate, "wrong": "; ".join(wrong) or None}
    return [
        Comparison(
            "Scheduler with stages that do nothing",
            f"of {many:,} waiting videos",
            f"{REACH_PER_S} videos a second",
            reach=1.0,
            of_ours=many_spent,
            of_theirs=[Spent(PER / REACH_PER_S, 0.0)] * rounds,
            details=[f"with {many:,} waiting: {_rates(many_spent)}", *details],
            **shared,
        ),
        Comparison(
            "Scheduler with many waiting",
            f"of {many:,} waiting videos",
            f"{FEW:,} waiting videos",
            reach=0.9,
            of_ours=many_spent,
            of_theirs=few_spent,
            details=[f"with {FEW:,} waiting: {_rates(few_spent)}"],
            **shared,
        ),
    ]


def _rates(spent: Sequence[Spent]) -> str:
    """As people read it, from the slowest to the fastest."""
    rates = sorted(PER / one.wall_s for one in spent)
    cpu_ms = statistics.median(one.cpu_s * 1000 / PER for one in spent)
    return f"{rates[0]:.0f} to {rates[-1]:.0f} videos a second, {cpu_ms:.2f} ms of this process's CPUs for each"


def _spent(url: str, schedulers: Schedulers, plan: IdlePlan, videos: int) -> Spent:
    """Cost of a thousand, by the database's clock: from the first claim until so many as are asked for are READY."""
    with open_pool(url, max_size=1, name="bench") as pool:
        began = _one(pool, "SELECT clock_timestamp() AS value")
        cpu_s = time.process_time()
        with _running(url, schedulers, plan):
            while _one(pool, _READY_SINCE, began) < videos:
                time.sleep(POLL_S)
        cpu_s = (time.process_time() - cpu_s) / _one(pool, _READY_SINCE, began)
        return Spent(PER * _one(pool, _TAKEN_S, began, videos) / videos, PER * cpu_s)


_READY_SINCE = "SELECT count(*) AS value FROM videos WHERE processing_finished_at > %s"
_TAKEN_S = """
SELECT extract(epoch FROM max(finished.at) - min(finished.started_at))::float8 AS value
FROM (SELECT processing_started_at AS started_at, processing_finished_at AS at FROM videos
      WHERE processing_finished_at > %s ORDER BY processing_finished_at LIMIT %s) AS finished
"""


def _one(pool: Pool, statement: str, *parameters: object) -> Any:
    with pool.connection() as connection:
        row = connection.execute(statement, parameters).fetchone()
    assert row is not None
    return row["value"]


@contextmanager
def _running(url: str, schedulers: Schedulers, plan: IdlePlan) -> Iterator[None]:
    """A scheduler in a thread of its own."""
    ready = threading.Event()
    stops: list[Callable[[], object]] = []

    async def serve() -> None:
        scheduler = schedulers(SchedulerConfig(url, plan, LEASE_S, RetryRule()), "bench")  # type: ignore[arg-type]
        stops.append(partial(asyncio.get_running_loop().call_soon_threadsafe, scheduler.stop, STOP_S))
        await scheduler.serve(ready.set)

    thread = threading.Thread(target=lambda: asyncio.run(serve()))
    thread.start()
    while not ready.wait(1.0):
        if not thread.is_alive():
            raise SystemExit("the scheduler has ended before it was ready")
    try:
        yield
    finally:
        stops[0]()
        thread.join()


def _wrong(url: str) -> list[str]:
    with open_pool(url, max_size=1, name="bench") as pool:
        return failing(pool, LEDGER)


# On Ray


def _on_ray(url: str, videos: int, say: Callable[[str], None]) -> list[str]:
    """The same with workers on Ray, and the rate of Ray's calls alone, when their answers are not used."""
    ray.init(address="local", num_cpus=1, include_dashboard=False, log_to_driver=False, namespace="bench")
    try:
        calls = asyncio.run(_bare_calls())
        say(f"Ray: {calls:.0f} bare calls a second")
        fill(url, FEW + videos)
        spent = _spent(url, VideoScheduler, ON_RAY, videos)
        say(f"on Ray: {_rates([spent])}")
    finally:
        ray.shutdown()
    workers = sum(placement.count for placement in ON_RAY.placements.values())
    return [
        f"on Ray with {workers} workers, {CALLS_PER_VIDEO} calls a video: {_rates([spent])}",
        f"Ray alone, as many workers, the same calls, nothing made of the answers: {calls:.0f} calls a second, enough "
        f"for {calls / CALLS_PER_VIDEO:.0f} videos",
    ]


async def _bare_calls(seconds: float = 3.0) -> float:
    """Calls a second to as many workers as there are, one at a time each."""
    remote = remote_stage_actor(cpus=0.0)
    kinds = [kind for kind, placement in ON_RAY.placements.items() for _ in range(placement.count)]
    handles = [remote.remote(f"{kind}-{n}", ON_RAY.loader(kind), 1.0) for n, kind in enumerate(kinds)]
    await asyncio.gather(*(handle.describe.remote() for handle in handles))
    end_s = time.monotonic() + seconds

    async def ask(handle: Any) -> int:
        asked = 0
        while time.monotonic() < end_s:
            await handle.run.remote("probe", [(LOCAL,)])
            asked += 1
        return asked

    try:
        return sum(await asyncio.gather(*map(ask, handles))) / seconds
    finally:
        for handle in handles:
            ray.kill(handle)


if __name__ == "__main__":
    for line in compare(5, False, lambda text: print(text, flush=True)):
        print(line.title, f"{line.ratio:.2f}", line.wrong, *line.details, sep="\n  ")
