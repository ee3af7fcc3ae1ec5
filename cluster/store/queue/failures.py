"""Chooses among the videos that FAILED here, for a retry of many: by stage, type of error, time and batch.

What can never succeed is left out unless its type of error is asked for. Retrying is ``reprocessing``'s.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, LiteralString
from uuid import UUID

from cluster.contracts.errors import HeimdexError, InvalidVideo
from cluster.contracts.stages import Stage
from cluster.store.postgres.connections import Pool
from cluster.store.postgres.plausible_times import plausible

FAILED_AT = f"coalesce({plausible('v.processing_finished_at')}, v.updated_at)"
FAILED: LiteralString = f"""v.status = 'FAILED' AND p.forgotten_at IS NULL AND p.cancelled_at IS NULL
  AND (%(owner)s::uuid IS NULL OR v.owner_id = %(owner)s)
  AND (%(failed_stage)s::text IS NULL OR v.processing_stage = %(failed_stage)s)
  AND (%(error_type)s::text IS NULL OR p.error_type = %(error_type)s)
  AND (%(since)s::timestamptz IS NULL OR {FAILED_AT} >= %(since)s)
  AND (%(batch)s::text IS NULL OR p.batch = %(batch)s)"""
_MAY_SUCCEED: LiteralString = "(%(error_type)s::text IS NOT NULL OR (p.error_type = ANY (%(hopeless)s)) IS NOT TRUE)"
RETRIED: LiteralString = f"{FAILED} AND {_MAY_SUCCEED}"
"""Of ``videos AS v JOIN video_processing AS p``, with the values of :func:`filter_values`."""
_CHOSEN = f"SELECT v.id FROM videos AS v JOIN video_processing AS p ON p.video_id = v.id WHERE {RETRIED} ORDER BY v.id"
_HOPELESS = f"""
SELECT count(*) AS n FROM videos AS v JOIN video_processing AS p ON p.video_id = v.id
WHERE {FAILED} AND NOT {_MAY_SUCCEED}
"""
_OF_IDS = """
SELECT v.id FROM videos AS v LEFT JOIN video_processing AS p ON p.video_id = v.id
WHERE v.id = ANY (%s) AND v.status = 'FAILED' AND p.forgotten_at IS NULL ORDER BY v.id
"""


@dataclass(frozen=True)
class FailureFilter:
    """Which of the videos that FAILED; None: any. ``since``: those that failed at that time or later."""

    stage: Stage | None = None
    error_type: str | None = None
    since: datetime | None = None
    batch: str | None = None


ANY_FAILURE = FailureFilter()


def never_retried(root: type[HeimdexError] = InvalidVideo) -> list[str]:
    """The types of errors that no retry can change, by name."""
    return [root.__name__, *(name for child in root.__subclasses__() for name in never_retried(child))]


def filter_values(failures: FailureFilter, owner_id: UUID | None) -> dict[str, Any]:
    """What ``RETRIED`` takes."""
    return {
        "owner": owner_id,
        "failed_stage": failures.stage,
        "error_type": failures.error_type,
        "since": failures.since,
        "batch": failures.batch,
        "hopeless": never_retried(),
    }


def find_retried(pool: Pool, ids: Sequence[UUID] | None, failures: FailureFilter) -> list[UUID]:
    """The videos that a retry with these arguments would let be tried again; changes nothing."""
    with pool.connection() as connection:
        if ids is not None:
            rows = connection.execute(_OF_IDS, (list(ids),)).fetchall()
        else:
            rows = connection.execute(_CHOSEN, filter_values(failures, None)).fetchall()
    return [row["id"] for row in rows]


def count_never_retried(pool: Pool, failures: FailureFilter) -> int:
    """Number of videos that fit the filter and are left out, since they can never succeed."""
    with pool.connection() as connection:
        row = connection.execute(_HOPELESS, filter_values(failures, None)).fetchone()
    assert row is not None
    count: int = row["n"]
    return count
