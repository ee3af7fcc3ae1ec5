"""The command line as typer builds it, with help that reads as help: no ``<bool>`` beside an option that takes nothing.

Owns what ``--help`` shows of the types of options. What the commands are is ``main``'s.
"""

from typing import Any

import typer
from typer.core import TyperArgument, TyperCommand, TyperGroup, TyperOption
from typer.main import get_command

_WORDS = {"bool": "", "str": "TEXT", "int": "NUMBER", "int range": "NUMBER", "float": "NUMBER", "float range": "NUMBER",
    "path": "FILE", "file": "FILE"}  # fmt: skip
"""Typer's name of a type, and the word that is shown for a value of it; others are shown without their brackets."""


class _PlainOption(TyperOption):
    def display_type_rich(self, ctx: Any) -> str:
        """What follows the option, nothing where nothing does."""
        if self.metavar is not None:
            return self.metavar
        known = self.display_type(ctx).strip("<>")
        return _WORDS.get(known, known)


class _PlainArgument(TyperArgument):
    def display_type_rich(self, ctx: Any) -> str:  # noqa: ARG002  typer's signature
        """Nothing: an argument's name says what it is."""
        return ""


def plain_command(app: typer.Typer) -> TyperCommand | TyperGroup:
    """The command of an app, with all commands below it, whose help has no placeholders of types."""
    command = get_command(app)
    assert isinstance(command, TyperCommand | TyperGroup)
    _make_plain(command)
    return command


def _make_plain(command: Any) -> None:
    help_option = command.get_help_option(typer.Context(command))  # made now, and kept
    for parameter in [*command.params, *([help_option] if help_option is not None else [])]:
        parameter.__class__ = _PlainArgument if isinstance(parameter, TyperArgument) else _PlainOption
    if isinstance(command, TyperGroup):
        for child in command.commands.values():
            _make_plain(child)
