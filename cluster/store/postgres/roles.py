"""The database's roles (045): which are missing, whether each has its rights, and giving them.

What each may do is in the table ``heimdex_role_rights``, which migrations fill; ``heimdex_grant_roles`` gives it.
"""

from psycopg import Connection
from psycopg.rows import DictRow

from cluster.contracts.database_url import DatabaseRole
from cluster.store.postgres.connections import connect
from cluster.store.postgres.migrations import grant_rights

_MISSING = "SELECT name FROM unnest(%s::text[]) AS name WHERE to_regrole(quote_ident(name)) IS NULL"

_LACKING = r"""
-- Each right that a role is to have and has not.
WITH wanted AS (
    SELECT g.role, r.object, found[1] AS privilege, found[2] AS columns
    FROM public.heimdex_role_rights AS r
    CROSS JOIN LATERAL (VALUES ('heimdex_worker', r.worker), ('heimdex_api', r.api), ('heimdex_reader', r.reader))
               AS g (role, list)
    JOIN pg_catalog.pg_roles AS known ON known.rolname = g.role
    CROSS JOIN LATERAL regexp_matches(g.list, '([A-Z]+)(?: \(([a-z_, ]+)\))?', 'g') AS found
), tables AS (
    SELECT oid, relname, relkind, relrowsecurity FROM pg_catalog.pg_class
    WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'p', 'S')
)
SELECT w.role, w.privilege || ' on ' || w.object AS right FROM wanted AS w JOIN tables AS c ON c.relname = w.object
WHERE NOT CASE
    WHEN c.relkind = 'S' THEN has_sequence_privilege(w.role, c.oid, w.privilege)
    WHEN w.columns IS NULL THEN has_table_privilege(w.role, c.oid, w.privilege)
    ELSE (SELECT bool_and(has_column_privilege(w.role, c.oid, name, w.privilege))
          FROM regexp_split_to_table(w.columns, ', ') AS name)
END
UNION ALL
SELECT w.role, w.privilege || ' on ' || w.object FROM wanted AS w
JOIN pg_catalog.pg_proc AS p ON p.proname || '()' = w.object AND p.pronamespace = 'public'::regnamespace
WHERE NOT has_function_privilege(w.role, p.oid, 'EXECUTE')
UNION ALL
SELECT DISTINCT w.role, 'all rows of ' || w.object FROM wanted AS w JOIN tables AS c ON c.relname = w.object
WHERE c.relrowsecurity AND NOT (SELECT rolbypassrls OR rolsuper FROM pg_catalog.pg_roles WHERE rolname = w.role)
  AND NOT EXISTS (SELECT FROM pg_catalog.pg_policy AS y WHERE y.polrelid = c.oid AND y.polname = w.role)
UNION ALL
SELECT DISTINCT w.role, 'USAGE on schema ' || n.nspname FROM wanted AS w
JOIN pg_catalog.pg_namespace AS n
  ON n.nspname = 'public' OR n.oid = (SELECT extnamespace FROM pg_catalog.pg_extension WHERE extname = 'vector')
WHERE NOT has_schema_privilege(w.role, n.oid, 'USAGE')
ORDER BY 1, 2
"""


def missing_roles(connection: Connection[DictRow]) -> list[str]:
    """The roles that the server does not have."""
    return [row["name"] for row in connection.execute(_MISSING, ([role.value for role in DatabaseRole],))]


def lacking_rights(connection: Connection[DictRow]) -> list[str]:
    """The rights that the roles of a migrated database are to have and have not, each as a phrase."""
    return [f"{row['role']} lacks {row['right']}" for row in connection.execute(_LACKING)]


def statements_for(roles: list[str]) -> str:
    """The SQL with which an operator makes these roles; each still needs a password of its own."""
    return "\n".join(f"CREATE ROLE {role} LOGIN;" for role in roles)


def restore_rights(url: str) -> list[str]:
    """Give the roles of a migrated database the rights that they lack; returns what that was.

    Where this session may not give them, they are lacking still, and ``heimdex doctor`` says so.
    """
    with connect(url, name="heimdex migrate") as connection:
        lacking = lacking_rights(connection)
        if lacking:
            grant_rights(connection)
            still = lacking_rights(connection)
            return [right for right in lacking if right not in still]
    return []
