"""Reads what was said in a video, for those who own it. Writing is ``scenes``'."""

from dataclasses import dataclass
from uuid import UUID

from psycopg.rows import DictRow
from pydantic import TypeAdapter

from cluster.contracts.results import Segment, Transcript, TranscriptSource
from cluster.contracts.uris import video_name
from cluster.contracts.videos import VideoStatus
from cluster.store.postgres.bounded_texts import FILENAME, PLACE
from cluster.store.postgres.connections import Pool
from cluster.store.videos.existing_transcripts import read_existing
from cluster.store.videos.shown_status import SHOWN_STATUS

_SEGMENT = TypeAdapter(Segment)
MAX_LETTERS = 2**25
"""Of what another system stored: 12 hours of fast speech, with a time for each word, have a third of it as JSON."""


@dataclass(frozen=True)
class TranscribedVideo:
    """A video and what was said in it; ``transcript`` is None as long as none is written.

    ``source``: who made the transcript, and whether its times are measured.
    """

    name: str
    """What people call it."""
    status: VideoStatus
    duration_s: float | None
    transcript: Transcript | None
    source: TranscriptSource


def read_transcript(pool: Pool, owner_id: UUID, video_id: UUID) -> TranscribedVideo | None:
    """One of the owner's videos with its transcript; None when there is no such video or it is another's.

    Where this cluster has made none, the one that an existing Heimdex stored in ``videos``.
    """
    with pool.connection() as connection:
        row = connection.execute(
            f"""
            SELECT {FILENAME} AS filename, {PLACE} AS uri, {SHOWN_STATUS} AS status, v.duration_s,
                   t.language, t.model, t.segments,
                   -- Columns that are there in an existing database only.
                   CASE WHEN length(existing.segments) <= {MAX_LETTERS} THEN existing.segments END AS existing_segments,
                   left(existing.text, {MAX_LETTERS}) AS existing_text, left(existing.language, 10) AS existing_language
            FROM videos AS v
            CROSS JOIN LATERAL (
                SELECT to_jsonb(v) ->> 'transcript_segments' AS segments, to_jsonb(v) ->> 'full_transcript' AS text,
                       to_jsonb(v) ->> 'transcript_language' AS language
            ) AS existing
            LEFT JOIN video_processing AS p ON p.video_id = v.id
            LEFT JOIN video_transcripts AS t ON t.video_id = v.id
            WHERE v.id = %s AND v.owner_id = %s AND p.forgotten_at IS NULL
            """,
            (video_id, owner_id),
        ).fetchone()
    if row is None:
        return None
    transcript, source = _transcript(row)
    name = video_name(row["filename"], row["uri"], video_id)
    return TranscribedVideo(name, VideoStatus(row["status"]), row["duration_s"], transcript, source)


def _transcript(row: DictRow) -> tuple[Transcript | None, TranscriptSource]:
    if row["model"] is not None:
        # One by one: all at once would hold the interpreter's lock for as long as hours of speech take.
        segments = tuple(_SEGMENT.validate_python(segment) for segment in row["segments"])
        return Transcript(row["language"], segments, row["model"]), TranscriptSource()
    existing = read_existing(
        row["existing_segments"], row["existing_text"], row["existing_language"], row["duration_s"]
    )
    if existing is None:
        return None, TranscriptSource()
    transcript, timed = existing
    return transcript, TranscriptSource(existing=True, timed=timed)
