"""The name of a batch: videos that were submitted together, or under the same name."""

import re
import secrets
from datetime import UTC, datetime

MAX_BATCH = 100
_NAME = re.compile(rf"[^\x00-\x1f\x7f-\x9f]{{1,{MAX_BATCH}}}")


def new_batch() -> str:
    """A name for a submission that was given none: the time in UTC and four random characters."""
    return f"{datetime.now(UTC):%Y%m%d-%H%M%S}-{secrets.token_hex(2)}"


def check_batch(name: str) -> str:
    """``name`` without spaces around it.

    Raises:
        ValueError: it is empty, longer than ``MAX_BATCH`` characters, or has control characters.
    """
    name = name.strip()
    if not _NAME.fullmatch(name):
        raise ValueError(f"a batch's name has 1 to {MAX_BATCH} characters, none of them a control character")
    return name
