"""Reads the state of videos, for their owners. Writing is ``video_queue``'s and ``scenes``'.

Every statement asks for the owner's rows. URIs and error texts leave here as people may see them.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any
from uuid import UUID

from psycopg import Connection
from psycopg.rows import DictRow

from cluster.contracts.uris import shown
from cluster.contracts.videos import MAX_URI, VideoStatus
from cluster.security.redaction import redacted_beginning
from cluster.store.index.scene_text import MAX_LETTERS, SCENE_TAGS
from cluster.store.postgres.bounded_texts import ERROR_MESSAGE, FILENAME, PLACE, STAGE
from cluster.store.postgres.connections import Pool
from cluster.store.postgres.plausible_times import QUEUE_MS, RTF
from cluster.store.videos.shown_status import SHOWN_STATUS

# The keys are those of every JSON that shows a video.
_SUMMARY = f"""
    v.id, {PLACE} AS uri, {FILENAME} AS filename, {SHOWN_STATUS} AS status, {STAGE} AS processing_stage,
    p.error_type, {ERROR_MESSAGE} AS error_message, v.duration_s,
    {QUEUE_MS} AS queue_ms,
    v.processing_duration_ms AS processing_ms,
    {RTF} AS rtf,
    coalesce(p.warnings, '[]') AS warnings, v.created_at, v.updated_at
"""
_SCENES = f"""
SELECT s.index, s.start_s, s.end_s, left(s.transcript_segment, {MAX_LETTERS}) AS transcript_segment,
       left(s.visual_summary, {MAX_LETTERS}) AS visual_summary, {SCENE_TAGS} AS tags,
       left(s.thumbnail_url, {MAX_URI}) AS thumbnail_url
FROM video_scenes AS s JOIN videos AS v ON v.id = s.video_id
WHERE s.video_id = %s AND v.owner_id = %s AND s.index IS NOT NULL ORDER BY s.index, s.id
"""
SCENES_OF_A_BATCH = 500
_VIDEOS = "videos AS v LEFT JOIN video_processing AS p ON p.video_id = v.id"


def list_videos(
    pool: Pool, owner_id: UUID, status: VideoStatus | None, limit: int, offset: int
) -> tuple[list[DictRow], int]:
    """A stretch of the owner's videos, latest first, and how many there are in all."""
    chosen = (
        "v.owner_id = %(owner)s AND p.forgotten_at IS NULL "
        f"AND (%(status)s::text IS NULL OR {SHOWN_STATUS} = %(status)s)"
    )
    parameters = {"owner": owner_id, "status": status, "limit": limit, "offset": offset}
    with pool.connection() as connection:
        items = connection.execute(
            f"SELECT {_SUMMARY} FROM {_VIDEOS} WHERE {chosen} "
            "ORDER BY v.created_at DESC, v.queued_at DESC, v.id LIMIT %(limit)s OFFSET %(offset)s",
            parameters,
        ).fetchall()
        total = connection.execute(f"SELECT count(*) AS n FROM {_VIDEOS} WHERE {chosen}", parameters).fetchone()
    assert total is not None
    return [_shown(item) for item in items], total["n"]


def read_video(pool: Pool, owner_id: UUID, video_id: UUID) -> dict[str, Any] | None:
    """One of the owner's videos with its scenes; None when there is no such video or it is another's."""
    with opened_video(pool, owner_id, video_id) as (video, batches):
        return None if video is None else {**video, "scenes": [scene for batch in batches for scene in batch]}


@contextmanager
def opened_video(
    pool: Pool, owner_id: UUID, video_id: UUID
) -> Iterator[tuple[DictRow | None, Iterator[Sequence[DictRow]]]]:
    """One of the owner's videos, and its scenes in batches; None when there is no such video or it is another's.

    A video may have tens of thousands of scenes: they are read when they are asked for, within the block, and few of
    them are Python objects at a time.
    """
    with pool.connection() as connection:
        video = connection.execute(
            f"SELECT {_SUMMARY}, coalesce(p.language, t.language) AS language, p.width, p.height, p.fps, "
            "p.file_size_bytes, t.word_count AS words "
            f"FROM {_VIDEOS} LEFT JOIN video_transcripts AS t ON t.video_id = v.id "
            "WHERE v.id = %s AND v.owner_id = %s AND p.forgotten_at IS NULL",
            (video_id, owner_id),
        ).fetchone()
        yield (None, iter(())) if video is None else (_shown(video), _scenes(connection, owner_id, video_id))


def _scenes(connection: Connection[DictRow], owner_id: UUID, video_id: UUID) -> Iterator[Sequence[DictRow]]:
    cursor = connection.execute(_SCENES, (video_id, owner_id))
    while batch := cursor.fetchmany(SCENES_OF_A_BATCH):
        yield batch


def _shown(video: DictRow) -> DictRow:
    return {**video, "uri": shown(video["uri"]), "error_message": redacted_beginning(video["error_message"])}
