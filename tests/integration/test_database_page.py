"""The page database.md on a migrated database: every table with its columns, sequence and function, and no other."""

import re
from pathlib import Path

from cluster.store.postgres.connections import connect

PAGE = (Path(__file__).parents[2] / "docs" / "reference" / "database.md").read_text()
COLUMNS = """
SELECT c.relname AS name, array_agg(a.attname::text ORDER BY a.attnum) AS columns
FROM pg_class AS c JOIN pg_attribute AS a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
WHERE c.relnamespace = 'public'::regnamespace AND c.relkind IN ('r', 'p') GROUP BY 1
"""
SEQUENCES = "SELECT relname AS name FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relkind = 'S'"
FUNCTIONS = """
SELECT proname AS name, pg_get_function_identity_arguments(p.oid) AS arguments FROM pg_proc AS p
WHERE pronamespace = 'public'::regnamespace
AND NOT EXISTS (SELECT FROM pg_depend AS d WHERE d.objid = p.oid AND d.deptype = 'e')
"""
TYPES = {"anyelement": "anyelement", "timestamp with time zone": "timestamptz"}


def test_page_has_every_table_with_its_columns(database_url: str) -> None:
    rows = re.findall(r"^\| `(\w+)` \| [^|]+ \| (`[^|]+`) \|$", PAGE, re.MULTILINE)
    with connect(database_url) as connection:
        found = {row["name"]: row["columns"] for row in connection.execute(COLUMNS)}
    assert {name: re.findall(r"`(\w+)`", columns) for name, columns in rows} == found


def test_page_names_every_sequence(database_url: str) -> None:
    (named,) = re.findall(r"Sequences: ([^.]+)\.", PAGE)
    with connect(database_url) as connection:
        found = {row["name"] for row in connection.execute(SEQUENCES)}
    assert set(re.findall(r"`(\w+)`", named)) == found


def test_page_has_every_function_with_its_parameters(database_url: str) -> None:
    rows = re.findall(r"^\| `(\w+)\(([^)]*)\)` \|", PAGE, re.MULTILINE)
    with connect(database_url) as connection:
        found = {row["name"]: _parameters(row["arguments"]) for row in connection.execute(FUNCTIONS)}
    assert dict(rows) == found


def _parameters(arguments: str) -> str:
    """The names of parameters, or the types of those without a name."""
    each = [argument for argument in arguments.split(", ") if argument]
    return ", ".join(TYPES.get(argument) or argument.split()[0] for argument in each)
