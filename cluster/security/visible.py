"""How text looks that others wrote: shown, never obeyed by a terminal.

A character that could move a cursor, hide or reorder text, or end a line is shown as JSON writes it (``\\u001b``), so
that what is JSON stays exact. Owns log records and tracebacks too, which terminals are given as well; printing is
``terminal``'s.
"""

import json
import logging
import sys
import traceback
import unicodedata
from types import TracebackType
from typing import Any

from cluster.security.redaction import redacted

_JOINERS = "\u200c\u200d"
"""They shape letters (Persian, Hindi) and emoji; they move nothing."""
_CATEGORIES = {"Cc", "Cf", "Cs", "Zl", "Zp"}
"""Controls, formats (marks of direction among them), halves of letters, ends of lines and of paragraphs."""


def visible(text: object, *, keep: str = "") -> str:
    """``text`` as a terminal may be given it: on one line, each character of it seen, in the order of writing.

    ``keep``: characters that stay, such as a line feed where lines are wanted.
    """
    plain = str(text)
    if plain.isascii() and plain.isprintable():
        return plain
    return "".join(_shown(letter) if _is_hidden(letter) and letter not in keep else letter for letter in plain)


def lines(text: object) -> str:
    """``visible``, with line feeds and tabs kept."""
    return visible(text, keep="\n\t")


def _is_hidden(letter: str) -> bool:
    return unicodedata.category(letter) in _CATEGORIES and letter not in _JOINERS


def _shown(letter: str) -> str:
    return f"\\u{ord(letter):04x}" if letter == "\x7f" else json.dumps(letter)[1:-1]


class VisibleRecord(logging.LogRecord):
    """A log record whose message is one line; a traceback keeps its lines. Neither keeps a secret of a URI."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        if self.exc_info:
            self.exc_text = lines(redacted(logging.Formatter().formatException(self.exc_info)))

    def getMessage(self) -> str:  # noqa: N802  logging calls it so
        """The message with its arguments."""
        return visible(redacted(super().getMessage()))


def guard_output() -> None:
    """Have this process log and report errors so that nothing in them reaches a terminal as an order."""
    logging.setLogRecordFactory(VisibleRecord)
    sys.excepthook = _report


def _report(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    print(lines(redacted("".join(traceback.format_exception(kind, error, trace)))), end="", file=sys.stderr)
