"""Who else may write what queues videos: such a role has fetched whatever it wants."""

from cluster.store.postgres.connections import connect

_WRITERS = """
SELECT DISTINCT CASE granted.grantee WHEN 0 THEN 'PUBLIC' ELSE pg_catalog.pg_get_userbyid(granted.grantee) END AS role
FROM pg_catalog.pg_class AS c, pg_catalog.aclexplode(c.relacl) AS granted
WHERE c.oid = 'public.video_processing'::regclass AND granted.grantee <> c.relowner
  AND granted.privilege_type IN ('INSERT', 'UPDATE')
ORDER BY role
"""


def other_writers(url: str) -> list[str]:
    """Roles beside the owner's, the one of ``url`` and this product's own that may queue videos in the tables."""
    with connect(url, name="heimdex-doctor") as connection:
        rows = connection.execute(_WRITERS).fetchall()
        (own,) = connection.execute("SELECT current_user::text AS role").fetchall()
    return [row["role"] for row in rows if row["role"] != own["role"] and not row["role"].startswith("heimdex_")]
