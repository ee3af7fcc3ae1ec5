"""A database as strict as an existing deployment's, and what tests changed in it.

A server of its own, since its roles belong to the whole server: roles of a web page that are given every new object by
default, extensions in a schema of their own, people in ``auth.users``, row-level security, triggers, constraints, and
an owner who is no superuser. Its rows are of every kind (``existing_database.sql``).
"""

import itertools
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit
from uuid import UUID

from psycopg import sql

from cluster.store.postgres.connections import connect
from tests.support.database_roles import as_role

OWNER_ROLE = "existing_owner"
WEB_ROLES = ("anon", "authenticated", "service_role")
TEMPLATE = "existing_template"
TABLES = (
    "auth.users", "highlight_export_jobs", "person_reference_photos", "persons", "scene_exports",
    "scene_person_embeddings", "search_queries", "user_profiles", "video_scenes", "videos",
)  # fmt: skip
"""Every table of the existing system."""
GROWING = frozenset({"search_queries", "video_scenes", "videos"})
"""Tables to which rows of ours may be added."""

ANNA, BEN, CARA, DORA, EMIL = (UUID(int=0xA0 + n) for n in range(5))
"""The people in ``auth.users``; Dora has no profile, Emil no video."""
STRANGER = UUID(int=0xFF)
"""Is not in ``auth.users``."""

FOLDER = Path(__file__).parent
FUNCTIONS_FILE = FOLDER / "existing_functions.sql"
_numbers = itertools.count(1)

_AROUND = """
CREATE SCHEMA extensions;
CREATE EXTENSION vector SCHEMA extensions;
CREATE SCHEMA auth;
CREATE TABLE auth.users (id uuid PRIMARY KEY, email text);
CREATE FUNCTION auth.uid() RETURNS uuid LANGUAGE sql STABLE AS
    $$ SELECT nullif(current_setting('request.jwt.claim.sub', true), '')::uuid $$;
GRANT USAGE ON SCHEMA auth, extensions TO existing_owner, anon, authenticated, service_role;
GRANT SELECT, REFERENCES ON auth.users TO existing_owner;
ALTER SCHEMA public OWNER TO existing_owner;
GRANT USAGE ON SCHEMA public TO anon, authenticated, service_role;
ALTER DEFAULT PRIVILEGES FOR ROLE existing_owner IN SCHEMA public
    GRANT ALL ON TABLES TO anon, authenticated, service_role;
ALTER DEFAULT PRIVILEGES FOR ROLE existing_owner IN SCHEMA public
    GRANT ALL ON SEQUENCES TO anon, authenticated, service_role;
ALTER DEFAULT PRIVILEGES FOR ROLE existing_owner IN SCHEMA public
    GRANT ALL ON FUNCTIONS TO anon, authenticated, service_role;
"""


def make_template(server_url: str) -> None:
    """Make the roles and the database that :func:`existing_database` clones, on a server of its own."""
    with connect(server_url, autocommit=True) as connection:
        for role in (OWNER_ROLE, *WEB_ROLES):
            connection.execute(sql.SQL("CREATE ROLE {} LOGIN").format(sql.Identifier(role)))
        connection.execute(sql.SQL("CREATE DATABASE {} TEMPLATE template0").format(sql.Identifier(TEMPLATE)))
    template = _on(server_url, TEMPLATE)
    with connect(template) as connection:
        connection.execute(_AROUND)
        for person, name in zip((ANNA, BEN, CARA, DORA, EMIL), ("anna", "ben", "cara", "dora", "emil"), strict=True):
            connection.execute("INSERT INTO auth.users VALUES (%s, %s)", (person, f"{name}@example.org"))
    with connect(as_role(template, OWNER_ROLE)) as connection:
        connection.execute('SET search_path = "$user", public, extensions')
        connection.execute((FOLDER / "existing_database.sql").read_bytes())
        connection.execute(FUNCTIONS_FILE.read_bytes())
    with connect(template) as connection:
        connection.execute("CREATE PUBLICATION supabase_realtime FOR TABLE public.videos, public.video_scenes")


@contextmanager
def existing_database(server_url: str) -> Iterator[str]:
    """A database of the test's own, entered as the owner of its tables."""
    name = f"existing_{next(_numbers)}"
    database = sql.Identifier(name)
    with connect(server_url, autocommit=True) as connection:
        connection.execute(sql.SQL("CREATE DATABASE {} TEMPLATE {}").format(database, sql.Identifier(TEMPLATE)))
        connection.execute(sql.SQL('ALTER DATABASE {} SET search_path = "$user", public, extensions').format(database))
    try:
        yield as_role(_on(server_url, name), OWNER_ROLE)
    finally:
        with connect(server_url, autocommit=True) as connection:
            connection.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(database))


def clip(number: int) -> UUID:
    """The video of this number, 1 to 48: READY where ``number % 4 == 2``, FAILED 3, PENDING 0, PROCESSING 1."""
    return UUID(f"10000000-0000-0000-0000-{number:012}")


def restore_existing_functions(url: str) -> None:
    """Run the existing system's own files of functions, which take the places of ours."""
    with connect(url) as connection:
        connection.execute(FUNCTIONS_FILE.read_bytes())


@dataclass(frozen=True)
class Snapshot:
    """Every value of every column of the existing system's tables, and what its clients know of their shape."""

    rows: dict[str, dict[str, dict[str, str | None]]]
    """By table, key and column, as text."""
    columns: dict[str, list[str]]
    statuses: list[str]


def take_snapshot(url: str) -> Snapshot:
    """The contents of the existing system's tables now; ours are left out."""
    rows: dict[str, dict[str, dict[str, str | None]]] = {}
    columns: dict[str, list[str]] = {}
    with connect(url) as connection:
        for table in TABLES:
            found = connection.execute(
                "SELECT attname AS name FROM pg_attribute "
                "WHERE attrelid = %s::regclass AND attnum > 0 AND NOT attisdropped ORDER BY attnum",
                (table,),
            )
            names = columns[table] = [row["name"] for row in found]
            values = sql.SQL(", ").join(sql.SQL("{}::text").format(sql.Identifier(name)) for name in names)
            query = sql.SQL("SELECT {} FROM {}").format(values, sql.Identifier(*table.split(".")))
            key = "user_id" if table == "user_profiles" else "id"
            rows[table] = {row[key]: row for row in connection.execute(query)}
        labels = connection.execute("SELECT unnest(enum_range(NULL::video_status))::text AS label")
        statuses = [row["label"] for row in labels]
    return Snapshot(rows, columns, statuses)


def changes_between(before: Snapshot, after: Snapshot, written: Collection[str] = ()) -> list[str]:
    """The differences, sorted, each as a sentence.

    ``written``: columns ("videos.status") whose values may have changed. Rows that were added to ``GROWING`` tables,
    and our own columns of ``video_scenes``, are no change.
    """
    found = []
    if before.statuses != after.statuses:
        found.append(f"video_status is {after.statuses}")
    for table, rows in before.rows.items():
        kept = after.columns[table][: len(before.columns[table])] if table == "video_scenes" else after.columns[table]
        if kept != before.columns[table]:
            found.append(f"{table} has the columns {after.columns[table]}")
        if table not in GROWING:
            found += [f"{table} {key} is new" for key in after.rows[table].keys() - rows.keys()]
        for key, row in rows.items():
            now = after.rows[table].get(key)
            if now is None:
                found.append(f"{table} {key} is gone")
                continue
            found += [
                f"{table}.{name} of {key} was {value!r:.80} and is {now.get(name)!r:.80}"
                for name, value in row.items()
                if now.get(name) != value and f"{table}.{name}" not in written
            ]
    return sorted(found)


def _on(url: str, name: str) -> str:
    return urlunsplit(urlsplit(url)._replace(path=f"/{name}"))
