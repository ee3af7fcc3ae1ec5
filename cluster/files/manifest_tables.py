"""Tables as clients of databases print them: their rules, borders and footers, which are no rows.

Owns how those look (psql, mysql, sqlcmd, sqlite3, duckdb, bq, Markdown). Leaves rows to ``manifest_text``. Pure.
"""

import re
from collections.abc import Sequence

from cluster.files.manifest_columns import is_empty, stripped

ONE_COLUMN_A_LINE = "this table has one column a line (\\x or \\G): export it as CSV"
LEFT_OUT = "rows are left out here: export the table as CSV"

_RULE = re.compile(r"(?=.*(?:[-=─━═]{2}|:-|-:))[-+=|:\s\u2500-\u257f]+", re.DOTALL)
_EXPANDED = re.compile(r"[+┌╔]?[-─═]\[ RECORD [0-9]+ \]|\*{3,} [0-9]+\. row \*{3,}")
_TYPE = re.compile(r"[a-z][a-z_ ]*[0-9]*(?:\([0-9, ]+\))?(?:\[\])?")
_ROWS = (
    "(?:rows?|records?|zeilen?|lignes?|filas?|righ[ea]|linhas?|registros?|rij(?:en)?|rader|rad|wiersz[ey]?|"
    "строк[аи]?|行|개(?:의)? ?행|행)"
)
_FOOTER = re.compile(
    rf"\([0-9][0-9.,]* ?{_ROWS}(?:\s?[^\W\d_])*(?: [^\W\d_]+)*\)"
    r"|[0-9]+ rows? (?:in set|selected|returned|affected|retrieved|fetched)\b.*"
    r"|[0-9]+ rows?(?: \([0-9.,]+[a-z ]* shown\))?(?: {2,}[0-9]+ columns?)?"
    r"|\([0-9]+ shown\)"
    r"|no rows selected"
    r"|(?:Time|Run Time|Elapsed|Completion time): .*",
    re.IGNORECASE,
)


def is_rule(text: str) -> bool:
    """Whether a line, or a record's cells joined, is drawn: a rule between rows, or a border."""
    return _RULE.fullmatch(text) is not None


def is_footer(values: Sequence[str]) -> bool:
    """Whether a record is what a client prints below a table, such as the number of its rows."""
    filled = [stripped(value) for value in values if not is_empty(value)]
    return len(filled) == 1 and _FOOTER.fullmatch(filled[0]) is not None


def are_types(values: Sequence[str]) -> bool:
    """Whether a record may be the types of the columns, which duckdb prints between the header and the rule."""
    filled = [stripped(value) for value in values if stripped(value)]
    return bool(filled) and all(map(_TYPE.fullmatch, filled))


def is_gap(values: Sequence[str]) -> bool:
    """Whether a row says only that a client left rows out (``·`` or ``…``)."""
    return {stripped(value) for value in values if stripped(value)} in ({"·"}, {"…"})


def is_expanded(line: str) -> bool:
    """Whether a line begins a record of which each column has a line."""
    return _EXPANDED.match(stripped(line)) is not None
