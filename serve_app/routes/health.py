"""Whether the process is alive and whether the cluster behind it is ready; both without a token."""

import asyncio
import threading
from collections import Counter
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Annotated, Any

from fastapi import Depends, Request, Response, status
from pydantic import BaseModel

from cluster.contracts.errors import DatabaseUnavailable, SearchUnavailable
from cluster.contracts.stages import WorkerKind
from cluster.store.queue.worker_registry import SCHEDULER_KIND, seen_workers
from serve_app.parts import ApiParts

KINDS = (SCHEDULER_KIND, *WorkerKind)
ANSWER_S = 8.0
"""Time that the database and the search engine together may take to say that they are there."""


class Alive(BaseModel):
    """The process answers."""

    status: str = "alive"


class PartState(BaseModel):
    """Whether one part of the cluster answers."""

    ready: bool
    detail: str


class Readiness(BaseModel):
    """Whether the cluster can process videos now, part by part."""

    ready: bool
    parts: dict[str, PartState]


DESCRIPTION: dict[int | str, dict[str, Any]] = {
    200: {"description": "All parts answer."},
    503: {"model": Readiness, "description": "Some part does not answer; the parts say which."},
}


async def alive() -> Alive:
    """The process answers. Touches nothing else: a database outage must not look like a dead process."""
    return Alive()


class ReadinessProbe:
    """Asks the parts of the cluster, once for all requests meanwhile. It has a thread and a database session of its
    own.
    """

    def __init__(self, parts: ApiParts) -> None:
        self._parts = parts
        self._lock = threading.Lock()
        self._thread = ThreadPoolExecutor(1, "readiness")
        self._asking: Future[dict[str, PartState]] | None = None

    async def states(self) -> dict[str, PartState]:
        """Every part's state, not known in time where one does not answer."""
        with self._lock:
            if self._asking is None or self._asking.done():
                self._asking = self._thread.submit(self._ask)
            asking = self._asking
        try:
            return await asyncio.wait_for(asyncio.shield(asyncio.wrap_future(asking)), ANSWER_S)
        except TimeoutError:
            return _away()

    def _ask(self) -> dict[str, PartState]:
        return {**_states(self._parts), **_engine_state(self._parts)}


def _probe_of(request: Request) -> ReadinessProbe:
    probe: ReadinessProbe = request.app.state.readiness
    return probe


async def ready(response: Response, probe: Annotated[ReadinessProbe, Depends(_probe_of)]) -> Readiness:
    """Whether database and search engine answer, and a scheduler and workers of every kind were seen lately.

    What keeps them from working, a full disk for example, is said beside.
    """
    states = await probe.states()
    all_ready = all(state.ready for state in states.values())
    if not all_ready:
        response.status_code = status.HTTP_503_SERVICE_UNAVAILABLE
    return Readiness(ready=all_ready, parts=states)


def _away() -> dict[str, PartState]:
    unknown = PartState(ready=False, detail="not known while the database is away")
    return {"database": PartState(ready=False, detail="does not answer"), **{str(kind): unknown for kind in KINDS}}


def _states(parts: ApiParts) -> dict[str, PartState]:
    try:
        seen = seen_workers(parts.health_pool or parts.pool, parts.worker_silence_s)
    except DatabaseUnavailable:
        return _away()
    able = Counter(worker.kind for worker in seen if worker.state != "starting")
    starting = Counter(worker.kind for worker in seen if worker.state == "starting")
    states = {"database": PartState(ready=True, detail="answers")}
    for kind in KINDS:
        counts = f"{able[kind]} seen in the last {parts.worker_silence_s:g} s"
        late = f", {starting[kind]} starting" if starting[kind] else ""
        troubles = {worker.trouble: None for worker in seen if worker.kind == kind and worker.trouble}
        states[str(kind)] = PartState(ready=able[kind] > 0, detail="; ".join([counts + late, *troubles]))
    return states


def _engine_state(parts: ApiParts) -> dict[str, PartState]:
    """Nothing where Postgres finds the scenes itself."""
    if parts.check_engine is None:
        return {}
    try:
        parts.check_engine()
    except SearchUnavailable as error:
        return {"search engine": PartState(ready=False, detail=str(error))}
    return {"search engine": PartState(ready=True, detail="answers")}
