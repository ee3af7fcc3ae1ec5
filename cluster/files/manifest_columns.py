"""The columns of a manifest by the names that people and programs give them, and what means no value.

Owns how a row's values are found by field, and how a cell is shown in a message. Leaves cutting a file into rows and
cells to ``manifest_text``. Pure.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from cluster.contracts.uris import shown

_URI = (
    "uri url path file link video filename filepath fileuri fileurl fullname "
    "videouri videourl videopath videofile videolink storagepath s3uri s3url"
)
COLUMNS = {
    **dict.fromkeys(_URI.split(" "), "uri"),
    **dict.fromkeys(["language", "lang", "languagecode"], "language"),
    "priority": "priority",
}
"""The names that a column may have, in any case, without blanks, ``_`` and ``-``, and the field that each means."""

_BLANKS = "".join(filter(str.isspace, map(chr, range(0x3001)))) + "\ufeff\u200b\u200e\u200f\u2060"
"""Invisible characters around a cell: also byte order marks, and marks that come with copied text."""
_NO_VALUES = {"NULL", "null", "\\N", "NaN", "nan", "NA", "<NA>", "N/A", "n/a", "#N/A", "None"}
"""Texts that databases, spreadsheets, pandas and R write where there is no value; ``na`` is a language."""
_ROW_NUMBERS = re.compile(r"unnamed: ?[0-9]+|__index_level_[0-9]+__", re.IGNORECASE)
"""Names that pandas gives the column of its row numbers, where it has one."""
_LONGEST_SHOWN = 40


@dataclass(frozen=True)
class ManifestRow:
    """A row: its fields by column, or the reason why it cannot be read.

    ``line``: the line of the file that it begins on (in parquet: the row), from 1. ``sheet_row``: its number in a
    spreadsheet, where that is another one.
    """

    line: int
    fields: dict[str, Any] = field(default_factory=dict)
    reason: str | None = None
    sheet_row: int | None = None


def by_column(fields: Mapping[str, Any]) -> dict[str, Any]:
    """A row's values by field: columns in any case and with blanks around, values without; empty ones left out.

    Raises ``ValueError`` where two columns mean the same.
    """
    row: dict[str, Any] = {}
    sources: dict[str, str] = {}
    for name, value in fields.items():
        known = field_of(name)
        if known in sources:
            raise ValueError(twice(sources[known], name))
        sources[known] = name
        if not is_empty(value) and not is_row_number(name, value):
            row[known] = stripped(value) if isinstance(value, str) else value
    return row


def field_of(column: str) -> str:
    """The field that a column means; the column's own name where it means none."""
    name = stripped(column)
    return COLUMNS.get(re.sub(r"[\s_-]", "", name).casefold(), name)


def twice(first: str, second: str) -> str:
    """The sentence about two columns that mean the same."""
    one, other = stripped(first), stripped(second)
    if field_of(first) == one == other:
        return f"there are two columns {one}: keep one"
    return f"the columns {one} and {other} mean the same: keep one"


def stripped(text: str) -> str:
    """``text`` without what is not seen at its ends."""
    return text.strip(_BLANKS)


def is_empty(value: Any) -> bool:
    """Whether a cell holds no value, however that is written."""
    if isinstance(value, str):
        text = stripped(value)
        return not text or text in _NO_VALUES
    return value is None or value != value  # a number that is none


def is_row_number(column: str, value: Any) -> bool:
    """Whether a cell is the number that a program gave its row."""
    name = stripped(column)
    return (not name or _ROW_NUMBERS.fullmatch(name) is not None) and str(value).isdecimal()


def value_text(value: Any) -> str:
    """A cell as messages may show it: short, and without what may be secret if it is of a URL."""
    return re.split("[?&#]", shown(stripped(str(value))), maxsplit=1)[0][:_LONGEST_SHOWN]
