"""``heimdex status`` and ``top``: how the cluster is, once or kept on the screen."""

import time
from contextlib import ExitStack
from typing import Annotated, Any

import typer
from rich.console import Group, RenderableType
from rich.live import Live
from rich.text import Text

from cluster.cli.status import empty_status, read_status, status_view
from cluster.cli.terminal import out_json, result_console, say
from cluster.contracts.errors import DatabaseUnavailable
from cluster.runtime import launch
from cluster.settings import Settings, load_settings
from cluster.store.postgres.connections import open_pool
from cluster.store.postgres.migrations import refuse_unmigrated

NO_CLUSTER = "No cluster is up: `heimdex up` brings one up."


def status(
    everything: Annotated[
        bool, typer.Option("--all", help="Every worker and every video on its way, each on a line.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object on standard output.")] = False,
) -> None:
    """Show what is left and how fast it goes, each stage, the workers, and what is waiting.

    Of a cluster that is down, what is left. Exit status 1: the database was not running, so no cluster is up.
    """
    settings = load_settings()
    running = launch.existing_database_url(settings) is not None
    current = _read(settings)
    if not running:
        say(NO_CLUSTER)
    if as_json:
        out_json(current)
    elif running or current["database"] is not None:
        result_console().print(status_view(current, everything=everything))
    if not running:
        raise typer.Exit(1)


def top(
    interval_s: Annotated[
        float, typer.Option("--interval", min=0.5, max=3600, help="Seconds between two looks.")
    ] = 2.0,
) -> None:
    """Keep `heimdex status` on the screen until Ctrl-C. Exit status 1: no cluster is up, or this is no terminal."""
    settings, console = load_settings(), result_console()
    url = launch.existing_database_url(settings)
    if url is None:
        say(NO_CLUSTER)
        raise typer.Exit(1)
    if not console.is_terminal:
        say("error: `heimdex top` needs a terminal: use `heimdex status`")
        raise typer.Exit(1)
    refuse_unmigrated(url)
    with open_pool(url, max_size=2, name="heimdex-top") as pool, Live(console=console, screen=True) as live:
        shown: RenderableType = ""
        try:
            while True:
                try:
                    shown = status_view(read_status(pool, launch.find(settings)))
                    live.update(shown, refresh=True)
                except DatabaseUnavailable:
                    live.update(Group(Text("The database does not answer; what it said last:"), shown), refresh=True)
                time.sleep(interval_s)
        except KeyboardInterrupt:
            return


def _read(settings: Settings) -> dict[str, Any]:
    """The state now. An embedded database that is not running is started for the question, if it was ever made."""
    with ExitStack() as stack:
        url = launch.existing_database_url(settings)
        if url is None:
            if not launch.embedded(settings).exists():
                return empty_status()
            url = stack.enter_context(launch.started_database(settings)).worker
        refuse_unmigrated(url)
        pool = stack.enter_context(open_pool(url, max_size=2, name="heimdex-status"))
        return read_status(pool, launch.find(settings))
