"""Lines of the audit log in a file, and what happens when the file cannot be written."""

import logging
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from cluster.security.audit_lines import audit_to_file

LOGGER = logging.getLogger("heimdex.audit")


@pytest.fixture(autouse=True)
def handlers() -> Iterator[None]:
    before = list(LOGGER.handlers)
    yield
    for handler in list(LOGGER.handlers):
        if handler not in before:
            LOGGER.removeHandler(handler)
            handler.close()
    for handler in before:
        LOGGER.addHandler(handler)


def test_audit_lines_are_added_to_the_file(tmp_path: Path) -> None:
    path = tmp_path / "logs" / "audit.log"
    for number in range(2):
        audit_to_file(path)
        LOGGER.info("audit: line %d", number)
    assert [line.rpartition(" ")[2] for line in path.read_text().splitlines()] == ["0", "1"]


def test_audit_without_its_folder_goes_on(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "logs" / "audit.log"
    audit_to_file(path)
    shutil.rmtree(path.parent)
    LOGGER.info("audit: line")
    assert "line of the audit log not written: No such file or directory" in caplog.text
