"""One attempt at one video: runs its stages on the pools, keeps its ledger, and settles how it ends.

Times are the database's clock; a stage is ready when the last of what it needs was finished, so nothing on the way
is without a stage it is charged to. What the stages do is ``actors.video_path``'s; claiming is the scheduler's.
"""

import asyncio
import logging
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

from actors.ledger_writer import LedgerWriter
from actors.pools import Pool
from actors.stage_actor import StageReply, failure_of
from actors.video_path import PREVIOUS, Call, Done, StageFailed, walk
from cluster.contracts.errors import (
    DatabaseUnavailable,
    LeaseLost,
    StageTimeout,
    TransientFailure,
    WorkerLost,
)
from cluster.contracts.media import LocalVideo, MediaInfo
from cluster.contracts.results import StageFailure, StageReport
from cluster.contracts.stages import DEADLINES, Outcome, RetryRule, Stage, WorkerKind
from cluster.contracts.videos import ClaimedVideo
from cluster.store.stage_ledger import ClosedRun, DatabaseClock, OpenRun
from cluster.store.video_queue import VideoQueue

logger = logging.getLogger(__name__)

DATABASE_RETRY_S = 0.5


@dataclass(frozen=True)
class AttemptParts:
    """What every attempt shares."""

    pools: Mapping[WorkerKind, Pool]
    ledger: LedgerWriter
    queue: VideoQueue
    clock: DatabaseClock
    retry_rule: RetryRule
    scheduler: str


class Attempt:
    """Runs one claimed video to its end. Implements ``actors.video_path.StageRunner``."""

    def __init__(self, video: ClaimedVideo, parts: AttemptParts) -> None:
        self.video = video
        self._parts = parts
        self._local: LocalVideo | None = None
        self._node_id: str | None = None
        self._duration_s: float | None = None

    async def process(self) -> None:
        """Walk the video's way and settle it: READY, FAILED, or waiting again. Raises LeaseLost."""
        try:
            indexed = await walk(self.video, Done(None, self.video.claimed_at), self)
            await self._finalize(indexed)
        except StageFailed as failed:
            await self._discard()
            await self._settle_failure(failed.stage, failed.failure)
        except BaseException:  # the lease is lost, the cluster stops, or a defect: nobody else knows of the file
            await self._discard()
            raise

    async def run(self, stage: Stage, after: Sequence[Done], *calls: Call) -> Done:
        """See ``StageRunner.run``: the ledger row is committed before the first call is handed to a worker."""
        run = OpenRun(self.video, stage, max(done.finished_at for done in after))
        await self._parts.ledger.open(run)
        deadline_s = DEADLINES[stage].seconds(self._duration_s)
        previous: Any = None
        total: StageReport | None = None
        for call in calls:
            reply = await self._call(run, call, previous, deadline_s)
            total = _added(total, reply.report)
            if reply.report.failure is not None:
                if reply.report.failure.error_type == LeaseLost.__name__:
                    raise LeaseLost(reply.report.failure.message)
                raise await self._failed(run, total, reply.report.failure)
            previous = reply.value
        assert total is not None, "a stage has at least one call"
        finished_at = await self._close(run, Outcome.COMPLETED, total)
        return Done(previous, finished_at)

    async def record_media(self, info: MediaInfo) -> None:
        """See ``StageRunner.record_media``."""
        self._duration_s = info.duration_s
        await self._until_database_answers(self._parts.queue.record_media, self.video, info)

    async def _call(self, run: OpenRun, call: Call, previous: Any, deadline_s: float) -> StageReply:
        arguments = tuple(previous if argument is PREVIOUS else argument for argument in call.arguments)
        pool = self._parts.pools[call.kind]
        node_id = self._node_id if call.on_file_node else None
        try:
            reply = await pool.run(call.name, arguments, deadline_s=deadline_s, node_id=node_id)
        except (WorkerLost, StageTimeout) as error:
            raise await self._failed(run, _unmeasured(call.kind), failure_of(error)) from None
        if isinstance(reply.value, LocalVideo):
            self._local, self._node_id = reply.value, reply.node_id
        return reply

    async def _failed(self, run: OpenRun, report: StageReport, failure: StageFailure) -> StageFailed:
        lost = failure.error_type == WorkerLost.__name__
        outcome = Outcome.LOST if lost else Outcome.FAILED
        finished_at = await self._close(run, outcome, replace(report, failure=failure))
        return StageFailed(run.stage, failure, finished_at)

    async def _close(self, run: OpenRun, outcome: Outcome, report: StageReport) -> datetime:
        finished_at = max(self._parts.clock.now(), run.ready_at + timedelta(seconds=report.run_s))
        await self._parts.ledger.close(ClosedRun(run, outcome, finished_at, report))
        return finished_at

    # Settling

    async def _finalize(self, indexed: Done) -> None:
        run = OpenRun(self.video, Stage.FINALIZING, indexed.finished_at)
        await self._parts.ledger.open(run)
        removed = await self._discard()
        if removed is None:
            measured = 0.0, "scheduler", self._parts.scheduler
        else:
            measured = removed.run_s, removed.node, removed.worker
        await self._until_database_answers(self._parts.queue.finish, self.video, *measured)

    async def _settle_failure(self, stage: Stage, failure: StageFailure) -> None:
        rule, failures = self._parts.retry_rule, self.video.failures + 1
        final = failure.invalid_video or failures >= rule.max_attempts
        logger.info("%s failed in %s (attempt %d): %s", self.video.filename, stage, self.video.attempt, failure.message)
        if final:
            await self._until_database_answers(self._parts.queue.fail, self.video, stage.value, failure)
        else:
            delay_s = rule.delay_s(failures, random.random())
            await self._until_database_answers(self._parts.queue.retry, self.video, failure, delay_s)

    async def _discard(self) -> StageReport | None:
        """Remove the downloaded file, on its node; None when there was nothing to remove, or nobody left who could."""
        if self._local is None or not self._local.temporary:
            return None
        local, self._local = self._local, None
        try:
            reply = await self._parts.pools[WorkerKind.MEDIA].run(
                "discard", (local,), deadline_s=DEADLINES[Stage.FINALIZING].fixed_s, node_id=self._node_id
            )
        except (WorkerLost, TransientFailure) as error:
            logger.warning("%s could not be removed: %s", local.path, error)
            return None
        if reply.report.failure is not None:
            logger.warning("%s could not be removed: %s", local.path, reply.report.failure.message)
        return reply.report

    async def _until_database_answers(self, write: Any, *arguments: Any) -> None:
        """Back-pressure: while the database is away nothing is decided, until the lease is lost."""
        while True:
            try:
                await asyncio.to_thread(write, *arguments)
            except DatabaseUnavailable as error:
                logger.warning("%s waits: %s", self.video.filename, error)
                await asyncio.sleep(DATABASE_RETRY_S)
            else:
                return


def _added(total: StageReport | None, report: StageReport) -> StageReport:
    """A stage of several calls is measured as their sum; it is named after the worker of the last one."""
    if total is None:
        return report
    return replace(report, run_s=total.run_s + report.run_s, resource_s=total.resource_s + report.resource_s)


def _unmeasured(kind: WorkerKind) -> StageReport:
    """A worker that died cannot say how long it ran: nothing is charged as run, all of it stays wait."""
    return StageReport(run_s=0.0, batch_size=1, node="", worker=kind.value, device="", resource_s=0.0)
