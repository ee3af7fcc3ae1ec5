"""Comments and docstrings are in the field's words: some words of daily speech say less than a term does."""

import ast
import io
import re
import tokenize
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]
FOLDERS = ("cluster", "actors", "serve_app", "sql", "tests")
BANNED = re.compile(
    r"(?<!`)\b(anew|befall\w*|befell|mend(s|ed|ing)?|for ever|by (itself|themselves|himself)|stands?|lies|tells?|told"
    r"|hears?|at work|comes to be|whoever|nobody\w*|somebody\w*|anybody\w*|everybody\w*)\b(?!`)",
    re.IGNORECASE,
)
"""Say: again, inject, fix, indefinitely, automatically, is, is stored, reports, reads, is running; name the thing."""


def prose(source: str) -> Iterator[tuple[int, str]]:
    """The line and the text of each comment and each docstring, those of constants included."""
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT:
            yield token.start[0], token.string
    for node in ast.walk(ast.parse(source)):
        match node:
            case ast.Expr(value=ast.Constant(value=str(text))):
                yield node.lineno, text


def found(source: str) -> list[str]:
    return [f"{line}: {word[0]}" for line, text in prose(source) for word in BANNED.finditer(text)]


def test_prose_of_the_sources_has_no_banned_word() -> None:
    files = [path for folder in FOLDERS for path in sorted((ROOT / folder).rglob("*.py"))]
    assert len(files) > 500
    words = {str(path.relative_to(ROOT)): found(path.read_text()) for path in files}
    assert {path: lines for path, lines in words.items() if lines} == {}


def test_banned_words_would_be_found() -> None:
    source = '"""Whoever reads."""\nA = 1\n"""It stands."""\ndef f():\n    """Told."""\n    # for ever\n'
    assert sorted(found(source)) == ["1: Whoever", "3: stands", "5: Told", "6: for ever"]
    assert found("standing = told = 'anew'  # restart, ``nobody``\n") == []
