"""One attempt on a real queue and ledger whose workers are played: each call takes a moment and answers."""

import asyncio
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, cast

from actors.attempt.attempt import Admitted, Attempt, AttemptParts
from actors.attempt.batch_writer import BatchWriter, LedgerWriter
from actors.attempt.engine_outage import EngineOutage
from actors.maintenance.downloads import Downloads
from actors.workers.deadlines import Deadlines
from actors.workers.fetchers import Fetchers
from actors.workers.pool import WorkerPool
from actors.workers.turns import ANY_TURN, Turn
from actors.workers.worker import StageReply
from cluster.contracts.media import LocalVideo, MediaInfo
from cluster.contracts.results import StageFailure, StageReport
from cluster.contracts.stages import RetryRule, WorkerKind
from cluster.contracts.videos import ClaimedVideo
from cluster.store.postgres.connections import Pool
from cluster.store.queue.owner_requests import QuotaCharges
from cluster.store.queue.stage_runs import DatabaseClock, StageLedger
from cluster.store.queue.video_queue import VideoQueue

LOCAL = LocalVideo(Path("/scratch/x/a.mp4"), 10, temporary=True)
INFO = MediaInfo(60.0, 0.0, 25.0, 640, 360, 0, "h264", "aac", 10)
RUN_S = 0.01


class Workers:
    """Workers of every kind: each call takes a moment and answers; ``trouble`` says which calls answer otherwise.

    ``wait_s``: how long each call waits for its worker first.
    """

    def __init__(self, wait_s: float = 0.0, **trouble: Callable[[], Any] | Exception | StageFailure) -> None:
        self.trouble: Mapping[str, Any] = trouble
        self.wait_s = wait_s
        self.info = INFO
        self.calls: list[tuple[str, str | None]] = []
        self.added_s: list[tuple[str, float]] = []
        self.alone: set[bool] = set()

    async def run(
        self,
        call: str,
        arguments: tuple[Any, ...],
        *,
        deadline_s: float,
        node_id: str | None = None,
        alone: bool = False,
        size: float = 0.0,
        added_s: float = 0.0,
        turn: Turn = ANY_TURN,
        on_start: Callable[[], None] = lambda: None,
    ) -> StageReply:
        assert deadline_s > 0
        self.alone.add(alone)
        assert isinstance(arguments, tuple)
        self.calls.append((call, node_id))
        self.added_s.append((call, added_s))
        if self.wait_s:
            await asyncio.sleep(self.wait_s)
        on_start()
        await asyncio.sleep(RUN_S)
        trouble = self.trouble.get(call)
        if isinstance(trouble, Exception):
            raise trouble
        if callable(trouble):
            trouble = await trouble()
        failure = trouble if isinstance(trouble, StageFailure) else None
        value = {"fetch": LOCAL, "locate": LOCAL, "probe": self.info}.get(call, call)
        report = StageReport(RUN_S, 1, "10.0.0.1", f"{call}-worker", "cpu", RUN_S, failure)
        return StageReply(report, None if failure else value, "the-files-node", 1)

    async def fetch(
        self, arguments: tuple[Any, ...], turn: Turn, alone: bool, on_start: Callable[[], None]
    ) -> StageReply:
        return await self.run("fetch", arguments, deadline_s=1.0, turn=turn, alone=alone, on_start=on_start)

    async def run_beside(self, call: str, arguments: tuple[Any, ...], deadline_s: float, node_id: str) -> StageReply:
        return await self.run(call, arguments, deadline_s=deadline_s, node_id=node_id)


def attempt(
    pool: Pool,
    queue: VideoQueue,
    video: ClaimedVideo,
    workers: Workers,
    during: Any = None,
    admitted: Admitted | None = None,
    outage: EngineOutage | None = None,
    charges: QuotaCharges | None = None,
    deadlines: Deadlines | None = None,
) -> list[str]:
    """Process the video; ``during`` may meddle with the attempt's task meanwhile. Raises what the attempt raises.

    Returns the troubles that it reported.
    """
    troubles: list[str] = []

    async def whole() -> None:
        ledger, finishes = LedgerWriter(StageLedger(pool)), BatchWriter(queue.finish)
        pools = cast(Mapping[WorkerKind, WorkerPool], dict.fromkeys(WorkerKind, workers))
        rule = RetryRule(max_errors=3, first_delay_s=0.0)
        fetchers = cast(Fetchers, workers)
        parts = AttemptParts(
            pools,
            fetchers,
            Downloads(fetchers, queue),
            ledger,
            finishes,
            queue,
            DatabaseClock(pool),
            rule,
            "first",
            troubles.append,
            outage,
            deadlines=deadlines or Deadlines(),
            charges=charges,
        )
        serving = [asyncio.create_task(writer.serve()) for writer in (ledger, finishes)]
        processing = asyncio.create_task(Attempt(video, parts, admitted or Admitted()).process())
        try:
            if during is not None:
                await during(processing)
            await asyncio.wait_for(processing, 30)
        finally:
            for task in serving:
                task.cancel()
            await asyncio.gather(*serving, return_exceptions=True)

    asyncio.run(whole())
    return troubles
