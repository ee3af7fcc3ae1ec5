"""The outcome of a test that needs a part which this machine lacks."""

import os
from typing import NoReturn

import pytest


def skip_but_on_ci(what: str) -> NoReturn:
    """Skips the test that asked, with this reason. CI has every part: there it fails, or it would go unnoticed."""
    if os.environ.get("CI") == "true":
        pytest.fail(what, pytrace=False)
    pytest.skip(what)
