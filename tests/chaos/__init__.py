"""Runs that kill, cut off and feed rubbish, and the invariants that must hold nevertheless. Each part runs alone."""

from cluster.runtime.ray_node import prepare_ray

prepare_ray(loopback=True)  # before anything imports Ray, which reads its authentication then
