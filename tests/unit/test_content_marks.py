"""Marks of the content of local files: equal for the same file, another once it was written to."""

import os
from pathlib import Path

from cluster.files.content_marks import content_marks


def test_content_marks_are_equal_until_a_file_changes(tmp_path: Path) -> None:
    file = tmp_path / "a.mp4"
    file.write_bytes(b"abc")
    (mark,) = content_marks([str(file)])
    assert content_marks([str(file), f"file://{file}"]) == [mark, mark]
    os.utime(file, (1, 1))
    (touched,) = content_marks([str(file)])
    file.write_bytes(b"abcd")
    os.utime(file, (1, 1))
    assert len({mark, touched, *content_marks([str(file)])}) == 3


def test_content_marks_are_unknown_elsewhere(tmp_path: Path) -> None:
    assert content_marks(["s3://bucket/a.mp4", "https://host/a.mp4", str(tmp_path / "missing.mp4")]) == [None] * 3
