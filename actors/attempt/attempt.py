"""One attempt at one video: runs its stages on the pools, keeps its ledger, and settles how it ends.

Times are the database's clock. Processing begins when the first worker does, up to there a video is queued; a later
stage is ready when the last of what it needs was finished, so all time on the way is charged to a stage. What the
stages do is ``actors.attempt.pipeline``'s; claiming is the scheduler's.
"""

import asyncio
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any

from actors.attempt.batch_writer import LONGEST_PUT_OFF_S, BatchWriter, LedgerWriter
from actors.attempt.engine_outage import EngineOutage, is_engine_away
from actors.attempt.pipeline import ENGINE_CALL, PREVIOUS, Call, Done, StageFailed, download_key, walk
from actors.maintenance.downloads import Downloads
from actors.workers.deadlines import Deadlines
from actors.workers.fetchers import Fetchers
from actors.workers.pool import WorkerPool
from actors.workers.tracebacks import clear_traceback_frames
from actors.workers.turns import Turn
from actors.workers.worker import StageReply, failure_of
from cluster.contracts.errors import (
    DatabaseUnavailable,
    Interrupted,
    LeaseLost,
    NodeLost,
    NoSpace,
    QuotaExceeded,
    StatementTimeout,
    WorkerCrash,
    WorkerLost,
)
from cluster.contracts.events import Event
from cluster.contracts.media import LocalVideo, MediaInfo
from cluster.contracts.results import StageFailure, StageReport
from cluster.contracts.stages import (
    DEADLINES,
    FETCH_CALL,
    REQUIRES,
    Blame,
    Outcome,
    RetryRule,
    Setbacks,
    Stage,
    WorkerKind,
)
from cluster.contracts.videos import ClaimedVideo
from cluster.files.storage_root import is_copied
from cluster.security.event_log import EventLog
from cluster.security.redaction import redacted, without_folders
from cluster.store.queue.owner_requests import QuotaCharges
from cluster.store.queue.stage_runs import BegunVideo, ClosedRun, DatabaseClock, OpenRun
from cluster.store.queue.video_queue import Finish, VideoQueue

logger = EventLog(__name__)

DATABASE_RETRY_S = 0.5
SHORT_CALL_S = 1.0
"""A first call that is shorter is written as begun and ended at once."""


@dataclass(frozen=True)
class AttemptParts:
    """Parts that all attempts share."""

    pools: Mapping[WorkerKind, WorkerPool]
    fetchers: Fetchers
    downloads: Downloads
    ledger: LedgerWriter
    finishes: BatchWriter[Finish]
    queue: VideoQueue
    clock: DatabaseClock
    retry_rule: RetryRule
    scheduler: str
    on_trouble: Callable[[str], None]
    """Called with one sentence on what keeps videos from being processed and is not their fault."""
    outage: EngineOutage | None = None
    """The attempts' waiting for the engine beside Postgres that finds the scenes; None: Postgres does itself."""
    root_is_remote: bool = False
    """Whether relative paths are below a storage root that is no folder."""
    deadlines: Deadlines = field(default_factory=Deadlines)
    """Deadlines of calls, as all attempts have measured them."""
    charges: QuotaCharges | None = None
    """Charges of measured videos to their owners' quotas; None: there are none."""


def _nothing(*_: object) -> None:
    pass


@dataclass(frozen=True)
class Admitted:
    """How the scheduler admitted the video, and what it wants to know of it.

    ``urgent``: its calls go before all others. ``on_length`` is called with the video's length in seconds, where its
    headers state it; ``on_done`` with the name of a call that succeeded.
    """

    urgent: bool = False
    on_length: Callable[[float], None] = _nothing
    on_done: Callable[[str], None] = _nothing


class Attempt:
    """Runs one claimed video to its end. Implements ``actors.attempt.pipeline.StageRunner``."""

    def __init__(self, video: ClaimedVideo, parts: AttemptParts, admitted: Admitted) -> None:
        self.video = video
        self._parts = parts
        self._admitted = admitted
        self._due_s = video.due_at.timestamp()
        self._alone = parts.retry_rule.runs_alone(video.setbacks)
        self._node_id: str | None = None
        self._duration_s: float | None = None
        self._downloaded = False
        self._closing: list[asyncio.Future[None]] = []
        self._late: asyncio.TimerHandle | None = None
        self._handed_at: datetime | None = None
        """Time at which a worker was given the first call."""
        self._began_at: datetime | None = None
        """Time that was written as the start of processing, while the first call still runs."""

    async def process(self) -> None:
        """Walk the video's way and settle it: READY, FAILED, or waiting again. Raises LeaseLost."""
        try:
            claimed = Done(None, self.video.claimed_at)
            copied = is_copied(self.video.uri, self._parts.root_is_remote)
            indexed = await walk(self.video, claimed, self, self._parts.outage is not None, copied=copied)
            await self._finalize(indexed)
        except StageFailed as failed:
            clear_traceback_frames(failed)
            await self._discard()
            await self._settle_failure(failed.stage, failed.failure)
        except BaseException:  # the lease is lost, the cluster stops, or a defect: only this attempt knows of the file
            await self._discard()
            raise
        finally:
            if self._late is not None:
                self._late.cancel()
            for closing in self._closing:
                closing.cancel()  # its result is no longer needed

    async def run(
        self, stage: Stage, after: Sequence[Done], *calls: Call, outcome: Outcome = Outcome.COMPLETED
    ) -> Done:
        """See ``StageRunner.run``: the ledger row is committed before the first call is handed to a worker."""
        run = OpenRun(self.video, stage, max(done.finished_at for done in after))
        await self._open(run)
        previous: Any = None
        total = _NOTHING
        for call in calls:
            reply = await self._call(run, call, previous)
            total = _added(total, reply.report)
            if call.name == ENGINE_CALL and self._parts.outage is not None:
                while is_engine_away(reply):
                    await self._parts.outage.wait_before_retry(reply)
                    reply = await self._call(run, call, previous)
                    total = _added(total, reply.report)
                self._parts.outage.note_answer()
            if reply.report.failure is not None:
                if reply.report.failure.error_type == LeaseLost.__name__:
                    raise LeaseLost(reply.report.failure.message)
                raise self._failed(run, total, reply.report.failure)
            self._admitted.on_done(call.name)
            previous = reply.value
        media = previous if isinstance(previous, MediaInfo) else None
        if media is not None:
            await self._charge(run, total, media)
            self._duration_s = media.duration_s
            if media.duration_s is not None:
                self._admitted.on_length(media.duration_s)
        return Done(previous, self._close(run, outcome, total, media))

    async def _charge(self, run: OpenRun, report: StageReport, media: MediaInfo) -> None:
        """Count the video in its owner's quotas; one that is beyond them fails before it costs more."""
        if self._parts.charges is None:
            return
        try:
            await self._until_database_answers(self._parts.charges.charge, self.video, media)
        except QuotaExceeded as error:
            failure = StageFailure(QuotaExceeded.__name__, str(error), Blame.VIDEO)
            raise self._failed(run, report, failure, media) from None

    async def _call(self, run: OpenRun, call: Call, previous: Any) -> StageReply:
        arguments = tuple(previous if argument is PREVIOUS else argument for argument in call.arguments)
        try:
            if call.name == FETCH_CALL:
                reply = await self._parts.fetchers.fetch(
                    arguments, self._turn(run.stage), self._alone, self._note_start
                )
            else:
                reply = await self._by_worker(run.stage, call, arguments)
        except (WorkerCrash, Interrupted) as error:
            raise self._failed(run, _unmeasured(call.kind), failure_of(error)) from None
        if isinstance(reply.value, LocalVideo):
            self._node_id, self._downloaded = reply.node_id, reply.value.temporary
        if reply.report.failure is None:
            self._parts.deadlines.note_run(call.name, reply.model, self._duration_s, reply.report.run_s)
        return reply

    async def _by_worker(self, stage: Stage, call: Call, arguments: tuple[Any, ...]) -> StageReply:
        return await self._parts.pools[call.kind].run(
            call.name,
            arguments,
            deadline_s=DEADLINES[stage].fixed_s,
            added_s=self._parts.deadlines.added_s(stage, call.name, self._duration_s),
            node_id=self._node_id if call.on_file_node else None,
            alone=self._alone,
            size=call.size,
            turn=self._turn(stage),
            on_start=self._note_start,
        )

    def _turn(self, stage: Stage) -> Turn:
        about = {"video_id": str(self.video.id), "attempt": self.video.attempt, "stage": stage.value}
        return Turn(self.video.owner_id, self._admitted.urgent, self._due_s, self._duration_s, about)

    def _note_start(self) -> None:
        """A worker is given a call. The first one begins the processing, which is written at once where it is long."""
        if self._handed_at is None:
            self._handed_at = self._parts.clock.now()
            self._late = asyncio.get_running_loop().call_later(SHORT_CALL_S, self._begin, self._handed_at)

    def _begin(self, moment: datetime) -> None:
        self._began_at = self._in_ms(moment)
        self._closing.append(self._parts.ledger.add(BegunVideo(self.video, self._began_at)))

    def _in_ms(self, moment: datetime) -> datetime:
        return max(moment.replace(microsecond=moment.microsecond // 1000 * 1000), self.video.claimed_at)

    async def _open(self, run: OpenRun) -> None:
        """Returns when the open row is committed, and with it all that was closed before. Raises LeaseLost."""
        await self._written(self._parts.ledger.add(run))

    async def _written(self, *added: "asyncio.Future[None]") -> None:
        """Returns when all that was closed is committed, and what was ``added`` as well. Raises LeaseLost."""
        closing, self._closing = self._closing, []
        await asyncio.gather(*closing, *added)

    def _failed(
        self, run: OpenRun, report: StageReport, failure: StageFailure, media: MediaInfo | None = None
    ) -> StageFailed:
        outcome = Outcome.LOST if failure.error_type in _LOST else Outcome.FAILED
        logger.warning(
            Event.STAGE_FAILED,
            stage=run.stage,
            worker=report.worker,
            node=report.node or None,
            blame=failure.blame,
            error_type=failure.error_type,
            error=failure.message,
        )
        if failure.error_type == NoSpace.__name__:
            self._parts.on_trouble(failure.message)
        failure = replace(failure, message=self._for_owner(failure.message))
        finished_at = self._close(run, outcome, replace(report, failure=failure), media)
        return StageFailed(run.stage, failure, finished_at)

    def _for_owner(self, message: str) -> str:
        """The message as the database keeps it: owners who submit by HTTP read it, and do not operate this machine."""
        return redacted(message) if self.video.origin.by_operator else without_folders(message)

    def _close(self, run: OpenRun, outcome: Outcome, report: StageReport, media: MediaInfo | None = None) -> datetime:
        """Written along with what is opened next, which waits for it: that it is written is not waited for here."""
        finished_at = max(self._parts.clock.now(), run.ready_at + timedelta(seconds=report.run_s))
        if not REQUIRES[run.stage]:
            run = replace(run, ready_at=self._first_began_at(finished_at, report))
        self._closing.append(self._parts.ledger.add(ClosedRun(run, outcome, finished_at, report, media)))
        return finished_at

    def _first_began_at(self, finished_at: datetime, report: StageReport) -> datetime:
        """Time at which the first worker began: as measured, or when it was given the call where it cannot say."""
        if self._late is not None:
            self._late.cancel()
        if self._began_at is not None:
            return self._began_at
        if self._handed_at is not None and not report.run_s:
            return self._in_ms(self._handed_at)
        return self._in_ms(finished_at - timedelta(seconds=report.run_s))

    # Settling

    async def _finalize(self, indexed: Done) -> None:
        run = OpenRun(self.video, Stage.FINALIZING, indexed.finished_at)
        await self._open(run)
        removed = await self._discard()
        if removed is None:
            measured = 0.0, "scheduler", self._parts.scheduler
        else:
            measured = removed.run_s, removed.node, removed.worker
        await self._parts.finishes.add(Finish(self.video, *measured))
        logger.info(Event.VIDEO_READY, duration_s=self._duration_s)

    async def _settle_failure(self, stage: Stage, failure: StageFailure) -> None:
        rule, setbacks = self._parts.retry_rule, self.video.setbacks.plus(failure.blame)
        await self._written()
        if rule.is_final(setbacks, failure.blame):
            failure = _after_waiting(failure, setbacks)
            await self._until_database_answers(self._parts.queue.fail, self.video, stage.value, failure)
            logger.warning(Event.VIDEO_FAILED, stage=stage, error_type=failure.error_type, error=failure.message)
        else:
            delay_s = _pause_s(rule, setbacks, failure)
            await self._until_database_answers(self._parts.queue.retry, self.video, failure, delay_s)
            logger.info(
                Event.RETRY_SCHEDULED, stage=stage, delay_s=delay_s, blame=failure.blame, error_type=failure.error_type
            )

    async def _discard(self) -> StageReport | None:
        """Remove the downloaded file, on its node; None when there was nothing to remove, or it is removed later."""
        if not self._downloaded or self._node_id is None:
            return None
        self._downloaded = False
        return await self._parts.downloads.remove(download_key(self.video), self._node_id)

    async def _until_database_answers(self, write: Any, *arguments: Any) -> None:
        """Back-pressure: while the database is away nothing is decided, until the lease is lost.

        Where it takes too long over this one video, the tries become rare: each keeps a thread from the others.
        """
        delay_s = DATABASE_RETRY_S
        while True:
            try:
                await asyncio.to_thread(write, *arguments)
            except DatabaseUnavailable as error:
                is_slow = isinstance(error, StatementTimeout)
                delay_s = min(2 * delay_s, LONGEST_PUT_OFF_S) if is_slow else DATABASE_RETRY_S
                logger.warning(Event.WRITE_POSTPONED, delay_s=delay_s, error=error)
                await asyncio.sleep(delay_s)
            else:
                return


def _pause_s(rule: RetryRule, setbacks: Setbacks, failure: StageFailure) -> float:
    """Seconds that the video waits for its next attempt."""
    if failure.blame is Blame.POSTPONEMENT:
        return rule.postponement_s(setbacks, failure.retry_after_s or 0.0, random.random())
    return rule.delay_s(setbacks, random.random())


def _after_waiting(failure: StageFailure, setbacks: Setbacks) -> StageFailure:
    """The failure that ends the waiting for a source says how long that was."""
    if failure.blame is not Blame.POSTPONEMENT:
        return failure
    hours = setbacks.postponed_s / 3600
    return replace(failure, message=f"{failure.message}; given up after {hours:.1f} h of waiting")


_NOTHING = StageReport(run_s=0.0, batch_size=1, node="", worker="scheduler", device="", resource_s=0.0)
"""A stage in which no worker was asked."""
_LOST = {WorkerLost.__name__, NodeLost.__name__}
"""Failures after which no process is left to report how long the stage ran."""


def _added(total: StageReport, report: StageReport) -> StageReport:
    """A stage of several calls is measured as their sum; it is named after the worker of the longest one."""
    named = report if report.run_s >= total.run_s else total
    return replace(named, run_s=total.run_s + report.run_s, resource_s=total.resource_s + report.resource_s)


def _unmeasured(kind: WorkerKind) -> StageReport:
    """A worker that died cannot say how long it ran: nothing is charged as run, all of it stays wait."""
    return replace(_NOTHING, worker=kind.value)
