"""Names and URIs as people see them: one line, whatever bytes are in them to move a terminal's cursor."""

import pytest

from cluster.contracts.uris import filename_of, shown

CURSOR_HOME = "\x1b[2J\x1b[H"


@pytest.mark.parametrize(
    ("uri", "name"),
    [
        (f"/videos/a{CURSOR_HOME}.mp4", "a\\x1b[2J\\x1b[H.mp4"),
        ("/videos/a\nb\r\x9b.mp4", "a\\x0ab\\x0d\\x9b.mp4"),
        ("file:///videos/a%1b[2J.mp4", "a\\x1b[2J.mp4"),
        ("https://host/a%1b[2J%0a.mp4", "a\\x1b[2J\\x0a.mp4"),
        ("https://host/caf%c3%a9%20%c2%9b.mp4", "café \\x9b.mp4"),
        (f"s3://bucket/a{CURSOR_HOME}.mp4", "a\\x1b[2J\\x1b[H.mp4"),
    ],
)
def test_a_name_is_one_line(uri: str, name: str) -> None:
    assert filename_of(uri) == name


@pytest.mark.parametrize("uri", ["/a/\x1b]0;x\x07b", "http://host/\r\nb", "s3://bucket/\x00\x7f\x85", "x://\x9b/y"])
def test_what_is_shown_is_one_line(uri: str) -> None:
    assert shown(uri).isprintable()
