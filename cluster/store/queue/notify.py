"""Hints across processes that the queue changed, by NOTIFY. Listeners poll as well: a hint may be lost."""

from collections.abc import Iterator
from typing import Any

from psycopg import Connection, OperationalError

from cluster.contracts.database_url import DatabaseUrl
from cluster.contracts.errors import DatabaseUnavailable
from cluster.store.postgres.connections import connect, place

CHANNEL = "heimdex_queue"


def notify(connection: Connection[Any]) -> None:
    """Notify every listener, once this transaction is committed."""
    connection.execute(f"NOTIFY {CHANNEL}")


def can_listen(url: str) -> bool:
    """Whether notifications arrive: behind a transaction pooler they do only where a direct URL is known."""
    way = DatabaseUrl.read(url)
    return not way.pooled or way.direct is not None


def notifications(url: str, wait_s: float) -> Iterator[bool]:
    """Listen: yields True for a notification, False after ``wait_s`` seconds without one.

    The first is True, as soon as the session listens: notifications from before were not received.

    Holds a session of its own. Raises DatabaseUnavailable when it is lost.
    """
    with connect(url, name="heimdex-listener", autocommit=True, needs_session=True) as connection:
        try:
            connection.execute(f"LISTEN {CHANNEL}")
            yield True
            while True:
                yield any(True for _ in connection.notifies(timeout=wait_s, stop_after=1))
        except OperationalError as error:
            raise DatabaseUnavailable(f"Postgres at {place(url)} is away: {error}") from error
