"""README and CONTRIBUTING say what the code says: every setting, command, route and file, and no others."""

import re
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.core import TyperCommand, TyperGroup
from typer.main import get_command

from cluster.cli.main import app
from cluster.settings import PREFIX, Settings
from serve_app.app import ADMIN_ROUTES, OPEN_ROUTES, USER_ROUTES

ROOT = Path(__file__).parents[2]
README = ROOT / "README.md"
CONTRIBUTING = ROOT / "CONTRIBUTING.md"
EXISTING = ROOT / "docs" / "existing-database.md"
VIDEOS = ROOT / "docs" / "videos-and-batches.md"
DOCUMENTS = [README, CONTRIBUTING, EXISTING, VIDEOS]


def test_the_readmes_settings_table_is_the_code() -> None:
    rows = [line for line in README.read_text().splitlines() if line.startswith(f"| `{PREFIX}")]
    right = list(_settings_rows())
    assert rows == right, "the rows of README's settings table should be:\n" + "\n".join(right)


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_every_setting_that_is_named_exists(document: Path) -> None:
    named = set(re.findall(rf"\b{PREFIX}[A-Z_]*[A-Z]", document.read_text()))
    assert named <= {PREFIX + name.upper() for name in Settings.model_fields}


def test_every_command_is_in_the_readme() -> None:
    text = _code(README)
    missing = [name for name in _commands() if not re.search(rf"\bheimdex {name}\b", text)]
    assert missing == []


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_every_command_and_option_that_is_named_exists(document: Path) -> None:
    commands = _commands()
    for call in re.findall(r"\bheimdex ([a-z][^\n`|;&)]*)", _code(document)):
        command = next((commands[name] for name in commands if re.match(rf"{name}\b", call)), None)
        assert command is not None, f"there is no command: heimdex {call}"
        known = {option for parameter in command.params for option in parameter.opts} | {"--help"}
        assert set(re.findall(r"(?<!\S)--[a-z-]+", call)) <= known, f"heimdex {call}"


def test_every_route_is_in_the_readme_and_no_other() -> None:
    routes = {(route[0], _nameless(route[1])) for route in [*ADMIN_ROUTES, *USER_ROUTES, *OPEN_ROUTES]}
    named = re.findall(r"\b(GET|POST|PUT|PATCH|DELETE) (/[^\s`|?]*)", README.read_text())
    assert {(method, _nameless(path)) for method, path in named} == routes


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_every_make_target_that_is_named_exists(document: Path) -> None:
    named = set(re.findall(r"(?:^|`|&& )make ([a-z-]+)", _code(document), re.MULTILINE))
    assert named <= _make_targets()


def test_make_help_lists_every_target() -> None:
    phony = re.search(r"^\.PHONY: (.*)$", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert phony is not None
    assert set(phony[1].split()) == _make_targets()


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_every_file_that_is_linked_exists(document: Path) -> None:
    links = re.findall(r"\]\((?!https?://|#|mailto:)([^)#]+)", document.read_text())
    assert [link for link in links if not (document.parent / link).exists()] == []


def test_contributing_house_names_every_room_and_no_other() -> None:
    (house,) = re.findall(r"^```\n(cluster/.*?)^```", CONTRIBUTING.read_text(), re.MULTILINE | re.DOTALL)
    tops = {"cluster", "actors", "serve_app", "sql", "tests"}
    packages = {path.parent.relative_to(ROOT).parts for top in tops for path in (ROOT / top).rglob("__init__.py")}
    rooms = {name for parts in packages if parts[0] != "tests" for name in parts}
    folders = {path.name for path in (ROOT / "tests").iterdir() if path.is_dir() and any(path.glob("*.py"))}
    named = set(re.findall(r"\b([a-z_]+)/", house)) - {"migrations", "notebooks", "docs"}
    assert named == rooms | folders | {"tests"}


def _settings_rows() -> Iterator[str]:
    for name, field in Settings.model_fields.items():
        yield f"| `{PREFIX}{name.upper()}` | {_default(field.default)} | {field.description} |"


def _default(value: Any) -> str:
    if value is None:
        return "unset"
    if isinstance(value, tuple):
        return f"`{','.join(value)}`" if value else "none"
    if isinstance(value, float):
        return f"`{value:g}`"
    if isinstance(value, Path) and value.is_relative_to(tempfile.gettempdir()):
        return f"`{Path('/tmp') / value.relative_to(tempfile.gettempdir())}`"
    return f"`{value}`"


def _commands() -> dict[str, TyperCommand]:
    """Every command by its name after `heimdex`, those of groups with both words."""
    return dict(_below(get_command(app), ""))


def _below(command: Any, name: str) -> Iterator[tuple[str, TyperCommand]]:
    if not isinstance(command, TyperGroup):
        yield name, command
        return
    for word, child in command.commands.items():
        yield from _below(child, f"{name} {word}".strip())


def _code(document: Path) -> str:
    """The code blocks and code spans of a document, one below the other."""
    text = document.read_text()
    blocks = re.findall(r"^```.*?\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    spans = re.findall(r"`([^`\n]+)`", re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL))
    return "\n".join([*blocks, *spans])


def _nameless(path: str) -> str:
    return re.sub(r"\{\w+\}", "{}", path)


def _make_targets() -> set[str]:
    return set(re.findall(r"^([a-z-]+):.*## ", (ROOT / "Makefile").read_text(), re.MULTILINE))
