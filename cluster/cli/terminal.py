"""The one way from the commands to a terminal: whatever is printed passes here, and is made visible on its way."""

import codecs
import io
import json
import os
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, redirect_stdout
from typing import IO, Any

from rich.console import Console, ConsoleOptions, RenderableType
from rich.markup import escape
from rich.segment import Segment
from rich.table import Table
from rich.text import Text
from typer import Abort
from typer.exceptions import TyperException

from cluster.contracts.errors import HeimdexError
from cluster.security.redaction import redacted
from cluster.security.visible import lines, visible

PROGRAM = "heimdex"
"""The command's name, however it was started."""


def out(text: object = "") -> None:
    """Print a line for people on standard output, at once."""
    print(visible(text), flush=True)


def out_lines(text: object) -> None:
    """Print a text of several lines, all of them ours, on standard output."""
    print(lines(text), flush=True)


def say(text: object) -> None:
    """Print a line for people on standard error, at once."""
    print(visible(text), file=sys.stderr, flush=True)


def out_json(value: Any, indent: int | None = 1) -> None:
    """Print JSON for programs on standard output: ASCII alone, so that nothing in it moves a terminal."""
    print(json.dumps(value, indent=indent, default=str).replace("\x7f", "\\u007f"), flush=True)


def out_exactly(document: bytes) -> None:
    """Write a document on standard output as it is; on a terminal, with what could move it shown."""
    if sys.stdout.isatty():
        print(lines(document.decode()), end="")
        return
    sys.stdout.flush()
    sys.stdout.buffer.write(document)
    sys.stdout.buffer.flush()


def in_markup(text: object) -> str:
    """``text`` within Rich's markup, as it is."""
    return escape(visible(text))


def cell(text: object) -> Text:
    """``text`` for a table, without markup."""
    return Text(visible(text))


def keep_whole(table: Table, *headers: str) -> None:
    """Let the columns with these headers keep their width, and fold the others: an id that is cut names nothing."""
    for column in table.columns:
        column.no_wrap, column.overflow = column.header in headers, "fold"


class VisibleConsole(Console):
    """A console of Rich to which nothing that is shown can give orders: its own alone pass."""

    def render_str(self, text: str, **options: Any) -> Text:
        """Before it is laid out, so that columns keep their width."""
        return super().render_str(lines(text), **options)

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        """Whatever was laid out."""
        for segment in super().render(renderable, options):
            yield segment if segment.control else segment._replace(text=lines(segment.text))


def error_console() -> Console:
    """Standard error, for progress."""
    return VisibleConsole(stderr=True)


def result_console() -> Console:
    """Standard output; off a terminal wide enough that nothing is broken over lines."""
    return VisibleConsole(width=None if sys.stdout.isatty() else 160, highlight=False)


def _open_closed_streams() -> None:
    """Open closed streams (``>&-``) on /dev/null: else a file or connection opened later takes their descriptor."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:  # the lowest free descriptor is its own
            setattr(sys, name, os.fdopen(os.open(os.devnull, os.O_RDWR), mode, closefd=False))


def _read_as_utf_8(stream: object) -> None:
    """Write UTF-8 where the locale knows ASCII alone, which is not intended; escape what cannot be written."""
    if isinstance(stream, io.TextIOWrapper):
        encoding = "utf-8" if codecs.lookup(stream.encoding).name == "ascii" else None
        stream.reconfigure(encoding=encoding, errors="backslashreplace")


@contextmanager
def silent_output() -> Iterator[None]:
    """Standard output is standard error until the end of the block, for Python and for libraries in C alike.

    So that an answer which is printed afterwards is all that standard output holds, whatever libraries (Ray, loaders of
    models) print.
    """
    sys.stdout.flush()
    kept = os.dup(1)
    try:
        os.dup2(2, 1)
        with redirect_stdout(sys.stderr):
            yield
    finally:
        sys.stderr.flush()
        os.dup2(kept, 1)
        os.close(kept)


@contextmanager
def output_into(log: IO[str]) -> Iterator[None]:
    """Whatever is printed until the end of the block goes into ``log``, by Python and by libraries in C alike.

    So that what libraries (Ray, Ray Data) say of their work is not on a person's terminal.
    """
    kept = [(stream, os.dup(number)) for stream, number in ((sys.stdout, 1), (sys.stderr, 2))]
    for stream, _ in kept:
        stream.flush()
    try:
        for number in (1, 2):
            os.dup2(log.fileno(), number)
        yield
    finally:
        for number, (stream, copy) in enumerate(kept, 1):
            stream.flush()
            os.dup2(copy, number)
            os.close(copy)


def run(app: Callable[..., Any]) -> int:
    """Run a command line and return its exit status; each error that is raised on purpose is one line."""
    _open_closed_streams()
    for stream in (sys.stdout, sys.stderr):
        _read_as_utf_8(stream)
    try:
        status = app(prog_name=PROGRAM, standalone_mode=False)
    except TyperException as error:  # what is wrong with the arguments, which may be names of files
        context = getattr(error, "ctx", None)
        if context is not None:
            usage = f"{context.get_usage()}\nTry '{context.command_path} --help' for help."
            print(lines(usage), file=sys.stderr)
        say(f"error: {error.format_message()}")
        return int(error.exit_code)
    except HeimdexError as error:
        say(f"error: {redacted(str(error))}")
        return 2
    except Abort:
        say("Aborted.")
        return 1
    return status if isinstance(status, int) else 0
