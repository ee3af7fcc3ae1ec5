
from cluster.ray_node import prepare_ray

prepare_ray(loopback=True)  # before anything imports Ray, which reads its authentication then
