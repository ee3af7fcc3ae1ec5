"""The ports of a Ray node, without starting one."""

import socket

from cluster.runtime.ray_node import connection_ports, free_port
from cluster.settings import LOOPBACK


def test_free_port_is_none_that_a_connection_may_get() -> None:
    assert all(free_port() not in connection_ports() for _ in range(50))


def test_free_port_asked_again_is_another() -> None:
    assert len({free_port() for _ in range(50)}) == 50


def test_free_port_can_be_listened_on() -> None:
    with socket.create_server((LOOPBACK, free_port())) as server:
        assert server.getsockname()[0] == LOOPBACK
