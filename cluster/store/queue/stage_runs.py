"""The stage ledger: writes stage runs in batches, fenced by the lease, and reads them back.

A run is opened before its stage starts and closed after it; what the stage found out about the file is written down
with its end. The first stage's run begins the processing: its ``ready_at`` is the video's ``processing_started_at``.
Times are on the database's clock (``DatabaseClock``) and measured elsewhere; this module only writes them down.
"""

import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, LiteralString
from uuid import UUID

from psycopg import ClientCursor, Connection
from psycopg.rows import dict_row
from psycopg.types.json import Jsonb

from cluster.contracts.stages import REQUIRES, Outcome, Stage
from cluster.contracts.videos import ClaimedVideo
from cluster.store.postgres.connections import Pool
from cluster.store.postgres.refusals import WITHIN_TURN

if TYPE_CHECKING:  # they bring numpy along, which commands that only read the database need not wait for
    from cluster.contracts.media import MediaInfo
    from cluster.contracts.results import StageReport

LOST_RUN: LiteralString = """outcome = 'lost', finished_at = greatest(clock_timestamp(), r.ready_at), run_ms = 0,
        wait_ms = extract(epoch FROM greatest(clock_timestamp(), r.ready_at) - r.ready_at) * 1000"""
"""SQL for what ``UPDATE video_stage_runs AS r SET`` writes of a run that was open when its attempt ended."""

_OPEN = """
-- Begin stage runs; a run whose lease is lost is not written. The video shows the stage that began last.
WITH opened AS (
    SELECT b.video_id, b.attempt, b.stage, b.ready_at
    FROM unnest(%(videos)s::uuid[], %(tokens)s::bigint[], %(attempts)s::int[], %(stages)s::text[],
                %(readies)s::timestamptz[]) AS b (video_id, lease_token, attempt, stage, ready_at)
    JOIN video_leases AS l ON l.video_id = b.video_id AND l.lease_token = b.lease_token
), written AS (
    INSERT INTO video_stage_runs (video_id, attempt, stage, ready_at)
    SELECT video_id, attempt, stage, ready_at FROM opened
    ON CONFLICT (video_id, attempt, stage) DO NOTHING
)
UPDATE videos AS v SET processing_stage = latest.stage
FROM (SELECT DISTINCT ON (video_id) video_id, stage FROM opened ORDER BY video_id, ready_at DESC, stage)
     AS latest
WHERE v.id = latest.video_id
"""

_CLOSE = """
-- End stage runs: finished - ready = wait + run, run as the worker measured it; rounding leaves no negative wait.
UPDATE video_stage_runs AS r
SET outcome = b.outcome, ready_at = b.ready_at, finished_at = b.finished_at,
    started_at = b.finished_at - make_interval(secs => b.run_s),
    run_ms = b.run_s * 1000,
    wait_ms = greatest(extract(epoch FROM b.finished_at - b.ready_at) * 1000 - b.run_s * 1000, 0),
    error_type = b.error_type, error_message = b.error_message, node = b.node, worker = b.worker,
    device = b.device, resource_s = b.resource_s, batch_size = b.batch_size
FROM unnest(%(videos)s::uuid[], %(tokens)s::bigint[], %(attempts)s::int[], %(stages)s::text[],
            %(outcomes)s::text[], %(readies)s::timestamptz[], %(finishes)s::timestamptz[], %(runs)s::float8[],
            %(error_types)s::text[], %(messages)s::text[], %(nodes)s::text[], %(workers)s::text[], %(devices)s::text[],
            %(resources)s::float8[], %(batches)s::int[])
     AS b (video_id, lease_token, attempt, stage, outcome, ready_at, finished_at, run_s, error_type, error_message,
           node, worker, device, resource_s, batch_size)
JOIN video_leases AS l ON l.video_id = b.video_id AND l.lease_token = b.lease_token
WHERE r.video_id = b.video_id AND r.attempt = b.attempt AND r.stage = b.stage AND r.outcome = 'running'
"""

_BEGIN = """
-- The first worker began; what is known of this attempt already stays.
UPDATE videos AS v SET processing_started_at = b.began_at
FROM unnest(%(videos)s::uuid[], %(tokens)s::bigint[], %(begun)s::timestamptz[]) AS b (video_id, lease_token, began_at)
JOIN video_leases AS l ON l.video_id = b.video_id AND l.lease_token = b.lease_token
WHERE v.processing_started_at IS NULL AND v.id = b.video_id
"""

_RECORD_MEDIA = """
-- What the probe found; an unknown duration stays as it was.
WITH found AS MATERIALIZED (
    SELECT b.*
    FROM unnest(%(videos)s::uuid[], %(tokens)s::bigint[], %(durations)s::float8[], %(sizes)s::bigint[],
                %(widths)s::int[], %(heights)s::int[], %(rates)s::float8[], %(warnings)s::jsonb[])
         AS b (video_id, lease_token, duration_s, size_bytes, width, height, fps, warnings)
    JOIN video_leases AS l ON l.video_id = b.video_id AND l.lease_token = b.lease_token
), measured AS (
    UPDATE videos AS v SET duration_s = coalesce(f.duration_s, v.duration_s) FROM found AS f WHERE v.id = f.video_id
    RETURNING v.id, f.size_bytes, f.width, f.height, f.fps, f.warnings
)
UPDATE video_processing AS p
SET file_size_bytes = m.size_bytes, width = m.width, height = m.height, fps = m.fps, warnings = m.warnings
FROM measured AS m WHERE p.video_id = m.id
"""


@dataclass(frozen=True)
class OpenRun:
    """A stage run that is about to start; ``ready_at`` is when all that it needs was there.

    Of the first stage that is the claim until the run is closed.
    """

    video: ClaimedVideo
    stage: Stage
    ready_at: datetime


@dataclass(frozen=True)
class BegunVideo:
    """A video whose first worker has begun, in whole milliseconds, while its first stage still runs."""

    video: ClaimedVideo
    began_at: datetime


@dataclass(frozen=True)
class ClosedRun:
    """A stage run that ended. ``report`` is the worker's; for a lost worker it says what is known.

    ``media``: what the stage found out about the file, if that is what it is for. The first stage's ``run.ready_at`` is
    when its worker began, in whole milliseconds.
    """

    run: OpenRun
    outcome: Outcome
    finished_at: datetime
    report: "StageReport"
    media: "MediaInfo | None" = None

    @property
    def video(self) -> ClaimedVideo:
        return self.run.video


class StageLedger:
    """Writes stage runs. One call is one transaction for all the runs in it."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    def begin(self, begun: Sequence[BegunVideo]) -> set[int]:
        """Note when processing began, of videos whose first stage still runs; returns their tokens that are held."""
        with self._pool.connection() as connection:
            held = _held(connection, [each.video.lease_token for each in begun])
            _begin(connection, begun)
        return held

    def write(self, opened: Sequence[OpenRun], closed: Sequence[ClosedRun]) -> set[int]:
        """Close ``closed``, then open ``opened``; returns those of their lease tokens that are still held.

        What a lost lease concerns is not written. Writing the same runs again changes nothing, so a call whose
        answer was lost may be repeated.
        """
        tokens = [run.video.lease_token for run in opened] + [c.video.lease_token for c in closed]
        began = [BegunVideo(c.video, c.run.ready_at) for c in closed if not REQUIRES[c.run.stage]]
        measured = [c for c in closed if c.media is not None]
        with self._pool.connection() as connection:
            held = _held(connection, tokens)
            if began:
                _begin(connection, began)
            if closed:
                _close(connection, closed)
            if measured:
                _record_media(connection, measured)
            if opened:
                _open(connection, opened)
        return held


def _held(connection: Connection[dict[str, Any]], tokens: Sequence[int]) -> set[int]:
    """Those of the leases that are held. KEY SHARE keeps a lease from being taken back meanwhile, and lets heartbeats
    prolong it.
    """
    cursor = ClientCursor(connection, row_factory=dict_row)
    cursor.execute(
        WITHIN_TURN
        + "SELECT lease_token FROM video_leases WHERE lease_token = ANY (%s) ORDER BY lease_token FOR KEY SHARE",
        (list(tokens),),
    )
    cursor.nextset()
    return {row["lease_token"] for row in cursor}


def _open(connection: Connection[dict[str, Any]], runs: Sequence[OpenRun]) -> None:
    connection.execute(
        _OPEN,
        {
            "videos": [run.video.id for run in runs],
            "tokens": [run.video.lease_token for run in runs],
            "attempts": [run.video.attempt for run in runs],
            "stages": [run.stage.value for run in runs],
            "readies": [run.ready_at for run in runs],
        },
    )


def _begin(connection: Connection[dict[str, Any]], begun: Sequence[BegunVideo]) -> None:
    connection.execute(
        _BEGIN,
        {
            "videos": [each.video.id for each in begun],
            "tokens": [each.video.lease_token for each in begun],
            "begun": [each.began_at for each in begun],
        },
    )


def _close(connection: Connection[dict[str, Any]], closed: Sequence[ClosedRun]) -> None:
    failures = [c.report.failure for c in closed]
    connection.execute(
        _CLOSE,
        {
            "videos": [c.video.id for c in closed],
            "tokens": [c.video.lease_token for c in closed],
            "attempts": [c.video.attempt for c in closed],
            "stages": [c.run.stage.value for c in closed],
            "outcomes": [c.outcome.value for c in closed],
            "readies": [c.run.ready_at for c in closed],
            "finishes": [c.finished_at for c in closed],
            "runs": [_run_s(c) for c in closed],
            "error_types": [f.error_type if f else None for f in failures],
            "messages": [f.message if f else None for f in failures],
            "nodes": [c.report.node for c in closed],
            "workers": [c.report.worker for c in closed],
            "devices": [c.report.device for c in closed],
            "resources": [c.report.resource_s for c in closed],
            "batches": [c.report.batch_size for c in closed],
        },
    )


def _record_media(connection: Connection[dict[str, Any]], measured: Sequence[ClosedRun]) -> None:
    found = [c.media for c in measured if c.media is not None]
    connection.execute(
        _RECORD_MEDIA,
        {
            "videos": [c.video.id for c in measured],
            "tokens": [c.video.lease_token for c in measured],
            "durations": [media.duration_s for media in found],
            "sizes": [media.size_bytes for media in found],
            "widths": [media.width for media in found],
            "heights": [media.height for media in found],
            "rates": [media.fps for media in found],
            "warnings": [Jsonb([asdict(warning) for warning in media.warnings]) for media in found],
        },
    )


def _run_s(closed: ClosedRun) -> float:
    """The measured run, never longer than the time since ready (two clocks may differ by microseconds)."""
    return min(closed.report.run_s, (closed.finished_at - closed.run.ready_at).total_seconds())


class DatabaseClock:
    """The database's clock, kept on this process's monotonic one so that reading it costs no round trip.

    The offset is taken from the quickest of a few round trips, at its middle (Cristian's algorithm), and taken again
    by ``refresh``, which the heartbeat calls.
    """

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._latest = datetime.min.replace(tzinfo=UTC)
        self.refresh()

    def refresh(self, rounds: int = 5) -> None:
        """Measure the offset again. May run in another thread than ``now``."""
        samples: list[tuple[float, datetime, float]] = []
        with self._pool.connection() as connection:
            for _ in range(rounds):
                before = time.monotonic()
                row = connection.execute("SELECT clock_timestamp() AS now").fetchone()
                after = time.monotonic()
                assert row is not None
                samples.append((after - before, row["now"], (before + after) / 2))
        _, epoch, monotonic_s = min(samples)
        self._zero = epoch - timedelta(seconds=monotonic_s)  # in one piece: no thread sees half of it

    def now(self) -> datetime:
        """The database's time, aware, UTC. Never goes back, also when the offset was measured again."""
        self._latest = max(self._latest, self._zero + timedelta(seconds=time.monotonic()))
        return self._latest


@dataclass(frozen=True)
class StageRun:
    """A row of the ledger as people read it."""

    video_id: UUID
    attempt: int
    name: str
    wait_ms: float | None
    run_ms: float | None
    outcome: str


def latest_runs(pool: Pool, video_ids: Sequence[UUID], owner_id: UUID | None = None) -> dict[UUID, list[StageRun]]:
    """The stage runs of each video's latest attempt, in the order in which they became ready.

    With ``owner_id``, only of that owner's videos.
    """
    with pool.connection() as connection:
        rows = connection.execute(
            """
            SELECT r.video_id, r.attempt, r.stage AS name, r.wait_ms, r.run_ms, r.outcome
            FROM video_stage_runs AS r
            JOIN video_processing AS p ON p.video_id = r.video_id AND p.attempt = r.attempt
            JOIN videos AS v ON v.id = r.video_id
            WHERE r.video_id = ANY (%(videos)s) AND (%(owner)s::uuid IS NULL OR v.owner_id = %(owner)s)
            ORDER BY r.ready_at, r.stage DESC
            """,
            {"videos": list(video_ids), "owner": owner_id},
        ).fetchall()
    runs: dict[UUID, list[StageRun]] = {video_id: [] for video_id in video_ids}
    for row in rows:
        runs[row["video_id"]].append(StageRun(**row))
    return runs


BESIDE_EACH_OTHER = (Stage.TRANSCRIPTION, Stage.SCENE_DETECTION)


def run_along_the_way_ms(runs: Sequence[StageRun]) -> float:
    """Run time of the stages of one attempt; of the two that run beside each other, the longer one counts."""
    ran_ms = {run.name: run.run_ms or 0.0 for run in runs}
    return sum(ran_ms.values()) - min(ran_ms.get(stage, 0.0) for stage in BESIDE_EACH_OTHER)
