"""Files of the kinds that people report, where this machine has them."""

from pathlib import Path

import pytest

_FOLDER = Path(__file__).resolve().parents[2] / "shared" / "media" / "reported"


def reported(name: str) -> Path:
    """The file of this name; the test is skipped where the folder is missing."""
    path = _FOLDER / name
    if not path.exists():
        pytest.skip(f"the reported file {name} is not on this machine")
    return path
