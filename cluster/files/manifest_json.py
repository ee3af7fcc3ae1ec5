"""The rows of a manifest of JSON: an array, or objects one after another, each over any number of lines.

Owns which line a row begins on and how far a broken one reaches. Leaves what columns mean to ``manifest_columns``.
Pure.
"""

import bisect
import json
import re
from collections.abc import Iterator
from typing import Any

from cluster.files.manifest_columns import ManifestRow, by_column, twice
from cluster.files.manifest_encoding import LINE_END

LONGEST_ROW = 2**16
"""An object over several lines that has more characters than this is no row."""


def json_rows(text: str) -> Iterator[ManifestRow]:
    """The rows of one array, or of objects that follow each other. A string is the URI of a row."""
    text = _RECORD_MARK.sub(lambda mark: mark[0].replace("\x1e", " "), text)
    lines = LINE_END.split(text)
    if text.lstrip().startswith("[") and not _is_one_of_several(lines):
        yield from _array_rows(text)
    else:
        yield from _Sequence(text, lines).rows()


class _Sequence:
    """Objects one after another. A line that is none is one bad row, and what follows it is read."""

    def __init__(self, text: str, lines: list[str]) -> None:
        self._text = text
        self._lines = lines
        self._starts = [0, *(found.end() for found in LINE_END.finditer(text))]
        self._strings = text.lstrip().startswith('"')
        """Elsewhere a string is a piece of a broken row."""

    def rows(self) -> Iterator[ManifestRow]:
        index = 0
        while index < len(self._lines):
            line = self._lines[index]
            try:
                values = [(index, value) for _, value in _values_of(line)] if line.strip() else []
                after = index + 1
            except (ValueError, RecursionError) as error:
                values, after, reason = self._over_lines(index, error)
                yield from (self._row(*value) for value in values)
                if reason:
                    yield reason
            else:
                yield from (self._row(*value) for value in values)
            index = after

    def _row(self, index: int, value: Any) -> ManifestRow:
        if isinstance(value, str) and not self._strings:
            return ManifestRow(index + 1, reason="not a JSON object")
        return _json_row(index + 1, value)

    def _over_lines(self, index: int, error: Exception) -> tuple[list[tuple[int, Any]], int, ManifestRow | None]:
        """What begins in a line that is not complete: values by line, the line to go on with, the bad row if any."""
        line = self._lines[index]
        if not _is_incomplete(line, error):
            return [], index + 1, ManifestRow(index + 1, reason=_json_error(error))
        values: list[tuple[int, Any]] = []
        place = self._starts[index] + len(line) - len(line.lstrip())
        while True:
            begin = self._line_of(place)
            try:
                value, length = _DECODER.raw_decode(self._text[place : place + LONGEST_ROW])
            except (ValueError, RecursionError) as broken:
                if not values:
                    return (
                        [],
                        self._after_broken(index),
                        ManifestRow(index + 1, reason=self._reason(place, broken, error)),
                    )
                bad = ManifestRow(begin + 1, reason=self._reason(place, broken, broken))
                return values, self._line_of(place + getattr(broken, "pos", 0)) + 1, bad
            end = _after_blanks(self._text, place + length)
            last = self._line_of(end)
            if self._text[end : end + 1] in {"", "\r", "\n"}:
                return [*values, (begin, value)], last + 1, None
            if self._text[end] != "{":
                bad = ManifestRow(begin + 1, reason=f"not valid JSON: Extra data in line {last + 1}")
                return values, last + 1, bad
            values.append((begin, value))
            place = end

    def _after_broken(self, index: int) -> int:
        """The next line that may begin a row: of printed objects, the one that looks as the broken one's first."""
        first = self._lines[index]
        if first.strip() != "{":
            return index + 1
        later = range(index + 1, len(self._lines))
        return next((number for number in later if self._lines[number] == first), len(self._lines))

    def _reason(self, place: int, broken: Exception, error: Exception) -> str:
        if not isinstance(broken, json.JSONDecodeError):
            return _json_error(broken)
        if self._lines[self._line_of(place)].strip() != "{":
            return _json_error(error)
        return f"not valid JSON: {broken.msg} in line {self._line_of(place + broken.pos) + 1}"

    def _line_of(self, place: int) -> int:
        return bisect.bisect_right(self._starts, place) - 1


def _values_of(line: str) -> list[tuple[int, Any]]:
    """The values of a line that holds nothing else: one of any kind, or several objects."""
    values: list[tuple[int, Any]] = []
    place = _after_blanks(line, 0)
    while True:
        value, end = _DECODER.raw_decode(line, place)
        values.append((place, value))
        place = _after_blanks(line, end)
        if place == len(line):
            return values
        if line[place] != "{" or not isinstance(value, dict):
            raise json.JSONDecodeError("Extra data", line, place)


def _is_incomplete(line: str, error: Exception) -> bool:
    """Whether a line lacks nothing but what may follow on the next one."""
    return isinstance(error, json.JSONDecodeError) and error.pos >= len(line.rstrip()) and line.lstrip()[:1] in "{["


def _is_one_of_several(lines: list[str]) -> bool:
    """Whether an array begins and ends in the first line, and others follow."""
    filled = [line for line in lines if line.strip()]
    try:
        return len(filled) > 1 and isinstance(json.loads(filled[0]), list)
    except (ValueError, RecursionError):
        return False


def _array_rows(text: str) -> Iterator[ManifestRow]:
    counted, line, place = 0, 1, _after_space(text, text.index("[") + 1)
    while True:
        line += len(LINE_END.findall(text, counted, place))
        counted = place
        if text[place : place + 1] == "]":
            if text[place + 1 :].strip():
                yield ManifestRow(line, reason="not valid JSON: something follows the end of the array")
            return
        try:
            value, place = _DECODER.raw_decode(text, place)
        except (ValueError, RecursionError) as error:
            yield ManifestRow(line, reason=_json_error(error))
            return
        yield _json_row(line, value)
        place = _after_space(text, place)
        if text[place : place + 1] == ",":
            place = _after_space(text, place + 1)
        elif text[place : place + 1] != "]":
            yield ManifestRow(line, reason="not valid JSON: the array is not closed after this object")
            return


def _after_space(text: str, place: int) -> int:
    found = _SPACE.match(text, place)
    assert found is not None  # it matches nothing, too
    return found.end()


def _after_blanks(text: str, place: int) -> int:
    found = _BLANKS.match(text, place)
    assert found is not None  # it matches nothing, too
    return found.end()


def _json_row(line: int, value: Any) -> ManifestRow:
    if isinstance(value, str):
        value = {"uri": value}
    if not isinstance(value, dict):
        return ManifestRow(line, reason="not a JSON object")
    try:
        return ManifestRow(line, by_column(value))
    except ValueError as error:
        return ManifestRow(line, reason=str(error))


def _json_error(error: Exception) -> str:
    if isinstance(error, json.JSONDecodeError):
        return f"not valid JSON: {error.msg} at column {error.colno}"
    return "not valid JSON: nested too deeply" if isinstance(error, RecursionError) else str(error)


def _only_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    fields: dict[str, Any] = {}
    for name, value in pairs:
        if name in fields:
            raise ValueError(twice(name, name))
        fields[name] = value
    return fields


_BLANKS = re.compile(r"[ \t]*")
_RECORD_MARK = re.compile(r"(?:^|(?<=[\r\n]))\x1e+")
"""Separators before a record of a JSON text sequence (RFC 7464)."""
_SPACE = re.compile(r"[ \t\r\n]*")
_DECODER = json.JSONDecoder(object_pairs_hook=_only_once)
