"""Comments, docstrings and messages are in the field's words, and docstrings begin with a short sentence."""

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


def messages(source: str) -> Iterator[tuple[int, str]]:
    """The line and the text of each other string: what users and operators may read."""
    tree = ast.parse(source)
    docstrings = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    for node in ast.walk(tree):
        match node:
            case ast.Constant(value=str(text)) if id(node) not in docstrings:
                yield node.lineno, text


def beginnings(source: str) -> Iterator[tuple[int, str]]:
    """The line and the first sentence of each docstring of a module, class or function."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            text = ast.get_docstring(node)
            if text:
                yield node.body[0].lineno, re.split(r"(?<=[.:;])\s|\n\n", text, maxsplit=1)[0]


def found(source: str) -> list[str]:
    return [f"{line}: {word[0]}" for line, text in prose(source) for word in BANNED.finditer(text)]


def sources(*folders: str) -> list[Path]:
    return [path for folder in folders for path in sorted((ROOT / folder).rglob("*.py"))]


def test_prose_of_the_sources_has_no_banned_word() -> None:
    files = sources(*FOLDERS)
    assert len(files) > 500
    words = {str(path.relative_to(ROOT)): found(path.read_text()) for path in files}
    assert {path: lines for path, lines in words.items() if lines} == {}


def test_documents_have_no_banned_word() -> None:
    documents = [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")]
    assert len(documents) > 40
    words = {str(path.relative_to(ROOT)): found_in_document(path.read_text()) for path in documents}
    assert {path: lines for path, lines in words.items() if lines} == {}


def found_in_document(text: str) -> list[str]:
    """Banned words outside of code blocks and code spans."""
    prose_only = re.sub(r"^ *```.*?^ *```|`[^`\n]*`", "", text, flags=re.MULTILINE | re.DOTALL)
    return [word[0] for word in BANNED.finditer(prose_only)]


def test_banned_words_would_be_found() -> None:
    source = '"""Whoever reads."""\nA = 1\n"""It stands."""\ndef f():\n    """Told."""\n    # for ever\n'
    assert sorted(found(source)) == ["1: Whoever", "3: stands", "5: Told", "6: for ever"]
    assert found_in_document("It stands.\n```sh\ntold\n```\n`nobody`, anew\n") == ["stands", "anew"]
    assert found("standing = told = 'anew'  # restart, ``nobody``\n") == []


def test_messages_of_the_product_have_no_banned_word() -> None:
    texts = [(path, line, text) for path in sources(*FOLDERS[:-1]) for line, text in messages(path.read_text())]
    assert len(texts) > 5000
    wrong = [
        (str(path.relative_to(ROOT)), line, word[0]) for path, line, text in texts for word in BANNED.finditer(text)
    ]
    assert wrong == []


def test_first_sentence_of_a_docstring_has_20_words_at_most() -> None:
    sentences = [(path, line, text) for path in sources(*FOLDERS) for line, text in beginnings(path.read_text())]
    assert len(sentences) > 3000
    assert [(str(path.relative_to(ROOT)), line) for path, line, text in sentences if len(text.split()) > 20] == []


def test_test_names_have_60_letters_at_most() -> None:
    names = [name for path in sources("tests") for name in re.findall(r"\bdef (test_\w+)", path.read_text())]
    assert len(names) > 2000
    assert [name for name in names if len(name) > 60] == []
