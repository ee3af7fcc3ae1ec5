"""Whether row-level security hides rows from this cluster: it would then process, count and find the others only.

The owner of a table is exempt, unless the security is forced; so are superusers and roles with BYPASSRLS. The roles of
migration 045 have policies of their own, which let them see all rows unless a restrictive policy forbids it.
"""

from cluster.contracts.errors import ConfigurationError
from cluster.store.postgres.connections import connect

_HIDING = """
WITH mine AS (
    SELECT polrelid, polpermissive, coalesce(pg_get_expr(polqual, polrelid), 'true') AS shown
    FROM pg_catalog.pg_policy
    WHERE polcmd IN ('*', 'r') AND EXISTS (
        SELECT FROM unnest(polroles) AS role WHERE CASE role WHEN 0 THEN true ELSE pg_has_role(role, 'USAGE') END)
)
SELECT c.relname AS name, current_user AS role FROM pg_catalog.pg_class AS c
WHERE c.relnamespace = 'public'::regnamespace AND c.relkind IN ('r', 'p')
  AND c.relname IN ('user_profiles', 'videos', 'video_scenes', 'search_queries') AND row_security_active(c.oid)
  AND NOT (
      EXISTS (SELECT FROM mine AS p WHERE p.polrelid = c.oid AND p.polpermissive AND p.shown = 'true')
      AND NOT EXISTS (SELECT FROM mine AS p WHERE p.polrelid = c.oid AND NOT p.polpermissive AND p.shown <> 'true'))
ORDER BY c.relname
"""


def refuse_hidden_rows(url: str) -> None:
    """Raises ConfigurationError where the role of ``url`` may not see all rows of the base tables."""
    with connect(url, name="heimdex-row-security") as connection:
        rows = connection.execute(_HIDING).fetchall()
    if rows:
        tables = ", ".join(row["name"] for row in rows)
        raise ConfigurationError(
            f"row-level security hides rows of {tables} from the role {rows[0]['role']}: connect as the tables' owner, "
            "without FORCE ROW LEVEL SECURITY, or as a role that `heimdex migrate` made, or give the role BYPASSRLS"
        )
