"""A Ray of the test process alone, on 127.0.0.1, and pools of toy workers on it."""

import gc
import logging
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import ray
from ray import cloudpickle


@contextmanager
def small_ray(*modules: str) -> Iterator[None]:
    """Ray with two CPUs; what is defined in the test ``modules`` travels to the workers by value."""
    for name in modules:
        cloudpickle.register_pickle_by_value(sys.modules[name])
    _start()
    try:
        yield
    finally:
        ray.shutdown()
        for name in modules:
            cloudpickle.unregister_pickle_by_value(sys.modules[name])


def _start(tries: int = 3) -> None:
    """Ray gives its own agent 15 seconds to start and then ends itself: too little for a machine that is busy."""
    try:
        ray.init(
            address="local",  # never one that happens to run on this machine
            num_cpus=2,
            include_dashboard=False,
            object_store_memory=80 * 1024**2,
            log_to_driver=False,
            logging_level=logging.ERROR,
        )
        return
    except Exception as error:
        if tries == 1 or "timed out during startup" not in str(error):
            raise
    ray.shutdown()
    with warnings.catch_warnings(action="ignore", category=ResourceWarning):  # what Ray left behind
        gc.collect()
    _start(tries - 1)
