"""Segments of a transcript, broken into captions that a viewer can read in the time they are shown.

Owns what is in a caption, on which line and from when to when. Leaves the ways of writing captions down to
``cluster.transcripts.formats``.

The measures are the usual ones for captions in Latin letters (Netflix, "Timed Text Style Guide: General
Requirements": two lines of 42 characters, at most 7 s); a wide letter, as in Chinese, counts as two.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from unicodedata import east_asian_width

from cluster.contracts.results import Segment, Word

LINE_WIDTH = 42
LINES = 2
LONGEST_S = 7.0
SHORTEST_MS = 1000
"""A shorter caption stays as long as this, unless the next one begins before."""
CLAUSE_ENDS = tuple(".?!,;:…。？！，、；：")

_BLANKS = re.compile(r"(?:[^\S\u00a0\u2007\u202f]|[\x00-\x1f\x7f-\x9f])+")
"""Blanks that part words, and what would end a line; those at which no line may be broken stay."""


@dataclass(frozen=True)
class Caption:
    """One or two lines, none of them empty, shown in ``[start_ms, end_ms)``, which is not empty either."""

    start_ms: int
    end_ms: int
    lines: tuple[str, ...]


@dataclass(frozen=True)
class _Piece:
    """Text that stays together on a line; with a blank before it when it is ``apart``."""

    text: str
    apart: bool
    start_s: float
    end_s: float

    @property
    def width(self) -> int:
        return width_of(self.text)


def width_of(text: str) -> int:
    """Width, in Latin letters."""
    return len(text) if text.isascii() else sum(2 if east_asian_width(letter) in "WF" else 1 for letter in text)


def one_line(text: str) -> str:
    """``text`` with single blanks between its words, and none around them."""
    return _BLANKS.sub(" ", text).strip()


def captions(segments: Sequence[Segment]) -> list[Caption]:
    """All that is said in ``segments``, in that order, by the times of its words.

    Each begins after the one before it, which is gone by then. Where words of several captions have the same moment,
    those captions are a millisecond apart.
    """
    parts = [part for segment in segments for part in _parts(_pieces(segment))]
    starts_ms: list[int] = []
    for part in parts:
        earliest_ms = starts_ms[-1] + 1 if starts_ms else 0
        starts_ms.append(max(earliest_ms, round(part[0].start_s * 1000)))
    placed = []
    for number, (part, start_ms) in enumerate(zip(parts, starts_ms, strict=True)):
        end_ms = max(round(part[-1].end_s * 1000), start_ms + SHORTEST_MS)
        if number + 1 < len(starts_ms):
            end_ms = min(end_ms, starts_ms[number + 1])
        placed.append(Caption(start_ms, end_ms, _lines(part)))
    return placed


# What stays together


def _pieces(segment: Segment) -> list[_Piece]:
    """The words of a segment. Those without a blank between them stay together, where that is short enough."""
    pieces: list[_Piece] = []
    for unit in _units(_words(segment)):
        joined = _Piece("".join(word.text for word in unit), unit[0].apart, unit[0].start_s, unit[-1].end_s)
        if joined.width <= LINE_WIDTH and joined.end_s - joined.start_s <= LONGEST_S:
            pieces.append(joined)
        else:
            pieces += (piece for word in unit for piece in _cut(word))
    return pieces


def _words(segment: Segment) -> Iterator[_Piece]:
    """A segment without words has those of its text. Words in one share its time by their lengths."""
    apart = False
    for word in segment.words or (Word(segment.start_s, segment.end_s, segment.text, 1.0),):
        text = _BLANKS.sub(" ", word.text)
        apart = apart or text.startswith(" ")
        for piece in _timed(text.split(" "), word.start_s, word.end_s):
            yield replace(piece, apart=apart)
            apart = True
        apart = text.endswith(" ") or (apart and not text.strip())


def _units(words: Iterator[_Piece]) -> Iterator[list[_Piece]]:
    unit: list[_Piece] = []
    for word in words:
        if unit and word.apart:
            yield unit
            unit = []
        unit.append(word)
    if unit:
        yield unit


def _cut(word: _Piece) -> Iterator[_Piece]:
    """``word``, or, when no line is wide enough for it, its letters on several."""
    if word.width <= LINE_WIDTH:
        yield word
        return
    letters = LINE_WIDTH if word.width == len(word.text) else LINE_WIDTH // 2
    texts = [word.text[first : first + letters] for first in range(0, len(word.text), letters)]
    for number, piece in enumerate(_timed(texts, word.start_s, word.end_s)):
        yield replace(piece, apart=word.apart and number == 0)


def _timed(texts: Sequence[str], start_s: float, end_s: float) -> Iterator[_Piece]:
    """``texts``, without empty ones, one after the other in ``[start_s, end_s)``, each with a share by its length."""
    seen = [text for text in texts if text.strip()]
    total, said = sum(map(len, seen)), 0
    for text in seen:
        first_s = start_s + (end_s - start_s) * said / total
        said += len(text)
        last_s = start_s + (end_s - start_s) * said / total if said < total else end_s
        yield _Piece(text, True, first_s, last_s)


# The content of one caption


def _parts(pieces: Sequence[_Piece]) -> Iterator[Sequence[_Piece]]:
    """``pieces`` in stretches of which each fits into a caption, parted where a clause ends or in the middle."""
    first = 0
    while first < len(pieces):
        count = _fitting(pieces, first)
        left = len(pieces) - first
        if count < left:
            count = _pleasant(pieces[first : first + count], left)
        yield pieces[first : first + count]
        first += count


def _fitting(pieces: Sequence[_Piece], first: int) -> int:
    """Number of pieces from ``first`` on that fit into a caption; at least one, however long it takes."""
    lines, width = 1, 0
    for number in range(first, len(pieces)):
        piece = pieces[number]
        blank = 1 if piece.apart and width else 0
        if width + blank + piece.width <= LINE_WIDTH:
            width += blank + piece.width
        else:
            lines, width = lines + 1, piece.width
        too_long = piece.end_s - pieces[first].start_s > LONGEST_S
        if number > first and (lines > LINES or too_long):
            return number - first
    return len(pieces) - first


def _pleasant(fitting: Sequence[_Piece], left: int) -> int:
    """How many of the pieces that would fit are best shown, when ``left`` are to be shown in all."""
    count = len(fitting)
    for number in range(count, count // 2, -1):
        if fitting[number - 1].text.endswith(CLAUSE_ENDS):
            return number
    return (left + 1) // 2 if left < 2 * count else count


def _lines(part: Sequence[_Piece]) -> tuple[str, ...]:
    """One line where that is wide enough, else two, the longer one as short as possible."""
    whole = _joined(part)
    if width_of(whole) <= LINE_WIDTH:
        return (whole,)
    halves = ((_joined(part[:number]), _joined(part[number:])) for number in range(1, len(part)))
    return min(halves, key=lambda lines: max(map(width_of, lines)))


def _joined(pieces: Sequence[_Piece]) -> str:
    return "".join(f" {piece.text}" if piece.apart else piece.text for piece in pieces).strip()
