"""Reads a transcript that an existing Heimdex stored in its own columns of ``videos``. No database, only the values.

The columns may be missing. What their JSON holds differs between versions: times by several names, words or none.
"""

import json
import math
from collections.abc import Iterator, Mapping
from contextlib import suppress
from typing import Any

from cluster.contracts.results import Segment, Transcript, Word

LETTERS_PER_S = 15.0
"""Approximate rate of speech: where the text alone is stored and not even the video's duration is known."""

_START, _END = ("start_s", "start", "start_time"), ("end_s", "end", "end_time")
_TEXT = ("text", "word", "transcript")
_PROBABILITY = ("probability", "confidence", "score")


def read_existing(
    segments: Any, text: str | None, language: str | None, duration_s: float | None
) -> tuple[Transcript, bool] | None:
    """The transcript, and whether its times were stored; None where nothing is stored.

    ``segments``: what ``transcript_segments`` holds, as JSON text or its value; ``text``: ``full_transcript``, which is
    used without them.
    """
    timed = tuple(_segments(segments))
    if timed:
        return Transcript(language, timed, ""), True
    spoken = (text or "").strip()
    if not spoken:
        return None
    end_s = duration_s or max(1.0, len(spoken) / LETTERS_PER_S)
    return Transcript(language, (Segment(0.0, end_s, spoken, ()),), ""), False


def _segments(value: Any) -> Iterator[Segment]:
    """Those with text. One without a time begins where the one before it ended."""
    end_s = 0.0
    for item in _items(value):
        text = _text(item)
        if not text.strip():
            continue
        start_s = _number(item, _START, end_s)
        end_s = max(start_s, _number(item, _END, start_s))
        yield Segment(start_s, end_s, text, tuple(_words(item.get("words"))))


def _words(value: Any) -> Iterator[Word]:
    """All the words of a segment, or none where one of them has no time."""
    words = []
    for item in _items(value):
        start_s, end_s = _number(item, _START, math.nan), _number(item, _END, math.nan)
        if not start_s <= end_s or not _text(item):
            return
        words.append(Word(start_s, end_s, _text(item), min(1.0, _number(item, _PROBABILITY, 1.0))))
    yield from words


def _items(value: Any) -> Iterator[Mapping[str, Any]]:
    """The objects of a list, also of one that was stored as text or below ``segments``."""
    if isinstance(value, str):
        with suppress(ValueError, RecursionError):
            value = json.loads(value, parse_int=float)  # an integer of JSON may have more digits than Python reads
    if isinstance(value, dict):
        value = value.get("segments")
    if isinstance(value, list):
        yield from (item for item in value if isinstance(item, dict))


def _text(item: Mapping[str, Any]) -> str:
    return next((item[name] for name in _TEXT if isinstance(item.get(name), str)), "")


def _number(item: Mapping[str, Any], names: tuple[str, ...], default: float) -> float:
    for name in names:
        with suppress(TypeError, ValueError, OverflowError):
            number = float(item[name]) if name in item else math.nan
            if 0 <= number < math.inf:
                return number
    return default
