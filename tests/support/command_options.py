"""Every command of ``heimdex`` with its arguments and options, as Markdown."""

import inspect
from collections.abc import Iterator
from typing import Any

from typer.core import TyperCommand, TyperGroup
from typer.main import get_command

from cluster.cli.main import app


def commands() -> dict[str, TyperCommand]:
    """Every command by its name after `heimdex`, those of groups with both words."""
    return dict(_below(get_command(app), ""))


def _below(command: Any, name: str) -> Iterator[tuple[str, TyperCommand]]:
    if not isinstance(command, TyperGroup):
        yield name, command
        return
    for word, child in command.commands.items():
        yield from _below(child, f"{name} {word}".strip())


def command_options() -> str:
    return "\n\n".join(_section(name, command) for name, command in sorted(commands().items()))


def _section(name: str, command: TyperCommand) -> str:
    text = [f"### {name}", " ".join(inspect.cleandoc(command.help or "").split())]
    rows = [_row(parameter) for parameter in command.params if not getattr(parameter, "hidden", False)]
    if rows:
        text.append("\n".join(["| argument or option | default | meaning |", "|---|---|---|", *rows]))
    return "\n\n".join(text)


def _row(parameter: Any) -> str:
    names = "`, `".join([*parameter.opts, *parameter.secondary_opts])
    if parameter.param_type_name == "argument":
        names = (parameter.metavar or parameter.name).upper()
    meaning = " ".join((parameter.help or "").split()).replace("|", "\\|")
    return f"| `{names}` | {_default(parameter)} | {meaning} |"


def _default(parameter: Any) -> str:
    if parameter.required:
        return "required"
    value = parameter.default
    if value is None or value is False or value == () or value == []:
        return ""
    return f"`{getattr(value, 'value', value)}`"
