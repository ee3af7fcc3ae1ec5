"""Files of the kinds that people report, where this machine has them."""

from pathlib import Path

import pytest

_FOLDER = Path(__file__).resolve().parents[3] / "shared" / "media" / "reported"
REPORTED_FILES = sorted(path for path in _FOLDER.glob("*.*") if path.suffix in {".mp4", ".mkv", ".mov", ".webm", ".ts"})
"""All that hold a video in a usual container; none where the folder is missing."""


def reported(name: str) -> Path:
    """The file of this name; the test is skipped where the folder is missing."""
    path = _FOLDER / name
    if not path.exists():
        pytest.skip(f"the reported file {name} is not on this machine")
    return path
