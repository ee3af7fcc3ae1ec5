"""Finds the videos that a person names: by id, the beginning of one, URI, file name, or batch.

What is done when a name fits several videos is the commands'.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum
from typing import Any, LiteralString
from uuid import UUID

from psycopg.rows import class_row

from cluster.contracts.uris import shown, video_name
from cluster.store.postgres.bounded_texts import FILENAME, PLACE
from cluster.store.postgres.connections import Pool
from cluster.store.videos.shown_status import SHOWN_STATUS

SHORTEST_BEGINNING = 8
"""Characters of an id that name a video, where no other id begins with them."""
MOST_FOUND = 1000
"""Videos of one name that are read."""
_HEXADECIMAL = re.compile(r"[0-9a-f]{1,32}")
_DASHES = (8, 13, 18, 23)


class NamedBy(StrEnum):
    """What a name is of a video, the most certain first."""

    ID = "id"
    BEGINNING = "beginning of an id"
    URI = "URI"
    SHOWN_URI = "URI without its query"
    FILE_NAME = "file name"


_URI: LiteralString = "coalesce(p.uri, v.storage_path)"
_CONDITIONS: dict[NamedBy, LiteralString] = {
    NamedBy.ID: "v.id = %(lowest)s",
    NamedBy.BEGINNING: "v.id BETWEEN %(lowest)s AND %(highest)s",
    NamedBy.URI: f"{_URI} = ANY (%(uris)s)",
    NamedBy.SHOWN_URI: f"{_URI} LIKE '%%://%%' AND split_part({_URI}, '?', 1) = ANY (%(uris)s)",
    NamedBy.FILE_NAME: f"(v.filename = %(name)s OR v.filename IS NULL AND right({_URI}, length(%(name)s) + 1) = "
    "'/' || %(name)s)",
}


@dataclass(frozen=True)
class NamedVideo:
    """A video that a name fits; ``place`` as people may see it. ``created_at`` is aware and in UTC."""

    id: UUID
    filename: str | None
    place: str
    status: str
    created_at: datetime | None

    @property
    def name(self) -> str:
        """What people call it."""
        return video_name(self.filename, self.place, self.id)


def id_range(text: str) -> tuple[UUID, UUID] | None:
    """The lowest and the highest id that begin with ``text``; None when it is not the beginning of an id."""
    digits = text.lower().replace("-", "")
    if len(text) < SHORTEST_BEGINNING or not _HEXADECIMAL.fullmatch(digits):
        return None
    lowest, highest = UUID(digits.ljust(32, "0")), UUID(digits.ljust(32, "f"))
    written = (str(lowest)[: len(text)], lowest.hex[: len(text)])
    return (lowest, highest) if text.lower() in written else None


def whole_id(text: str) -> UUID | None:
    """The id that ``text`` is."""
    ids = id_range(text)
    return ids[0] if ids is not None and ids[0] == ids[1] else None


def find_named(
    pool: Pool, name: str, uris: Sequence[str], owner_id: UUID | None = None
) -> tuple[NamedBy | None, list[NamedVideo]]:
    """The videos that ``name`` fits best, latest first, and what it is of them; None when it fits none.

    Args:
        name: an id, the beginning of one, a URI or a file name.
        uris: the URIs that ``name`` may mean, such as the path that it is relative to the working directory.
        owner_id: only this owner's; None: of every owner.
    """
    ids = id_range(name)
    tried = [NamedBy.URI, NamedBy.SHOWN_URI, NamedBy.FILE_NAME]
    if ids is not None:
        tried.insert(0, NamedBy.ID if ids[0] == ids[1] else NamedBy.BEGINNING)
    values = {"uris": list(uris), "name": name, "owner": owner_id, "most": MOST_FOUND}
    values |= dict(zip(("lowest", "highest"), ids or (None, None), strict=True))
    for kind in tried:
        if found := _read(pool, _CONDITIONS[kind], values):
            return kind, found
    return None, []


def find_batch(pool: Pool, batch: str, owner_id: UUID | None = None) -> list[UUID]:
    """The ids of a batch's videos in the order of their submission, forgotten ones left out."""
    with pool.connection() as connection:
        rows = connection.execute(
            "SELECT v.id FROM video_processing AS p JOIN videos AS v ON v.id = p.video_id "
            "WHERE p.batch = %(batch)s AND p.forgotten_at IS NULL "
            "AND (%(owner)s::uuid IS NULL OR v.owner_id = %(owner)s) ORDER BY v.created_at, v.queued_at, v.id",
            {"batch": batch, "owner": owner_id},
        ).fetchall()
    return [row["id"] for row in rows]


def _read(pool: Pool, condition: LiteralString, values: dict[str, Any]) -> list[NamedVideo]:
    with pool.connection() as connection, connection.cursor(row_factory=class_row(NamedVideo)) as cursor:
        found = cursor.execute(
            f"SELECT v.id, {FILENAME} AS filename, coalesce({PLACE}, '') AS place, {SHOWN_STATUS} AS status, "
            "v.created_at FROM videos AS v LEFT JOIN video_processing AS p ON p.video_id = v.id "
            f"WHERE {condition} AND p.forgotten_at IS NULL AND (%(owner)s::uuid IS NULL OR v.owner_id = %(owner)s) "
            "ORDER BY v.created_at DESC, v.queued_at DESC, v.id LIMIT %(most)s",
            values,
        ).fetchall()
    return [replace(video, place=shown(video.place)) for video in found]
