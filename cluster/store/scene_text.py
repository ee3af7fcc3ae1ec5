"""The text and the tags that a scene is found by, as SQL: of ``video_scenes AS s``.

This cluster writes it into ``combined_text``. An existing Heimdex may have left that empty, and what was said and seen
in columns of their own.
"""

from typing import LiteralString

SCENE_TEXT: LiteralString = (
    "coalesce(nullif(s.combined_text, ''), "
    "concat_ws(E'\\n', nullif(s.transcript_segment, ''), nullif(s.visual_summary, '')))"
)
"""Empty where there is none, never null."""

SCENE_TAGS: LiteralString = "array_remove(coalesce(s.tags, ARRAY[]::text[]), NULL)"
"""Those that are texts: another system's array may be null, or hold nulls."""
