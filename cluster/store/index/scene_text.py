"""The text and the tags that a scene is found by, as SQL: of ``video_scenes AS s``.

This cluster writes it into ``combined_text``. An existing Heimdex may have left that empty, and what was said and seen
in columns of their own.
"""

from typing import LiteralString

MAX_LETTERS = 1_000_000
"""Of the text of a scene: 12 hours of speech without a cut have some 650,000. Another system's may have any number."""
MAX_TAGS = 1000

SCENE_TEXT: LiteralString = (
    "left(coalesce(nullif(s.combined_text, ''), "
    f"concat_ws(E'\\n', nullif(s.transcript_segment, ''), nullif(s.visual_summary, ''))), {MAX_LETTERS})"
)
"""Empty where there is none, never null."""

SCENE_TAGS: LiteralString = f"(array_remove(coalesce(s.tags, ARRAY[]::text[]), NULL))[1:{MAX_TAGS}]"
"""Those that are texts: another system's array may be null, or hold nulls."""

_WANTED: LiteralString = """position(' ' || lower({wanted} COLLATE "C") IN lower(' ' || {text} COLLATE "C")) > 0"""
TAG_FITS: LiteralString = _WANTED.replace("{text}", "tag")
"""Whether a ``tag`` fits what is ``wanted``: it, or a word in it, begins with that, whatever the case of ASCII."""
ONE_TAG_FITS: LiteralString = _WANTED.replace("{text}", f"array_to_string({SCENE_TAGS}, E'\\n ')")
"""Whether one of a scene's tags does: each begins after a space too. Those of 100,000 scenes take 80 ms."""
