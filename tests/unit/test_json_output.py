"""``docs/reference/json-output.md`` has a valid schema for the JSON of every command, and refuses what none prints."""

import json
from typing import Any

import pytest
from jsonschema import Draft202012Validator, ValidationError
from typer.core import TyperGroup
from typer.main import get_command

from cluster.cli.main import app
from cluster.cli.status import empty_status
from tests.support.json_output import check_json, schemas


def with_json(command: Any, name: str = "") -> list[str]:
    if isinstance(command, TyperGroup):
        below = command.commands.items()
        return [found for word, child in below for found in with_json(child, f"{name} {word}".strip())]
    return [name] if any("--json" in parameter.opts for parameter in command.params) else []


def test_every_command_with_json_has_a_schema_and_no_other() -> None:
    assert sorted(schemas()) == sorted(with_json(get_command(app)))


@pytest.mark.parametrize("command", sorted(schemas()))
def test_schema_is_one(command: str) -> None:
    Draft202012Validator.check_schema(schemas()[command])


def test_help_promises_what_the_schema_says() -> None:
    kinds = {"array": "array", "object": "object", None: "object"}
    for command in schemas():
        option = get_command(app)
        for word in command.split():
            option = option.commands[word]  # type: ignore[attr-defined]
        (text,) = [parameter.help for parameter in option.params if "--json" in parameter.opts]  # type: ignore[attr-defined]
        assert f"JSON {kinds[schemas()[command].get('type')]}" in text, command


def test_status_without_a_database_fits() -> None:
    check_json(["status", "--json"], json.dumps(empty_status()))


@pytest.mark.parametrize("changed", [{"scheduling": 1}, {"videos": {}}, {"workers": None}, {"more": 1}])
def test_other_output_is_refused(changed: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        check_json(["status", "--json"], json.dumps({**empty_status(), **changed}))
