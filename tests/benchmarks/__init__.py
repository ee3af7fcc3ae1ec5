"""Benchmarks that anyone can run; they print figures, keep them beside this file, and judge nothing."""

from cluster.runtime.ray_node import prepare_ray

prepare_ray(loopback=True)  # before anything imports Ray, which reads its authentication then
