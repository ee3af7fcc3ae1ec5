"""Whether the process is alive and whether the cluster behind it is ready; both without a token."""

from collections import Counter
from typing import Any

from fastapi import Response, status
from pydantic import BaseModel

from cluster.contracts.errors import DatabaseUnavailable, SearchUnavailable
from cluster.contracts.stages import WorkerKind
from cluster.store.worker_registry import SCHEDULER_KIND, seen_workers
from serve_app.parts import ApiParts, Parts


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


def ready(response: Response, parts: Parts) -> Readiness:
    """Whether database and search engine answer, and a scheduler and workers of every kind were seen lately.

    What stands in their way, a full disk for example, is said beside.
    """
    states = {**_states(parts), **_engine_state(parts)}
    all_ready = all(state.ready for state in states.values())
    if not all_ready:
        response.status_code = status.HTTP_503_SERVICE_UNAVAILABLE
    return Readiness(ready=all_ready, parts=states)


def _states(parts: ApiParts) -> dict[str, PartState]:
    kinds = (SCHEDULER_KIND, *WorkerKind)
    try:
        seen = seen_workers(parts.pool, parts.worker_silence_s)
    except DatabaseUnavailable:
        unknown = PartState(ready=False, detail="not known while the database is away")
        away = PartState(ready=False, detail="does not answer")
        return {"database": away, **{str(kind): unknown for kind in kinds}}
    able = Counter(worker.kind for worker in seen if worker.state != "starting")
    starting = Counter(worker.kind for worker in seen if worker.state == "starting")
    states = {"database": PartState(ready=True, detail="answers")}
    for kind in kinds:
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
