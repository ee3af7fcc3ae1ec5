"""Has every log line of a process pass through ``redaction``, tracebacks and libraries' lines included.

A driver's error quotes the request it made, a database's the row it refuses: each process calls :func:`redact_logs`
first. What is logged elsewhere (Ray's own processes, Postgres) is not this module's.
"""

import logging
from collections.abc import Callable, Mapping
from typing import Any

from cluster.redaction import redacted


def redact_logs() -> None:
    """Have this process log without secrets from now on. Calling it again changes nothing."""
    former = logging.getLogRecordFactory()
    if not isinstance(former, _RedactedRecords):
        logging.setLogRecordFactory(_RedactedRecords(former))


class _RedactedRecords:
    """Makes records as ``former`` does, and removes what is secret in them."""

    def __init__(self, former: Callable[..., logging.LogRecord]) -> None:
        self._former = former

    def __call__(self, *arguments: Any, **named: Any) -> logging.LogRecord:
        record = self._former(*arguments, **named)
        if isinstance(record.args, tuple):
            record.args = tuple(map(_redacted_value, record.args))
        elif isinstance(record.args, Mapping):
            record.args = {name: _redacted_value(value) for name, value in record.args.items()}
        try:
            message = record.getMessage()
        except Exception:  # a line that cannot be formatted is reported by its handler
            return record
        if redacted(message) != message:
            record.msg, record.args = redacted(message), ()
        if record.exc_info:
            record.exc_text = redacted(logging.Formatter().formatException(record.exc_info))
        return record


def _redacted_value(value: object) -> object:
    if isinstance(value, BaseException):
        return redacted(str(value))
    return redacted(value) if isinstance(value, str) else value
