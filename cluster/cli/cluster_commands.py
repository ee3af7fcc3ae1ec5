"""``heimdex up``, ``down`` and ``env``: the cluster of this data directory, brought up, taken down, shown to Ray."""

import os
import shlex
import signal
import socket
import threading
from typing import Annotated

import typer

from cluster.cli.terminal import out, say
from cluster.contracts.errors import ConfigurationError
from cluster.runtime import launch
from cluster.runtime.ray_node import LOOPBACK_ONLY
from cluster.runtime.ray_token import PATH_VARIABLE
from cluster.settings import Settings, load_settings

LOOK_EVERY_S = 1.0
LOST = "the cluster ended although nothing took it down: see `heimdex doctor`, and the logs in the data directory"


def up(
    foreground: Annotated[
        bool,
        typer.Option("--foreground", help="Stay until SIGTERM or Ctrl-C, then take it down: for systemd, containers."),
    ] = False,
) -> None:
    """Bring the cluster up: Postgres, Ray, workers, HTTP endpoints. It stays up until `heimdex down`.

    Exit status 0, too, when it is up already.
    """
    settings = load_settings()
    stop = threading.Event()
    state = launch.find(settings)
    is_up = state is not None
    state = state or launch.up(settings, say)
    try:
        if foreground:  # from here on, an orderly end
            for number in (signal.SIGTERM, signal.SIGINT):
                signal.signal(number, lambda *_: stop.set())
        _show(settings, state, "The cluster is up already" if is_up else "The cluster is up")
        if foreground:
            _notify_systemd("READY=1")
            _wait(settings, stop)
    finally:
        if foreground:
            _notify_systemd("STOPPING=1")
            launch.down(settings, say)
    if foreground:
        out("The cluster is down.")


def down(
    grace: Annotated[
        float | None,
        typer.Option(
            min=0,
            max=3600,
            metavar="SECONDS",
            help="Time for what is in flight to finish; default: handed back at once.",
        ),
    ] = None,
) -> None:
    """Take the cluster down. Everything that was submitted stays in the database and goes on after the next `up`."""
    if launch.down(load_settings(), say, grace):
        out("The cluster is down.")
    else:
        out("No cluster was up.")


def env() -> None:
    """Print the exports by which `ray`, `serve` and `ray job` find the cluster that is up: eval "$(heimdex env)"."""
    state = launch.find(load_settings())
    if state is None:
        raise ConfigurationError("no cluster is up: `heimdex up` brings one up")
    exports = {"RAY_ADDRESS": state.ray_address, "RAY_AUTH_MODE": "token"}
    if state.dashboard_url is not None:
        exports |= {"RAY_API_SERVER_ADDRESS": state.dashboard_url, "RAY_DASHBOARD_ADDRESS": state.dashboard_url}
    if state.node is not None:
        exports |= LOOPBACK_ONLY
    if PATH_VARIABLE in os.environ:
        exports[PATH_VARIABLE] = os.environ[PATH_VARIABLE]
    for name, value in exports.items():
        out(f"export {name}={shlex.quote(value)}")


def _show(settings: Settings, state: launch.ClusterState, headline: str) -> None:
    documentation = f" (API documentation: {state.http_url}/docs)" if settings.http_docs else ""
    out(f"{headline}: {state.http_url}{documentation}")
    out('  token:      TOKEN=$(heimdex token)   then  curl -H "Authorization: Bearer $TOKEN" ...')
    out("  database:   heimdex db url")
    if state.dashboard_url:
        out('  Ray:        eval "$(heimdex env)"   then  ray status, serve status, ray job submit')
    out("  next:       heimdex process VIDEO...   heimdex status   heimdex down")


def _wait(settings: Settings, stop: threading.Event) -> None:
    """Until ``stop``. Raises ConfigurationError when the cluster ends before."""
    while not stop.wait(LOOK_EVERY_S):
        if launch.find(settings) is None:
            raise ConfigurationError(LOST)


def _notify_systemd(state: str) -> None:
    """Notify a service manager of Type=notify; where there is none, nothing."""
    address = os.environ.get("NOTIFY_SOCKET")
    if not address:
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as connection:
        connection.connect("\0" + address[1:] if address.startswith("@") else address)
        connection.sendall(state.encode())
