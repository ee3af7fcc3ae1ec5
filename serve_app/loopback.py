"""Keeps a replica on 127.0.0.1 where its Ray node is kept there.

Ray Serve 2.60 binds the server through which replicas are called from inside the cluster to every address of the
machine, whatever the node's own address is, and has no option for it. That server asks for Ray's token, but what is
meant for this machine alone must not be reachable from others at all.
"""

from typing import Any

import ray
from ray.serve._private import replica

from cluster.settings import LOOPBACK


def stay_on_loopback() -> None:
    """Bind this replica's internal server to 127.0.0.1 if that is the node's address. Call while it is constructed."""
    if ray.util.get_node_ip_address() != LOOPBACK:
        return
    module: Any = replica  # it binds by a function of this name in its own module
    bind = module.add_port_to_grpc_server
    module.add_port_to_grpc_server = lambda server, address: bind(server, address.replace("[::]", LOOPBACK))
