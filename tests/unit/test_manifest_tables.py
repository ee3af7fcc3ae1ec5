"""Manifests as clients of databases print them: rules, borders and footers are no videos."""

from pathlib import Path

import pytest

from cluster.files.manifest import BadRow
from tests.support.manifest_files import read, reason, rows

TWO = [("a.mp4", "en"), ("b ü.mp4", None)]

PSQL = " uri     | language \n---------+----------\n a.mp4   | en\n b ü.mp4 | \n(2 rows)\n\n"
PSQL_BORDER = (
    "+---------+----------+\n| uri     | language |\n+---------+----------+\n"
    "| a.mp4   | en       |\n| b ü.mp4 |          |\n+---------+----------+\n"
)
PSQL_UNICODE = " uri     │ language \n─────────┼──────────\n a.mp4   │ en\n b ü.mp4 │ \n(2 rows)\n"
DUCKDB = (
    "┌─────────┬──────────┐\n│   uri   │ language │\n│ varchar │ varchar  │\n├─────────┼──────────┤\n"
    "│ a.mp4   │ en       │\n│ b ü.mp4 │ NULL     │\n└─────────┴──────────┘\n"
)
DUCKDB_FOOTER = DUCKDB.replace(
    "└─────────┴──────────┘", "├─────────┴──────────┤\n│ 2 rows   2 columns │\n└────────────────────┘"
)
MARKDOWN = "| uri | language |\n|:---|---:|\n| a.mp4 | en |\n| b ü.mp4 | |\n"


@pytest.mark.parametrize(
    "text",
    [
        PSQL,
        PSQL.replace("(2 rows)", "(2 Zeilen)"),
        PSQL.replace("(2 rows)", "(2개 행)"),
        PSQL + "Time: 0.512 ms\n",
        PSQL_BORDER,
        PSQL_BORDER + "(2 rows)\n",
        PSQL_BORDER + "2 rows in set (0.00 sec)\n\n",
        PSQL_BORDER + "2 rows in set, 1 warning (0,00 sec)\n",
        PSQL_BORDER.replace("-", "="),
        PSQL_UNICODE,
        DUCKDB,
        DUCKDB_FOOTER,
        DUCKDB.replace("│ varchar │ varchar  │\n", ""),
        MARKDOWN,
        MARKDOWN.replace(":---|---:", "-|-"),
        "uri|language\na.mp4|en\nb ü.mp4|\n(2 rows)\n",
        "uri,language\n---,--------\na.mp4,en\nb ü.mp4,\n\n(2 rows affected)\n",
        "uri,language\n-------,--------\na.mp4,en\nb ü.mp4,NULL\n\n(2개 행이 영향을 받음)\n\n",
        "uri\tlanguage\n---\t--------\na.mp4\ten\nb ü.mp4\tNULL\n\n(2 rows affected)\n\nCompletion time: 2024-05-01\n",
        "uri;language\n--- ;--------\na.mp4;en\nb ü.mp4;\n\n2 rows selected.\n",
        "uri,language\na.mp4,en\nb ü.mp4,\n(2 rows),\n",
    ],
)
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_printed_tables_are_read(text: str, end: str, tmp_path: Path) -> None:
    assert rows(tmp_path, "m.txt", text.replace("\n", end)) == TWO


@pytest.mark.parametrize(
    "text",
    [
        "+-------+\n| uri   |\n+-------+\n| a.mp4 |\n+-------+\n1 row in set (0.00 sec)\n",
        "  uri  \n-------\n a.mp4\n(1 row)\n",
        "uri\n----\na.mp4\n\n(1 rows affected)\n",
        "┌───────┐\n│  uri  │\n├───────┤\n│ a.mp4 │\n└───────┘\n",
    ],
)
def test_printed_tables_of_one_column_are_read(text: str, tmp_path: Path) -> None:
    assert rows(tmp_path, "m.csv", text) == [("a.mp4", None)]


def test_quotes_in_a_printed_table_are_part_of_a_name(tmp_path: Path) -> None:
    text = '| uri | language |\n|---|---|\n| "q" x.mp4 | en |\n| "y.mp4 | |\n'
    assert rows(tmp_path, "m.csv", text) == [('"q" x.mp4', "en"), ('"y.mp4', None)]


def test_a_row_that_may_be_a_type_is_read(tmp_path: Path) -> None:
    for table in ("+-----+\n| uri |\n+-----+\n| int |\n+-----+\n", "uri\n-----\nint\n"):
        assert rows(tmp_path, "m.csv", table) == [("int", None)]


def test_a_table_without_rows_has_none(tmp_path: Path) -> None:
    assert rows(tmp_path, "m.csv", " uri | language \n-----+----------\n(0 rows)\n\n") == []


def test_a_footer_is_one_at_the_end_alone(tmp_path: Path) -> None:
    text = "uri,language\n(2 rows),\na.mp4,en\n(3 rows),de\n"
    assert rows(tmp_path, "m.csv", text) == [("(2 rows)", None), ("a.mp4", "en"), ("(3 rows)", "de")]
    lines = read(tmp_path, "m.csv", "uri,priority\n(2 rows)\na.mp4,x\n").bad_rows
    assert [bad.line for bad in lines] == [3]


@pytest.mark.parametrize(
    "name", ["(2 rows).mp4", "(2) rows", "2 rows.mp4", "(2019 Urlaub)", "rows", "-a-", "a--b", "-"]
)
def test_names_that_look_like_footers_are_read(name: str, tmp_path: Path) -> None:
    assert rows(tmp_path, "m.csv", f"uri,language\na.mp4,en\n{name},\n") == [("a.mp4", "en"), (name, None)]


def test_lines_of_bad_rows_count_rules(tmp_path: Path) -> None:
    text = PSQL_BORDER.replace("en      ", "english ")
    assert [bad.line for bad in read(tmp_path, "m.csv", text).bad_rows] == [4]


def test_rows_that_a_client_left_out_are_named(tmp_path: Path) -> None:
    text = DUCKDB.replace("│ b ü", "│  ·      │  ·       │\n│  ·      │  ·       │\n│ b ü")
    manifest = read(tmp_path, "m.txt", text)
    assert len(manifest.submissions) == 2
    sentence = "rows are left out here: export the table as CSV"
    assert manifest.bad_rows == [BadRow(6, sentence), BadRow(7, sentence)]


@pytest.mark.parametrize(
    "text",
    [
        "-[ RECORD 1 ]---\nuri      | a.mp4\nlanguage | en\n-[ RECORD 2 ]---\nuri      | b.mp4\n",
        "+-[ RECORD 1 ]-----+\n| uri      | a.mp4 |\n",
        "*************************** 1. row ***************************\nuri: a.mp4\nlanguage: en\n",
    ],
)
def test_one_column_a_line_is_refused_in_a_sentence(text: str, tmp_path: Path) -> None:
    assert reason(tmp_path, "m.csv", text) == "this table has one column a line (\\x or \\G): export it as CSV"


@pytest.mark.parametrize("end", ["\x1a", "\r\n\x1a", "\r\n\x1a\r\n", "\x1a\x1a"])
@pytest.mark.parametrize("encoding", ["utf-8", "cp1252", "utf-16"])
def test_the_end_mark_of_dos_is_no_row(encoding: str, end: str, tmp_path: Path) -> None:
    text = "uri,language\r\na.mp4,en\r\nb ü.mp4,"
    assert rows(tmp_path, "m.csv", (text + end).encode(encoding)) == TWO
    assert rows(tmp_path, "m.csv", text.encode("utf-16") + b"\x1a") == TWO
    assert rows(tmp_path, "m.json", '{"uri": "a.mp4", "language": "en"}\r\n' + end) == TWO[:1]
    assert rows(tmp_path, "m.json", '["a.mp4"]' + end) == [("a.mp4", None)]


def test_a_header_again_is_no_row(tmp_path: Path) -> None:
    """As ``copy a.csv+b.csv`` and clients with pages leave it."""
    assert rows(tmp_path, "m.csv", "uri,language\r\na.mp4,en\r\n\ufeffuri,language\r\nb ü.mp4,\r\n\x1a") == TWO
    assert rows(tmp_path, "m.csv", "uri\r\na.mp4\r\nuri\r\n") == [("a.mp4", None)]
