"""The outbox that a search engine beside Postgres follows: which videos changed, and how far it has followed.

A row per video with a version, raised within the transaction that makes the change (``raise_version``). What is done
about it is ``index_follower``'s.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from psycopg import Connection

from cluster.store.database import Pool

LEFT_TO_WRITER = timedelta(minutes=5)
"""How long a change is left to the stage that made it, which waits for the index itself."""

_RAISE = """
INSERT INTO search_changes AS change (video_id, version, most_scenes, due_at)
VALUES (%(video)s, nextval('search_versions'), %(scenes)s, clock_timestamp() + %(later)s)
ON CONFLICT (video_id) DO UPDATE
SET version = nextval('search_versions'), most_scenes = greatest(change.most_scenes, excluded.most_scenes),
    changed_at = clock_timestamp(), due_at = excluded.due_at, refused = NULL
"""

_TOUCH = """
-- Locked in the order that all keep who lock many of these.
WITH locked AS (SELECT video_id FROM search_changes WHERE video_id = ANY (%s) ORDER BY video_id FOR UPDATE)
UPDATE search_changes AS change
SET version = nextval('search_versions'), changed_at = clock_timestamp(), due_at = clock_timestamp(), refused = NULL
FROM locked WHERE change.video_id = locked.video_id
"""

_FOLLOWED = """
-- Only of what is still the version: whatever was changed meanwhile is still to be followed.
WITH locked AS (
    SELECT change.video_id
    FROM search_changes AS change
    JOIN unnest(%(videos)s::uuid[], %(versions)s::bigint[]) AS done (video_id, version) USING (video_id, version)
    ORDER BY change.video_id FOR UPDATE OF change
)
UPDATE search_changes AS change SET indexed_version = version, refused = NULL
FROM locked WHERE change.video_id = locked.video_id
RETURNING change.video_id
"""

_REFUSED = "UPDATE search_changes SET refused = %(reason)s WHERE video_id = %(video)s AND version = %(version)s"

_DUE = """
SELECT video_id FROM search_changes
WHERE version <> indexed_version AND refused IS NULL AND due_at <= clock_timestamp()
ORDER BY due_at LIMIT %s
"""

_BACKLOG = """
SELECT count(*) FILTER (WHERE refused IS NULL) AS pending, count(*) FILTER (WHERE refused IS NOT NULL) AS refused,
       min(changed_at) FILTER (WHERE refused IS NULL) AS oldest
FROM search_changes WHERE version <> indexed_version
"""


_PAGE = """
-- The next videos, of about so many scenes together, at least one.
SELECT video_id FROM (
    SELECT video_id, sum(most_scenes) OVER (ORDER BY video_id) - most_scenes AS before
    FROM (
        SELECT v.id AS video_id, coalesce(c.most_scenes, 0) AS most_scenes
        FROM videos AS v LEFT JOIN search_changes AS c ON c.video_id = v.id
        WHERE %(last)s::uuid IS NULL OR v.id > %(last)s ORDER BY v.id LIMIT %(scenes)s
    ) AS next
) AS page
WHERE before < %(scenes)s
ORDER BY video_id
"""

_TOUCH_OR_ADD = """
INSERT INTO search_changes AS change (video_id, version, most_scenes)
SELECT found.video_id, nextval('search_versions'), found.most
FROM unnest(%(videos)s::uuid[], %(most)s::int[]) AS found (video_id, most) ORDER BY found.video_id
ON CONFLICT (video_id) DO UPDATE
SET version = nextval('search_versions'), most_scenes = greatest(change.most_scenes, excluded.most_scenes),
    changed_at = clock_timestamp(), due_at = clock_timestamp(), refused = NULL
"""


@dataclass(frozen=True)
class Backlog:
    """Videos that the index has still to follow, since when, and those of which it will not have a document."""

    pending: int
    refused: int
    oldest: datetime | None


def raise_version(connection: Connection[Any], video_id: UUID, scenes: int, left_to_writer: bool = True) -> None:
    """Note within the caller's transaction that the video has so many scenes now."""
    later = LEFT_TO_WRITER if left_to_writer else timedelta(0)
    connection.execute(_RAISE, {"video": video_id, "scenes": scenes, "later": later})


def page_of_videos(pool: Pool, last: UUID | None, scenes: int) -> list[UUID]:
    """The videos that come after ``last`` by their ids, with about so many scenes together; none at the end.

    All there are, also those that the outbox does not know.
    """
    with pool.connection() as connection:
        return [row["video_id"] for row in connection.execute(_PAGE, {"last": last, "scenes": scenes})]


class SearchChanges:
    """The outbox, to be worked off."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    def due(self, limit: int) -> list[UUID]:
        """Videos to be brought in line that nobody else takes care of, the longest due first."""
        with self._pool.connection() as connection:
            return [row["video_id"] for row in connection.execute(_DUE, (limit,))]

    def touch(self, video_ids: Sequence[UUID]) -> None:
        """Have these videos brought in line once more, whatever the index has of them."""
        with self._pool.connection() as connection:
            connection.execute(_TOUCH, (sorted(video_ids),))

    def touch_or_add(self, documents: Mapping[UUID, int]) -> None:
        """As ``touch``, also of videos that never had scenes; so many documents there are of each at most."""
        ordered = sorted(documents)
        values = {"videos": ordered, "most": [documents[video_id] for video_id in ordered]}
        with self._pool.connection() as connection:
            connection.execute(_TOUCH_OR_ADD, values)

    def note_followed(self, versions: Mapping[UUID, int]) -> set[UUID]:
        """The index has these versions. Returns the videos of which that is all there is to follow."""
        ordered = sorted(versions)
        parameters = {"videos": ordered, "versions": [versions[video_id] for video_id in ordered]}
        with self._pool.connection() as connection:
            return {row["video_id"] for row in connection.execute(_FOLLOWED, parameters)}

    def note_refused(self, video_id: UUID, version: int, reason: str) -> None:
        """The index will not have this version; it is tried again when the video changes."""
        with self._pool.connection() as connection:
            connection.execute(_REFUSED, {"video": video_id, "version": version, "reason": reason})

    def backlog(self) -> Backlog:
        """How far behind the index is."""
        with self._pool.connection() as connection:
            row = connection.execute(_BACKLOG).fetchone()
        assert row is not None
        return Backlog(**row)
