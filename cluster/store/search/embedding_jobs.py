"""Requests to embed what lacks vectors: HTTP makes them, a scheduler runs them, both meet here.

Owns the states of a job and who may change them. How a job runs is ``actors.maintenance.embedding_runner``'s.
"""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import LiteralString
from uuid import UUID

from psycopg.errors import UniqueViolation
from psycopg.rows import DictRow

from cluster.contracts.audit import Action, ObjectKind, admin
from cluster.store.postgres.audit_log import Trail
from cluster.store.postgres.connections import Pool

LOST_AFTER_S = 60.0
"""A running job whose runner was not seen for so long is lost."""

_COLUMNS = """id, state, requested_at, started_at, finished_at, progress, error_message, scenes_embedded,
    scenes_failed, scenes_lacking"""

_MARK_LOST = """
UPDATE embedding_jobs
SET state = 'lost', finished_at = clock_timestamp(),
    error_message = 'the process that ran it is gone; what it embedded stays: request another one'
WHERE state = 'running' AND seen_at < clock_timestamp() - make_interval(secs => %s)
"""

_TAKE = """
-- The job that waits, for this scheduler alone.
UPDATE embedding_jobs SET state = 'running', started_at = clock_timestamp(), seen_at = clock_timestamp()
WHERE id = (SELECT id FROM embedding_jobs WHERE state = 'requested' FOR UPDATE SKIP LOCKED)
RETURNING id
"""

_FINISH = """
UPDATE embedding_jobs
SET state = %(state)s, finished_at = clock_timestamp(), error_message = %(error)s, scenes_embedded = %(embedded)s,
    scenes_failed = %(failed)s, scenes_lacking = %(lacking)s
WHERE id = %(id)s AND state = 'running'
"""


class JobState(StrEnum):
    """``lost``: the process that ran it is gone, its progress is unknown."""

    REQUESTED = "requested"
    RUNNING = "running"
    COMPLETED = "completed"
    FAILED = "failed"
    LOST = "lost"


@dataclass(frozen=True)
class EmbeddingJob:
    """A job as it is now; the counts are those of its end. Times are aware and in UTC."""

    id: UUID
    state: JobState
    requested_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    progress: str | None
    error_message: str | None
    scenes_embedded: int | None
    scenes_failed: int | None
    scenes_lacking: int | None


@dataclass(frozen=True)
class JobCounts:
    """Scenes that were embedded, those of which it failed, and those that still lack a vector."""

    embedded: int
    failed: int
    lacking: int


class EmbeddingJobs:
    """The jobs, for both sides."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    def request(self, user_id: UUID) -> EmbeddingJob | None:
        """A new job of this admin's that waits for a scheduler; None while another one waits or runs."""
        self.mark_lost()
        trail = Trail(admin(user_id))
        try:
            with self._pool.connection() as connection:
                inserted = f"INSERT INTO embedding_jobs (requested_by) VALUES (%s) RETURNING {_COLUMNS}"
                job = _job(connection.execute(inserted, (user_id,)).fetchone())
                assert job is not None
                trail.note(connection, Action.EMBED, ObjectKind.JOB, [job.id])
        except UniqueViolation:
            return None
        trail.log()
        return job

    def latest(self) -> EmbeddingJob | None:
        """The job that was requested last."""
        self.mark_lost()
        return self._one("true", None)

    def read(self, job_id: UUID) -> EmbeddingJob | None:
        """One job; None when there is none of this id."""
        self.mark_lost()
        return self._one("id = %(id)s", job_id)

    def mark_lost(self, silence_s: float = LOST_AFTER_S) -> None:
        """A job whose runner is silent is lost."""
        with self._pool.connection() as connection:
            connection.execute(_MARK_LOST, (silence_s,))

    def take(self) -> UUID | None:
        """Begin the job that waits; None when none does."""
        with self._pool.connection() as connection:
            row = connection.execute(_TAKE).fetchone()
        return None if row is None else row["id"]

    def note_running(self, job_id: UUID, progress: str | None) -> bool:
        """It still runs; whether it is still this runner's."""
        with self._pool.connection() as connection:
            return connection.execute(
                "UPDATE embedding_jobs SET seen_at = clock_timestamp(), progress = %s "
                "WHERE id = %s AND state = 'running'",
                (progress, job_id),
            ).rowcount > 0  # fmt: skip

    def hand_back(self, job_id: UUID) -> None:
        """It waits again: the cluster stops, and the next one goes on with it."""
        with self._pool.connection() as connection:
            connection.execute(
                "UPDATE embedding_jobs SET state = 'requested', started_at = NULL, seen_at = NULL "
                "WHERE id = %s AND state = 'running'",
                (job_id,),
            )

    def finish(self, job_id: UUID, state: JobState, error: str | None = None, counts: JobCounts | None = None) -> None:
        """It has ended in this state."""
        values = {"embedded": None, "failed": None, "lacking": None} if counts is None else vars(counts)
        with self._pool.connection() as connection:
            connection.execute(_FINISH, {"id": job_id, "state": state, "error": error, **values})

    def _one(self, chosen: LiteralString, job_id: UUID | None) -> EmbeddingJob | None:
        statement = f"SELECT {_COLUMNS} FROM embedding_jobs WHERE {chosen} ORDER BY requested_at DESC, id LIMIT 1"
        with self._pool.connection() as connection:
            return _job(connection.execute(statement, {"id": job_id}).fetchone())


def _job(row: DictRow | None) -> EmbeddingJob | None:
    return None if row is None else EmbeddingJob(**{**row, "state": JobState(row["state"])})
