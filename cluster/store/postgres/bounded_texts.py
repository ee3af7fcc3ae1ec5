"""Texts of ``videos AS v`` and of ``video_processing AS p`` at a length that every process can hold, as SQL.

Users of an existing database may write them at any length, and processes that serve all owners read them: one row must
not fill their memory.
"""

from typing import LiteralString

from cluster.contracts.videos import MAX_URI
from cluster.security.redaction import MOST_SHOWN

FILENAME: LiteralString = f"left(v.filename, {MOST_SHOWN})"
PLACE: LiteralString = f"left(coalesce(p.uri, v.storage_path), {MAX_URI})"
"""Place that the video is read from: to be shown, and never to be opened."""
PATH: LiteralString = f"left(v.storage_path, {MAX_URI + 1})"
"""To be opened: one that is cut is longer than ``MAX_URI``, and ``origins.limits_for`` refuses it."""
STAGE: LiteralString = f"left(v.processing_stage, {MOST_SHOWN})"
ERROR_MESSAGE: LiteralString = f"left(v.error_message, {MOST_SHOWN})"
"""Cut before it is redacted: see ``redaction.redacted_beginning``."""
