"""The rows of a manifest out of its bytes, as spreadsheets, editors and programs write them.

Owns separators, headers and which line of the file a row begins on. Leaves encodings to ``manifest_encoding``, JSON to
``manifest_json``, what columns mean to ``manifest_columns`` and what a row means to ``manifest``.
Pure: bytes in, rows out, so that a row is the same whichever process reads it.
"""

import csv
import io
import itertools
import re
from collections.abc import Iterator
from typing import Any

from cluster.manifest_columns import ManifestRow, by_column, field_of, is_empty, is_row_number, stripped, told, twice
from cluster.manifest_encoding import UnreadableText, decoded
from cluster.manifest_json import json_rows

FORMATS = (".csv", ".jsonl", ".parquet", ".tsv", ".txt", ".json", ".ndjson")
_SEPARATORS = ",;\t|"
_SEP_LINE = re.compile(r'"?sep=(?P<separator>[^\r\n"]|\\t)"?[ ,;\t|]*(?:\r\n|\r|\n|$)', re.IGNORECASE)
"""What Excel takes for no row of the sheet."""


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
    yield from json_rows(text) if "json" in suffix else _csv_rows(text)


# CSV


def _csv_rows(text: str) -> Iterator[ManifestRow]:
    marked = _SEP_LINE.match(text)
    if marked:
        separator = marked["separator"].replace("\\t", "\t")
        text, hidden = text[marked.end() :], 1
    else:
        separator, hidden = _separator_of(text), 0
    records = _records(text, separator, hidden)
    header: list[str] | None = None
    for row, values in records:
        if row.reason is not None:
            yield row
        elif not any(map(stripped, values)) or (header is None and values[0].startswith("#")):
            continue  # what is above the header may be a comment, or PowerShell's #TYPE
        elif header is not None:
            yield _csv_row(row, header, values)
        elif reason := _wrong_header(values):
            yield ManifestRow(row.line, reason=reason)
            return
        else:
            header = values
    if header is None:
        yield ManifestRow(1, reason=_wrong_header([]))


def _separator_of(text: str) -> str:
    """The separator by which the header has the column of URIs, the one with the most columns if several do."""
    lines = (line for line in io.StringIO(text, newline=None) if stripped(line).strip(_SEPARATORS))
    first = next(itertools.dropwhile(lambda line: line.startswith(("#", '"#')), lines), "")

    def columns(separator: str) -> tuple[bool, int]:
        names: list[str] = next(_reader(first, separator, strict=False), [])
        return "uri" in map(field_of, names), len(names)

    return max(_SEPARATORS, key=columns)


def _reader(text: str, separator: str, *, strict: bool) -> Any:
    lines = io.StringIO(text, newline="")
    return csv.reader(lines, delimiter=separator, skipinitialspace=True, strict=strict)


def _records(text: str, separator: str, hidden: int) -> Iterator[tuple[ManifestRow, list[str]]]:
    """Every record with where it begins; ``hidden``: lines above that no spreadsheet shows."""
    reader = _reader(text, separator, strict=True)
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
        return f"the header has no column uri: it is {', '.join(map(told, named)) or 'empty'}"
    pairs = itertools.combinations(named, 2)
    return next((twice(name, other) for name, other in pairs if field_of(name) == field_of(other)), None)


def _csv_row(row: ManifestRow, header: list[str], values: list[str]) -> ManifestRow:
    if not stripped(header[0]) and is_row_number(header[0], values[0]):
        values = ["", *values[1:]]
    cells = list(zip(header, values, strict=False))
    surplus = len([value for value in values[len(header) :] if not is_empty(value)])
    unnamed = [value for name, value in cells if not stripped(name) and not is_empty(value)]
    reason = None
    if surplus:
        reason = f"{surplus} field{'s' * (surplus > 1)} more than the header has"
    elif unnamed:
        reason = f"{told(unnamed[0])!r} is in a column without a name"
    fields = {stripped(name): value for name, value in cells if stripped(name)}
    return ManifestRow(row.line, by_column(fields), reason, row.sheet_row)
