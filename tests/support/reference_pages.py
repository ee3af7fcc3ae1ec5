"""Generated parts of the reference pages, each made from the code: settings, options, operations, error types.

``make reference`` writes them into the pages, between ``<!-- generated: NAME -->`` and ``<!-- end -->``; a unit test
compares the pages with them. ``command_options`` and ``http_operations`` make the longer parts.
"""

import re
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from cluster.contracts.errors import HeimdexError
from cluster.settings import PREFIX, Settings
from tests.support.command_options import command_options
from tests.support.http_operations import http_operations

REFERENCE = Path(__file__).parents[2] / "docs" / "reference"


def settings_table() -> str:
    rows = (
        f"| `{PREFIX}{name.upper()}` | {_default(field.default)} | {field.description} |"
        for name, field in Settings.model_fields.items()
    )
    return "\n".join(["| setting | default | meaning |", "|---|---|---|", *rows])


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


def error_tree() -> str:
    return "\n".join(_errors_below(HeimdexError, 0))


def _errors_below(parent: type[HeimdexError], depth: int) -> Iterator[str]:
    for error in parent.__subclasses__():
        if error.__module__ == HeimdexError.__module__:
            yield f"{'    ' * depth}- `{error.__name__}`: {error.__doc__}".replace("``", "`")
            yield from _errors_below(error, depth + 1)


GENERATED: dict[str, tuple[Path, Callable[[], str]]] = {
    "settings": (REFERENCE / "settings.md", settings_table),
    "options": (REFERENCE / "commands.md", command_options),
    "operations": (REFERENCE / "operations.md", http_operations),
    "errors": (REFERENCE / "errors.md", error_tree),
}
"""Each generated part with its page."""


def with_part(page: str, name: str, part: str) -> str:
    """The page with its generated part replaced."""
    begin, end = f"<!-- generated: {name} -->\n", "<!-- end -->"
    made, count = re.subn(f"{begin}.*?{end}", lambda _: f"{begin}\n{part}\n\n{end}", page, flags=re.DOTALL)
    if count != 1:
        raise ValueError(f"a page has {count} parts {name}, not one")
    return made


def main() -> None:
    for name, (page, make) in GENERATED.items():
        page.write_text(with_part(page.read_text(), name, make()))


if __name__ == "__main__":
    main()
