"""No line of a process's log has a secret, whichever library wrote it."""

import io
import logging
import sys
from collections.abc import Iterator

import pytest

from cluster.security.visible import guard_output

URL = "https://me:password@minio:9000/a.mp4?X-Amz-Signature=topsecret"


@pytest.fixture
def log() -> Iterator[io.StringIO]:
    """All lines of a process that redacts."""
    before, hook = logging.getLogRecordFactory(), sys.excepthook
    guard_output()
    lines = io.StringIO()
    handler = logging.StreamHandler(lines)
    logging.getLogger("library").addHandler(handler)
    yield lines
    logging.getLogger("library").removeHandler(handler)
    logging.setLogRecordFactory(before)
    sys.excepthook = hook


def test_log_line_has_no_secret(log: io.StringIO) -> None:
    library = logging.getLogger("library")
    library.warning("PUT %s failed after %d tries: %s", URL, 3, OSError(f"reset by {URL}"))
    library.warning(f"asked {URL}")
    library.warning("signature=%s", "topsecret")
    library.warning("%(url)s is away", {"url": URL})
    assert log.getvalue().splitlines() == [
        "PUT https://minio:9000/a.mp4 failed after 3 tries: reset by https://minio:9000/a.mp4",
        "asked https://minio:9000/a.mp4",
        "signature=...",
        "https://minio:9000/a.mp4 is away",
    ]


def test_log_traceback_has_no_secret(log: io.StringIO) -> None:
    try:
        raise RuntimeError(f"Failing row contains ({URL}, 1)")
    except RuntimeError:
        logging.getLogger("library").exception("a batch is refused")
    assert "RuntimeError: Failing row contains (https://minio:9000/a.mp4, 1)" in log.getvalue()
    assert "topsecret" not in log.getvalue()


def test_uncaught_error_has_no_secret(log: io.StringIO, capsys: pytest.CaptureFixture[str]) -> None:
    error = RuntimeError(f"PUT {URL} failed")
    sys.excepthook(RuntimeError, error, None)
    assert capsys.readouterr().err == "RuntimeError: PUT https://minio:9000/a.mp4 failed\n"
