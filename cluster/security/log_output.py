"""Where the lines of a process go: to standard error, as JSON or as text, and as JSON to the data directory's file.

Owns what both look like, and what is done of libraries' lines: warnings and errors are kept, as ``library message``.
Leaves the file, which all processes of the data directory share, to ``event_files``.
"""

import json
import logging
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal, TextIO

from cluster.contracts.errors import ConfigurationError
from cluster.contracts.events import Event
from cluster.security.event_files import EventFile
from cluster.security.event_log import (
    LONGEST_VALUE,
    EventLog,
    fields_of_process,
    set_fields_of_process,
    text_of,
)
from cluster.security.private_files import make_private_folder
from cluster.security.redaction import redacted
from cluster.security.visible import lines, visible

LogFormat = Literal["json", "console"]
LogLevel = Literal["debug", "info", "warning", "error"]

OWN_PACKAGES = ("actors", "cluster", "serve_app")
"""Loggers below these are the product's."""
AUDIT_LOGGER = "heimdex.audit"
"""Has a file of its own, see ``audit_lines``."""
RESERVED = ("time", "level", "event", "logger", "pid", "traceback")
"""Keys of a line that are no fields."""
LONGEST_TRACEBACK = 20_000

logger = EventLog(__name__)


@dataclass(frozen=True)
class LogConfig:
    """How a process logs; small and plain, it travels to workers. ``folder`` None: on standard error alone."""

    folder: Path | None = None
    level: LogLevel = "info"
    format: LogFormat = "console"


def set_up_logging(config: LogConfig, *, stderr_level: LogLevel = "debug", **of_process: Any) -> None:
    """Log from here on as configured. ``of_process``: fields of every line of this process.

    ``stderr_level``: less than this is kept from standard error, as commands do. Where the folder cannot be used, that
    is logged, and only standard error has the lines.
    """
    set_fields_of_process(**of_process)
    root = logging.getLogger()
    for handler in [handler for handler in root.handlers if isinstance(handler, _EventHandler)]:
        root.removeHandler(handler)
        handler.close()
    for package in OWN_PACKAGES:
        logging.getLogger(package).setLevel(number_of(config.level))
    logging.getLogger("psycopg.pool").setLevel(logging.ERROR)  # that Postgres is away is an event of ours
    stream = _ErrorStream(config.format)
    stream.setLevel(number_of(stderr_level))
    root.addHandler(stream)
    if config.folder is None:
        return
    try:
        make_private_folder(config.folder, "HEIMDEX_DATA_DIR")
    except ConfigurationError as error:
        logger.warning(Event.LOG_FILE_UNAVAILABLE, error=error)
    else:
        root.addHandler(_FileOfAll(config.folder))


def number_of(level: str) -> int:
    """The level as ``logging`` has it."""
    return logging.getLevelNamesMapping()[level.upper()]


def line_of(record: logging.LogRecord) -> dict[str, Any]:
    """A line by its keys. A library's text becomes the field ``message``."""
    moment = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
    line: dict[str, Any] = {"time": moment.replace("+00:00", "Z"), "level": record.levelname.lower()}
    event = getattr(record, "event", None)
    if event is not None:
        line |= {"event": event, **record.__dict__["event_fields"]}
    else:
        message = visible(redacted(record.getMessage()))[:LONGEST_VALUE]
        line |= {"event": Event.LIBRARY_MESSAGE.value, **fields_of_process(), "message": message}
    line |= {"logger": record.name, "pid": record.process}
    if record.exc_info is not None and record.exc_info[0] is not None:
        trace = logging.Formatter().formatException(record.exc_info)
        line["traceback"] = lines(redacted(trace))[-LONGEST_TRACEBACK:]
    return line


def as_json(line: Mapping[str, Any]) -> str:
    """The line as JSON: one line of ASCII."""
    return json.dumps(line, default=str).replace("\x7f", "\\u007f")


def as_text(line: Mapping[str, Any]) -> str:
    """The line for people, a traceback below it."""
    fields = {name: value for name, value in line.items() if name not in RESERVED}
    said = {"error": fields.pop("message")} if "message" in fields else {}
    head = f"{line.get('time', '')} {str(line.get('level', '')).upper():7} "
    trace = line.get("traceback")
    return head + text_of(str(line.get("event", "")), {**said, **fields}) + (f"\n{trace}" if trace else "")


class _EventHandler(logging.Handler):
    """A handler of this module."""

    def __init__(self) -> None:
        super().__init__()
        self.addFilter(_is_wanted)


def _is_wanted(record: logging.LogRecord) -> bool:
    if record.name == AUDIT_LOGGER:
        return False
    return record.name.partition(".")[0] in OWN_PACKAGES or record.levelno >= logging.WARNING


class _ErrorStream(_EventHandler):
    """Standard error, whatever it is at the moment."""

    def __init__(self, wanted: LogFormat) -> None:
        super().__init__()
        self._shown = as_json if wanted == "json" else as_text

    def emit(self, record: logging.LogRecord) -> None:
        stream: TextIO | None = sys.stderr
        if stream is None:
            return
        try:
            stream.write(self._shown(line_of(record)) + "\n")
            stream.flush()
        except Exception:
            self.handleError(record)


class _FileOfAll(_EventHandler):
    """The file that all processes of a data directory add to."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self._file = EventFile(folder)

    def emit(self, record: logging.LogRecord) -> None:
        try:
            self._file.append(as_json(line_of(record)))
        except OSError:
            pass  # the disk is full, or the folder gone: standard error has the line, and the work goes on
        except Exception:
            self.handleError(record)

    def close(self) -> None:
        self._file.close()
        super().close()
