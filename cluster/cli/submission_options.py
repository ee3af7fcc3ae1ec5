"""What commands that submit videos take besides URIs, read into what the queue knows."""

from collections.abc import Sequence
from typing import Annotated

import pydantic
import typer

from cluster.contracts.counts import counted
from cluster.contracts.errors import ConfigurationError
from cluster.contracts.languages import language_code
from cluster.contracts.quotas import SubmissionLimits
from cluster.contracts.videos import DetailedSubmission, Origin, Submission
from cluster.settings import Settings
from cluster.store.postgres.connections import Pool
from cluster.store.queue.known_videos import Submitted, submit_unknown
from cluster.store.queue.submissions import submit

Again = Annotated[bool, typer.Option("--again", help="Process files again that were submitted before, unchanged.")]


def read_language(written: str | None) -> str | None:
    """The code of ``--language``. Raises BadParameter that lists what is accepted."""
    if written is None:
        return None
    try:
        return language_code(written)
    except ValueError as error:
        raise typer.BadParameter(f"{written!r} is {error}") from None


def enqueue(
    pool: Pool, settings: Settings, submissions: Sequence[Submission], origin: Origin, *, batch: str, again: bool
) -> Submitted:
    """Enqueue them as a batch of the data directory's owner; what was submitted before only with ``again``."""
    # The drivers of remote files: commands that submit nothing do not wait for their import.
    from cluster.files.content_marks import content_marks
    from cluster.files.fetch_limits import fetch_limits

    limits, owner_id = SubmissionLimits(quotas=settings.owner_quotas), settings.resolved_owner_id
    marks = content_marks([submission.uri for submission in submissions], fetch_limits(settings))
    marked = [
        DetailedSubmission.model_validate({**dict(submission), "content_mark": mark})
        for submission, mark in zip(submissions, marks, strict=True)
    ]
    if again and marked:
        return Submitted(submit(pool, owner_id, marked, limits=limits, origin=origin, batch=batch), 0)
    return submit_unknown(pool, owner_id, marked, limits=limits, origin=origin, batch=batch)


def known_sentence(submitted: Submitted) -> str:
    """What became of files that were submitted before; empty where there were none."""
    if not submitted.known:
        return ""
    known = counted(submitted.known, "file was", "files were")
    return f"{known} submitted before and did not change since: the same videos; --again processes them again"


def submissions_of(uris: Sequence[str], language: str | None, priority: int) -> list[Submission]:
    """One submission for each URI. Raises ConfigurationError where one cannot be a video's."""
    try:
        return [Submission(uri=uri, language=language, priority=priority) for uri in uris]
    except pydantic.ValidationError as error:
        first = error.errors()[0]
        raise ConfigurationError(f"{first['loc'][0]}: {first['msg'].removeprefix('Value error, ')}") from None
