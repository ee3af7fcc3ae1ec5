"""What a recorded terminal shows, and the picture that is drawn of it."""

import os
import sys
from xml.etree import ElementTree

import pytest

from tests.support.demo_picture import draw, shown
from tests.support.terminal_screen import Screen, record

DEMO = (
    "starting Ray\r\nworking\r\n\x1b[1A\x1b[2K\x1b[32mREADY\x1b[0m   a.mp4\r\nTime per stage\r\n│ metadata │\r\n"
    '1 of 1 videos READY\r\n\r\nWhat is seen: "a star"\r\n"a star" (3 ms)\r\n│ a.mp4 │\r\n└───┘\r\nnext\r\n'
)


def test_screen_overwrites_erased_lines_and_keeps_colours() -> None:
    screen = Screen()
    screen.write("one\r\ntwo\r\n\x1b[1A\x1b[2K\x1b[31mred\x1b[0m\rR")
    assert screen.plain() == ["one", "Red", ""]
    assert screen.styled()[1] == "R\x1b[31me\x1b[0m\x1b[31md\x1b[0m"


def test_record_program_in_terminal_returns_its_output() -> None:
    code = "import os, sys; print(sys.stdout.isatty(), os.get_terminal_size().columns)"
    written = record([sys.executable, "-c", code], dict(os.environ), 77)
    assert written == "True 77\r\n"


def test_record_program_that_fails_raises() -> None:
    with pytest.raises(RuntimeError, match="ended with 3"):
        record([sys.executable, "-c", "raise SystemExit(3)"], dict(os.environ), 77)


def test_picture_has_chosen_lines_and_no_font_from_elsewhere() -> None:
    screen = Screen()
    screen.write(DEMO)
    picture = draw(shown(screen))
    assert picture.count("http") == 1  # the namespace
    text = "".join(ElementTree.fromstring(picture).itertext()).replace("\xa0", " ")
    assert [words in text for words in ("a.mp4", "metadata", "videos READY", "a star")] == [True] * 4
    assert [words in text for words in ("starting Ray", "3 ms", "next", "working")] == [False] * 4
