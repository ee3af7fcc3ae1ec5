"""README, CONTRIBUTING and the pages say what the code says: every setting, command, route and file, and no others."""

import re
from pathlib import Path

import pytest

from cluster.settings import PREFIX, Settings
from serve_app.route_table import ADMIN_ROUTES, OPEN_ROUTES, USER_ROUTES
from tests.support.command_options import commands
from tests.support.reference_pages import GENERATED, with_part

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
README = ROOT / "README.md"
CONTRIBUTING = ROOT / "CONTRIBUTING.md"
PAGES = sorted(DOCS.rglob("*.md"))
DOCUMENTS = [*sorted(ROOT.glob("*.md")), *PAGES]
COMMANDS = DOCS / "reference" / "commands.md"
HTTP = DOCS / "reference" / "http.md"
OPERATIONS = DOCS / "reference" / "operations.md"
TOPS = "cluster|actors|serve_app|sql|tests|docs|notebooks|store|stages"
EXAMPLES = {"actors/stages/face_detector.py", "tests/unit/test_face_detector.py"}
"""Files of CONTRIBUTING's example of a new stage."""

of_each_document = pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))


@pytest.mark.parametrize("name", GENERATED)
def test_generated_parts_of_the_reference_are_those_of_the_code(name: str) -> None:
    page, make = GENERATED[name]
    assert page.read_text() == with_part(page.read_text(), name, make()), "run: make reference"


@of_each_document
def test_every_setting_that_is_named_exists(document: Path) -> None:
    named = set(re.findall(rf"\b{PREFIX}[A-Z_]*[A-Z]", document.read_text()))
    assert named <= {PREFIX + name.upper() for name in Settings.model_fields}


def test_table_of_commands_has_every_command_and_no_other() -> None:
    known = commands()
    rows = [line for line in COMMANDS.read_text().splitlines() if line.startswith("| `heimdex ")]
    named = re.findall(r"`heimdex ([a-z][^`]*)`", "\n".join(row.split(" | ")[0] for row in rows))
    assert {_command_of(call) for call in named} == set(known)


@of_each_document
def test_every_command_and_option_that_is_named_exists(document: Path) -> None:
    for call in re.findall(r"(?<![=\w-])heimdex ([a-z][^\n`|;&)]*)", _code(document)):
        name = _command_of(call)
        assert name is not None, f"there is no command: heimdex {call}"
        known = {option for parameter in commands()[name].params for option in parameter.opts} | {"--help"}
        assert set(re.findall(r"(?<!\S)--[a-z-]+", call)) <= known, f"heimdex {call}"


@pytest.mark.parametrize("page", [HTTP, OPERATIONS], ids=lambda path: path.name)
def test_every_route_is_in_the_reference_and_no_other(page: Path) -> None:
    assert _routes_named(page) == _routes()


@of_each_document
def test_every_route_that_is_named_exists(document: Path) -> None:
    assert _routes_named(document) <= _routes()


@of_each_document
def test_every_make_target_that_is_named_exists(document: Path) -> None:
    named = set(re.findall(r"(?:^|`|&& )make ([a-z-]+)", _code(document), re.MULTILINE))
    assert named <= _make_targets()


def test_make_help_lists_every_target() -> None:
    phony = re.search(r"^\.PHONY: (.*)$", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert phony is not None
    assert set(phony[1].split()) == _make_targets()


@of_each_document
def test_every_file_that_is_linked_exists(document: Path) -> None:
    links = re.findall(r"\]\((?!https?://|#|mailto:)([^)#]+)", document.read_text())
    assert [link for link in links if not (document.parent / link).exists()] == []


@of_each_document
def test_every_file_of_the_repository_that_is_named_exists(document: Path) -> None:
    spans = re.findall(r"`([^`\n]+)`", document.read_text())
    named = [span for span in spans if re.fullmatch(rf"(?:{TOPS})/[\w./-]*", span)]
    assert [name for name in named if not (ROOT / name).exists() and name not in EXAMPLES] == []


@of_each_document
def test_shell_block_names_its_test_or_why_it_is_not_run(document: Path) -> None:
    text = document.read_text()
    for before, language in re.findall(r"((?:.*\n){2})^ *```(\w*)\n", _without_contents_of_fences(text), re.MULTILINE):
        assert language, f"a block without its language, after {before!r}"
        if language not in {"sh", "bash", "shell", "console"}:
            continue
        mark = re.search(r"<!-- (?:run by (?P<test>\S+\.py)|not run: \S.*) -->\n$", before)
        assert mark is not None, f"a shell block without its mark, after {before!r}"
        if mark["test"]:
            assert document.name in (ROOT / mark["test"]).read_text(), f"{mark['test']} does not read {document.name}"


def test_readme_shows_only_commands_that_the_quickstart_runs() -> None:
    quickstart = set(_shell_lines(DOCS / "quickstart.md"))
    assert [line for line in _shell_lines(README) if line not in quickstart] == []


def test_first_pages_are_short() -> None:
    assert len(README.read_text().splitlines()) <= 150
    assert len(CONTRIBUTING.read_text().splitlines()) <= 120


def test_contributing_house_names_every_room_and_no_other() -> None:
    (house,) = re.findall(r"^```text\n(cluster/.*?)^```", CONTRIBUTING.read_text(), re.MULTILINE | re.DOTALL)
    tops = {"cluster", "actors", "serve_app", "sql", "tests"}
    packages = {path.parent.relative_to(ROOT).parts for top in tops for path in (ROOT / top).rglob("__init__.py")}
    rooms = {name for parts in packages if parts[0] != "tests" for name in parts}
    folders = {path.name for path in (ROOT / "tests").iterdir() if path.is_dir() and any(path.glob("*.py"))}
    named = set(re.findall(r"\b([a-z_]+)/", house)) - {"migrations", "notebooks", "docs"}
    assert named == rooms | folders | {"tests"}


def _command_of(call: str) -> str | None:
    """The longest name of a command that the call begins with."""
    return max((name for name in commands() if re.match(rf"{name}\b", call)), key=len, default=None)


def _routes() -> set[tuple[str, str]]:
    return {(route.method, _nameless(route.path)) for route in [*ADMIN_ROUTES, *USER_ROUTES, *OPEN_ROUTES]}


def _routes_named(document: Path) -> set[tuple[str, str]]:
    named = re.findall(r"\b(GET|POST|PUT|PATCH|DELETE) (/[^\s`|?,;:)]*)", document.read_text())
    return {(method, _nameless(path)) for method, path in named}


def _code(document: Path) -> str:
    """The code blocks and code spans of a document, one below the other."""
    text = document.read_text()
    blocks = re.findall(r"^ *```.*?\n(.*?)^ *```", text, re.MULTILINE | re.DOTALL)
    spans = re.findall(r"`([^`\n]+)`", re.sub(r"^ *```.*?^ *```", "", text, flags=re.MULTILINE | re.DOTALL))
    return "\n".join([*blocks, *spans])


def _without_contents_of_fences(text: str) -> str:
    """The text with each fenced block reduced to the line that opens it."""
    return re.sub(r"^( *```\w*\n).*?^ *```$\n?", r"\1", text, flags=re.MULTILINE | re.DOTALL)


def _shell_lines(document: Path) -> list[str]:
    blocks = re.findall(r"^ *```sh\n(.*?)^ *```", document.read_text(), re.MULTILINE | re.DOTALL)
    return [line.partition("  #")[0].strip() for block in blocks for line in block.splitlines() if line.strip()]


def _nameless(path: str) -> str:
    return re.sub(r"\{\w+\}", "{}", path)


def _make_targets() -> set[str]:
    return set(re.findall(r"^([a-z-]+):.*## ", (ROOT / "Makefile").read_text(), re.MULTILINE))
