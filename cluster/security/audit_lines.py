"""Where the lines of the audit log go beside its table: a file of the data directory, or standard error."""

import logging
import sys
from pathlib import Path

from cluster.contracts.events import Event
from cluster.security.event_log import EventLog

_LOGGER = logging.getLogger("heimdex.audit")
_FORMAT = logging.Formatter("%(asctime)s %(message)s")
logger = EventLog(__name__)


class _AuditFile(logging.FileHandler):
    """Reports lines that it cannot write: the table has them, and what they are about is done."""

    def emit(self, record: logging.LogRecord) -> None:
        try:
            super().emit(record)
        except OSError as error:
            logger.warning(Event.AUDIT_LINE_LOST, error=error.strerror, file=self.baseFilename)


def audit_to_file(path: Path) -> None:
    """Add this process's actions to the file, which is made when there is something to add."""
    path.parent.mkdir(parents=True, exist_ok=True)
    _send_to(_AuditFile(path, delay=True))


def audit_to_stderr() -> None:
    """Write this process's actions to its standard error, which Ray keeps."""
    _send_to(logging.StreamHandler(sys.stderr))


def _send_to(handler: logging.Handler) -> None:
    for other in list(_LOGGER.handlers):
        _LOGGER.removeHandler(other)
        other.close()
    handler.setFormatter(_FORMAT)
    _LOGGER.addHandler(handler)
    _LOGGER.setLevel(logging.INFO)
