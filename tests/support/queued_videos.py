"""Videos in the queue of a test, scenes for them, and what the database then says of them."""

import threading
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any
from uuid import UUID

import numpy as np
from psycopg import sql

from cluster.contracts.errors import LeaseLost
from cluster.contracts.media import MediaInfo
from cluster.contracts.results import SceneDescription, Segment, StageReport, Transcript, Word, WrittenScene
from cluster.contracts.stages import Outcome, RetryRule, Stage
from cluster.contracts.videos import ClaimedVideo, Submission
from cluster.store.postgres.connections import Pool, connect
from cluster.store.queue.lease_recovery import LeaseRecovery
from cluster.store.queue.stage_runs import BegunVideo, ClosedRun, OpenRun, StageLedger
from cluster.store.queue.submissions import submit
from cluster.store.queue.video_queue import Finish, VideoQueue
from cluster.store.videos.shown_status import SHOWN_STATUS
from tests.support.vector_lengths import EMBEDDING_DIM, MEANING_DIM

OWNER = UUID(int=7)
MS = timedelta(milliseconds=1)
TABLES = (
    "videos", "video_leases", "video_stage_runs", "video_scenes", "video_transcripts", "video_processing",
)  # fmt: skip
PAUSE = 0x7061757365


def enqueue(pool: Pool, count: int = 1) -> list[UUID]:
    return submit(pool, OWNER, [Submission(uri=f"/videos/{n:05d}.mp4") for n in range(count)])


def claim_one(pool: Pool, queue: VideoQueue) -> ClaimedVideo:
    enqueue(pool)
    (video,) = queue.claim(10)
    return video


def recovery(pool: Pool, scheduler: str, rule: RetryRule | None = None) -> LeaseRecovery:
    return LeaseRecovery(pool, scheduler, rule or RetryRule())


def begin(pool: Pool, video: ClaimedVideo, *stages: Stage) -> list[OpenRun]:
    """Open runs that became ready one second after the other, the first at the claim."""
    opened = [OpenRun(video, stage, video.claimed_at + n * timedelta(seconds=1)) for n, stage in enumerate(stages)]
    assert StageLedger(pool).write(opened, []) == {video.lease_token}
    return opened


def finish(queue: VideoQueue, video: ClaimedVideo, run_s: float = 0.0) -> None:
    """Raises LeaseLost."""
    if queue.finish([Finish(video, run_s, "node", "worker")]) != {video.lease_token}:
        raise LeaseLost(video.filename)


def record_media(pool: Pool, video: ClaimedVideo, info: MediaInfo) -> None:
    """What the probe found, with the end of its stage. Raises LeaseLost."""
    report = StageReport(run_s=0.0, batch_size=1, node="node", worker="worker", device="cpu", resource_s=0.0)
    run = OpenRun(video, Stage.METADATA, video.claimed_at)
    closed = ClosedRun(run, Outcome.COMPLETED, video.claimed_at, report, info)
    if StageLedger(pool).write([], [closed]) != {video.lease_token}:
        raise LeaseLost(video.filename)


def note_begun(pool: Pool, video: ClaimedVideo) -> None:
    """The first worker began. Raises LeaseLost."""
    if StageLedger(pool).begin([BegunVideo(video, video.claimed_at)]) != {video.lease_token}:
        raise LeaseLost(video.filename)


def expire(pool: Pool, *videos: ClaimedVideo) -> None:
    with pool.connection() as connection:
        connection.execute(
            "UPDATE video_leases SET expires_at = clock_timestamp() - interval '1 ms' WHERE video_id = ANY (%s)",
            ([video.id for video in videos],),
        )


def row(pool: Pool, video_id: UUID) -> dict[str, Any]:
    """The video with what the queue knows of it, and its status as people see it."""
    return only(
        pool,
        f"SELECT v.*, p.*, {SHOWN_STATUS} AS status "
        "FROM videos AS v LEFT JOIN video_processing AS p ON p.video_id = v.id WHERE v.id = %s",
        video_id,
    )


def runs(pool: Pool, video_id: UUID) -> dict[str, dict[str, Any]]:
    with pool.connection() as connection:
        found = connection.execute("SELECT * FROM video_stage_runs WHERE video_id = %s", (video_id,)).fetchall()
    return {run["stage"]: run for run in found}


def everything(pool: Pool) -> list[Any]:
    """Every row that a write about a video could touch."""
    with pool.connection() as connection:
        return [connection.execute(f"SELECT * FROM {table} ORDER BY 1, 2, 3").fetchall() for table in TABLES]


def only(pool: Pool, statement: str, *parameters: object) -> dict[str, Any]:
    with pool.connection() as connection:
        found = connection.execute(statement, parameters).fetchone()
    assert found is not None
    return found


def until_a_session_waits(pool: Pool, sessions: int = 1) -> None:
    """Until a session of this database, or so many of them, wait for a lock."""
    for _ in range(2000):
        waiting = only(
            pool,
            "SELECT count(*) AS n FROM pg_stat_activity "
            "WHERE datname = current_database() AND wait_event_type = 'Lock'",
        )
        if waiting["n"] >= sessions:
            return
        threading.Event().wait(0.005)
    raise AssertionError("nobody waits")


@contextmanager
def paused(url: str, table: str, event: str) -> Iterator[None]:
    """A session that does this to a row of the table stops there until the end of the block; others are not held up."""
    with connect(url, autocommit=True) as connection:
        connection.execute(
            "CREATE FUNCTION pause() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN "
            f"PERFORM pg_advisory_lock_shared({PAUSE}); PERFORM pg_advisory_unlock_shared({PAUSE}); RETURN NEW; END $$"
        )
        connection.execute(
            sql.SQL(f"CREATE TRIGGER pause BEFORE {event} EXECUTE FUNCTION pause()").format(sql.Identifier(table))
        )
        connection.execute("SELECT pg_advisory_lock(%s)", (PAUSE,))
        try:
            yield
        finally:
            connection.execute("SELECT pg_advisory_unlock(%s)", (PAUSE,))


def transcript(text: str, language: str | None = "en") -> Transcript:
    words = tuple(Word(n, n + 0.5, f" {word}", 0.9) for n, word in enumerate(text.split()))
    segments = (Segment(0.0, float(len(words)), text, words),) if words else ()
    return Transcript(language, segments, "tiny.en")


def scenes(video_id: UUID, *texts: str, tags: tuple[str, ...] = ()) -> list[WrittenScene]:
    return [
        WrittenScene(
            id=uuid.uuid5(video_id, str(index)),
            start_s=float(index),
            end_s=index + 1.0,
            key_frame_s=index + 0.5,
            thumbnail_url=f"file:///scenes/{index}.jpg",
            key_frame_url=f"file:///scenes/{index}-key.jpg",
            description=SceneDescription(
                index=index,
                transcript_segment=text,
                tags=tags,
                visual_summary=", ".join(tags),
                combined_text="\n".join([text, *tags]),
                embedding=unit(index),
                vision_model="bundled@1",
                meaning=unit(index, MEANING_DIM),
                text_model="bundled@1",
            ),
        )
        for index, text in enumerate(texts)
    ]


def unit(index: int, width: int = EMBEDDING_DIM) -> Any:
    embedding = np.zeros(width, np.float32)
    embedding[index] = 1.0
    return embedding
