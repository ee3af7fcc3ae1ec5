"""Text that others wrote is shown by terminals and logs, never obeyed."""

import ast
import io
import logging
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import typer
from rich.live import Live
from rich.progress import Progress, TextColumn
from rich.table import Table
from rich.text import Text

from cluster.cli import terminal
from cluster.cli.terminal import VisibleConsole, cell, in_markup, run
from cluster.security.visible import VisibleRecord, guard_output, lines, visible

ROOT = Path(__file__).parents[2]
ORDERS = [
    *map(chr, range(0x20)), "\x7f", *map(chr, range(0x80, 0xA0)),
    "\x1b[2J", "\x1b]0;title\x07", "\x1b]8;;http://x\x1b\\", "\x9b31m", "\x1bP1$r\x1b\\",
    *"\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069\u200e\u200f\u061c\u2028\u2029\u200b\ufeff\u00ad",
    "\U000e0041", "\ud800",
]  # fmt: skip
PLAIN = ["a b~", "Über die Brücke", "海", "می\u200cخواهم", "👩\u200d👧", "🏳️", "[red]", "\\", "שלום"]


@pytest.fixture
def records() -> Iterator[io.StringIO]:
    """The guarded output of a log of this process."""
    factory, hook = logging.getLogRecordFactory(), sys.excepthook
    guard_output()
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    logger = logging.getLogger("tests.visible")
    logger.addHandler(handler)
    logger.propagate = False
    yield stream
    logger.removeHandler(handler)
    logging.setLogRecordFactory(factory)
    sys.excepthook = hook


def is_harmless(text: str) -> bool:
    return not any(order in text.replace("\n", "") for order in ORDERS)


@pytest.mark.parametrize("order", ORDERS, ids=ascii)
def test_visible_order_is_shown_and_its_letters_stay(order: str) -> None:
    assert is_harmless(visible(f"a{order}b"))
    assert "\n" not in visible(f"a{order}b")
    assert visible(f"a{order}b").startswith("a\\")
    assert lines("a\nb\tc") == "a\nb\tc"


@pytest.mark.parametrize("text", PLAIN)
def test_visible_text_without_orders_is_as_it_was(text: str) -> None:
    assert visible(text) == text


def test_visible_json_is_exact(capsys: pytest.CaptureFixture[str]) -> None:
    import json

    told = {"name": "".join(ORDERS)}
    terminal.out_json(told)
    printed = capsys.readouterr().out
    assert json.loads(printed) == told
    assert is_harmless(printed)


@pytest.mark.parametrize("is_terminal", [True, False])
def test_console_gives_no_orders_but_its_own(is_terminal: bool) -> None:
    nasty = "".join(order for order in ORDERS if order != "\ud800") + "[red]x[/]"
    console = VisibleConsole(
        file=io.StringIO(), width=4000, force_terminal=is_terminal, color_system=None, legacy_windows=False
    )
    table = Table(nasty.replace("[", "("), title=Text(nasty))
    table.add_row(in_markup(nasty))
    table.add_row(cell(nasty))
    table.add_row(Text(nasty))
    console.print(table)
    console.print(nasty, markup=False)
    progress = Progress(TextColumn("{task.description}", markup=False), console=console)
    with Live(progress, console=console, transient=True) as live:
        progress.add_task(nasty)
        live.console.print(cell(nasty))
        live.refresh()
    assert isinstance(console.file, io.StringIO)
    printed = console.file.getvalue()
    own = ["\x1b[?25l", "\x1b[?25h", "\x1b[1A", "\x1b[2K", "\r"] if is_terminal else []
    for order in own:
        printed = printed.replace(order, "")
    assert is_harmless(printed)
    assert "\\u001b[2J" in printed


def test_log_record_is_one_line_that_gives_no_orders(records: io.StringIO) -> None:
    logging.getLogger("tests.visible").warning("of %s", "".join(ORDERS))
    assert is_harmless(records.getvalue())
    assert records.getvalue().count("\n") == 1


def test_log_traceback_gives_no_orders(records: io.StringIO) -> None:
    try:
        raise ValueError("".join(ORDERS))
    except ValueError:
        logging.getLogger("tests.visible").exception("it failed")
    assert is_harmless(records.getvalue().replace("\t", ""))
    assert "Traceback" in records.getvalue()


@pytest.mark.usefixtures("records")
def test_error_that_nothing_catches_gives_no_orders(capsys: pytest.CaptureFixture[str]) -> None:
    error = RuntimeError("\x1b[2J\u202e")
    sys.excepthook(RuntimeError, error, None)
    assert capsys.readouterr().err == "RuntimeError: \\u001b[2J\\u202e\n"
    assert logging.getLogRecordFactory() is VisibleRecord


def test_wrong_argument_is_shown_and_not_obeyed(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    app = typer.Typer()

    @app.command()
    def count(number: int) -> None:
        raise typer.BadParameter("\x1b[2J")

    for argument in ("\x1b[2J", "--\u202e", "1"):
        monkeypatch.setattr(sys, "argv", ["heimdex", argument])
        assert run(app) == 2
        assert is_harmless(capsys.readouterr().err)


def test_nothing_is_printed_but_by_the_terminal_module() -> None:
    found = [
        f"{path.relative_to(ROOT)}:{node.lineno}"
        for package in ("cluster", "actors", "serve_app")
        for path in (ROOT / package).rglob("*.py")
        if path.name not in {"terminal.py", "visible.py"} and "demo" not in path.parts
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call) and _prints(ast.unparse(node.func))
    ]
    assert found == [], "print with cluster.cli.terminal"


def _prints(called: str) -> bool:
    """Calls of print, of typer's and click's echo, of Rich's console, and writing to a standard stream."""
    return called in {"print", "rprint", "Console", "typer.echo", "typer.secho", "click.echo", "echo"} or called in {
        f"sys.{stream}.{way}" for stream in ("stdout", "stderr") for way in ("write", "writelines", "buffer.write")
    }
