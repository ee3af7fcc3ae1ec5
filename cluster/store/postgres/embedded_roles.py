"""The roles of the embedded Postgres: each has a password of its own, in a file that only the cluster's user may read.

The superuser starts the server and makes the roles; after that nothing uses it. A URL names the file of its role's
password (``passfile``), so no password is in a URL, in an environment or among a process's arguments.
"""

import os
import secrets
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import TextIO

import psycopg
from psycopg import Connection, sql

from cluster.contracts.database_url import DatabaseRole
from cluster.contracts.errors import ConfigurationError

SUPERUSER = "postgres"
_ROLES = (SUPERUSER, *(role.value for role in DatabaseRole))

TRUSTING = "local all all trust\n"
"""Access while the roles have no passwords yet: any account that may enter the private folder of the socket."""
GUARDED = "# Written by the cluster: every role has a password of its own.\nlocal all all scram-sha-256\n"

# What was made before there were roles is the superuser's. Members of extensions stay its own.
_HAND_OVER = """
DO $$
DECLARE
    action text;
BEGIN
    FOREACH action IN ARRAY ARRAY(
        SELECT format('ALTER %s %s OWNER TO heimdex_migrate',
                      CASE c.relkind WHEN 'S' THEN 'SEQUENCE' WHEN 'v' THEN 'VIEW' WHEN 'm' THEN 'MATERIALIZED VIEW'
                                     ELSE 'TABLE' END, c.oid::regclass)
        FROM pg_class AS c
        WHERE c.relnamespace = 'public'::regnamespace AND c.relkind IN ('r', 'p', 'v', 'm', 'S')
          AND c.relowner = 'postgres'::regrole
          AND NOT EXISTS (SELECT FROM pg_depend AS d WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid
                          AND (d.deptype = 'e' OR c.relkind = 'S' AND d.deptype IN ('a', 'i')))
        UNION ALL
        SELECT format('ALTER ROUTINE %s OWNER TO heimdex_migrate', p.oid::regprocedure) FROM pg_proc AS p
        WHERE p.pronamespace = 'public'::regnamespace AND p.proowner = 'postgres'::regrole
          AND NOT EXISTS (SELECT FROM pg_depend AS d
                          WHERE d.classid = 'pg_proc'::regclass AND d.objid = p.oid AND d.deptype = 'e')
        UNION ALL
        SELECT format('ALTER TYPE %s OWNER TO heimdex_migrate', t.oid::regtype) FROM pg_type AS t
        WHERE t.typnamespace = 'public'::regnamespace AND t.typtype = 'e' AND t.typowner = 'postgres'::regrole
    ) LOOP
        EXECUTE action;
    END LOOP;
END
$$
"""


def password_file(data_dir: Path, role: str) -> Path:
    """Where the password of a role is, beside the server's directory and not in it."""
    return data_dir.with_name(f"{data_dir.name}-roles") / f"{role}.pgpass"


def are_guarded(data_dir: Path) -> bool:
    """Whether the server asks for passwords, and each role's is known."""
    return _asks_for_passwords(data_dir) and all(password_file(data_dir, role).exists() for role in _ROLES)


def refuse_lost_passwords(data_dir: Path) -> None:
    """For a server that runs. Raises ConfigurationError when it asks for passwords of which one is gone."""
    if _asks_for_passwords(data_dir) and not are_guarded(data_dir):
        raise ConfigurationError(
            f"passwords of the embedded Postgres in {data_dir} are lost: "
            "`heimdex down`, then `heimdex up` makes new ones"
        )


def _asks_for_passwords(data_dir: Path) -> bool:
    try:
        return (data_dir / "pg_hba.conf").read_text() == GUARDED
    except FileNotFoundError:
        return False


def write_rules(data_dir: Path, rules: str) -> None:
    """Who may enter, for the server to read when it starts or reloads; the file stays its owner's."""
    file = data_dir / "pg_hba.conf"
    owner = file.stat()
    draft = file.with_name("pg_hba.conf.new")
    with suppress(FileNotFoundError):
        draft.unlink()
    with _new_file(draft) as new:
        new.write(rules)
    if os.geteuid() == 0:
        os.chown(draft, owner.st_uid, owner.st_gid)
    draft.replace(file)


def make_passwords(data_dir: Path) -> dict[str, str]:
    """The password of each role, made where there is none. Raises ConfigurationError when others may read one."""
    return {role: _password(password_file(data_dir, role), role) for role in _ROLES}


def guard(data_dir: Path, url: str, passwords: Mapping[str, str]) -> None:
    """Make the roles with their passwords, hand the database over to its owner, and require passwords from then on.

    ``url``: the database, entered as the superuser. Repeated, it does what an interrupted one left.
    """
    with psycopg.connect(url) as connection:
        for role, password in passwords.items():
            _set_password(connection, role, password)
        connection.execute("CREATE EXTENSION IF NOT EXISTS vector")
        database = sql.Identifier(connection.info.dbname)
        connection.execute(sql.SQL("ALTER DATABASE {} OWNER TO heimdex_migrate").format(database))
        connection.execute(_HAND_OVER)
        connection.commit()
        write_rules(data_dir, GUARDED)
        connection.execute("SELECT pg_reload_conf()")


def _set_password(connection: Connection[tuple[object, ...]], role: str, password: str) -> None:
    """As a SCRAM verifier, so that no log of the server can show the password."""
    if not connection.execute("SELECT FROM pg_roles WHERE rolname = %s", (role,)).fetchall():
        connection.execute(sql.SQL("CREATE ROLE {} LOGIN").format(sql.Identifier(role)))
    verifier = connection.pgconn.encrypt_password(password.encode(), role.encode(), b"scram-sha-256").decode()
    connection.execute(sql.SQL("ALTER ROLE {} PASSWORD {}").format(sql.Identifier(role), sql.Literal(verifier)))


def _password(file: Path, role: str) -> str:
    """The role's password, made if there is none."""
    file.parent.mkdir(mode=0o700, exist_ok=True)
    found = file.parent.lstat()
    if file.parent.is_symlink() or found.st_uid != os.geteuid() or found.st_mode & 0o077:
        raise ConfigurationError(
            f"{file.parent}, where the database's passwords are kept, is not private: remove it, or chmod 700 it"
        )
    try:
        with _new_file(file) as new:
            new.write(f"*:*:*:{role}:{secrets.token_urlsafe(32)}\n")
    except FileExistsError:
        mode = file.lstat().st_mode
        if mode & 0o077:
            raise ConfigurationError(f"others may read the password in {file}: chmod 600 it, or remove it") from None
    password = file.read_text().strip().rpartition(":")[2]
    if not password:
        file.unlink()
        return _password(file, role)
    return password


def _new_file(file: Path) -> TextIO:
    descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    return os.fdopen(descriptor, "w")
