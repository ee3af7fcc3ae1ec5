"""Distinguishes a worker whose process died from one whose node is gone: only the first is charged to what it ran."""

import asyncio

import ray
from ray.exceptions import (
    ActorUnavailableError,
    NodeDiedError,
    OutOfMemoryError,
    RayActorError,
    RayError,
    WorkerCrashedError,
)

from actors.workers.worker import WorkerInfo
from cluster.contracts.errors import HeimdexError, NodeLost, WorkerLost

WORKER_DEATH_ERRORS = (RayActorError, NodeDiedError, WorkerCrashedError, OutOfMemoryError)
"""Errors that Ray raises for a call whose worker is gone; they have no narrower parent."""
SETTLE_S = 1.0
"""A node that goes down in order ends its workers first: it is looked at again after this."""
UNREACHABLE_S = 30.0
"""Time that Ray's health checks may take to find out that a node that does not answer is dead."""
POLL_S = 0.5


async def why_gone(info: WorkerInfo, error: RayError) -> HeimdexError:
    """``NodeLost`` when the worker's node is gone, else ``WorkerLost``.

    ``error`` is what Ray said of a call to the worker. Ray's own sentence does not distinguish the two for certain,
    the list of its nodes does.
    """
    loop = asyncio.get_running_loop()
    end_s = loop.time() + (UNREACHABLE_S if isinstance(error, ActorUnavailableError) else SETTLE_S)
    while await _is_alive(info.node_id):
        if loop.time() > end_s:
            return WorkerLost(f"worker {info.worker} died")
        await asyncio.sleep(POLL_S)
    return NodeLost(f"the node {info.node} of worker {info.worker} is gone")


async def _is_alive(node_id: str) -> bool:
    nodes = await asyncio.to_thread(ray.nodes)
    return any(node["NodeID"] == node_id and node["Alive"] for node in nodes)
