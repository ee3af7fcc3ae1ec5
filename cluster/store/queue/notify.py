"""Hints across processes that the queue changed, by NOTIFY. Listeners poll as well: a hint may be lost.

Any session may send one, so a hint is never believed: a listener looks into the tables.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from psycopg import Connection, Notify, OperationalError

from cluster.contracts.database_url import DatabaseUrl
from cluster.contracts.errors import DatabaseUnavailable
from cluster.store.postgres.connections import connect, place

QUEUE_CHANNEL = "heimdex_queue"
LEASES_CHANNEL = "heimdex_ended_leases"
_TOKENS_A_MESSAGE = 300
"""A message has 7,999 bytes at most, a token 19 digits."""


@dataclass(frozen=True)
class Hints:
    """What may have changed.

    ``videos_wait``: there are videos to claim. ``ended_leases``: tokens of leases taken from their schedulers.
    """

    videos_wait: bool = False
    ended_leases: tuple[int, ...] = ()


def notify(connection: Connection[Any]) -> None:
    """Notify every listener that videos wait, once this transaction is committed."""
    connection.execute(f"NOTIFY {QUEUE_CHANNEL}")


def notify_ended_leases(connection: Connection[Any], tokens: Sequence[int]) -> None:
    """Notify every listener that these leases were taken from their schedulers, once this transaction is committed."""
    for start in range(0, len(tokens), _TOKENS_A_MESSAGE):
        payload = ",".join(map(str, tokens[start : start + _TOKENS_A_MESSAGE]))
        connection.execute("SELECT pg_notify(%s, %s)", [LEASES_CHANNEL, payload])


def can_listen(url: str) -> bool:
    """Whether notifications arrive: behind a transaction pooler they do only where a direct URL is known."""
    way = DatabaseUrl.read(url)
    return not way.pooled or way.direct is not None


def notifications(url: str, wait_s: float) -> Iterator[Hints]:
    """Listen: yields what was notified, which is nothing after ``wait_s`` seconds without a notification.

    The first says that videos wait, as soon as the session listens: notifications from before were not received.

    Holds a session of its own. Raises DatabaseUnavailable when it is lost.
    """
    with connect(url, name="heimdex-listener", autocommit=True, needs_session=True) as connection:
        try:
            connection.execute(f"LISTEN {QUEUE_CHANNEL}; LISTEN {LEASES_CHANNEL}")
            yield Hints(videos_wait=True)
            while True:
                yield _hints(list(connection.notifies(timeout=wait_s, stop_after=1)))
        except OperationalError as error:
            raise DatabaseUnavailable(f"Postgres at {place(url)} is away: {error}") from error


def _hints(notified: Sequence[Notify]) -> Hints:
    payloads = [each.payload for each in notified if each.channel == LEASES_CHANNEL]
    tokens = [int(token) for payload in payloads for token in re.findall(r"[0-9]{1,18}", payload, re.ASCII)]
    return Hints(any(each.channel == QUEUE_CHANNEL for each in notified), tuple(tokens))
