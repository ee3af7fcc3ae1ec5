"""The scheduler actor: claims waiting videos, keeps their leases, runs an attempt for each, announces who is alive.

Everything it holds can be rebuilt from Postgres: when it dies, Ray starts it again, it takes back its own leases and
goes on. It works on an event loop in a thread of its own; the heartbeat has another thread, which nothing can starve.
"""

import asyncio
import contextlib
import logging
import os
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import ray

from actors.attempt import Attempt, AttemptParts
from actors.ledger_writer import LedgerWriter
from actors.pools import Pool
from actors.stage_actor import StageActor, WorkerInfo
from actors.worker_kinds import BATCH_SIZES, WorkerPlan
from cluster.contracts.errors import ConfigurationError, DatabaseUnavailable, LeaseLost
from cluster.contracts.stages import RetryRule, WorkerKind
from cluster.contracts.videos import ClaimedVideo
from cluster.store.database import Pool as DatabasePool
from cluster.store.database import open_pool
from cluster.store.stage_ledger import DatabaseClock, StageLedger
from cluster.store.video_queue import VideoQueue, notifications
from cluster.store.worker_registry import SCHEDULER_KIND, WorkerRegistry, WorkerState

logger = logging.getLogger(__name__)

POLL_S = 1.0
"""How often the queue is looked at when no notification comes."""
RESTART_DELAY_S = 1.0
CLEANUP_S = 5.0
"""How long a stop waits for cancelled attempts to remove their downloads."""
ANNOUNCE_S = 2.0
"""How often workers are announced."""


@dataclass(frozen=True)
class SchedulerConfig:
    """What a scheduler needs; small and plain, it travels into the actor's constructor."""

    database_url: str
    plan: WorkerPlan
    lease_s: float
    retry_rule: RetryRule


class VideoScheduler:
    """The scheduler's work on one event loop. ``name`` is what its leases carry, the same after a restart."""

    def __init__(self, config: SchedulerConfig, name: str) -> None:
        self._config = config
        self._name = name
        self._database: DatabasePool = open_pool(config.database_url, min_size=2, max_size=8, name="heimdex-scheduler")
        self._queue = VideoQueue(self._database, name, config.lease_s, config.retry_rule.max_attempts)
        self._registry = WorkerRegistry(self._database, name)
        self._clock = DatabaseClock(self._database)
        self._ledger = LedgerWriter(StageLedger(self._database))
        self._pools = {kind: self._pool(kind) for kind in WorkerKind}
        self._in_flight: dict[int, asyncio.Task[None]] = {}
        self._wake = asyncio.Event()
        self._grace_s = 0.0
        self._stopping = threading.Event()
        self._stopped = threading.Event()

    async def serve(self, on_ready: Callable[[], None]) -> None:
        """Start the workers, call ``on_ready``, then schedule until ``stop``.

        Raises:
            ConfigurationError: a worker cannot load what it needs.
        """
        await asyncio.to_thread(self._queue.reap_own)
        heartbeat = threading.Thread(target=self._beat, args=(asyncio.get_running_loop(),), daemon=True)
        listener = threading.Thread(target=self._listen, args=(asyncio.get_running_loop(),), daemon=True)
        async with asyncio.TaskGroup() as tasks:
            announcing = tasks.create_task(self._announce_forever())
            ledger = tasks.create_task(self._ledger.serve())
            for pool in self._pools.values():
                pool.start()
            await asyncio.gather(*(pool.ready() for pool in self._pools.values()))
            heartbeat.start()
            listener.start()
            on_ready()
            await self._claim_until_stopped()
            await self._drain()
            announcing.cancel()
            ledger.cancel()
        self._stopped.set()
        for pool in self._pools.values():
            pool.close()
        try:
            await asyncio.to_thread(self._registry.withdraw)
        except DatabaseUnavailable as error:
            logger.warning("the workers stay announced for a while: %s", error)
        self._database.close()

    def stop(self, grace_s: float) -> None:
        """Claim nothing more; give what is in flight ``grace_s`` seconds, hand the rest back to the queue."""
        self._grace_s = grace_s
        self._stopping.set()
        self._wake.set()

    async def _drain(self) -> None:
        """Finish what is in flight or, after the grace period, hand it back."""
        if self._in_flight:
            await asyncio.wait(self._in_flight.values(), timeout=self._grace_s)
        for task in list(self._in_flight.values()):
            task.cancel()
        if self._in_flight:  # they remove what they downloaded, unless the media workers are busy
            await asyncio.wait(self._in_flight.values(), timeout=CLEANUP_S)
        try:
            await asyncio.to_thread(self._queue.hand_back)
        except DatabaseUnavailable as error:
            logger.warning("nothing could be handed back, the leases will expire: %s", error)

    # Claiming

    async def _claim_until_stopped(self) -> None:
        while not self._stopping.is_set():
            self._wake.clear()
            try:
                await self._claim()
                await asyncio.to_thread(self._queue.reap)
            except DatabaseUnavailable as error:
                logger.warning("nothing is claimed: %s", error)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._wake.wait(), POLL_S)

    async def _claim(self) -> None:
        room = self._config.plan.max_in_flight - len(self._in_flight)
        if room <= 0:
            return
        for video in await asyncio.to_thread(self._queue.claim, room):
            task = asyncio.create_task(self._process(video))
            self._in_flight[video.lease_token] = task
            task.add_done_callback(partial(self._done, video.lease_token))

    def _done(self, token: int, _: "asyncio.Task[None]") -> None:
        self._in_flight.pop(token, None)
        self._wake.set()

    async def _process(self, video: ClaimedVideo) -> None:
        parts = AttemptParts(self._pools, self._ledger, self._queue, self._clock, self._config.retry_rule, self._name)
        try:
            await Attempt(video, parts).process()
        except LeaseLost as error:
            logger.warning("%s", error)
        except Exception:  # a defect of ours: the lease expires and the reaper gives the video another attempt
            logger.exception("%s: an unexpected error in the scheduler", video.filename)

    # Staying alive, from threads of their own

    def _beat(self, loop: asyncio.AbstractEventLoop) -> None:
        while not self._stopped.wait(self._config.lease_s / 4):
            tokens = list(self._in_flight)
            try:
                held = self._queue.heartbeat(tokens)
                self._clock.refresh()
            except DatabaseUnavailable as error:
                logger.warning("no heartbeat: %s", error)
                continue
            except Exception:  # without this thread every lease expires: whatever happened, try again
                logger.exception("no heartbeat")
                continue
            for token in set(tokens) - held:
                loop.call_soon_threadsafe(self._abandon, token)

    def _abandon(self, token: int) -> None:
        task = self._in_flight.get(token)
        if task is not None:
            task.cancel()

    def _listen(self, loop: asyncio.AbstractEventLoop) -> None:
        while not self._stopping.is_set():
            try:
                for notified in notifications(self._config.database_url, POLL_S):
                    if self._stopping.is_set():
                        return
                    if notified:
                        loop.call_soon_threadsafe(self._wake.set)
            except DatabaseUnavailable as error:
                logger.warning("not listening: %s", error)
                self._stopping.wait(POLL_S)

    # Workers

    def _pool(self, kind: WorkerKind) -> Pool:
        plan = self._config.plan
        placement = plan.placements[kind]
        remote = ray.remote(StageActor).options(
            num_cpus=placement.cpus, num_gpus=placement.gpus, max_restarts=0, max_task_retries=0
        )

        def spawn(name: str) -> Any:
            return remote.remote(name, plan.loader(kind), plan.held(kind))

        return Pool(kind, spawn, placement.count, BATCH_SIZES)

    async def _announce_forever(self) -> None:
        while True:
            try:
                await asyncio.to_thread(self._registry.announce, self._worker_states())
            except DatabaseUnavailable as error:
                logger.warning("workers are not announced: %s", error)
            except Exception:  # videos do not stop for it
                logger.exception("workers are not announced")
            await asyncio.sleep(ANNOUNCE_S)

    def _worker_states(self) -> list[WorkerState]:
        node = ray.util.get_node_ip_address()
        states = [
            WorkerState(self._name, SCHEDULER_KIND, node, "cpu", None, "busy" if self._in_flight else "idle", 0.0, None)
        ]
        for kind, pool in self._pools.items():
            for view in pool.view():
                info = view.info or WorkerInfo(view.name, "", "", "", None, 0)
                state = "starting" if view.info is None else "busy" if view.calls else "idle"
                states.append(
                    WorkerState(
                        worker=f"{self._name}/{view.name}",
                        kind=kind.value,
                        node=info.node,
                        device=info.device,
                        model=info.model,
                        state=state,
                        busy_s=view.busy_s,
                        peak_memory_bytes=view.peak_memory_bytes,
                    )
                )
        return states


class SchedulerActor:
    """The Ray actor around ``VideoScheduler``: detached, restarted by Ray, rebuilt from Postgres."""

    def __init__(self, config: SchedulerConfig) -> None:
        logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
        self._config = config
        self._name = f"scheduler-{ray.get_runtime_context().get_actor_id()}"
        self._ready = threading.Event()
        self._error: ConfigurationError | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._scheduler: VideoScheduler | None = None
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def wait_until_ready(self, timeout_s: float) -> bool:
        """Whether every worker has loaded, after at most ``timeout_s``. Raises the error that stopped it."""
        self._ready.wait(timeout_s)
        if self._error is not None:
            raise self._error
        return self._ready.is_set()

    def stop(self, grace_s: float) -> None:
        """Stop scheduling; returns when what was in flight is finished or handed back.

        Before it is ready, and after loading failed, nothing is in flight and nothing has to be waited for.
        """
        if not self._ready.is_set() or self._loop is None or self._scheduler is None or self._loop.is_closed():
            return
        self._loop.call_soon_threadsafe(self._scheduler.stop, grace_s)
        self._thread.join(timeout=grace_s + 30.0)

    def pid(self) -> int:
        """The process id."""
        return os.getpid()

    def _run(self) -> None:
        try:
            asyncio.run(self._serve())
        except* ConfigurationError as group:
            if ray.get_runtime_context().was_current_actor_reconstructed:  # it had worked, and nobody waits to read why
                self._begin_again()
            self._error = _first_configuration_error(group)
            self._ready.set()
        except* Exception:
            self._begin_again()

    def _begin_again(self) -> None:
        logger.exception("the scheduler ends; Ray starts it again")
        time.sleep(RESTART_DELAY_S)
        os._exit(1)

    async def _serve(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._scheduler = VideoScheduler(self._config, self._name)
        await self._scheduler.serve(self._ready.set)


def _first_configuration_error(group: BaseExceptionGroup[ConfigurationError]) -> ConfigurationError:
    for error in group.exceptions:
        return _first_configuration_error(error) if isinstance(error, BaseExceptionGroup) else error
    raise AssertionError("an exception group is never empty")
