"""What is killed, cut off and fed with rubbish, and what must hold all the same. Each part runs by itself."""

from cluster.ray_node import prepare_ray

prepare_ray(loopback=True)  # before anything imports Ray, which reads its authentication then
