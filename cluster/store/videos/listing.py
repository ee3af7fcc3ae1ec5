"""Lists videos of all owners, and shows all that is known of one, for the operator's commands.

What users see of their own videos is ``videos``'.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any, LiteralString
from uuid import UUID

from cluster.contracts.uris import shown
from cluster.contracts.videos import VideoStatus
from cluster.security.redaction import redacted_beginning
from cluster.store.postgres.bounded_texts import ERROR_MESSAGE, FILENAME, PLACE, STAGE
from cluster.store.postgres.connections import Pool
from cluster.store.postgres.plausible_times import plausible
from cluster.store.videos.progress import read_results
from cluster.store.videos.shown_status import SHOWN_STATUS

_VIDEOS: LiteralString = "videos AS v LEFT JOIN video_processing AS p ON p.video_id = v.id"
_CHOSEN: LiteralString = f"""p.forgotten_at IS NULL
    AND (%(owner_id)s::uuid IS NULL OR v.owner_id = %(owner_id)s)
    AND (%(status)s::text IS NULL OR {SHOWN_STATUS} = %(status)s)
    AND (%(batch)s::text IS NULL OR p.batch = %(batch)s)
    AND (%(since)s::timestamptz IS NULL OR v.created_at >= %(since)s)"""
_DETAILS = f"""
SELECT v.owner_id, p.batch, p.origin, p.language, p.priority, coalesce(p.attempt, 0) AS attempts,
       coalesce(p.failures, 0) AS failures, coalesce(p.crashes, 0) AS crashes,
       p.file_size_bytes, p.width, p.height, p.fps, v.created_at,
       {plausible("v.queued_at")} AS queued_at, {plausible("v.processing_started_at")} AS started_at,
       {plausible("v.processing_finished_at")} AS finished_at
FROM {_VIDEOS} WHERE v.id = %s AND p.forgotten_at IS NULL
"""


@dataclass(frozen=True)
class VideoFilter:
    """Which videos are listed; None: any. ``since``: submitted at that time or later."""

    owner_id: UUID | None = None
    status: VideoStatus | None = None
    batch: str | None = None
    since: datetime | None = None


def list_all(pool: Pool, chosen: VideoFilter, limit: int) -> tuple[list[dict[str, Any]], int]:
    """The videos that were submitted last, latest first, and how many there are in all."""
    parameters = {**asdict(chosen), "limit": limit}
    with pool.connection() as connection:
        rows = connection.execute(
            f"""
            SELECT v.id, v.owner_id, p.batch, {PLACE} AS uri, {FILENAME} AS filename, {SHOWN_STATUS} AS status,
                   {STAGE} AS processing_stage, p.error_type, {ERROR_MESSAGE} AS error_message, v.duration_s,
                   v.created_at, v.updated_at
            FROM {_VIDEOS} WHERE {_CHOSEN}
            ORDER BY v.created_at DESC, v.queued_at DESC, v.id LIMIT %(limit)s
            """,
            parameters,
        ).fetchall()
        total = connection.execute(f"SELECT count(*) AS n FROM {_VIDEOS} WHERE {_CHOSEN}", parameters).fetchone()
    assert total is not None
    seen = [
        {**row, "uri": shown(row["uri"]), "error_message": redacted_beginning(row["error_message"])} for row in rows
    ]
    return seen, total["n"]


def read_details(pool: Pool, video_id: UUID) -> dict[str, Any] | None:
    """What ``--json`` prints of a video, and its owner, batch, attempts, media and times; None: no such video."""
    with pool.connection() as connection:
        row = connection.execute(_DETAILS, (video_id,)).fetchone()
    results: Sequence[dict[str, Any]] = read_results(pool, [video_id]) if row is not None else ()
    return {**results[0], **row} if row is not None and results else None
