"""A Ray cluster of several nodes on 127.0.0.1 in a process of its own, which executes commands, line by line.

The sender has no Ray in it, so all of this can be killed at any time. When the input ends, the session,
which is the whole cluster, is killed. What to kill, and when, is ``ray_kills``'.
"""

import json
import logging
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

from cluster.contracts.stages import RetryRule
from cluster.runtime.ray_node import free_port, prepare_ray
from cluster.settings import LOOPBACK
from tests.chaos.ray_processes import session_of

NAMESPACE = "heimdex"
RULE = RetryRule(first_delay_s=0.05, max_delay_s=0.5)
"""The cluster's own limits; only the pauses are shorter."""
LEASE_S = 10.0
NODE_CPUS = 6
OBJECT_STORE_BYTES = 80 * 1024**2
READY_S = 240.0
CALL_S = 20.0
GRACE_S = 10.0


class Host:
    """Ray's own ``Cluster`` with the product's schedulers on it. Each public method is a command."""

    def __init__(self, ray_dir: str) -> None:
        from ray.cluster_utils import Cluster

        self._node: dict[str, Any] = {
            "node_ip_address": LOOPBACK,
            "object_store_memory": OBJECT_STORE_BYTES,
            "include_log_monitor": False,
            "include_dashboard": False,
        }
        self._cluster = Cluster(shutdown_at_exit=False)
        self._cluster.add_node(**self._node, num_cpus=0, temp_dir=ray_dir, dashboard_port=free_port())
        self._schedulers: dict[str, Any] = {}

    def connect(self) -> None:
        """Become a driver of the cluster."""
        import ray

        ray.init(address=self._cluster.address, namespace=NAMESPACE, log_to_driver=False, logging_level=logging.ERROR)

    def add_node(self, tries: int = 3) -> str:
        """Another node for workers; returns its id. Ray gives one half a minute, too little on a busy machine."""
        before = {process.pid for process in session_of(os.getpid())}
        try:
            node_id: str = self._cluster.add_node(**self._node, num_cpus=NODE_CPUS).node_id
        except Exception as error:
            if tries == 1 or "timed out during startup" not in str(error):
                raise
            begun = [one for one in session_of(os.getpid()) if one.pid not in before and one.parent == os.getpid()]
            for process in begun:
                os.kill(process.pid, signal.SIGKILL)
            return self.add_node(tries - 1)
        return node_id

    def kill_node(self, node_id: str) -> None:
        """SIGKILL to the node's own processes. Its workers are not among them: they notice that it is gone."""
        self._cluster.remove_node(self._nodes()[node_id], allow_graceful=False)

    def raylets(self) -> dict[str, int]:
        """The process id of each worker node's raylet, which is the parent of its workers."""
        return {node_id: node.all_processes["raylet"][0].process.pid for node_id, node in self._nodes().items()}

    def start_scheduler(self, name: str, plan: dict[str, Any]) -> str:
        """A scheduler as ``heimdex up`` starts it; ``plan`` are the parts of a ``ToyPlan``. Waits for its workers.

        Returns the name that its leases carry.
        """
        import ray

        from actors.scheduler.actor import start_scheduler
        from actors.scheduler.scheduler import SchedulerConfig
        from tests.chaos.toy_way import ToyPlan

        folders = {key: Path(plan[key]) for key in ("scratch_dir", "journal_dir")}
        toys: Any = ToyPlan(**{**plan, **folders})
        actor = start_scheduler(name, SchedulerConfig(toys.database_url, toys, LEASE_S, RULE))
        if not ray.get(actor.wait_until_ready.remote(READY_S)):
            raise TimeoutError(f"{name} is not ready after {READY_S:.0f} s")
        self._schedulers[name] = actor
        return f"scheduler-{actor._actor_id.hex()}"

    def scheduler_pid(self, name: str) -> int | None:
        """Its process id; None while it does not answer."""
        import ray

        try:
            pid: int = ray.get(self._schedulers[name].pid.remote(), timeout=CALL_S)
        except ray.exceptions.RayError:
            return None
        return pid

    def stop(self) -> None:
        """As ``heimdex down`` does."""
        import ray

        for actor in self._schedulers.values():
            ray.get(actor.stop.remote(GRACE_S))
            ray.kill(actor)
        ray.shutdown()
        self._cluster.shutdown()

    def _nodes(self) -> dict[str, Any]:
        return {node.node_id: node for node in self._cluster.worker_nodes}


def main() -> None:
    """Answer one line for each line, until there are no more."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what Ray prints goes to the log
    prepare_ray(loopback=True)
    try:
        host = Host(sys.argv[1])
        for line in sys.stdin:
            verb, *arguments = json.loads(line)
            print(json.dumps(_answer(host, verb, arguments)), file=answers, flush=True)
    finally:
        _end_session()


def _answer(host: Host, verb: str, arguments: list[Any]) -> dict[str, Any]:
    try:
        return {"value": getattr(host, verb)(*arguments)}
    except Exception as error:
        return {"error": f"{type(error).__name__}: {error}"}


def _end_session() -> None:
    while others := [process.pid for process in session_of(os.getpid()) if process.pid != os.getpid()]:
        for pid in others:
            os.kill(pid, signal.SIGKILL)
        time.sleep(0.05)


if __name__ == "__main__":
    main()
