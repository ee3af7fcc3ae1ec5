"""``heimdex db url``, ``start``, ``roles`` and ``programs``: the database for other programs, psql and pg_dump."""

from enum import StrEnum
from typing import Annotated

import typer

from cluster.cli.terminal import out, out_lines, say
from cluster.contracts.database_url import DatabaseRole, DatabaseUrl
from cluster.contracts.errors import ConfigurationError
from cluster.runtime import launch
from cluster.settings import load_settings

app = typer.Typer(no_args_is_help=True, help="The database.")


class _As(StrEnum):
    MIGRATE = "migrate"
    WORKER = "worker"
    API = "api"
    READER = "reader"


@app.command()
def url(
    role: Annotated[_As, typer.Option("--as", help="Whose URL: the owner's, or that of another role.")] = _As.MIGRATE,
) -> None:
    """Print the URL to open with psql."""
    found = launch.existing_database_url(load_settings(), DatabaseRole[role.name])
    if found is None:
        say("error: the embedded Postgres does not run: `heimdex up` starts it")
        raise typer.Exit(2)
    way = DatabaseUrl.read(found)
    out(way.direct or way.url)


@app.command()
def start() -> None:
    """Start the embedded Postgres alone, with an empty database if there was none. `heimdex down` stops it."""
    settings = load_settings()
    if settings.database_url is not None:
        raise ConfigurationError("HEIMDEX_DATABASE_URL is set: that server is not started here")
    launch.embedded(settings).start()
    out("Postgres is running.")


@app.command()
def roles() -> None:
    """Print the SQL that makes the roles of the cluster on a server, for a role that may create roles."""
    from cluster.store.postgres.roles import statements_for

    out_lines(statements_for([role.value for role in DatabaseRole]))


@app.command()
def programs() -> None:
    """Print the folder of psql, pg_dump and pg_restore that come along, for every server up to their version."""
    from cluster.store.postgres.embedded import binary

    out(binary("psql").parent)
