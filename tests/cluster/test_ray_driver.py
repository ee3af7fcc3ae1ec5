"""Work in a process of its own: what it says and raises arrives, and Ray's death takes only that process along."""

import gc
import os
import time
import warnings
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from cluster.contracts.errors import ConfigurationError, NodeLost
from cluster.runtime.ray_driver import RayPlace, Say, in_own_process
from cluster.runtime.ray_node import NodeOptions, RayNode, prepare_ray, start_node

LONG_S = 120.0


@pytest.fixture
def node(cluster_folder: Path) -> Iterator[RayNode]:
    prepare_ray(loopback=True)
    options = NodeOptions(1, 80, 0, cluster_folder / "driver" / "ray.log", {})
    with warnings.catch_warnings(action="ignore", category=ResourceWarning):  # it is meant to outlive its starter
        started = start_node(options)
        gc.collect()
    try:
        yield started
    finally:
        _kill(started)


def _kill(node: RayNode) -> None:
    """Every process of it, as hard as can be."""
    with suppress(psutil.NoSuchProcess):
        head = psutil.Process(node.pid)
        for process in [head, *head.children(recursive=True)]:
            with suppress(psutil.NoSuchProcess):
                process.kill()
        head.wait(timeout=30)


def _say_who_works(say: Say, greeting: str) -> None:
    import ray

    say(f"{greeting} {os.getpid()} {ray.is_initialized()}")


def _refuse(say: Say) -> None:
    raise ConfigurationError("there is no such model")


def _work_on(say: Say) -> None:
    say("at work")
    time.sleep(LONG_S)


@pytest.mark.long
def test_driver_messages_arrive_and_a_dead_ray_ends_only_it(node: RayNode, cluster_folder: Path) -> None:
    place, log = RayPlace(node.address, ours=True), cluster_folder / "driver" / "driver.log"
    said: list[str] = []
    in_own_process(place, log, said.append, _say_who_works, "hello")
    ((greeting, pid, connected),) = [line.split() for line in said]
    assert (greeting, connected) == ("hello", "True")
    assert int(pid) != os.getpid()
    with pytest.raises(ConfigurationError, match="there is no such model"):
        in_own_process(place, log, said.append, _refuse)
    began_s = time.monotonic()
    with pytest.raises(NodeLost, match="Ray died meanwhile"):
        in_own_process(place, log, lambda _: _kill(node), _work_on)
    assert time.monotonic() - began_s < LONG_S
