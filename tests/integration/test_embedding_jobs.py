"""Embedding on request: what admins see over HTTP, and what the scheduler's side makes of real processes."""

import asyncio
import sys
from contextlib import suppress
from uuid import UUID, uuid4

import pytest
from starlette.testclient import TestClient

from actors.maintenance.embedding_runner import EmbeddingRunner
from cluster.settings import as_environment, load_settings
from cluster.store.postgres.connections import Pool
from cluster.store.search.embedding_jobs import EmbeddingJobs, JobState
from tests.support.api_client import ADMIN, ALICE, headers

PATH = "/v1/admin/reprocess-embeddings"
COUNTS = """print('{"embedded": 7, "failed": 1, "lacking": 2}')"""
WELL = f"import sys; print('9 scenes to embed', file=sys.stderr); {COUNTS}"
NOT_ALL = f"import sys; print('2 scenes have no vector', file=sys.stderr); {COUNTS}; sys.exit(1)"
REFUSED = "import sys; sys.exit('error: no models are in use yet')"
KILLED = "import os; os.kill(os.getpid(), 9)"
SILENT = "pass"
ENDLESS = "import sys, time; print('loading', file=sys.stderr, flush=True); time.sleep(600)"


def runner(pool: Pool, script: str) -> EmbeddingRunner:
    return EmbeddingRunner(EmbeddingJobs(pool), {}, (sys.executable, "-c", script))


def requested(pool: Pool) -> UUID:
    job = EmbeddingJobs(pool).request(ADMIN)
    assert job is not None
    return job.id


def state(pool: Pool, job_id: UUID) -> JobState:
    job = EmbeddingJobs(pool).read(job_id)
    assert job is not None
    return job.state


def silence(pool: Pool, job_id: UUID) -> None:
    with pool.connection() as connection:
        connection.execute("UPDATE embedding_jobs SET seen_at = seen_at - interval '61 s' WHERE id = %s", (job_id,))


def test_embedding_is_requested_once_and_shown(api: TestClient) -> None:
    assert api.get(PATH, headers=headers(ADMIN)).json() == {"id": None, "state": "idle"}
    first = api.post(PATH, headers=headers(ADMIN))
    assert (first.status_code, first.json()["state"]) == (202, "requested")
    assert api.post(PATH, headers=headers(ADMIN)).status_code == 409
    assert api.get(PATH, headers=headers(ADMIN)).json() == first.json()
    assert api.get(f"{PATH}/{first.json()['id']}", headers=headers(ADMIN)).json() == first.json()
    assert api.get(f"{PATH}/{uuid4()}", headers=headers(ADMIN)).status_code == 404


@pytest.mark.parametrize(("method", "path"), [("POST", PATH), ("GET", PATH), ("GET", f"{PATH}/{UUID(int=1)}")])
def test_embedding_is_for_admins(api: TestClient, method: str, path: str) -> None:
    assert api.request(method, path).status_code == 401
    assert api.request(method, path, headers=headers(ALICE)).status_code == 403


@pytest.mark.parametrize(
    ("script", "ends", "error", "embedded"),
    [
        (WELL, JobState.COMPLETED, None, 7),
        (NOT_ALL, JobState.FAILED, "2 scenes have no vector", 7),
        (REFUSED, JobState.FAILED, "no models are in use yet", None),
        (KILLED, JobState.LOST, "the process that ran it ended by signal 9; what it embedded stays", None),
    ],
)
def test_embedding_process_end_is_written_truthfully(
    pool: Pool, script: str, ends: JobState, error: str | None, embedded: int | None
) -> None:
    job_id = requested(pool)
    assert asyncio.run(runner(pool, script).run_next())
    job = EmbeddingJobs(pool).read(job_id)
    assert job is not None
    assert (job.state, job.error_message, job.scenes_embedded) == (ends, error, embedded)
    assert job.started_at is not None
    assert job.finished_at is not None
    assert EmbeddingJobs(pool).request(ADMIN) is not None


@pytest.mark.parametrize(
    ("script", "error"),
    [
        (SILENT, "the process that ran it printed nothing in place of its counts; what it embedded stays"),
        (f"print('(raylet) a warning'); {COUNTS}", "printed '(raylet) a warning"),
    ],
)
def test_embedding_process_without_counts_is_not_completed(pool: Pool, script: str, error: str) -> None:
    job_id = requested(pool)
    asyncio.run(runner(pool, script).run_next())
    job = EmbeddingJobs(pool).read(job_id)
    assert job is not None
    assert job.state is JobState.LOST
    assert error in str(job.error_message)


def test_no_request_runs_nothing(pool: Pool) -> None:
    assert not asyncio.run(runner(pool, "raise SystemExit(9)").run_next())


def test_stopping_scheduler_hands_the_job_back(pool: Pool) -> None:
    job_id = requested(pool)

    async def stopped() -> None:
        running = asyncio.create_task(runner(pool, ENDLESS).run_next())
        while state(pool, job_id) is not JobState.RUNNING or EmbeddingJobs(pool).latest().progress != "loading":  # type: ignore[union-attr]
            await asyncio.sleep(0.05)
        running.cancel()
        with suppress(asyncio.CancelledError):
            await running

    asyncio.run(stopped())
    assert state(pool, job_id) is JobState.REQUESTED


def test_silent_runner_leaves_a_lost_job(pool: Pool, api: TestClient) -> None:
    job_id = requested(pool)
    jobs = EmbeddingJobs(pool)
    assert jobs.take() == job_id
    assert jobs.take() is None
    assert state(pool, job_id) is JobState.RUNNING
    silence(pool, job_id)
    assert api.get(PATH, headers=headers(ADMIN)).json()["state"] == "lost"
    assert not jobs.note_running(job_id, None)
    jobs.finish(job_id, JobState.COMPLETED)
    assert state(pool, job_id) is JobState.LOST
    assert api.post(PATH, headers=headers(ADMIN)).status_code == 202


def test_runner_whose_job_is_lost_ends_its_process(pool: Pool) -> None:
    job_id = requested(pool)

    async def overtaken() -> None:
        running = asyncio.create_task(runner(pool, ENDLESS).run_next())
        while state(pool, job_id) is not JobState.RUNNING:
            await asyncio.sleep(0.05)
        EmbeddingJobs(pool).mark_lost(-1.0)
        await asyncio.wait_for(running, 30)

    asyncio.run(overtaken())
    assert state(pool, job_id) is JobState.LOST


def test_settings_survive_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = load_settings(
        clip_model="bundled", private_networks=("10.0.0.0/8", "fd00::/8"), allowed_schemes=("s3",), lease_s=5.5
    )
    for name, value in as_environment(settings).items():
        monkeypatch.setenv(name, value)
    assert load_settings() == settings
