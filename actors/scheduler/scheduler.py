"""The scheduler: claims waiting videos, keeps their leases, runs an attempt for each, announces who is alive.

Everything it holds can be rebuilt from Postgres: when it dies, Ray starts it again, it takes back its own leases and
goes on. It works on an event loop in a thread of its own; the heartbeat has another thread, which nothing can starve.
"""

import asyncio
import contextlib
import re
import threading
import time
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any
from uuid import UUID

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from actors.attempt.attempt import Admitted, Attempt, AttemptParts
from actors.attempt.batch_writer import BatchWriter, LedgerWriter
from actors.attempt.engine_outage import EngineOutage
from actors.maintenance.downloads import Downloads
from actors.maintenance.embedding_runner import EmbeddingRunner
from actors.maintenance.index_sweep import IndexSweep
from actors.maintenance.picture_sweep import PictureSweep
from actors.maintenance.record_sweep import RecordSweep
from actors.scheduler.admission import WORK_S, Admission, Room
from actors.scheduler.back_pressure import BackPressure
from actors.workers.catalog import BATCH_LIMITS, DEFERRED, WorkerPlan
from actors.workers.deadlines import Deadlines
from actors.workers.fair_share import FairShare
from actors.workers.fetchers import Fetchers
from actors.workers.pool import WorkerPool
from actors.workers.run_estimates import RunEstimates
from actors.workers.worker import WorkerInfo, remote_stage_actor
from cluster.contracts.errors import DatabaseUnavailable, LeaseLost
from cluster.contracts.events import Event
from cluster.contracts.quotas import NO_QUOTAS, OwnerQuotas
from cluster.contracts.search import EngineAddress
from cluster.contracts.stages import FETCH_CALL, RetryRule, Stage, WorkerKind
from cluster.contracts.videos import ClaimedVideo
from cluster.files.scene_pictures import ScenePictures
from cluster.files.storage_root import is_copied
from cluster.security.event_log import EventLog, FailingSteps, log_fields
from cluster.security.log_output import LogConfig
from cluster.store.opensearch.client import open_client
from cluster.store.opensearch.sync import IndexFollower
from cluster.store.postgres.connections import ANSWER_SLACK_S, EmbeddedPostgres, Pool, open_pool
from cluster.store.postgres.refusals import REFUSALS, sentence_of
from cluster.store.queue.lease_recovery import LeaseRecovery
from cluster.store.queue.notify import can_listen, notifications
from cluster.store.queue.owner_requests import QuotaCharges
from cluster.store.queue.stage_runs import DatabaseClock, StageLedger
from cluster.store.queue.video_queue import VideoQueue
from cluster.store.queue.worker_registry import SCHEDULER_KIND, WorkerRegistry, WorkerState
from cluster.store.search.embedding_jobs import EmbeddingJobs
from cluster.store.videos.deletion import ForgottenPictures

logger = EventLog(__name__)

POLL_S = 1.0
"""Interval between looks at the queue when no notification comes."""
BETWEEN_CLAIMS_S = 0.1
"""Room for short videos comes one by one, many times a second: what a claim costs is shared by several."""
BEAT_AGAIN_S = 1.0
"""Interval between heartbeats while they fail: leases go on expiring."""
BEAT_LIMIT_S = 10.0
"""Time that a heartbeat's statement may take, or a sixth of a lease; its answer, a third: there is time for others."""
CLEANUP_S = 5.0
"""Longest wait of a stop for cancelled attempts to remove their downloads."""
SLOW_FETCH_S = 0.5
"""A download that takes longer takes no room any more in what is claimed."""
ANNOUNCE_S = 2.0
"""Interval between announcements of workers."""


@dataclass(frozen=True)
class SchedulerConfig:
    """Configuration of a scheduler; small and plain, it travels into the actor's constructor."""

    database_url: str = field(repr=False)
    plan: WorkerPlan
    lease_s: float
    retry_rule: RetryRule
    owner_cap: int | None = None
    """Videos of one owner in flight at most."""
    work_in_flight_s: float = WORK_S
    """Seconds of expected run in flight per worker."""
    postgres_dir: Path | None = None
    """The embedded Postgres, where the cluster brought it along: started again when it died."""
    scenes_url: str | None = field(default=None, repr=False)
    """URL below which the pictures of scenes are stored; those of forgotten videos are removed."""
    engine: EngineAddress | None = None
    """The engine beside Postgres that finds the scenes."""
    quotas: OwnerQuotas = NO_QUOTAS
    """Quotas on what is processed for one owner."""
    audit_days: int = 365
    """Days for which entries of the audit log are kept."""
    log: LogConfig | None = None
    """How the workers log; None: as their process does anyway."""
    name: str | None = None
    """What its leases carry; None: a name by the actor's id."""
    embedding_environment: Mapping[str, str] | None = field(default=None, repr=False)
    """Settings of the process that embeds what lacks vectors; None: this scheduler runs none."""


class VideoScheduler:
    """The scheduler's work on one event loop. ``name`` is what its leases carry, the same after a restart."""

    def __init__(self, config: SchedulerConfig, name: str) -> None:
        self._config = config
        self._name = name
        self._database: Pool = open_pool(config.database_url, min_size=2, max_size=8, name="heimdex-scheduler")
        # A session of their own: heartbeats never wait for what the attempts write.
        self._heart: Pool = open_pool(
            config.database_url,
            min_size=1,
            max_size=1,
            name="heimdex-heartbeat",
            statement_timeout_s=min(BEAT_LIMIT_S, config.lease_s / 6),
            answer_slack_s=min(ANSWER_SLACK_S, config.lease_s / 6),
        )
        self._queue = VideoQueue(self._database, name, config.lease_s, config.owner_cap)
        self._recovery = LeaseRecovery(self._database, name, config.retry_rule)
        self._registry = WorkerRegistry(self._database, name)
        self._clock = DatabaseClock(self._heart)
        self._ledger = LedgerWriter(StageLedger(self._database))
        self._finishes = BatchWriter(self._queue.finish)
        self._estimates = RunEstimates()
        self._shares = FairShare()
        self._pools: dict[WorkerKind, WorkerPool] = {
            kind: self._pool(kind) for kind in WorkerKind if kind is not WorkerKind.FETCHER
        }
        self._fetchers = self._fetchers_beside(self._pools[WorkerKind.MEDIA])
        self._downloads = Downloads(self._fetchers, self._queue)
        self._in_flight: dict[int, asyncio.Task[None]] = {}
        self._videos: dict[int, ClaimedVideo] = {}
        self._failing = FailingSteps(logger)
        self._blocked: str | None = None
        """Why no work is claimed or run, as it was logged last."""
        self._workers = {kind: placement.count for kind, placement in config.plan.placements.items()}
        self._admission = Admission(self._workers, config.plan.max_in_flight, self._estimates, config.work_in_flight_s)
        self._pressure = BackPressure()
        self._outage = EngineOutage()
        self._deadlines = Deadlines()
        self._hindrances = (self._pressure, self._outage, self._queue, self._recovery)
        self._charges = QuotaCharges(self._database, config.quotas) if config.quotas.measures else None
        self._wake = asyncio.Event()
        self._more_waits = self._urgent_waits = True
        self._grace_s = 0.0
        self._stopping = threading.Event()
        self._stopped = threading.Event()

    async def serve(self, on_ready: Callable[[], None]) -> None:
        """Start the workers, call ``on_ready``, then schedule until ``stop``.

        Raises:
            ConfigurationError: a worker cannot load what it needs.
        """
        await self._take_back(self._recovery.reap_own)
        loop = asyncio.get_running_loop()
        threads = [threading.Thread(target=self._beat, args=(loop,), daemon=True)]
        if can_listen(self._config.database_url):
            threads.append(threading.Thread(target=self._listen, args=(loop,), daemon=True))
        if self._config.postgres_dir is not None:
            server = EmbeddedPostgres(self._config.postgres_dir, roles=True)
            threads.append(threading.Thread(target=self._keep_postgres, args=(server,), daemon=True))
        async with asyncio.TaskGroup() as tasks:
            announcing = tasks.create_task(self._announce_forever())
            writing = [tasks.create_task(writer.serve()) for writer in (self._ledger, self._finishes)]
            sweeping = [tasks.create_task(sweep()) for sweep in self._sweeps()]
            for pool in self._pools.values():
                pool.start()
            others = [pool.ready() for kind, pool in self._pools.items() if kind is not WorkerKind.MEDIA]
            await asyncio.gather(self._ready_to_fetch(), *others)
            for thread in threads:
                thread.start()
            on_ready()
            logger.info(Event.SCHEDULER_STARTED, workers=sum(pool.loaded for pool in self._pools.values()))
            await self._claim_until_stopped()
            await self._drain()
            for task in (announcing, *sweeping, *writing):
                task.cancel()
        self._stopped.set()
        for pool in self._pools.values():
            pool.close()
        self._fetchers.close()
        try:
            await asyncio.to_thread(self._registry.withdraw)
        except DatabaseUnavailable as error:
            logger.warning(Event.WITHDRAWAL_FAILED, error=error)
        self._database.close()
        self._heart.close()
        logger.info(Event.SCHEDULER_STOPPED)

    def _sweeps(self) -> "list[Callable[[], Coroutine[Any, Any, None]]]":
        """Tasks that remove, all the time, what others left behind."""
        records = RecordSweep(self._database, self._config.audit_days)
        sweeps: list[Callable[[], Coroutine[Any, Any, None]]] = [self._downloads.sweep_forever, records.sweep_forever]
        if self._config.scenes_url is not None:
            pictures = ScenePictures(self._config.scenes_url)
            sweeps.append(PictureSweep(ForgottenPictures(self._database), pictures).sweep_forever)
        if self._config.embedding_environment is not None:
            environment = {**self._config.embedding_environment, "RAY_ADDRESS": ray.get_runtime_context().gcs_address}
            sweeps.append(EmbeddingRunner(EmbeddingJobs(self._database), environment).sweep_forever)
        if self._config.engine is not None:
            follower = IndexFollower(self._database, open_client(self._config.engine))
            sweeps.append(IndexSweep(follower).sweep_forever)
        return sweeps

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
        await self._fetchers.settle(CLEANUP_S)
        await self._downloads.settle(CLEANUP_S)
        try:
            for video_id in await asyncio.to_thread(self._recovery.hand_back):
                logger.info(Event.LEASE_HANDED_BACK, video_id=video_id)
        except DatabaseUnavailable as error:
            logger.warning(Event.HAND_BACK_FAILED, error=error)

    # Claiming

    async def _claim_until_stopped(self) -> None:
        looked_s = -POLL_S
        while not self._stopping.is_set():
            self._wake.clear()
            if time.monotonic() - looked_s >= POLL_S:  # videos end far more often than leases expire
                looked_s = time.monotonic()
                reap = partial(self._recovery.reap, held=list(self._in_flight))
                await self._or_logged(Event.LEASE_RECOVERY_FAILED, self._take_back(reap))
                await self._or_logged(Event.WORKER_CHECK_FAILED, self._look_again())
            if await self._or_logged(Event.CLAIM_FAILED, self._claim()):
                await asyncio.sleep(BETWEEN_CLAIMS_S)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._wake.wait(), POLL_S)

    async def _take_back(self, reap: Callable[[], list[UUID]]) -> None:
        for video_id in await asyncio.to_thread(reap):
            logger.warning(Event.LEASE_TAKEN_BACK, video_id=video_id)

    async def _or_logged(self, event: Event, step: Awaitable[Any]) -> Any:
        """What the step returns; None where it fails, which is logged once per reason until it succeeds again.

        What is in flight goes on: whatever happened, it is tried again.
        """
        try:
            result = await step
        except Exception as error:
            reason = sentence_of(error) if isinstance(error, REFUSALS) else None
            self._failing.note_failure(event, error, reason, retry_s=POLL_S)
            return None
        self._failing.note_success(event)
        return result

    async def _claim(self) -> bool:
        """Claim what there is room for; whether that was anything."""
        room = self._room()
        if not room:
            return False
        ahead = self._ahead()
        # Before the claim: what is submitted while it runs may be missing in its answer, and sets both again.
        self._more_waits &= not room.videos
        self._urgent_waits &= not room.urgent
        claimed = await asyncio.to_thread(self._queue.claim, room.videos, room.urgent, ahead, self._fetchers.caps())
        self._more_waits |= 0 < room.videos <= len(claimed)
        self._urgent_waits |= 0 < room.urgent <= len(claimed) - room.videos
        self._pressure.note_claimed([video.lease_token for video in claimed])
        for video in claimed:
            urgent = self._admission.note_claimed(video, ahead.get(video.owner_id, 0.0))
            if self._is_fetched(video):
                asyncio.get_running_loop().call_later(SLOW_FETCH_S, self._note_slow, video)
            self._shares.enter(video.lease_token, video.owner_id)
            task = asyncio.create_task(self._process_logged(video, urgent))
            self._in_flight[video.lease_token] = task
            self._videos[video.lease_token] = video
            task.add_done_callback(partial(self._done, video))
        return bool(claimed)

    def _room(self) -> Room:
        """Room for claims among the videos that may be waiting."""
        room, pressed = self._admission.room(), self._pressure.room()
        return Room(
            min(room.videos, pressed) if self._more_waits else 0,
            room.urgent if self._urgent_waits and self._pressure.trouble is None else 0,
        )

    def _ahead(self) -> dict[UUID, float]:
        """Service that owners have received beyond a newcomer, in videos of typical length."""
        video_s = self._estimates.video_s()
        return {owner: ahead_s / video_s for owner, ahead_s in self._shares.ahead_s().items()} if video_s else {}

    def _look(self) -> None:
        """More may be waiting than the last claim saw, and workers may have gone or come."""
        self._more_waits = self._urgent_waits = True
        self._fetchers.follow_nodes()
        self._workers.update((kind, pool.loaded) for kind, pool in self._pools.items())

    async def _look_again(self) -> None:
        self._look()
        self._note_blocked()

    def _note_blocked(self) -> None:
        """Log why work is not running, whenever the reason is another one; numbers in it count for nothing."""
        empty = [f"no {kind.value} worker is loaded" for kind, pool in self._pools.items() if not pool.loaded]
        reason = "; ".join([*(each.trouble for each in self._hindrances if each.trouble), *empty])
        blocked = re.sub(r"\d+", "N", reason) or None
        if blocked != self._blocked and blocked is not None:
            logger.warning(Event.WORK_BLOCKED, reason=reason)
        elif blocked != self._blocked:
            logger.info(Event.WORK_UNBLOCKED)
        self._blocked = blocked

    def _look_now(self) -> None:
        self._look()
        self._wake.set()

    def _done(self, video: ClaimedVideo, _: "asyncio.Task[None]") -> None:
        self._in_flight.pop(video.lease_token, None)
        self._videos.pop(video.lease_token, None)
        self._admission.note_ended(video.lease_token)
        self._shares.leave(video.lease_token)
        if self._config.owner_cap is not None or self._is_fetched(video):
            self._look()  # another one of the owner may be claimed
        self._pressure.note_abandoned(video.lease_token)  # unless it came to an end, which was noted then
        self._wake.set()

    def _note_length(self, video: ClaimedVideo, length_s: float) -> None:
        self._admission.note_length(video.lease_token, length_s)
        self._wake.set()

    def _note_done(self, video: ClaimedVideo, call: str) -> None:
        self._admission.note_done(video.lease_token, call)
        self._shares.enter(video.lease_token, video.owner_id)
        if call == FETCH_CALL:  # its owner may have another one
            self._more_waits = self._urgent_waits = True
        self._wake.set()

    def _is_fetched(self, video: ClaimedVideo) -> bool:
        return Stage.INDEXING not in video.stored and is_copied(video.uri, self._config.plan.root_is_remote)

    def _note_slow(self, video: ClaimedVideo) -> None:
        """Note that a video is fetched slowly: it takes no room from others, and its owner saves no share up."""
        if self._admission.note_slow(video.lease_token):
            self._shares.leave(video.lease_token)
            self._wake.set()

    async def _process_logged(self, video: ClaimedVideo, urgent: bool) -> None:
        with log_fields(video_id=video.id, attempt=video.attempt):
            logger.info(Event.VIDEO_CLAIMED, owner_id=video.owner_id, lease=video.lease_token, urgent=urgent)
            await self._process(video, urgent)

    async def _process(self, video: ClaimedVideo, urgent: bool) -> None:
        parts = AttemptParts(
            self._pools,
            self._fetchers,
            self._downloads,
            self._ledger,
            self._finishes,
            self._queue,
            self._clock,
            self._config.retry_rule,
            self._name,
            self._pressure.note_trouble,
            self._outage if self._config.engine is not None else None,
            self._config.plan.root_is_remote,
            self._deadlines,
            self._charges,
        )
        note_length, note_done = partial(self._note_length, video), partial(self._note_done, video)
        try:
            await Attempt(video, parts, Admitted(urgent, note_length, note_done)).process()
            self._pressure.note_settled(video.lease_token)
        except LeaseLost:
            logger.warning(Event.LEASE_LOST, lease=video.lease_token, found_by="write")
        except Exception as error:  # a defect of ours: the lease expires, and the video gets another attempt
            logger.exception(Event.ATTEMPT_DEFECT, error=error)

    # Staying alive, from threads of their own

    def _beat(self, loop: asyncio.AbstractEventLoop) -> None:
        """Prolong the leases every so often; abandon what was taken away."""
        queue = VideoQueue(self._heart, self._name, self._config.lease_s)
        while not self._stopped.is_set():
            tokens, wait_s = list(self._in_flight), min(BEAT_AGAIN_S, self._config.lease_s / 4)
            try:
                held = queue.heartbeat(tokens)
                self._clock.refresh()
            except Exception as error:  # without this thread every lease expires: whatever happened, try again
                self._failing.note_failure(Event.HEARTBEAT_FAILED, error, retry_s=wait_s)
            else:
                self._failing.note_success(Event.HEARTBEAT_FAILED)
                self._abandon_all(loop, set(tokens) - held, "heartbeat")
                wait_s = self._config.lease_s / 4
            self._stopped.wait(wait_s)

    def _abandon_all(self, loop: asyncio.AbstractEventLoop, tokens: set[int], found_by: str) -> None:
        for token in tokens:
            loop.call_soon_threadsafe(self._abandon, token, found_by)

    def _abandon(self, token: int, found_by: str) -> None:
        task = self._in_flight.get(token)
        if task is not None and not task.cancelling():
            video = self._videos[token]
            with log_fields(video_id=video.id, attempt=video.attempt):
                logger.warning(Event.LEASE_LOST, lease=token, found_by=found_by)
            task.cancel()

    def _keep_postgres(self, server: EmbeddedPostgres) -> None:
        """Start the embedded Postgres again when it died: no other process does."""
        while not self._stopping.wait(POLL_S):
            if server.is_running():
                continue
            try:
                server.start()
            except Exception as error:  # nothing goes on without it: whatever happened, try again
                self._failing.note_failure(Event.POSTGRES_START_FAILED, error, retry_s=POLL_S)
            else:
                self._failing.note_success(Event.POSTGRES_START_FAILED)
                logger.warning(Event.POSTGRES_RESTARTED)

    def _listen(self, loop: asyncio.AbstractEventLoop) -> None:
        while not self._stopping.is_set():
            try:
                for number, hints in enumerate(notifications(self._config.database_url, POLL_S)):
                    self._failing.note_success(Event.LISTEN_FAILED)
                    if self._stopping.is_set():
                        return
                    if hints.videos_wait:
                        loop.call_soon_threadsafe(self._look_now)
                    named = hints.ended_leases if number else list(self._in_flight)  # before: none was received
                    ended = set(named) & self._in_flight.keys()
                    if ended:
                        self._abandon_all(loop, ended - self._queue.held(ended), "notification")
            except Exception as error:  # without this thread work is found late: whatever happened, try again
                self._failing.note_failure(Event.LISTEN_FAILED, error, retry_s=POLL_S)
                self._stopping.wait(POLL_S)

    # Workers

    def _pool(self, kind: WorkerKind) -> WorkerPool:
        plan = self._config.plan
        placement = plan.placements[kind]

        def spawn(name: str) -> Any:
            remote = remote_stage_actor(name, cpus=placement.cpus, gpus=placement.gpus)
            return remote.remote(name, plan.loader(kind), plan.resource_share(kind), self._config.log)

        return WorkerPool(
            kind, spawn, placement.count, BATCH_LIMITS, DEFERRED, shares=self._shares, estimates=self._estimates
        )

    def _fetchers_beside(self, media: WorkerPool) -> Fetchers:
        """Downloads where media workers are: a fetcher reserves no CPU, so its node is named."""
        plan = self._config.plan

        def spawn(name: str, node_id: str) -> Any:
            remote = remote_stage_actor(name, cpus=0.0, at_once=plan.fetch_limit.per_node)
            here = NodeAffinitySchedulingStrategy(node_id, soft=False)
            loader, held = plan.loader(WorkerKind.FETCHER), plan.resource_share(WorkerKind.FETCHER)
            return remote.options(scheduling_strategy=here).remote(name, loader, held, self._config.log)

        return Fetchers(spawn, media.nodes, plan.fetch_limit, plan.fetch_deadline_s)

    async def _ready_to_fetch(self) -> None:
        """Once media workers are ready it is known where fetchers have to be."""
        await self._pools[WorkerKind.MEDIA].ready()
        await self._fetchers.ready()

    async def _announce_forever(self) -> None:
        while True:
            try:
                await asyncio.to_thread(self._registry.announce, self._worker_states())
            except Exception as error:  # videos do not stop for it
                self._failing.note_failure(Event.ANNOUNCEMENT_FAILED, error, retry_s=ANNOUNCE_S)
            else:
                self._failing.note_success(Event.ANNOUNCEMENT_FAILED)
            await asyncio.sleep(ANNOUNCE_S)

    def _worker_states(self) -> list[WorkerState]:
        node = ray.util.get_node_ip_address()
        states = [
            WorkerState(
                worker=self._name,
                kind=SCHEDULER_KIND,
                node=node,
                device="cpu",
                model=None,
                state="busy" if self._in_flight else "idle",
                busy_s=0.0,
                peak_memory_bytes=None,
                trouble="; ".join(each.trouble for each in self._hindrances if each.trouble) or None,
            )
        ]
        views = {WorkerKind.FETCHER: self._fetchers.view()} | {kind: pool.view() for kind, pool in self._pools.items()}
        for kind, of_kind in views.items():
            for view in of_kind:
                info = view.info or WorkerInfo(view.name, "", "", "", None, 0)
                state = "starting" if view.info is None else "busy" if view.busy else "idle"
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
