"""Videos that an owner submitted before: the same file, by its URI and its content, is not processed a second time.

What marks the content is the caller's; how videos are enqueued is ``submissions``'s.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

from cluster.contracts.quotas import NO_LIMITS, SubmissionLimits
from cluster.contracts.videos import DetailedSubmission, Origin, Submission
from cluster.store.postgres.connections import Pool
from cluster.store.queue.submissions import submit

_KNOWN = """
-- The latest of the owner's videos with the same URI and content. One that failed, was cancelled or is forgotten is
-- none, and neither is one in another language than is asked for. Only an operator's mark is to be trusted.
SELECT DISTINCT ON (row.position) row.position::int AS position, v.id
FROM unnest(%(uris)s::text[], %(marks)s::text[], %(languages)s::text[])
         WITH ORDINALITY AS row (uri, mark, language, position)
JOIN video_processing AS p ON p.content_mark = row.mark AND p.uri = row.uri
JOIN videos AS v ON v.id = p.video_id
WHERE p.owner_id = %(owner)s AND v.owner_id = %(owner)s AND v.status IN ('PENDING', 'PROCESSING', 'READY')
  AND p.origin IN ('command', 'manifest') AND p.forgotten_at IS NULL AND p.cancelled_at IS NULL
  AND (row.language IS NULL OR p.language = row.language)
ORDER BY row.position, v.queued_at DESC NULLS LAST, v.id
"""


@dataclass(frozen=True)
class Submitted:
    """The videos of what was submitted, in the order given; ``known``: how many of them were there before."""

    ids: list[UUID]
    known: int

    @property
    def new(self) -> int:
        """How many were enqueued."""
        return len(self.ids) - self.known


def submit_unknown(
    pool: Pool,
    owner_id: UUID,
    submissions: Sequence[Submission],
    *,
    limits: SubmissionLimits = NO_LIMITS,
    origin: Origin = Origin.COMMAND,
    batch: str | None = None,
) -> Submitted:
    """Enqueue those that the owner has not submitted before, all or none, in a batch. Raises as ``submit``.

    Two commands that submit the same file in the same moment may enqueue it twice.
    """
    known = _known(pool, owner_id, submissions)
    first = _first_of_each(submissions, known)
    new = [submission for position, submission in enumerate(submissions) if first.get(position) == position]
    added = iter(submit(pool, owner_id, new, limits=limits, origin=origin, batch=batch) if new else [])
    ids: dict[int, UUID] = dict(known)
    for position, same in first.items():
        ids[position] = next(added) if same == position else ids[same]
    return Submitted([ids[position] for position in range(len(submissions))], len(submissions) - len(new))


def _first_of_each(submissions: Sequence[Submission], known: dict[int, UUID]) -> dict[int, int]:
    """The position of the first submission of the same file, for each position whose video is not known."""
    seen: dict[tuple[str, str | None, str | None], int] = {}
    first: dict[int, int] = {}
    for position, submission in enumerate(submissions):
        mark = _mark_of(submission)
        if position in known:
            continue
        if mark is None:
            first[position] = position
        else:
            first[position] = seen.setdefault((submission.uri, mark, submission.language), position)
    return first


def _known(pool: Pool, owner_id: UUID, submissions: Sequence[Submission]) -> dict[int, UUID]:
    """The video of each submission, by its position, that is there already."""
    marked = [(position, each) for position, each in enumerate(submissions) if _mark_of(each) is not None]
    if not marked:
        return {}
    parameters = {
        "owner": owner_id,
        "uris": [each.uri for _, each in marked],
        "marks": [_mark_of(each) for _, each in marked],
        "languages": [each.language for _, each in marked],
    }
    with pool.connection() as connection:
        rows = connection.execute(_KNOWN, parameters).fetchall()
    return {marked[row["position"] - 1][0]: row["id"] for row in rows}


def _mark_of(submission: Submission) -> str | None:
    return submission.content_mark if isinstance(submission, DetailedSubmission) else None
