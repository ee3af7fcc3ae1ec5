"""The picture of the demo, docs/pictures/demo.svg, made from a real run of it: ``make picture``."""

import io
import os
import re
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from rich.console import Console
from rich.terminal_theme import MONOKAI
from rich.text import Text

from tests.support.terminal_screen import Screen, record

PICTURE = Path(__file__).parents[2] / "docs" / "pictures" / "demo.svg"
COLUMNS = 104
PROMPT = "\x1b[1;32m$\x1b[0m make demo"
LEFT_OUT = "\x1b[2m…\x1b[0m"
FONT = '"DejaVu Sans Mono", "Liberation Mono", Menlo, Consolas, monospace'


def shown(screen: Screen) -> Iterator[str]:
    """The lines of the picture: videos that are READY, time per stage, what is seen."""
    plain, styled = screen.plain(), screen.styled()
    yield PROMPT
    yield LEFT_OUT
    yield from (line for line, words in zip(styled, plain, strict=True) if words.startswith("READY "))
    yield LEFT_OUT
    stages = plain.index("Time per stage")
    ended = next(number for number in range(stages, len(plain)) if " videos READY" in plain[number])
    yield from styled[stages : ended + 1]
    yield ""
    asked = next(number for number, words in enumerate(plain) if words.startswith("What is seen: "))
    bottom = next(number for number in range(asked, len(plain)) if plain[number].startswith("└"))
    yield styled[asked]
    yield from styled[asked + 2 : bottom + 1]


def draw(lines: Iterator[str]) -> str:
    """An SVG that needs no font from elsewhere."""
    console = Console(record=True, width=COLUMNS, file=io.StringIO(), force_terminal=True)
    for line in lines:
        console.print(Text.from_ansi(line), no_wrap=True, overflow="crop", soft_wrap=True)
    picture = console.export_svg(title="heimdex demo", theme=MONOKAI, unique_id="demo")
    picture = re.sub(r"@font-face \{.*?\}\s*|<!--.*?-->\s*", "", picture, flags=re.DOTALL)
    return picture.replace("Fira Code, monospace", FONT)


def main() -> None:
    with tempfile.TemporaryDirectory(prefix="heimdex-") as folder:
        environment = {**os.environ, "HEIMDEX_DATA_DIR": folder, "TERM": "xterm-256color", "COLUMNS": str(COLUMNS)}
        screen = Screen()
        screen.write(record([sys.executable, "-m", "cluster", "demo"], environment, COLUMNS))
    PICTURE.write_text(draw(shown(screen)))


if __name__ == "__main__":
    main()
