"""What a terminal shows after a program has run in it: its lines, with their colours."""

import fcntl
import os
import pty
import re
import struct
import subprocess
import termios
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

TOKENS = re.compile(r"\x1b\[(?P<arguments>[0-9;?]*)(?P<command>[A-Za-z])|(?P<control>[\r\n])|(?P<letter>[^\x1b\r\n])")


def record(program: Sequence[str], environment: Mapping[str, str], columns: int) -> str:
    """Run a program in a terminal to its end; what it wrote there.

    Raises:
        RuntimeError: the program failed.
    """
    terminal, inner = pty.openpty()
    fcntl.ioctl(inner, termios.TIOCSWINSZ, struct.pack("HHHH", 50, columns, 0, 0))
    process = subprocess.Popen(program, env=environment, stdin=inner, stdout=inner, stderr=inner)
    os.close(inner)
    written = b"".join(iter(lambda: _read(terminal), b""))
    os.close(terminal)
    if process.wait():
        raise RuntimeError(f"{program} ended with {process.returncode}")
    return written.decode()


def _read(terminal: int) -> bytes:
    """Some bytes; none at the end, which Linux reports as an error."""
    try:
        return os.read(terminal, 65536)
    except OSError:
        return b""


@dataclass
class Screen:
    """Lines of letters with their styles. It knows what Rich writes: colours, line ends, moves up, erased lines."""

    lines: list[list[tuple[str, str]]] = field(default_factory=lambda: [[]])
    row: int = 0
    column: int = 0
    style: str = ""

    def write(self, text: str) -> None:
        for token in TOKENS.finditer(text):
            if letter := token["letter"]:
                self._put(letter)
            elif token["control"] == "\r":
                self.column = 0
            elif token["control"]:
                self.row += 1
                self.lines += [[] for _ in range(self.row - len(self.lines) + 1)]
            else:
                self._obey(token["command"], token["arguments"])

    def _put(self, letter: str) -> None:
        line = self.lines[self.row]
        line += [(" ", "")] * (self.column - len(line) + 1)
        line[self.column] = (letter, self.style)
        self.column += 1

    def _obey(self, command: str, arguments: str) -> None:
        match command:
            case "m":
                self.style = "" if arguments in {"", "0"} else f"{self.style}\x1b[{arguments}m"
            case "A":
                self.row = max(0, self.row - int(arguments or 1))
            case "K":
                self.lines[self.row] = [] if arguments == "2" else self.lines[self.row][: self.column]

    def plain(self) -> list[str]:
        """The lines without styles."""
        return ["".join(letter for letter, _ in line).rstrip() for line in self.lines]

    def styled(self) -> list[str]:
        """The lines with ANSI's codes for their styles."""
        return [
            "".join(f"{style}{letter}\x1b[0m" if style else letter for letter, style in line) for line in self.lines
        ]
