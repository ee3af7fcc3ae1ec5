"""What became of submitted videos, as ``--json``, progress and summaries show it."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from cluster.contracts.uris import shown, video_name
from cluster.contracts.videos import SETTLED, VideoStatus
from cluster.security.redaction import redacted, redacted_beginning
from cluster.store.postgres.bounded_texts import ERROR_MESSAGE, FILENAME, PLACE, STAGE
from cluster.store.postgres.connections import Pool
from cluster.store.postgres.plausible_times import PROCESSING_MS, QUEUE_MS, RTF, plausible
from cluster.store.queue.stage_runs import StageRun, latest_runs, run_along_the_way_ms
from cluster.store.videos.shown_status import SHOWN_STATUS

_STARTED, _QUEUED = plausible("v.processing_started_at"), plausible("v.queued_at")


@dataclass(frozen=True)
class Standing:
    """How far a video is: cheap to read again and again. ``stages`` are those that run or wait for a worker now.

    ``queue_ms``: how long it was, or has been, in the queue. ``wait_ms`` and ``run_ms``: of a video in flight, how long
    it waited between the stages that ended so far, and how long these ran.
    """

    id: UUID
    filename: str | None
    status: str
    processing_stage: str | None
    duration_s: float | None
    error_message: str | None
    stages: list[str]
    done_stages: int
    place: str = ""
    """Place that it is read from, as messages may show it: without what may be secret."""
    queue_ms: float | None = None
    wait_ms: float | None = None
    run_ms: float | None = None
    warnings: Sequence[dict[str, str]] = ()
    """Parts that were left out of it, each a ``code`` and a ``message``."""

    @property
    def name(self) -> str:
        """What people call it."""
        return video_name(self.filename, self.place, self.id)

    @property
    def settled(self) -> bool:
        """Whether its status no longer changes automatically."""
        return self.status in SETTLED


def read_standings(pool: Pool, ids: Sequence[UUID]) -> list[Standing]:
    """The standing of each video, in the order of ``ids``."""
    with pool.connection() as connection:
        rows = connection.execute(
            f"""
            SELECT v.id, {FILENAME} AS filename, {PLACE} AS place, {SHOWN_STATUS} AS status,
                   {STAGE} AS processing_stage, v.duration_s, {ERROR_MESSAGE} AS error_message,
                   coalesce(p.warnings, '[]') AS warnings,
                   coalesce(r.stages, '{{}}') AS stages, coalesce(r.done_stages, 0) AS done_stages,
                   (extract(epoch FROM coalesce({_STARTED}, clock_timestamp()) - {_QUEUED}) * 1000)::float8 AS queue_ms,
                   CASE WHEN r.ended_at IS NOT NULL
                        THEN greatest(extract(epoch FROM r.ended_at - {_STARTED}) * 1000 - r.run_ms, 0)
                   END::float8 AS wait_ms, r.run_ms
            FROM unnest(%s::uuid[]) WITH ORDINALITY AS asked (id, position)
            JOIN videos AS v ON v.id = asked.id
            LEFT JOIN video_processing AS p ON p.video_id = v.id
            LEFT JOIN LATERAL (
                SELECT array_agg(stage ORDER BY ready_at) FILTER (WHERE outcome = 'running') AS stages,
                       count(*) FILTER (WHERE outcome IN ('completed', 'skipped')) AS done_stages,
                       max(finished_at) AS ended_at,
                       sum(run_ms) - coalesce(least(sum(run_ms) FILTER (WHERE stage = 'transcription'),
                                                    sum(run_ms) FILTER (WHERE stage = 'scene_detection')), 0) AS run_ms
                FROM video_stage_runs WHERE video_id = v.id AND attempt = p.attempt
            ) AS r ON v.status = 'PROCESSING'
            ORDER BY asked.position
            """,
            (list(ids),),
        ).fetchall()
    return [
        Standing(**{**row, "place": shown(row["place"]), "error_message": redacted_beginning(row["error_message"])})
        for row in rows
    ]


def read_results(pool: Pool, ids: Sequence[UUID]) -> list[dict[str, Any]]:
    """Everything that ``--json`` prints of each video, in the order of ``ids``."""
    with pool.connection() as connection:
        rows = connection.execute(
            f"""
            SELECT v.id, {PLACE} AS uri, {FILENAME} AS filename, {SHOWN_STATUS} AS status,
                   {STAGE} AS processing_stage, p.error_type, {ERROR_MESSAGE} AS error_message, v.duration_s,
                   {QUEUE_MS} AS queue_ms,
                   v.processing_duration_ms AS processing_ms,
                   {RTF} AS rtf,
                   (SELECT count(*) FROM video_scenes WHERE video_id = v.id) AS scenes,
                   coalesce(t.word_count, 0) AS words, coalesce(p.warnings, '[]') AS warnings,
                   p.metadata
            FROM unnest(%s::uuid[]) WITH ORDINALITY AS asked (id, position)
            JOIN videos AS v ON v.id = asked.id
            LEFT JOIN video_processing AS p ON p.video_id = v.id
            LEFT JOIN video_transcripts AS t ON t.video_id = v.id
            ORDER BY asked.position
            """,
            (list(ids),),
        ).fetchall()
    runs = latest_runs(pool, ids)
    return [_result(row, runs[row["id"]]) for row in rows]


def _result(row: dict[str, Any], runs: Sequence[StageRun]) -> dict[str, Any]:
    """``wait_ms``: between the stages; it and ``run_ms`` are known of videos that ended, and make ``processing_ms``."""
    run_ms = None if row["processing_ms"] is None else min(run_along_the_way_ms(runs), row["processing_ms"])
    stages = [{"name": run.name, "wait_ms": run.wait_ms, "run_ms": run.run_ms, "outcome": run.outcome} for run in runs]
    return {
        **row,
        "id": str(row["id"]),
        "uri": shown(row["uri"]),
        "metadata": _metadata(row["metadata"]),
        "error_message": redacted_beginning(row["error_message"]),
        "wait_ms": None if run_ms is None else row["processing_ms"] - run_ms,
        "run_ms": run_ms,
        "stages": stages,
    }


def _metadata(metadata: Any) -> Any:
    """What a manifest said of the video, without what may be secret in the URLs of it; None: nothing."""
    if isinstance(metadata, str):
        return redacted(metadata)
    if isinstance(metadata, list):
        return [_metadata(value) for value in metadata]
    if isinstance(metadata, dict):
        return {name: _metadata(value) for name, value in metadata.items()}
    return metadata


def count_by_status(pool: Pool) -> dict[str, int]:
    """Number of videos of each status, without forgotten ones; of PENDING only those that this cluster will claim."""
    with pool.connection() as connection:
        rows = connection.execute(
            f"""
            SELECT {SHOWN_STATUS} AS status, count(*) AS n
            FROM videos AS v LEFT JOIN video_processing AS p ON p.video_id = v.id
            WHERE (v.status <> 'PENDING' OR p.available_at IS NOT NULL) AND p.forgotten_at IS NULL GROUP BY 1
            """
        ).fetchall()
    return {status.value: next((row["n"] for row in rows if row["status"] == status), 0) for status in VideoStatus}


def in_flight(pool: Pool) -> list[UUID]:
    """The videos under a lease, those claimed first first."""
    with pool.connection() as connection:
        rows = connection.execute(
            """
            SELECT v.id FROM videos AS v JOIN video_leases AS l ON l.video_id = v.id ORDER BY l.lease_token
            """
        ).fetchall()
    return [row["id"] for row in rows]


def find_unsettled(pool: Pool) -> list[UUID]:
    """The videos that wait for this cluster or are on their way, in the order of their submission."""
    with pool.connection() as connection:
        rows = connection.execute(
            """
            SELECT v.id FROM videos AS v JOIN video_processing AS p ON p.video_id = v.id
            LEFT JOIN video_leases AS l ON l.video_id = v.id
            WHERE p.available_at IS NOT NULL AND v.status = 'PENDING' OR l.video_id IS NOT NULL
            ORDER BY v.created_at, v.queued_at, v.id
            """
        ).fetchall()
    return [row["id"] for row in rows]


def waiting_for_a_reason(pool: Pool, limit: int) -> list[UUID]:
    """Videos that wait because an attempt ended early, those that are tried again first first."""
    with pool.connection() as connection:
        rows = connection.execute(
            """
            SELECT v.id FROM videos AS v JOIN video_processing AS p ON p.video_id = v.id
            WHERE v.status = 'PENDING' AND p.available_at IS NOT NULL AND v.error_message IS NOT NULL
            ORDER BY p.available_at, v.id LIMIT %s
            """,
            (limit,),
        ).fetchall()
    return [row["id"] for row in rows]


def recent_times(pool: Pool) -> dict[str, float | None]:
    """Mean queue, wait between stages and run of the videos that ended lately: within an hour, the latest 1000 of them.

    Without any, ``videos`` is 0 and the means are None.
    """
    with pool.connection() as connection:
        row = connection.execute(
            f"""
            WITH ended AS (
                SELECT id, {QUEUE_MS} AS queue_ms, {PROCESSING_MS} AS processing_ms FROM videos AS v
                WHERE processing_finished_at > clock_timestamp() - interval '1 hour'
                  AND {plausible("v.processing_finished_at")} IS NOT NULL
                  AND {QUEUE_MS} IS NOT NULL AND {PROCESSING_MS} IS NOT NULL
                ORDER BY processing_finished_at DESC LIMIT 1000
            ), timed AS (
                SELECT e.queue_ms, e.processing_ms, least(r.run_ms, e.processing_ms) AS run_ms
                FROM ended AS e
                CROSS JOIN LATERAL (
                    SELECT sum(run_ms) - coalesce(least(sum(run_ms) FILTER (WHERE stage = 'transcription'),
                                                        sum(run_ms) FILTER (WHERE stage = 'scene_detection')), 0)
                               AS run_ms
                    FROM video_stage_runs WHERE video_id = e.id
                      AND attempt = (SELECT max(attempt) FROM video_stage_runs WHERE video_id = e.id)
                ) AS r WHERE r.run_ms IS NOT NULL
            )
            SELECT count(*) AS videos, avg(queue_ms)::float8 AS queue_ms,
                   avg(processing_ms - run_ms)::float8 AS wait_ms, avg(run_ms)::float8 AS run_ms
            FROM timed
            """
        ).fetchone()
    assert row is not None
    return dict(row)
