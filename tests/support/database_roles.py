"""Roles for tests of who may do what. They belong to the whole server, so each is dropped again."""

import itertools
from collections.abc import Iterator
from contextlib import contextmanager

from psycopg import sql

from cluster.store.postgres.connections import connect

_numbers = itertools.count(1)


@contextmanager
def ordinary_role(url: str, name: str | None = None) -> Iterator[str]:
    """A role that may log in and nothing else; what it owns or was granted in that database goes with it."""
    role = sql.Identifier(name or f"test_role_{next(_numbers)}")
    _execute(url, sql.SQL("CREATE ROLE {} LOGIN").format(role))
    try:
        yield role.as_string().strip('"')
    finally:
        _execute(url, sql.SQL("REASSIGN OWNED BY {} TO postgres").format(role))
        _execute(url, sql.SQL("DROP OWNED BY {}").format(role))
        _execute(url, sql.SQL("DROP ROLE {}").format(role))


def as_role(url: str, role: str) -> str:
    """The same database, entered as another role."""
    return url.replace("://postgres@", f"://{role}@")


def _execute(url: str, statement: sql.Composed) -> None:
    with connect(url, autocommit=True) as connection:
        connection.execute(statement)
