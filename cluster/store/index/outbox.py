"""The outbox that a search engine beside Postgres follows: which videos changed, and how far it has followed.

A row per video with a version, raised within the transaction that makes the change (``enqueue_index_update``), and with
how many documents an index may have of the video, of the scenes 0, 1 and so on. That only grows. What is done about it
is ``opensearch.sync``'s.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, LiteralString
from uuid import UUID

from psycopg import Connection

from cluster.store.postgres.connections import Pool

LEFT_TO_WRITER = timedelta(minutes=5)
"""Time for which a change is left to the stage that made it, which waits for the index itself."""

MOST_SCENES = 100_000
"""Documents of one video at most, as migration 051 has it: 12 hours with a cut every 0.6 s are 72,000 scenes.

Users of an existing database may write any index, and to empty a video's documents is work for each smaller one.
"""
NUMBERED: LiteralString = "s.index BETWEEN 0 AND 99999"
"""SQL for whether ``video_scenes AS s`` may have a document."""
DOCUMENTS_AT_ONCE = MOST_SCENES
"""Documents that are read of the videos that are brought in line together, or of one."""

NEXT_VERSION: LiteralString = (
    "version = nextval('search_versions'), changed_at = clock_timestamp(), due_at = clock_timestamp(), refused = NULL"
)
"""SQL for what ``UPDATE search_changes SET`` writes so that an index follows a change of the video at once."""

_RAISE = """
INSERT INTO search_changes AS change (video_id, version, most_scenes, due_at)
VALUES (%(video)s, nextval('search_versions'), %(scenes)s, clock_timestamp() + %(later)s)
ON CONFLICT (video_id) DO UPDATE
SET version = nextval('search_versions'), most_scenes = greatest(change.most_scenes, excluded.most_scenes),
    changed_at = clock_timestamp(), due_at = excluded.due_at, refused = NULL
"""

_WIDEN = f"""
-- Before documents are written: those of all scenes that are there now can be emptied later.
WITH locked AS (
    SELECT change.video_id, found.most
    FROM search_changes AS change
    JOIN (SELECT s.video_id, max(s.index) + 1 AS most FROM video_scenes AS s
          WHERE s.video_id = ANY (%(videos)s) AND {NUMBERED} GROUP BY s.video_id) AS found USING (video_id)
    WHERE change.most_scenes < found.most
    ORDER BY change.video_id FOR UPDATE OF change
)
UPDATE search_changes AS change SET most_scenes = greatest(change.most_scenes, locked.most)
FROM locked WHERE change.video_id = locked.video_id
"""

_MOST = """
SELECT asked.video_id, coalesce(c.most_scenes, 0) AS most_scenes
FROM unnest(%(videos)s::uuid[]) AS asked (video_id) LEFT JOIN search_changes AS c USING (video_id)
ORDER BY asked.video_id
"""

_TOUCH = f"""
-- Locked in the order that all keep who lock many of these.
WITH locked AS (SELECT video_id FROM search_changes WHERE video_id = ANY (%s) ORDER BY video_id FOR UPDATE)
UPDATE search_changes AS change
SET {NEXT_VERSION}
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

_TOUCH_OR_ADD = f"""
INSERT INTO search_changes AS change (video_id, version, most_scenes)
SELECT found.video_id, nextval('search_versions'), found.most
FROM unnest(%(videos)s::uuid[], %(most)s::int[]) AS found (video_id, most) ORDER BY found.video_id
ON CONFLICT (video_id) DO UPDATE
SET most_scenes = greatest(change.most_scenes, excluded.most_scenes), {NEXT_VERSION}
"""


@dataclass(frozen=True)
class Backlog:
    """Videos that the index has still to follow, since when, and those of which it will not have a document."""

    pending: int
    refused: int
    oldest: datetime | None


def enqueue_index_update(connection: Connection[Any], video_id: UUID, scenes: int, left_to_writer: bool = True) -> None:
    """Note within the caller's transaction that the video has so many scenes now."""
    later = LEFT_TO_WRITER if left_to_writer else timedelta(0)
    connection.execute(_RAISE, {"video": video_id, "scenes": min(scenes, MOST_SCENES), "later": later})


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
        """Videos to be brought in line that no other process takes care of, the longest due first."""
        with self._pool.connection() as connection:
            return [row["video_id"] for row in connection.execute(_DUE, (limit,))]

    def portions(self, video_ids: Iterable[UUID]) -> Iterator[list[UUID]]:
        """The videos by their ids, in lists with ``DOCUMENTS_AT_ONCE`` documents at most, of all scenes that are there.

        Others write scenes without a word to the outbox. Of those that come after this, no document is made yet.
        """
        values = {"videos": list(video_ids)}
        with self._pool.connection() as connection:
            connection.execute(_WIDEN, values)
            rows = connection.execute(_MOST, values).fetchall()
        portion: list[UUID] = []
        documents = 0
        for row in rows:
            if portion and documents + row["most_scenes"] > DOCUMENTS_AT_ONCE:
                yield portion
                portion, documents = [], 0
            portion.append(row["video_id"])
            documents += row["most_scenes"]
        if portion:
            yield portion

    def touch(self, video_ids: Sequence[UUID]) -> None:
        """Have these videos brought in line once more, whatever the index has of them."""
        with self._pool.connection() as connection:
            connection.execute(_TOUCH, (sorted(video_ids),))

    def touch_or_add(self, documents: Mapping[UUID, int]) -> None:
        """As ``touch``, also of videos that never had scenes; so many documents there are of each at most."""
        ordered = sorted(documents)
        values = {"videos": ordered, "most": [min(documents[video_id], MOST_SCENES) for video_id in ordered]}
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
        """Backlog of the index."""
        with self._pool.connection() as connection:
            row = connection.execute(_BACKLOG).fetchone()
        assert row is not None
        return Backlog(**row)
