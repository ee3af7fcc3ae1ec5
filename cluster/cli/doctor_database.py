"""What ``heimdex doctor`` says of the database's roles, and of TLS on the way to it."""

from collections.abc import Iterator

from cluster.cli.finding import Finding
from cluster.contracts.database_url import DatabaseRole, DatabaseUrls
from cluster.contracts.errors import ConfigurationError
from cluster.runtime import launch
from cluster.settings import Settings
from cluster.store.postgres.connections import Encryption, connect, encryption_of
from cluster.store.postgres.migrations import pending_migrations
from cluster.store.postgres.roles import lacking_rights, missing_roles, statements_for
from cluster.store.postgres.row_security import refuse_hidden_rows

_WHO = "SELECT current_user AS name, rolsuper AS superuser FROM pg_roles WHERE rolname = current_user"


def database_roles(settings: Settings) -> Iterator[Finding]:
    """Which roles there are, who uses them, and whether each has its rights and sees all rows."""
    urls = launch.database_urls(settings)
    if urls is None or pending_migrations(urls.migrate):
        return
    with connect(urls.migrate, name="heimdex-doctor") as connection:
        missing, lacking = missing_roles(connection), lacking_rights(connection)
    if missing:
        seen = (
            f"not on this server: {', '.join(missing)}; all connect as they are set. To make them, a role that "
            f"may create roles runs: {' '.join(statements_for(missing).splitlines())} Then: heimdex migrate"
        )
        yield Finding("database roles", True, seen)
    if lacking:
        seen = "; ".join(lacking)
        yield Finding("database rights", _all_the_same(urls), seen, "heimdex migrate, as the owner of the tables")
    if not missing:
        yield Finding("database roles", True, _who_uses_them(urls))
    yield from _hidden_rows(urls)


def _all_the_same(urls: DatabaseUrls) -> bool:
    """Whether no role has a URL of its own: then no connection needs the roles' rights."""
    return len({urls.of(role) for role in DatabaseRole}) == 1


def _who_uses_them(urls: DatabaseUrls) -> str:
    users = []
    for role in DatabaseRole:
        with connect(urls.of(role), name="heimdex-doctor") as connection:
            row = connection.execute(_WHO).fetchone()
        assert row is not None
        users.append(f"{role.name.lower()} {row['name']}{', a superuser' if row['superuser'] else ''}")
    return "connected as: " + "; ".join(users)


def _hidden_rows(urls: DatabaseUrls) -> Iterator[Finding]:
    for url in dict.fromkeys(urls.of(role) for role in DatabaseRole if urls.of(role) != urls.migrate):
        try:
            refuse_hidden_rows(url)
        except ConfigurationError as error:
            yield Finding("rows", False, str(error), "as it says")


def database_encryption(settings: Settings) -> Iterator[Finding]:
    """Whether a connection over a network is encrypted, and whether the server has to prove who it is."""
    urls = launch.database_urls(settings)
    if urls is None:
        return
    for url in dict.fromkeys(urls.of(role) for role in DatabaseRole):
        found = encryption_of(url)
        if found is Encryption.LOCAL:
            continue
        yield Finding(
            "database TLS",
            found is not Encryption.NONE,
            found.value,
            "add sslmode=verify-full and sslrootcert=FILE to the database's URL",
        )
