"""The log: events with fields, made safe where they are raised.

Owns what a line holds: its event, its fields, and those that belong to the process (``worker``, ``node``) or to the
video at hand. No value has a secret, a query of a URI, or a character that moves a terminal. Leaves to ``log_output``
where lines go, and to ``cluster.contracts.events`` which events there are.
"""

import json
import logging
import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from enum import StrEnum
from typing import Any
from uuid import UUID

from cluster.contracts.errors import HeimdexError
from cluster.contracts.events import Event
from cluster.security.redaction import redacted
from cluster.security.visible import visible

LONGEST_VALUE = 2_000
"""Characters of a field."""
SENTENCES = ("error", "reason")
"""Fields that a line for people has after its event."""

_of_process: dict[str, Any] = {}
_of_call: ContextVar[Mapping[str, Any] | None] = ContextVar("log_fields", default=None)


class EventLog:
    """The events of one module."""

    def __init__(self, name: str) -> None:
        self._logger = logging.getLogger(name)

    def debug(self, event: Event, /, **fields: Any) -> None:
        """Log what only helps to find a defect."""
        self._log(logging.DEBUG, event, fields)

    def info(self, event: Event, /, **fields: Any) -> None:
        """Log what is in order."""
        self._log(logging.INFO, event, fields)

    def warning(self, event: Event, /, **fields: Any) -> None:
        """Log a failure that is retried, or that concerns one video."""
        self._log(logging.WARNING, event, fields)

    def error(self, event: Event, /, **fields: Any) -> None:
        """Log a failure that an operator has to look at."""
        self._log(logging.ERROR, event, fields)

    def exception(self, event: Event, /, *, error: BaseException, **fields: Any) -> None:
        """Log an unexpected error with its traceback."""
        self._log(logging.ERROR, event, {"error": error, **fields}, error)

    def _log(self, level: int, event: Event, fields: Mapping[str, Any], trace: BaseException | None = None) -> None:
        if not self._logger.isEnabledFor(level):
            return
        clean = {**fields_of_call(), **cleaned(fields)}
        if isinstance(error := fields.get("error"), BaseException):
            clean.setdefault("error_type", type(error).__name__)
        clean = {**clean, **{name: value for name, value in _of_process.items() if name not in clean}}
        extra = {"event": event.value, "event_fields": clean}
        self._logger.log(level, "%s", text_of(event, clean), extra=extra, exc_info=trace)


class FailingSteps:
    """Steps that are repeated: why one fails is logged once per reason, and once that it succeeds again."""

    def __init__(self, logger: EventLog) -> None:
        self._logger = logger
        self._reasons: dict[Event, str] = {}

    def note_failure(self, event: Event, error: Exception, reason: str | None = None, **fields: Any) -> None:
        """The step failed. ``reason``: in words of ours, which say more than a traceback."""
        said = reason or sentence_of_error(error)
        if self._reasons.get(event) == said:
            return
        self._reasons[event] = said
        if isinstance(error, HeimdexError):
            self._logger.warning(event, error=error, **fields)
        elif reason is not None:
            self._logger.error(event, error=reason, error_type=type(error).__name__, **fields)
        else:
            self._logger.exception(event, error=error, **fields)

    def note_success(self, event: Event) -> None:
        """The step succeeded."""
        if self._reasons.pop(event, None) is not None:
            self._logger.info(Event.RECOVERED, after=event.value)


@contextmanager
def log_fields(**fields: Any) -> Iterator[None]:
    """Add fields to every line that this thread, or asyncio task, logs within."""
    before = _of_call.set({**fields_of_call(), **cleaned(fields)})
    try:
        yield
    finally:
        _of_call.reset(before)


def fields_of_call() -> dict[str, Any]:
    """The fields that ``log_fields`` added, for another process that works on the same."""
    return dict(_of_call.get() or {})


def fields_of_process() -> dict[str, Any]:
    """The fields of every line of this process."""
    return dict(_of_process)


def set_fields_of_process(**fields: Any) -> None:
    """Replace the fields of every line of this process."""
    _of_process.clear()
    _of_process.update(cleaned(fields))


def sentence_of_error(error: BaseException) -> str:
    """The first line of an error's message: drivers of databases add the values of rows in further ones."""
    said = str(error).strip()
    return said.splitlines()[0] if said else type(error).__name__


def cleaned(fields: Mapping[str, Any]) -> dict[str, Any]:
    """The fields that have a value, without secrets."""
    return {name: clean_value(name, value) for name, value in fields.items() if value is not None}


def clean_value(name: str, value: Any) -> Any:
    """The value as JSON may have it. The name counts too: what is called ``password`` is hidden whatever it is."""
    if isinstance(value, bool | int):
        return value
    if isinstance(value, UUID | StrEnum):
        return str(value)
    if isinstance(value, float) and math.isfinite(value):
        return round(value, 3)
    if isinstance(value, list | tuple | set | frozenset):
        return [clean_value(name, each) for each in value]
    said = sentence_of_error(value) if isinstance(value, BaseException) else str(value)
    return visible(redacted(f"{name}={said}"))[len(name) + 1 :][:LONGEST_VALUE]


def text_of(event: str, fields: Mapping[str, Any]) -> str:
    """A line for people: ``claim failed: no connection (scheduler=... error_type=...)``."""
    said = next((str(fields[name]) for name in SENTENCES if name in fields), "")
    others = " ".join(f"{name}={_word(value)}" for name, value in fields.items() if name not in SENTENCES)
    return f"{event}{f': {said}' if said else ''}{f' ({others})' if others else ''}"


def _word(value: Any) -> str:
    text = ",".join(map(str, value)) if isinstance(value, list) else str(value)
    return text if text and not set(text) & set(" ()\"'") else json.dumps(text, ensure_ascii=False)
