"""What commands that submit videos take besides URIs, read into what the queue knows."""

from collections.abc import Sequence

import pydantic
import typer

from cluster.contracts.errors import ConfigurationError
from cluster.contracts.languages import language_code
from cluster.contracts.videos import Submission


def read_language(written: str | None) -> str | None:
    """The code of ``--language``. Raises BadParameter that lists what is accepted."""
    if written is None:
        return None
    try:
        return language_code(written)
    except ValueError as error:
        raise typer.BadParameter(f"{written!r} is {error}") from None


def submissions_of(uris: Sequence[str], language: str | None, priority: int) -> list[Submission]:
    """One submission for each URI. Raises ConfigurationError where one cannot be a video's."""
    try:
        return [Submission(uri=uri, language=language, priority=priority) for uri in uris]
    except pydantic.ValidationError as error:
        first = error.errors()[0]
        raise ConfigurationError(f"{first['loc'][0]}: {first['msg'].removeprefix('Value error, ')}") from None
