"""``heimdex``: every command, each a few lines around the part that does the work.

Results go to standard output, progress and errors to standard error. An error that the cluster raises on purpose is
one line and exit status 2; no traceback reaches a user.
"""

import logging
import signal
import sys
from typing import Annotated, Any

import typer

from cluster import __version__
from cluster.cli import (
    adopt_command,
    audit_command,
    cluster_commands,
    db_command,
    forget_command,
    index_command,
    list_command,
    logs_command,
    maintenance_commands,
    queue_commands,
    reembed_command,
    search_command,
    status_command,
    submit_commands,
    tags_command,
    transcript_command,
    watch_command,
)
from cluster.cli.help_text import plain_command
from cluster.cli.terminal import out, run, say
from cluster.security.private_files import set_private_umask
from cluster.security.visible import guard_output

app = typer.Typer(
    name="heimdex",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="Videos in, searchable and exactly measured scenes out.",
    epilog="Settings are HEIMDEX_* variables; docs/reference/settings.md lists them all.",
)
PANELS: dict[str, list[Any]] = {
    "Videos": [
        maintenance_commands.demo,
        submit_commands.process,
        submit_commands.submit,
        list_command.list_videos,
        list_command.show,
        watch_command.watch,
        search_command.search,
        tags_command.tags,
        transcript_command.transcript,
        queue_commands.quarantine,
        queue_commands.retry,
        queue_commands.reprocess,
        queue_commands.cancel,
        forget_command.forget,
    ],
    "The cluster": [
        cluster_commands.up,
        cluster_commands.down,
        status_command.status,
        status_command.top,
        logs_command.logs,
        cluster_commands.env,
        maintenance_commands.doctor,
    ],
    "The database and the index": [
        adopt_command.adopt,
        maintenance_commands.migrate,
        maintenance_commands.backfill,
        reembed_command.reembed_scenes,
        db_command.app,
        index_command.app,
    ],
    "Access": [
        maintenance_commands.token,
        audit_command.audit,
    ],
}
"""Every command, by the part of ``heimdex --help`` that lists it. A group of commands is an application of its own."""
NAMES: dict[Any, str] = {
    list_command.list_videos: "list",
    reembed_command.reembed_scenes: "reembed",
    db_command.app: "db",
    index_command.app: "index",
}
"""Names of commands whose function is called otherwise."""

for panel, commands in PANELS.items():
    for command in commands:
        if isinstance(command, typer.Typer):
            app.add_typer(command, name=NAMES[command], rich_help_panel=panel)
        else:
            app.command(NAMES.get(command), rich_help_panel=panel)(command)


def _print_version(asked: bool) -> None:
    if asked:
        out(f"heimdex {__version__}")
        raise typer.Exit()


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, help="Print the version.", is_eager=True)
    ] = False,
) -> None:
    """Take the options of all commands; each acts on its own."""


def main() -> None:
    """Run a command; what the cluster raises on purpose becomes one line on standard error."""
    set_private_umask()
    logging.getLogger("psycopg.pool").setLevel(logging.ERROR)  # that Postgres is away is said in our own words
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # like Ctrl-C: what was brought up is taken down
    guard_output()
    try:
        sys.exit(run(plain_command(app)))
    except KeyboardInterrupt:
        say("Interrupted.")
        sys.exit(130)


if __name__ == "__main__":
    main()
