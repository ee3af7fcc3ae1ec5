"""The rows of a manifest out of its bytes, as spreadsheets, editors and programs write them.

Owns separators, headers and which line of the file a row begins on. Leaves encodings to ``manifest_encoding``, JSON to
``manifest_json``, how printed tables look to ``manifest_tables``, what columns mean to ``manifest_columns`` and what a
row means to ``manifest``.
Pure: bytes in, rows out, so that a row is the same whichever process reads it.
"""

import csv
import io
import itertools
import re
from collections.abc import Iterator
from typing import Any

from cluster.files.manifest_columns import (
    ManifestRow,
    by_column,
    field_of,
    is_empty,
    is_row_number,
    stripped,
    twice,
    value_text,
)
from cluster.files.manifest_encoding import UnreadableText, decoded
from cluster.files.manifest_json import json_rows
from cluster.files.manifest_tables import (
    LEFT_OUT,
    ONE_COLUMN_A_LINE,
    are_types,
    is_expanded,
    is_footer,
    is_gap,
    is_rule,
)

FORMATS = (".csv", ".jsonl", ".parquet", ".tsv", ".txt", ".json", ".ndjson")
_SEPARATORS = ",;\t|│"
_DRAWN = "|│"
"""Separators of the columns of a table that is drawn."""
_END_MARK = re.compile(r"\x1a[\x1a\r\n]*\Z")
"""The end mark of DOS text files."""
_SEP_LINE = re.compile(r'"?sep=(?P<separator>[^\r\n"]|\\t)"?[ ,;\t|]*(?:\r\n|\r|\n|$)', re.IGNORECASE)
"""The line that Excel does not take for a row of the sheet."""


_Record = tuple[ManifestRow, list[str]]
"""A record's cells, and where it begins or why it has none."""


def read_rows(content: bytes, suffix: str) -> Iterator[ManifestRow]:
    """The rows of a manifest of any format but parquet; empty ones are left out."""
    if content.startswith((b"PK\x03\x04", b"\xd0\xcf\x11\xe0")):
        yield ManifestRow(1, reason="this is a spreadsheet's own format: export it as CSV (UTF-8)")
        return
    try:
        text = decoded(content, legacy="json" not in suffix)
    except UnreadableText as error:
        yield ManifestRow(error.line, reason=error.reason)
        return
    text = _END_MARK.sub("", text)
    yield from json_rows(text) if "json" in suffix else _csv_rows(text)


# CSV


def _csv_rows(text: str) -> Iterator[ManifestRow]:
    marked = _SEP_LINE.match(text)
    if marked:
        separator = marked["separator"].replace("\\t", "\t")
        text, hidden = text[marked.end() :], 1
    else:
        separator, hidden = _separator_of(text), 0
    top = _first_lines(text)
    if any(map(is_expanded, top[:1])):
        yield ManifestRow(1, reason=ONE_COLUMN_A_LINE)
        return
    drawn = any(map(is_rule, top))
    records = _records(text, separator, hidden, quoted=not (drawn and separator in _DRAWN))
    yield from _below_header(_without_footers(_without_types(records) if drawn else records))


def _below_header(records: Iterator[_Record]) -> Iterator[ManifestRow]:
    header: list[str] | None = None
    for row, values in records:
        if row.reason is not None:
            yield row
        elif header is not None:
            if list(map(stripped, values)) != list(map(stripped, header)):  # files one after another have it again
                yield _csv_row(row, header, values)
        elif values[0].startswith("#"):
            continue  # what is above the header may be a comment, or PowerShell's #TYPE
        elif reason := _wrong_header(values):
            yield ManifestRow(row.line, reason=reason)
            return
        else:
            header = values
    if header is None:
        yield ManifestRow(1, reason=_wrong_header([]))


def _without_footers(records: Iterator[_Record]) -> Iterator[_Record]:
    """The records that hold anything, without rules, and without footers at the end."""
    held: list[_Record] = []
    for row, values in records:
        if row.reason is None and (not any(map(stripped, values)) or is_rule("".join(values))):
            continue
        if row.reason is None and is_footer(values):
            held.append((row, values))
            continue
        yield from held
        held.clear()
        yield row, values


def _without_types(records: Iterator[_Record]) -> Iterator[_Record]:
    """The records of a drawn table without its line of types. That line is between the header and the next rule."""
    since_header: list[_Record] = []
    for row, values in records:
        if row.reason is None and is_rule("".join(values)):
            if since_header:
                break
        elif row.reason is not None or since_header or any(map(stripped, values)):
            since_header.append((row, values))
    if len(since_header) == 2 and are_types(since_header[1][1]):
        del since_header[1]
    yield from since_header
    yield from records


def _first_lines(text: str) -> list[str]:
    """The first three lines that hold anything and are no comments: if a table is drawn, one of them is a rule."""
    lines = (line for line in io.StringIO(text, newline=None) if stripped(line).strip(_SEPARATORS))
    return list(itertools.islice(itertools.dropwhile(lambda line: line.startswith(("#", '"#')), lines), 3))


def _separator_of(text: str) -> str:
    """The separator by which the header has the column of URIs, the one with the most columns if several do."""
    first = next(itertools.filterfalse(is_rule, _first_lines(text)), "")

    def columns(separator: str) -> tuple[bool, int]:
        names: list[str] = next(_reader(first, separator, strict=False), [])
        return "uri" in map(field_of, names), len(names)

    return max(_SEPARATORS, key=columns)


def _reader(text: str, separator: str, *, strict: bool, quoted: bool = True) -> Any:
    lines = io.StringIO(text, newline="")
    form: Any = {"delimiter": separator, "quoting": csv.QUOTE_MINIMAL if quoted else csv.QUOTE_NONE}
    return csv.reader(lines, skipinitialspace=True, strict=strict, **form)


def _records(text: str, separator: str, hidden: int, *, quoted: bool) -> Iterator[_Record]:
    """Every record with where it begins; ``hidden``: lines above that no spreadsheet shows."""
    reader = _reader(text, separator, strict=True, quoted=quoted)
    for sheet_row in itertools.count(1):
        line = reader.line_num + 1 + hidden  # a quoted field may have several lines
        shown_as = sheet_row if sheet_row != line else None
        try:
            values = next(reader, None)
        except csv.Error as error:
            reason = _csv_error(error, line, reader.line_num + hidden)
            yield ManifestRow(line, reason=reason, sheet_row=shown_as), []
            continue
        if values is None:
            return
        yield ManifestRow(line, sheet_row=shown_as), values


def _csv_error(error: csv.Error, first: int, last: int) -> str:
    if "end of data" in str(error):
        return "not valid csv: the quote that opens here is never closed; what follows it was not read"
    return f"not valid csv: {error}" + (f"; lines {first} to {last} were not read" if last > first else "")


def _wrong_header(names: list[str]) -> str | None:
    named = [stripped(name) for name in names if stripped(name)]
    if "uri" not in map(field_of, named):
        return f"the header has no column uri: it is {', '.join(map(value_text, named)) or 'empty'}"
    pairs = itertools.combinations(named, 2)
    return next((twice(name, other) for name, other in pairs if field_of(name) == field_of(other)), None)


def _csv_row(row: ManifestRow, header: list[str], values: list[str]) -> ManifestRow:
    if not stripped(header[0]) and is_row_number(header[0], values[0]):
        values = ["", *values[1:]]
    if is_gap(values):
        return ManifestRow(row.line, {}, LEFT_OUT, row.sheet_row)
    cells = list(zip(header, values, strict=False))
    surplus = len([value for value in values[len(header) :] if not is_empty(value)])
    unnamed = [value for name, value in cells if not stripped(name) and not is_empty(value)]
    reason = None
    if surplus:
        reason = f"{surplus} field{'s' * (surplus > 1)} more than the header has"
    elif unnamed:
        reason = f"{value_text(unnamed[0])!r} is in a column without a name"
    fields = {stripped(name): value for name, value in cells if stripped(name)}
    return ManifestRow(row.line, by_column(fields), reason, row.sheet_row)
