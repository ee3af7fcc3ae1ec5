"""Counts an owner's tags: what was seen in the scenes, as ``search --tag`` takes it."""

from typing import LiteralString
from uuid import UUID

from psycopg.rows import DictRow

from cluster.store.index.scene_text import SCENE_TAGS, TAG_FITS
from cluster.store.postgres.connections import Pool

_TAGS: LiteralString = f"""
SELECT left(tag, 1000) AS tag, count(*) AS scenes, count(DISTINCT s.video_id) AS videos
FROM videos AS v JOIN video_scenes AS s ON s.video_id = v.id CROSS JOIN unnest({SCENE_TAGS}) AS tag
WHERE v.owner_id = %(owner)s AND {TAG_FITS.replace("{wanted}", "%(prefix)s")}
GROUP BY 1 ORDER BY scenes DESC, tag LIMIT %(limit)s
"""


def count_tags(pool: Pool, owner_id: UUID, prefix: str, limit: int) -> list[DictRow]:
    """The owner's tags that fit ``prefix`` as ``search --tag`` reads it, those of most scenes first."""
    with pool.connection() as connection:
        return connection.execute(_TAGS, {"owner": owner_id, "prefix": prefix, "limit": limit}).fetchall()
