"""The Ray head node that ``heimdex up`` starts on this machine, and ends again.

Only processes that were started here are ever ended: the node runs as ``ray start --block`` in a session of its own,
remembered by process id and start time. Everything listens on 127.0.0.1, with Ray's token authentication on.
"""

import contextlib
import itertools
import os
import random
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from cluster.contracts.errors import ConfigurationError
from cluster.runtime.ray_folder import given_to_ray, new_ray_folder, remove_ray_folder
from cluster.runtime.ray_token import ensure_token
from cluster.security.private_files import PRIVATE_UMASK, open_log
from cluster.settings import LOOPBACK

START_TIMEOUT_S = 90.0
LOOPBACK_ONLY = {"RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0"}
"""Keeps Ray, and those who connect to it, from replacing 127.0.0.1 by the machine's own address."""
KILL_TIMEOUT_S = 10.0
SUSPENDING_ROUNDS = 10


@dataclass(frozen=True)
class NodeOptions:
    """How the node is started. Port 0: any free one."""

    cpus: int | None
    object_store_mb: int
    dashboard_port: int
    log_file: Path
    environment: Mapping[str, str] = field(repr=False)
    """Variables that jobs and workers of this node find beside those of this process."""


@dataclass(frozen=True)
class RayNode:
    """A started node: who it is, where Ray and its dashboard (and job server) answer."""

    pid: int
    started_s: float
    address: str
    dashboard_url: str = field(repr=False)
    temp_dir: str | None = None
    """Its folder, see ``ray_folder``; None: Ray's default, of a node of an earlier version."""

    def is_alive(self) -> bool:
        """Whether this very process still runs (a reused process id does not count)."""
        return self._process() is not None

    def stop(self) -> None:
        """End the node and all its processes, and remove its folder; returns when they are gone."""
        process = self._process()
        if process is not None:
            _end(process)
        if self.temp_dir is not None:
            remove_ray_folder(Path(self.temp_dir))

    def _process(self) -> psutil.Process | None:
        try:
            process = psutil.Process(self.pid)
            same = abs(process.create_time() - self.started_s) < 1.0
        except psutil.NoSuchProcess:
            return None
        return process if same and not _is_gone(process) else None


def _end(process: psutil.Process) -> None:
    """Kill it with all below it. They are suspended first, from above to below: else one starts another meanwhile.

    Nothing is asked to end on its own: Ray takes seconds for it, and holds nothing that is not in Postgres.
    """
    family: list[psutil.Process] = []
    for _ in range(SUSPENDING_ROUNDS):
        with contextlib.suppress(psutil.NoSuchProcess):
            found = [process, *process.children(recursive=True)]
        known = {member.pid for member in family}
        new = [member for member in found if member.pid not in known]
        if not new:
            break
        family += new
        for member in new:
            with contextlib.suppress(psutil.NoSuchProcess):
                member.suspend()
    for member in family:
        with contextlib.suppress(psutil.NoSuchProcess):
            member.kill()
    _still_alive(family, KILL_TIMEOUT_S)


def prepare_ray(*, loopback: bool) -> None:
    """Turn Ray's token authentication on for this process and its children; with ``loopback``, keep Ray on 127.0.0.1.

    Makes Ray's default token if there is none. Must run before Ray is imported: that is when Ray reads both. Ray
    replaces 127.0.0.1 by the machine's own address and then listens on all of them, unless clusters of several nodes
    are ruled out by the variable that its constants name for the platforms where they always are.
    """
    if "ray" in sys.modules and "RAY_AUTH_MODE" not in os.environ:
        raise RuntimeError("ray was imported before prepare_ray()")
    mode = os.environ.setdefault("RAY_AUTH_MODE", "token")
    if mode.lower() != "token":
        raise ConfigurationError(f"RAY_AUTH_MODE is {mode!r}: unset it, the cluster runs with authentication only")
    if loopback:
        os.environ |= LOOPBACK_ONLY
    ensure_token()


def start_node(options: NodeOptions) -> RayNode:
    """Start a head node and wait until it answers.

    A machine that is very busy can miss Ray's own limit of 30 s for a start: it is tried a second time.

    Raises:
        ConfigurationError: it does not start; the message names the log file.
    """
    try:
        return _start_node(options)
    except ConfigurationError:
        return _start_node(options)


def _start_node(options: NodeOptions) -> RayNode:
    port, temp_dir = free_port(), str(new_ray_folder())
    dashboard_port = options.dashboard_port or free_port()
    command = [
        *_ray(),
        "start",
        "--head",
        "--block",
        f"--node-ip-address={LOOPBACK}",
        f"--port={port}",
        f"--temp-dir={given_to_ray(Path(temp_dir))}",
        f"--dashboard-host={LOOPBACK}",
        f"--dashboard-port={dashboard_port}",
        f"--dashboard-agent-listen-port={free_port()}",
        f"--ray-client-server-port={free_port()}",
        "--min-worker-port=0",
        "--max-worker-port=0",
        f"--object-store-memory={options.object_store_mb * 1024**2}",
        "--disable-usage-stats",
    ]
    if options.cpus is not None:
        command.append(f"--num-cpus={options.cpus}")
    options.log_file.unlink(missing_ok=True)
    with open_log(options.log_file) as log:
        child = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
            umask=PRIVATE_UMASK,
            env={**os.environ, **options.environment, "PATH": _path()},
        )
    node = RayNode(
        pid=child.pid,
        started_s=psutil.Process(child.pid).create_time(),
        address=f"{LOOPBACK}:{port}",
        dashboard_url=f"http://{LOOPBACK}:{dashboard_port}",
        temp_dir=temp_dir,
    )
    try:
        _wait_until_up(child, options.log_file)
    except BaseException:
        node.stop()
        raise
    return node


def _wait_until_up(child: "subprocess.Popen[bytes]", log_file: Path) -> None:
    """``ray start --block`` prints that it blocks once everything runs."""
    for _ in _until(START_TIMEOUT_S):
        if child.poll() is not None:
            lines = log_file.read_text(errors="replace").strip().splitlines() or ["it said nothing"]
            raise ConfigurationError(f"Ray does not start: {lines[-1]} (whole log: {log_file})")
        if "This command will now block" in log_file.read_text(errors="replace"):
            return
    raise ConfigurationError(f"Ray did not start within {START_TIMEOUT_S:.0f} s: see {log_file}")


def _still_alive(processes: Sequence[psutil.Process], timeout_s: float) -> list[psutil.Process]:
    """Wait for the end of ``processes``; returns those that outlive the timeout."""
    for _ in _until(timeout_s):
        processes = [process for process in processes if not _is_gone(process)]
        if not processes:
            break
    return list(processes)


def _is_gone(process: psutil.Process) -> bool:
    """A zombie is gone too: in a container, it may never be reaped."""
    try:
        return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def _until(timeout_s: float) -> Iterator[None]:
    end_s = time.monotonic() + timeout_s
    while time.monotonic() < end_s:
        yield
        time.sleep(0.1)


def free_port() -> int:
    """A port of 127.0.0.1 that nothing listens on now, another one at each call.

    It is outside the range from which connections get theirs: within that range, one of the many connections that a
    starting cluster opens may take the port before its server does.
    """
    for _ in range(_PORTS.stop - _PORTS.start):
        port = next(_next_port)
        if port_is_free(LOOPBACK, port):
            return port
    raise ConfigurationError(f"no port of {_PORTS.start} to {_PORTS.stop - 1} is free: end what listens there")


def connection_ports() -> range:
    """The ports from which the kernel takes those of connections."""
    first, last = Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()
    return range(int(first), int(last) + 1)


def _server_ports() -> range:
    """The longer part of the ports above Ray's own (to 19999) that connections leave free, else all of them."""
    connections = connection_ports()
    below, above = range(20_000, connections.start), range(max(20_000, connections.stop), 65_536)
    return max(below, above, key=len) or range(20_000, 65_536)


_PORTS = _server_ports()
_next_port = itertools.cycle(random.sample(_PORTS, len(_PORTS)))
"""In no order, so that two processes that start at once take others."""


def port_is_free(host: str, port: int) -> bool:
    """Whether a server could listen there."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError:
            return False
    return True


def _path() -> str:
    """PATH with this process's Python in front: a job's ``python`` is then the one that has the cluster."""
    return os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])


def _ray() -> list[str]:
    """Ray's command line in this very environment, whatever PATH says."""
    return [sys.executable, "-m", "ray.scripts.scripts"]
