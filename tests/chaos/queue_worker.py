"""Schedulers without Ray, to be killed: each a process that claims, keeps the ledger, writes results, settles.

What a stage does is decided by ``queue_plan``; what is written, and in which order, is as ``actors.attempt.attempt``
and ``actors.attempt.pipeline`` do it. Only: none stops working when a heartbeat says that the lease is lost, so that
each stale write is tried and the fence has to refuse it. Starting processes is ``queue_processes``'.
"""

import json
import os
import random
import signal
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import Any

from cluster.contracts.errors import DatabaseUnavailable, LeaseLost
from cluster.contracts.results import StageFailure, StageReport
from cluster.contracts.stages import REQUIRES, Blame, Outcome, Stage
from cluster.contracts.videos import ClaimedVideo
from cluster.store.postgres.connections import open_pool
from cluster.store.queue.lease_recovery import LeaseRecovery
from cluster.store.queue.stage_results import StageResults
from cluster.store.queue.stage_runs import ClosedRun, DatabaseClock, OpenRun, StageLedger
from cluster.store.queue.video_queue import Finish, VideoQueue
from cluster.store.videos.scenes import SceneStore
from tests.chaos.marked_results import media, scenes, transcript
from tests.chaos.queue_plan import RULE, Plan, number_of, plan_of

GROUPS = (
    (Stage.DOWNLOADING,),
    (Stage.METADATA,),
    (Stage.TRANSCRIPTION, Stage.SCENE_DETECTION),
    (Stage.SCENE_PROCESSING,),
    (Stage.INDEXING,),
)
"""Stages that are open at the same time."""
RETRY_S = 0.05
REAP_S = 1.0
PAUSE_S = 0.1
STUBBORN_SHARE = 0.9
"""Of the videos whose lease is lost, those that are continued nevertheless: each later write is tried, too."""


@dataclass(frozen=True)
class WorkerConfig:
    """Configuration of one process. ``session`` names this process, ``scheduler`` its leases: also after a restart."""

    url: str
    seed: int
    scheduler: str
    session: str
    batch: int
    lease_s: float
    owner_cap: int
    log: str

    def dump(self) -> str:
        """As one line."""
        return json.dumps(asdict(self))

    @staticmethod
    def load(line: str) -> "WorkerConfig":
        """From such a line."""
        return WorkerConfig(**json.loads(line))


@dataclass
class Way:
    """A claimed video on its way: when its stages ended."""

    video: ClaimedVideo
    plan: Plan
    finished: dict[Stage, datetime] = field(default_factory=dict)

    def begin(self, stage: Stage) -> OpenRun:
        ready_at = max((self.finished[needed] for needed in REQUIRES[stage]), default=self.video.claimed_at)
        return OpenRun(self.video, stage, ready_at)


class Scheduler:
    """Works until it is killed or asked to stop."""

    def __init__(self, config: WorkerConfig) -> None:
        self._config = config
        self._log = os.open(config.log, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        self._rng = random.Random(config.session)
        self.database = until_answered(open_pool, config.url, max_size=2, name=config.session)
        self._heart = until_answered(open_pool, config.url, max_size=1, name=config.session)
        self._queue = VideoQueue(self.database, config.scheduler, config.lease_s, config.owner_cap)
        self._heartbeat = VideoQueue(self._heart, config.scheduler, config.lease_s)
        self.recovery = LeaseRecovery(self.database, config.scheduler, RULE)
        self._ledger = StageLedger(self.database)
        self._results = StageResults(self.database)
        self._scenes = SceneStore(self.database)
        self._clock: DatabaseClock = until_answered(DatabaseClock, self._heart)
        self._tokens: frozenset[int] = frozenset()
        self._stopping = False
        self._reaped_s = 0.0

    def run(self) -> None:
        """Take back what an earlier process of the same name held, then claim and work."""
        signal.signal(signal.SIGTERM, self._stop)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGTERM])
        until_answered(self.recovery.reap_own)
        threading.Thread(target=self._beat_forever, daemon=True).start()
        while not self._stopping:
            self._reap()
            try:
                claimed = self.claim()
            except DatabaseUnavailable:  # its answer, if it claimed, is lost: the lease will expire
                time.sleep(RETRY_S)
                continue
            self.walk(claimed)
            if not claimed:
                time.sleep(PAUSE_S)
        until_answered(self.recovery.hand_back)

    def claim(self) -> list[Way]:
        """A batch of videos."""
        claimed = self._queue.claim(self._config.batch)
        self._tokens = frozenset(video.lease_token for video in claimed)
        return [Way(video, plan_of(self._config.seed, number_of(video.uri))) for video in claimed]

    def begin(self, ways: Sequence[Way], stage: Stage) -> None:
        """Open a run of every video, and leave it open."""
        self._ledger.write([way.begin(stage) for way in ways], [])

    def beat(self) -> None:
        """Prolong the leases of the batch."""
        self._heartbeat.heartbeat(sorted(self._tokens))
        self._clock.refresh()

    def close(self) -> None:
        """End its sessions."""
        self.database.close()
        self._heart.close()

    def _stop(self, *_: object) -> None:
        self._stopping = True  # no Event: the thread that this interrupts may hold its lock

    def _beat_forever(self) -> None:
        while True:
            try:
                self.beat()
            except DatabaseUnavailable:
                pass
            except Exception:
                self._note("defect", traceback.format_exc())
                os._exit(1)
            time.sleep(self._config.lease_s / 4)

    def _reap(self) -> None:
        if time.monotonic() - self._reaped_s > REAP_S:
            self._reaped_s = time.monotonic()
            until_answered(self.recovery.reap)

    # A batch of videos, stage by stage

    def walk(self, ways: list[Way]) -> None:
        """Take a batch to its end, whatever that is for each video."""
        indexed = [way for way in ways if Stage.INDEXING in way.video.stored]
        others = [way for way in ways if Stage.INDEXING not in way.video.stored]
        closing: list[ClosedRun] = []
        for stage in (stage for group in GROUPS for stage in group) if indexed else ():
            indexed, closing = self._skip(indexed, stage, closing)
        self._finish(indexed, closing)
        closing = []
        for group in GROUPS:
            others, closing = self._work(others, group, closing)
            if self._stopping:
                return
            self._reap()
        self._finish(others, closing)

    def _skip(self, ways: list[Way], stage: Stage, closing: list[ClosedRun]) -> tuple[list[Way], list[ClosedRun]]:
        runs = {way.video.lease_token: way.begin(stage) for way in ways}
        ways = self._write(ways, list(runs.values()), closing)
        return ways, [self._close(way, runs[way.video.lease_token], Outcome.SKIPPED) for way in ways]

    def _work(
        self, ways: list[Way], group: Sequence[Stage], closing: list[ClosedRun]
    ) -> tuple[list[Way], list[ClosedRun]]:
        """Open these stages for all videos, closing those before in the same write; do them; settle what failed."""
        begun = {way.video.lease_token: [way.begin(stage) for stage in group] for way in ways}
        ways = self._write(ways, [run for runs in begun.values() for run in runs], closing)
        left: list[Way] = []
        closed: list[ClosedRun] = []
        failed: list[tuple[Way, ClosedRun]] = []
        for way in ways:
            try:
                runs = list(self._do(way, begun[way.video.lease_token]))
            except LeaseLost:
                self._note("refused", f"result {way.video.lease_token}")
                continue
            if runs[-1].report.failure is not None:
                failed.append((way, runs[-1]))
                closed += runs[:-1]
            else:
                left.append(way)
                closed += runs
        self._settle_failures(failed)
        return left, closed

    def _do(self, way: Way, runs: Sequence[OpenRun]) -> Iterator[ClosedRun]:
        """Each stage's result; ends with the first one that fails. Raises LeaseLost."""
        for run in runs:
            failure = way.plan.fails(run.stage, way.video.setbacks)
            outcome = Outcome.COMPLETED
            if failure is None:
                try:
                    outcome = self._produce(way, run.stage)
                except DatabaseUnavailable as error:
                    failure = StageFailure(type(error).__name__, str(error), Blame.INTERRUPTION)
                except LookupError as error:  # cancelled since it was claimed: settling this will be refused
                    failure = StageFailure(type(error).__name__, str(error), Blame.ERROR)
            if failure is not None:
                outcome = Outcome.LOST if failure.blame is Blame.CRASH else Outcome.FAILED
            yield self._close(way, run, outcome, failure)
            if failure is not None:
                return

    def _produce(self, way: Way, stage: Stage) -> Outcome:
        video, plan = way.video, way.plan
        if stage is Stage.TRANSCRIPTION and plan.has_transcript:
            if stage in video.stored:
                self._results.recall_transcript(video.id)
                return Outcome.SKIPPED
            self._results.keep_transcript(video.id, video.lease_token, transcript(video.lease_token))
        if stage is Stage.INDEXING and plan.scenes:
            token = video.lease_token
            self._scenes.replace(video.id, token, transcript(token), scenes(video, plan.scenes), 12.5)
        return Outcome.COMPLETED

    def _close(self, way: Way, run: OpenRun, outcome: Outcome, failure: StageFailure | None = None) -> ClosedRun:
        finished_at = max(self._clock.now(), run.ready_at)
        way.finished[run.stage] = finished_at
        run_s = (finished_at - run.ready_at).total_seconds() * self._rng.random()
        report = StageReport(run_s, 1, self._config.session, str(way.video.lease_token), "cpu", run_s, failure)
        found = run.stage is Stage.METADATA and outcome is Outcome.COMPLETED and way.plan.has_media
        return ClosedRun(run, outcome, finished_at, report, media(way.video.lease_token) if found else None)

    # Writing it down

    def _write(self, ways: list[Way], opened: Sequence[OpenRun], closed: Sequence[ClosedRun]) -> list[Way]:
        """Write to the ledger; returns the videos that are still held, and some others to continue nevertheless."""
        if not opened and not closed:
            return ways
        held = until_answered(self._ledger.write, opened, closed)
        for way in ways:
            if way.video.lease_token not in held:
                self._note("refused", f"ledger {way.video.lease_token}")
        return [way for way in ways if way.video.lease_token in held or self._rng.random() < STUBBORN_SHARE]

    def _finish(self, ways: list[Way], closing: list[ClosedRun]) -> None:
        ways = self._write(ways, [way.begin(Stage.FINALIZING) for way in ways], closing)
        done = [Finish(way.video, 0.0, self._config.session, str(way.video.lease_token)) for way in ways]
        held = until_answered(self._queue.finish, done)
        for way in ways:
            token = way.video.lease_token
            self._note("settled" if token in held else "refused", f"finish {token}")

    def _settle_failures(self, failed: Sequence[tuple[Way, ClosedRun]]) -> None:
        held = self._write([way for way, _ in failed], [], [run for _, run in failed])
        for way, run in failed:
            failure = run.report.failure
            if way not in held or failure is None:
                continue
            marked = replace(failure, message=str(way.video.lease_token))
            setbacks = way.video.setbacks.plus(failure.blame)
            if RULE.is_final(setbacks, failure.blame):
                self._settle("fail", way, self._queue.fail, way.video, run.run.stage.value, marked)
            else:
                delay_s = RULE.delay_s(setbacks, self._rng.random())
                self._settle("retry", way, self._queue.retry, way.video, marked, delay_s)

    def _settle(self, what: str, way: Way, write: Callable[..., None], *arguments: Any) -> None:
        try:
            until_answered(write, *arguments)
        except LeaseLost:
            self._note("refused", f"{what} {way.video.lease_token}")
        else:
            self._note("settled", f"{what} {way.video.lease_token}")

    def _note(self, kind: str, text: str) -> None:
        """One line for the parent, whole also when this process dies right after."""
        os.write(self._log, f"{kind} {json.dumps(text)}\n".encode())


def until_answered(call: Callable[..., Any], *arguments: Any, **keywords: Any) -> Any:
    """Its result; while the database is away, nothing is decided."""
    while True:
        try:
            return call(*arguments, **keywords)
        except DatabaseUnavailable:
            time.sleep(RETRY_S)


def run_worker(line: str) -> None:
    """Be one scheduler; a defect is noted for the parent."""
    config = WorkerConfig.load(line)
    try:
        Scheduler(config).run()
    except Exception:
        with Path(config.log).open("a") as log:
            log.write(f"defect {json.dumps(traceback.format_exc())}\n")
        os._exit(1)
