"""The schemas of ``docs/reference/json-output.md``, and the comparison of what a command printed with its own."""

import json
import re
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

from jsonschema import Draft202012Validator

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "json-output.md"
BY_LINE = {"logs"}
"""Commands that print one document a line."""
_SECTION = re.compile(r"^## (.*?)\n.*?^```json\n(.*?)^```", re.MULTILINE | re.DOTALL)


@cache
def schemas() -> dict[str, dict[str, Any]]:
    """The schema of each command by its words after ``heimdex``."""
    found = {title: json.loads(block) for title, block in _SECTION.findall(PAGE.read_text())}
    shared = found.pop("Shared parts")
    return {title.removeprefix("heimdex "): {**schema, "$defs": shared} for title, schema in found.items()}


def check_json(arguments: Sequence[str], printed: str | bytes) -> None:
    """Compare what ``heimdex`` printed with these arguments, ``--json`` among them, with its schema, if it printed."""
    words = " ".join(arguments)
    command = max((name for name in schemas() if re.match(rf"{name}( |$)", words)), key=len, default=None)
    if "--json" not in arguments or not printed.strip():
        return
    assert command is not None, f"docs/reference/json-output.md lacks `heimdex {words}`"
    validator = Draft202012Validator(schemas()[command])
    for document in printed.splitlines() if command in BY_LINE else [printed]:
        validator.validate(json.loads(document))
