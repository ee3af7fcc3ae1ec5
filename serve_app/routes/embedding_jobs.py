"""What admins do about vectors: have what lacks them embedded, and see how far that is."""

from typing import Annotated

from fastapi import Path

from cluster.store.search.embedding_jobs import EmbeddingJobs
from serve_app.error_responses import Conflict, NotFound
from serve_app.guards import CurrentUser
from serve_app.parts import Parts
from serve_app.schemas.admin import EmbeddingJob, NoEmbeddingJob
from serve_app.schemas.strict_values import Id

JobId = Annotated[Id, Path(description="The job's id.")]


def start_embedding(user_id: CurrentUser, parts: Parts) -> EmbeddingJob:
    """Have every scene that lacks a vector of the active models embedded. The scheduler runs it, one job at a time."""
    job = EmbeddingJobs(parts.pool).request(user_id)
    if job is None:
        raise Conflict("Another embedding job waits or runs; GET this address shows it.")
    return EmbeddingJob.model_validate(job, from_attributes=True)


def read_latest_embedding(parts: Parts) -> EmbeddingJob | NoEmbeddingJob:
    """The job that was requested last; state `idle` where there never was one."""
    job = EmbeddingJobs(parts.pool).latest()
    return NoEmbeddingJob() if job is None else EmbeddingJob.model_validate(job, from_attributes=True)


def read_embedding(job_id: JobId, parts: Parts) -> EmbeddingJob:
    """One job."""
    job = EmbeddingJobs(parts.pool).read(job_id)
    if job is None:
        raise NotFound("There is no such job.")
    return EmbeddingJob.model_validate(job, from_attributes=True)
