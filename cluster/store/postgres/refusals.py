"""What the rules of a database refuse, as one sentence: many of an existing database's are not this product's.

Owns which errors of Postgres are a rule's (constraints, triggers that raise, rights), and how often a refused row is
tried again; not what is done meanwhile.
"""

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Generic, TypeVar

from psycopg import DatabaseError, errors

from cluster.contracts.errors import RefusedByDatabase, StatementTimeout
from cluster.contracts.events import Event
from cluster.security.event_log import EventLog
from cluster.security.redaction import redacted

logger = EventLog(__name__)

FIRST_DELAY_S, LONGEST_DELAY_S = 2.0, 300.0
"""Wait of a refused row for its next try: twice as long after each one, up to the second."""
REFUSALS = (DatabaseError, StatementTimeout)
"""Errors that a change of one row may raise while the connection lasts; a trigger that waits ends in a timeout."""
BRIEFLY = "SET LOCAL statement_timeout = 2000; "
"""Before a statement about one row, in the same message: what holds it up holds up others for two seconds at most."""
WITHIN_TURN = "SET LOCAL statement_timeout = 10000; "
"""The same before a statement about rows of several owners, also behind a pooler, where sessions have no timeout."""
ONE_BY_ONE_S = 10.0
"""Time for trying rows one by one; the next look goes on with the others."""
MESSAGE_LENGTH = 500
SKIPPED = "a trigger of the table videos skips the change"
"""The reason of a row that an UPDATE left as it was, without an error."""

Key = TypeVar("Key")


def sentence_of(error: Exception) -> str:
    """The message in one line of at most ``MESSAGE_LENGTH`` characters, without secrets and the values of a row."""
    message = error.diag.message_primary if isinstance(error, DatabaseError) else None
    return redacted(" ".join((message or str(error)).split()))[:MESSAGE_LENGTH]


@contextmanager
def refused_in_one_sentence(what: str) -> Iterator[None]:
    """Raise ``RefusedByDatabase`` where a rule refuses what the block writes; ``what``: "videos of ...", for people."""
    try:
        yield
    except (errors.IntegrityError, errors.InsufficientPrivilege, errors.RaiseException) as error:
        raise RefusedByDatabase(f"a rule of the database refuses {what}: {error.diag.message_primary}") from error


@dataclass
class _Refusal:
    reason: str
    delay_s: float
    noted_s: float


class RefusedRows(Generic[Key]):
    """Rows that the database refuses to change: each is logged once per reason, and tried at growing intervals.

    ``event`` and ``field``: what the log says of them, and what the key is called there. A row that was not refused for
    twice ``LONGEST_DELAY_S`` is dropped. After a restart of the process the intervals begin again.
    """

    def __init__(self, event: Event, field: str, now_s: Callable[[], float] = time.monotonic) -> None:
        self._event = event
        self._field = field
        self._now_s = now_s
        self._refusals: dict[Key, _Refusal] = {}

    def note(self, reasons: Mapping[Key, str]) -> list[float]:
        """These were refused just now; returns after how many seconds each is to be tried again, in their order."""
        now_s = self._now_s()
        self._drop_old(now_s)
        delays: list[float] = []
        for key, reason in reasons.items():
            known = self._refusals.get(key)
            delay_s = FIRST_DELAY_S if known is None else min(2 * known.delay_s, LONGEST_DELAY_S)
            if known is None or known.reason != reason:
                logger.error(self._event, error=reason, delay_s=delay_s, **{self._field: key})
            self._refusals[key] = _Refusal(reason, delay_s, now_s)
            delays.append(delay_s)
        return delays

    def release(self, keys: Iterable[Key]) -> None:
        """These are refused no longer."""
        for key in keys:
            self._refusals.pop(key, None)

    @property
    def trouble(self) -> str | None:
        """Number of refused rows, and why the last one is; None: none."""
        refusals = [each for each in list(self._refusals.values()) if not self._is_old(each, self._now_s())]
        if not refusals:
            return None
        last = max(refusals, key=lambda each: each.noted_s)
        return f"{self._event}, {len(refusals)} at the moment: {last.reason}"

    def _drop_old(self, now_s: float) -> None:
        self._refusals = {key: each for key, each in self._refusals.items() if not self._is_old(each, now_s)}

    def _is_old(self, refusal: _Refusal, now_s: float) -> bool:
        return now_s - refusal.noted_s > 2 * LONGEST_DELAY_S
