"""Stops a cluster of this machine at once: its processes are killed, and Postgres is put in order from outside.

Nothing is lost: Ray holds nothing that is not in Postgres, and each write of a worker is one transaction. What was in
flight waits again, which counts as no attempt. Giving it time to finish is ``cluster_actors``'s.
"""

from cluster.contracts.counts import counted
from cluster.contracts.errors import DatabaseUnavailable
from cluster.contracts.stages import RetryRule
from cluster.runtime.ray_driver import Say
from cluster.runtime.ray_node import RayNode
from cluster.store.postgres.connections import open_pool
from cluster.store.queue.lease_recovery import LeaseRecovery
from cluster.store.queue.worker_registry import WorkerRegistry


def stop_at_once(node: RayNode, scheduler: str, database_url: str, say: Say) -> None:
    """Kill the node's processes, then hand back what ``scheduler`` had in flight, under which name it took leases."""
    say("stopping Ray")
    node.stop()
    try:
        with open_pool(database_url, max_size=1, name="heimdex-down") as pool:
            back = LeaseRecovery(pool, scheduler, RetryRule()).hand_back()
            WorkerRegistry(pool, scheduler).withdraw()
    except DatabaseUnavailable as error:
        say(f"{error}: what was in flight goes on once its leases have expired")
        return
    if back:
        say(f"handed back {counted(len(back), 'video')}, to go on after the next `heimdex up`")
