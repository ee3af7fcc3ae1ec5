"""Runs what was requested by HTTP: a job that embeds what lacks vectors, as a process beside the scheduler.

Owns the process: that there is one at most, that its end is written down truthfully, and that it ends with the
scheduler. What it does is ``cluster.reembed.run``'s; the states are the store's.
"""

import asyncio
import json
import os
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from uuid import UUID

from cluster.contracts.errors import DatabaseUnavailable
from cluster.contracts.events import Event
from cluster.security.event_log import EventLog, FailingSteps
from cluster.security.visible import visible
from cluster.store.search.embedding_jobs import EmbeddingJobs, JobCounts, JobState

logger = EventLog(__name__)

LOOK_S = 2.0
"""Interval between looks for a waiting job, and between records that one runs."""
STOP_S = 10.0
"""Time that a process which is asked to end may take."""
REEMBED = (sys.executable, "-m", "cluster.cli.reembed_command", "--json")
SHOWN_BYTES = 200
"""Bytes that are shown of an output that cannot be read."""
_ENDS_AS_ASKED = (0, 1)
"""Exit statuses with counts on standard output; 1: scenes could not be embedded."""


class EmbeddingRunner:
    """Works off requests, one at a time. ``environment`` is added to this process's."""

    def __init__(self, jobs: EmbeddingJobs, environment: Mapping[str, str], command: Sequence[str] = REEMBED) -> None:
        self._jobs = jobs
        self._environment = environment
        self._command = command
        self._failing = FailingSteps(logger)

    async def sweep_forever(self) -> None:
        """Every few seconds; when cancelled, the process is ended and its job waits again."""
        while True:
            await asyncio.sleep(LOOK_S)
            try:
                await self.run_next()
            except Exception as error:  # videos do not stop for it
                self._failing.note_failure(Event.EMBEDDING_JOB_FAILED, error, retry_s=LOOK_S)
            else:
                self._failing.note_success(Event.EMBEDDING_JOB_FAILED)

    async def run_next(self) -> bool:
        """Run the job that waits to its end; False when none does. Raises DatabaseUnavailable."""
        await asyncio.to_thread(self._jobs.mark_lost)
        job_id = await asyncio.to_thread(self._jobs.take)
        if job_id is None:
            return False
        logger.info(Event.EMBEDDING_JOB_STARTED, job=job_id)
        pipe = asyncio.subprocess.PIPE
        process = await asyncio.create_subprocess_exec(
            *self._command, stdin=asyncio.subprocess.DEVNULL, stdout=pipe, stderr=pipe,
            env={**os.environ, **self._environment},
        )  # fmt: skip
        try:
            await self._attend(job_id, process)
        except asyncio.CancelledError:
            await _end(process)
            await asyncio.shield(asyncio.to_thread(self._jobs.hand_back, job_id))
            raise
        finally:
            await _end(process)
        return True

    async def _attend(self, job_id: UUID, process: asyncio.subprocess.Process) -> None:
        assert process.stdout is not None
        assert process.stderr is not None
        said: list[str] = []
        listening = asyncio.gather(process.stdout.read(), _keep_last_line(process.stderr, said))
        ended = asyncio.create_task(process.wait())
        while not ended.done():
            await asyncio.wait([ended], timeout=LOOK_S)
            with suppress(DatabaseUnavailable):
                if not await asyncio.to_thread(self._jobs.note_running, job_id, said[-1] if said else None):
                    listening.cancel()
                    return  # taken for lost meanwhile: it is written down already
        printed, _ = await listening
        await self._write_end(job_id, ended.result(), printed, said[-1] if said else None)

    async def _write_end(self, job_id: UUID, status: int, printed: bytes, said: str | None) -> None:
        state, error, counts = _meaning(status, printed, said)
        logger.info(Event.EMBEDDING_JOB_ENDED, job=job_id, state=state, error=error)
        while True:
            try:
                await asyncio.to_thread(self._jobs.finish, job_id, state, error, counts)
            except DatabaseUnavailable as away:
                logger.warning(Event.EMBEDDING_JOB_NOT_RECORDED, job=job_id, error=away, retry_s=LOOK_S)
                await asyncio.sleep(LOOK_S)
            else:
                return


def _meaning(status: int, printed: bytes, said: str | None) -> tuple[JobState, str | None, JobCounts | None]:
    """Meaning of an exit status; by a signal, or without its counts, the process did not end as it should."""
    if status in _ENDS_AS_ASKED:
        with suppress(ValueError, KeyError, TypeError):
            found = json.loads(printed)
            counts = JobCounts(int(found["embedded"]), int(found["failed"]), int(found["lacking"]))
            return (JobState.COMPLETED, None, counts) if status == 0 else (JobState.FAILED, said, counts)
    if status > 0:
        return JobState.FAILED, (said or f"it ended with exit status {status}").removeprefix("error: "), None
    if status < 0:
        return JobState.LOST, f"the process that ran it ended by signal {-status}; what it embedded stays", None
    text = visible(printed[:SHOWN_BYTES].decode(errors="replace"))
    found_instead = f"{text!r} in place of its counts" if text else "nothing in place of its counts"
    return JobState.LOST, f"the process that ran it printed {found_instead}; what it embedded stays", None


async def _keep_last_line(stream: asyncio.StreamReader, said: list[str]) -> None:
    while line := await stream.readline():
        if text := line.decode(errors="replace").strip():
            said[:] = [text]


async def _end(process: asyncio.subprocess.Process) -> None:
    if process.returncode is not None:
        return
    process.terminate()
    try:
        await asyncio.wait_for(process.wait(), STOP_S)
    except TimeoutError:
        process.kill()
        await process.wait()
