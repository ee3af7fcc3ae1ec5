"""The scheduler's real policies on a clock that jumps: admission, pools and the way of a video, without workers.

What each call of each video runs is given, as it was recorded from a real cluster. Time passes only while all wait, so
minutes of a cluster take a moment. Played are the workers, who sleep, and the queue in Postgres, whose order is the
claim's: owners in turn, of each those first that are due first.
"""

import asyncio
import gc
import math
import selectors
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

from actors.attempt.pipeline import Call, Done, walk
from actors.scheduler.admission import LAST_CALL, WORK_S, Admission
from actors.workers.catalog import BATCH_LIMITS, DEFERRED
from actors.workers.fair_share import FairShare
from actors.workers.pool import WorkerPool
from actors.workers.run_estimates import RunEstimates
from actors.workers.turns import Turn
from actors.workers.worker import Fields, StageReply, WorkerInfo
from cluster.contracts.media import LocalVideo, MediaInfo
from cluster.contracts.results import StageReport
from cluster.contracts.stages import Outcome, Stage, WorkerKind
from cluster.contracts.videos import PRIORITY_STEP_S, URGENT_AHEAD, ClaimedVideo

EPOCH = datetime(2026, 1, 1, tzinfo=UTC)
TWO_CORES = {WorkerKind.MEDIA: 2, WorkerKind.TRANSCRIBER: 1, WorkerKind.EMBEDDER: 1, WorkerKind.WRITER: 1}
CLAIM_S = 0.01
"""Time that a claim takes."""
BETWEEN_CALLS_S = 0.005
"""Time that a call takes beside its run, by Ray."""
LEDGER_S = 0.02
"""Time from the commit of a stage as begun to the first call that is given to a pool."""


@dataclass(frozen=True)
class Recorded:
    """A video as it was recorded: its length and the run of each of its calls, in seconds."""

    length_s: float
    runs_s: Mapping[str, float]

    @property
    def run_s(self) -> float:
        """Along the way; of what runs beside each other the longer one counts."""
        runs_s = self.runs_s
        speech_s = runs_s["read_speech"] + runs_s["transcribe"] + runs_s["keep_transcript"]
        return sum(runs_s.values()) - min(speech_s, runs_s["detect"])


@dataclass(eq=False)
class Sent:
    """A video that was submitted, and when what became of it, in seconds of the simulation."""

    recorded: Recorded
    owner: int = 1
    priority: int = 0
    at_s: float = 0.0
    began_s: float = -1.0
    ready_s: float = -1.0

    @property
    def processing_s(self) -> float:
        return self.ready_s - self.began_s


@dataclass
class Simulation:
    """A cluster of so many workers of each kind, to which videos are sent."""

    sent: Sequence[Sent]
    workers: Mapping[WorkerKind, int] = field(default_factory=lambda: TWO_CORES)
    most: int = 128
    work_s: float = WORK_S
    busy_s: dict[WorkerKind, float] = field(default_factory=lambda: dict.fromkeys(WorkerKind, 0.0))
    most_ahead_s: dict[WorkerKind, float] = field(default_factory=lambda: dict.fromkeys(WorkerKind, 0.0))
    most_in_flight: int = 0
    longest_shared_s: float = 0.0
    calls: set[tuple[str, WorkerKind]] = field(default_factory=set)

    def run(self) -> None:
        """Until all are READY. An error of any task is one of the simulation."""
        loop = _JumpingLoop()
        errors: list[dict[str, Any]] = []
        loop.set_exception_handler(lambda _, context: errors.append(context))
        try:
            loop.run_until_complete(self._serve(loop))
        finally:
            loop.close()
        gc.collect()  # asyncio reports the error of a task that nothing awaited when the task is collected
        assert not errors, errors

    async def _serve(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop, self._wake, self._waiting = loop, asyncio.Event(), list[Sent]()
        self._estimates, self._shares = RunEstimates(), FairShare()
        self._admission = Admission(self.workers, self.most, self._estimates, self.work_s)
        self._in_flight: dict[int, tuple[Sent, asyncio.Task[None]]] = {}
        self._pools = {kind: self._pool(kind) for kind in self.workers}
        for pool in self._pools.values():
            pool.start()
            await pool.ready()
        arriving = asyncio.create_task(self._arrive())
        tokens = 0
        while not arriving.done() or self._waiting or self._in_flight:
            await self._wake.wait()
            self._wake.clear()
            claimed = self._claim()
            if claimed:
                await asyncio.sleep(CLAIM_S)
            for sent in claimed:
                tokens += 1
                self._begin(sent, tokens)
        for pool in self._pools.values():
            pool.close()

    async def _arrive(self) -> None:
        for sent in sorted(self.sent, key=lambda sent: sent.at_s):
            await asyncio.sleep(sent.at_s - self._loop.time())
            self._waiting.append(sent)
            self._wake.set()

    def _claim(self) -> list[Sent]:
        room = self._admission.room()
        holding = Counter(sent.owner for sent, _ in self._in_flight.values())
        due = sorted(self._waiting, key=lambda sent: sent.at_s - PRIORITY_STEP_S * sent.priority)
        turns = Counter[int]()
        order: list[tuple[float, int, Sent]] = []
        ahead = self._ahead()
        for sent in due:
            turns[sent.owner] += 1
            order.append((holding[sent.owner] + turns[sent.owner] + ahead.get(sent.owner, 0.0), len(order), sent))
        claimed = [sent for *_, sent in sorted(order)[: room.videos]]
        urgent = [
            sent
            for *_, sent in sorted(order)
            if sent.priority > 0 and sent not in claimed and ahead.get(sent.owner, 0.0) <= URGENT_AHEAD
        ]
        claimed += urgent[: room.urgent]
        for sent in claimed:
            self._waiting.remove(sent)
        return claimed

    def _ahead(self) -> dict[int, float]:
        video_s = self._estimates.video_s() or math.inf
        return {owner_id.int: ahead_s / video_s for owner_id, ahead_s in self._shares.ahead_s().items()}

    def _begin(self, sent: Sent, token: int) -> None:
        now, owner_id = self.now(), UUID(int=sent.owner)
        queued_at = EPOCH + timedelta(seconds=sent.at_s)
        video = ClaimedVideo(UUID(int=token), owner_id, "/a", "a", None, 1, token, queued_at, now, sent.priority)
        urgent = self._admission.note_claimed(video, self._ahead().get(sent.owner, 0.0))
        self._shares.enter(token, owner_id)
        task = asyncio.create_task(_Way(self, sent, video, urgent).process())
        self._in_flight[token] = sent, task
        self.most_in_flight = max(self.most_in_flight, len(self._in_flight))
        if self.is_measured and not urgent:
            for kind in self.workers:
                self.most_ahead_s[kind] = max(self.most_ahead_s[kind], self._admission.work_ahead_s(kind))

    @property
    def is_measured(self) -> bool:
        """Whether the first video has come through and what it could teach is known."""
        return self._estimates.rate(LAST_CALL) is not None

    def end(self, video: ClaimedVideo) -> None:
        """The video is READY."""
        del self._in_flight[video.lease_token]
        self._admission.note_ended(video.lease_token)
        self._shares.leave(video.lease_token)
        self._wake.set()

    def note(self, video: ClaimedVideo, call: str, length_s: float | None) -> None:
        """As the scheduler learns from an attempt."""
        self._admission.note_done(video.lease_token, call)
        if length_s is not None:
            self._admission.note_length(video.lease_token, length_s)
        self._wake.set()

    def now(self) -> datetime:
        return EPOCH + timedelta(seconds=self._loop.time())

    def pool(self, kind: WorkerKind) -> WorkerPool:
        return self._pools[kind]

    def _pool(self, kind: WorkerKind) -> WorkerPool:
        return WorkerPool(
            kind,
            lambda name: _Handle(self, kind, name),
            self.workers[kind],
            BATCH_LIMITS,
            DEFERRED,
            shares=self._shares,
            estimates=self._estimates,
            kill=lambda handle: handle.over.set(),
        )


@dataclass
class _Way:
    """Runs the stages of one video. Implements ``actors.attempt.pipeline.StageRunner``."""

    cluster: Simulation
    sent: Sent
    video: ClaimedVideo
    urgent: bool
    length_s: float | None = None

    async def process(self) -> None:
        await walk(self.video, Done(None, self.cluster.now()), self)
        self.sent.ready_s = asyncio.get_running_loop().time()
        self.cluster.end(self.video)

    async def run(
        self, stage: Stage, after: Sequence[Done], *calls: Call, outcome: Outcome = Outcome.COMPLETED
    ) -> Done:
        value: Any = None
        await asyncio.sleep(LEDGER_S)
        for call in calls:
            reply = await self.cluster.pool(call.kind).run(
                call.name,
                (self.sent.recorded,),
                deadline_s=1e9,
                size=call.size,
                turn=Turn(self.video.owner_id, self.urgent, self.video.due_at.timestamp(), self.length_s),
                on_start=self._note_start,
            )
            value = reply.value
            if isinstance(value, MediaInfo):
                self.length_s = value.duration_s
            self.cluster.note(self.video, call.name, getattr(value, "duration_s", None))
        return Done(value, self.cluster.now())

    def _note_start(self) -> None:
        if self.sent.began_s < 0:
            self.sent.began_s = asyncio.get_running_loop().time()


@dataclass(frozen=True)
class _Method:
    remote: Callable[..., Awaitable[Any]]


class _Handle:
    """The handle of a worker: a call sleeps as long as its items ran when they were recorded."""

    def __init__(self, cluster: Simulation, kind: WorkerKind, name: str) -> None:
        self._cluster, self._kind, self._name = cluster, kind, name
        self.over = asyncio.Event()
        self.describe, self.run = _Method(self._describe), _Method(self._run)
        self.wait_until_death = _Method(self.over.wait)

    async def _describe(self) -> WorkerInfo:
        return WorkerInfo(self._name, "node", "127.0.0.1", "cpu", None, 1)

    async def _run(self, call: str, batch: Sequence[tuple[Recorded]], about: Sequence[Fields]) -> list[StageReply]:
        assert len(about) == len(batch)
        await asyncio.sleep(BETWEEN_CALLS_S)
        runs_s = [recorded.runs_s["download" if call == "locate" else call] for (recorded,) in batch]
        await asyncio.sleep(sum(runs_s))
        self._cluster.busy_s[self._kind] += sum(runs_s)
        self._cluster.calls.add((call, self._kind))
        if len(batch) > 1 and self._cluster.is_measured:
            self._cluster.longest_shared_s = max(self._cluster.longest_shared_s, sum(runs_s))
        report = StageReport(0.0, len(batch), "127.0.0.1", self._name, "cpu", 0.0)
        return [
            StageReply(replace(report, run_s=run_s), _value(call, recorded), "node", 1)
            for run_s, (recorded,) in zip(runs_s, batch, strict=True)
        ]


def _value(call: str, recorded: Recorded) -> Any:
    if call == "locate":
        return LocalVideo(Path("/a"), 1, temporary=False)
    if call == "probe":
        return MediaInfo(recorded.length_s, 0.0, 25.0, 64, 36, 0, "none", "none", 1)
    return call


class _JumpingSelector(selectors.SelectSelector):
    """Instead of waiting, reports to the loop how long it would have.

    Raises:
        RuntimeError: Nothing is left that could end the wait.
    """

    waited_s: float = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if timeout is None:
            raise RuntimeError("the simulation waits for what never comes")
        self.waited_s += timeout
        return super().select(0)


class _JumpingLoop(asyncio.SelectorEventLoop):
    """An event loop whose clock jumps to the next timer when there is nothing left to do."""

    def __init__(self) -> None:
        self._jumping = _JumpingSelector()
        super().__init__(self._jumping)

    def time(self) -> float:
        return self._jumping.waited_s
