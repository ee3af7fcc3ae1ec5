"""A Ray of the test process alone, on 127.0.0.1, and pools of toy workers on it."""

import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import ray
from ray import cloudpickle


@contextmanager
def small_ray(*modules: str) -> Iterator[None]:
    """Ray with two CPUs; what is defined in the test ``modules`` travels to the workers by value."""
    for name in modules:
        cloudpickle.register_pickle_by_value(sys.modules[name])
    ray.init(
        address="local",  # never one that happens to run on this machine
        num_cpus=2,
        include_dashboard=False,
        object_store_memory=80 * 1024**2,
        log_to_driver=False,
        logging_level=logging.ERROR,
    )
    try:
        yield
    finally:
        ray.shutdown()
        for name in modules:
            cloudpickle.unregister_pickle_by_value(sys.modules[name])
