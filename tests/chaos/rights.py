"""Every function of the database and every role: only the service's may execute it. Every table likewise.

A fresh database with Supabase's roles, which by default gives each new object to all of them. ``python -m
tests.chaos.rights``
"""

import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import psycopg

from cluster.store.postgres.connections import EmbeddedPostgres, connect
from cluster.store.postgres.migrations import apply_migrations
from tests.support.database_roles import as_role, ordinary_role

OUTSIDERS = ("anon", "authenticated")
SERVICE = "service_role"

FUNCTIONS = """
SELECT oid, proname AS name, oid::regprocedure::text AS signature FROM pg_proc AS p
WHERE pronamespace = 'public'::regnamespace
AND NOT EXISTS (SELECT FROM pg_depend WHERE classid = 'pg_proc'::regclass AND objid = p.oid AND deptype = 'e')
ORDER BY 3
"""
RELATIONS = """
SELECT relname AS name, CASE relkind WHEN 'S' THEN 'sequence' ELSE 'table' END AS kind FROM pg_class AS c
WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'p', 'v', 'm', 'f', 'S')
AND NOT EXISTS (SELECT FROM pg_depend WHERE classid = 'pg_class'::regclass AND objid = c.oid AND deptype = 'e')
ORDER BY 1
"""
RIGHTS = {
    "sequence": "USAGE, SELECT, UPDATE",
    "table": "SELECT, INSERT, UPDATE, DELETE, TRUNCATE, REFERENCES, TRIGGER",
}


@dataclass(frozen=True)
class Counts:
    """Numbers of the catalogue's objects that were tried with every role, and what is open."""

    functions: int
    relations: int
    roles: int
    violations: list[str]


@contextmanager
def supabase_roles(url: str) -> Iterator[None]:
    """Make a bare database like Supabase's: its roles are given every table, function and sequence to come."""
    with ExitStack() as stack:
        for role in (*OUTSIDERS, SERVICE):
            stack.enter_context(ordinary_role(url, role))
        with connect(url) as connection:
            for objects, right in (("FUNCTIONS", "EXECUTE"), ("TABLES", "ALL"), ("SEQUENCES", "ALL")):
                connection.execute(
                    f"ALTER DEFAULT PRIVILEGES IN SCHEMA public GRANT {right} ON {objects} "
                    f"TO {', '.join((*OUTSIDERS, SERVICE))}"
                )
        yield


def check(url: str) -> Counts:
    """Try everything in a migrated database with ``supabase_roles`` as each role."""
    with ordinary_role(url) as ordinary, connect(url) as connection:
        functions = connection.execute(FUNCTIONS).fetchall()
        relations = connection.execute(RELATIONS).fetchall()
        roles = {**dict.fromkeys((*OUTSIDERS, ordinary), False), SERVICE: True}
        violations = []
        for role, may in roles.items():
            violations += [
                f"{role} {'may not' if may else 'may'} execute {function['signature']}"
                for function in functions
                if _may_execute(connection, role, function["oid"]) is not may
            ]
            if not may:
                violations += [
                    f"{role} may use {row['name']}"
                    for row in relations
                    if _may_use(connection, role, row["name"], row["kind"])
                ]
        violations += _read_in_truth(url, [row["name"] for row in relations if row["kind"] == "table"])
    return Counts(len(functions), len(relations), len(roles), violations)


def _may_execute(connection: psycopg.Connection[dict[str, bool]], role: str, oid: int) -> bool:
    row = connection.execute("SELECT has_function_privilege(%s, %s::oid, 'EXECUTE') AS may", (role, oid)).fetchone()
    assert row is not None
    return row["may"]


def _may_use(connection: psycopg.Connection[dict[str, bool]], role: str, name: str, kind: str) -> bool:
    row = connection.execute(
        f"SELECT has_{kind}_privilege(%s, %s, %s) AS may", (role, f"public.{name}", RIGHTS[kind])
    ).fetchone()
    assert row is not None
    return row["may"]


def _read_in_truth(url: str, tables: list[str]) -> Iterator[str]:
    for role in OUTSIDERS:
        with connect(as_role(url, role), autocommit=True) as connection:
            for table in tables:
                try:
                    connection.execute(f"SELECT * FROM public.{table}")
                except psycopg.errors.InsufficientPrivilege:
                    continue
                yield f"{role} reads {table}"


def run() -> Counts:
    """Check a fresh database on a server of its own."""
    with tempfile.TemporaryDirectory(prefix="heimdex-rights-") as folder:
        server = EmbeddedPostgres(Path(folder) / "postgres")
        server.start()
        try:
            with supabase_roles(server.url):
                apply_migrations(server.url)
                return check(server.url)
        finally:
            server.stop()


if __name__ == "__main__":
    counts = run()
    print(counts)
    sys.exit(1 if counts.violations else 0)
