"""Rows as a cluster leaves them after twelve days of work, made from one seed."""

import random
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from cluster.contracts.stages import Stage
from cluster.store.postgres.connections import Pool

INSERT_VIDEO = """
WITH added AS (
    INSERT INTO videos (id, owner_id, storage_path, filename, status, duration_s, created_at, updated_at,
                        processing_finished_at, processing_duration_ms, processing_stage)
    VALUES (%(id)s, gen_random_uuid(), 'a.mp4', 'a.mp4', %(status)s, %(duration_s)s, %(created_at)s,
            %(updated_at)s, %(finished_at)s, %(processing_ms)s, %(stage)s)
    RETURNING id, owner_id
)
INSERT INTO video_processing (video_id, owner_id, error_type) SELECT id, owner_id, %(error_type)s FROM added
"""
INSERT_RUN = """
INSERT INTO video_stage_runs (video_id, attempt, stage, outcome, ready_at, started_at, finished_at,
                              wait_ms, run_ms, device, resource_s, batch_size, error_type)
VALUES (%(video_id)s, %(attempt)s, %(stage)s, %(outcome)s, %(ready_at)s, %(started_at)s, %(finished_at)s,
        1000 * %(wait_s)s::float8, 1000 * %(run_s)s::float8, %(device)s, %(resource_s)s, 1, %(error_type)s)
"""
INSERT_WORKERS = """
INSERT INTO cluster_workers (worker, scheduler, kind, node, device, state, busy_s, started_at, seen_at)
SELECT 'scheduler-1/media-' || number, 'scheduler-1', 'media', '127.0.0.1', 'cpu', 'idle', 25000 * number,
       now() - interval '100000 seconds', now()
FROM generate_series(1, 3) AS number
"""
LIFETIME_SHARES = [0.25, 0.5, 0.75]
"""Parts of the workers' lives in which they were busy, until the rows were made."""


@dataclass
class Video:
    """A row of videos as the cluster, or whatever came before it, leaves it."""

    id: UUID
    status: str
    created_at: datetime
    updated_at: datetime
    duration_s: float
    finished_at: datetime | None = None
    processing_ms: int | None = None
    stage: str | None = None
    error_type: str | None = None

    @property
    def done_at(self) -> datetime | None:
        settled = self.status in ("READY", "FAILED")
        return self.finished_at or (self.updated_at if settled else None)


@dataclass
class Run:
    """A closed row of video_stage_runs."""

    video: Video
    attempt: int
    stage: str
    outcome: str
    ready_at: datetime
    wait_s: float
    run_s: float
    device: str
    resource_s: float
    error_type: str | None = None

    @property
    def finished_at(self) -> datetime:
        return self.ready_at + timedelta(seconds=self.wait_s + self.run_s)

    def row(self) -> dict[str, Any]:
        """The parameters of INSERT_RUN."""
        return {
            **vars(self),
            "video_id": self.video.id,
            "started_at": self.ready_at + timedelta(seconds=self.wait_s),
            "finished_at": self.finished_at,
            "error_type": self.error_type or {"lost": "WorkerLost", "failed": "StageFailed"}.get(self.outcome),
        }


class History:
    """Twelve days of a cluster's work: retries, failures, old rows and videos that still wait."""

    def __init__(self) -> None:
        self._random = random.Random(7)
        self.now = datetime.now(UTC)
        self.videos: list[Video] = []
        self.runs: list[Run] = []
        for number in range(90):
            self._process(number)
        for number in range(5):  # rows from before the ledger: no finish time, no error type
            done_at = self.now - timedelta(days=3, hours=number)
            status = "FAILED" if number == 0 else "READY"
            self.videos.append(Video(self._id(), status, done_at - timedelta(hours=1), done_at, 60.0))
        for number in range(4):
            created_at = self.now - timedelta(minutes=10 * number + 5)
            self.videos.append(Video(self._id(), "PENDING", created_at, created_at, 60.0))
        long_ago = self.now - timedelta(days=40)
        self.videos.append(Video(self._id(), "READY", long_ago, long_ago, 60.0, long_ago, 30_000, "completed"))

    def _id(self) -> UUID:
        return UUID(int=self._random.getrandbits(128), version=4)

    def _process(self, number: int) -> None:
        created_at = self.now - timedelta(days=11.5 * (1 - number / 90), minutes=self._random.uniform(30, 60))
        video = Video(self._id(), "READY", created_at, created_at, self._random.lognormvariate(5, 1))
        clock = claimed_at = created_at + timedelta(seconds=self._random.uniform(1, 120))
        failing = {3: ("metadata", "InvalidVideo"), 4: ("transcription", "StageTimeout")}.get(number % 15)
        if number % 20 == 9:  # a worker died; the second attempt succeeds
            clock = self._run(video, 1, "scene_detection", "lost", clock).finished_at
        for stage in Stage:
            failed = failing is not None and failing[0] == stage
            attempt = 2 if number % 20 == 9 else 1
            clock = self._run(video, attempt, stage, "failed" if failed else "completed", clock).finished_at
            if failed and failing is not None:
                video.status, (video.stage, video.error_type) = "FAILED", failing
                self._leave_open(video, attempt, stage, number)
                break
        video.updated_at = video.finished_at = clock
        video.processing_ms = round((clock - claimed_at).total_seconds() * 1000)
        video.stage = video.stage or "completed"
        self.videos.append(video)

    def _leave_open(self, video: Video, attempt: int, failed: Stage, number: int) -> None:
        """The stage run beside the failed one, closed with its attempt: as queue and cancellation close it."""
        if failed is Stage.TRANSCRIPTION:
            run = self._run(video, attempt, "scene_detection", "lost", video.created_at + timedelta(minutes=5))
            run.error_type = "Cancelled" if number % 2 else "Abandoned"

    def _run(self, video: Video, attempt: int, stage: str, outcome: str, ready_at: datetime) -> Run:
        factor = {"transcription": 0.12, "scene_detection": 0.06, "scene_processing": 0.01}.get(stage, 0.001)
        run_s = factor * video.duration_s * self._random.uniform(0.7, 1.3) + 0.05
        if outcome == "lost":  # a dead worker could not report how long it had run
            run_s = 0.0
        wait_s = self._random.expovariate(1 / 2.0)
        device = "cuda:0" if stage in ("transcription", "scene_processing") else "cpu"
        held = {"transcription": 0.5, "scene_processing": 0.25, "scene_detection": 2.0}.get(stage, 1.0)
        run = Run(video, attempt, stage, outcome, ready_at, wait_s, run_s, device, held * run_s)
        self.runs.append(run)
        return run

    def insert(self, pool: Pool) -> None:
        """Write it all, and three workers that were busy for a quarter, half and three quarters of their lives."""
        with pool.connection() as connection, connection.cursor() as cursor:
            cursor.executemany(INSERT_VIDEO, [vars(video) for video in self.videos])
            cursor.executemany(INSERT_RUN, [run.row() for run in self.runs])
            cursor.execute(INSERT_WORKERS)
