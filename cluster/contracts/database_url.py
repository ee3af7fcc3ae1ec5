"""The parts of a database's URL: a transaction pooler in front of it, and a URL for each role.

The settings write it, the store reads it; in between the URL travels as text, into actors and files.
"""

import re
from dataclasses import dataclass, field
from enum import StrEnum
from urllib.parse import quote, unquote, urlsplit, urlunsplit

_MARK = re.compile(r"[?&]pooler=transaction(?:&direct=(?P<direct>[^&?]+))?$")


_USER_AND_REST = re.compile(r"^(?P<scheme>\w+://)(?:(?P<user>[^@/:]*)(?::[^@/]*)?@)?(?P<rest>.*)$", re.DOTALL)
_SECRET_PARAMETERS = {"password", "sslpassword"}


@dataclass(frozen=True)
class DatabaseUrl:
    """A database's URL as libpq reads it.

    ``pooled``: each transaction may get another session of the server, so nothing of a session can be relied on.
    ``direct``: the same database without the pooler, for what needs a session; None: there is no such way.
    """

    url: str = field(repr=False)
    pooled: bool = False
    direct: str | None = field(default=None, repr=False)

    @staticmethod
    def read(text: str) -> "DatabaseUrl":
        """What :meth:`__str__` wrote; any other URL is one without a pooler."""
        found = _MARK.search(text)
        if found is None:
            return DatabaseUrl(text)
        direct = found["direct"]
        return DatabaseUrl(text[: found.start()], True, None if direct is None else unquote(direct))

    def __str__(self) -> str:
        if not self.pooled:
            return self.url
        begin = "&" if "?" in self.url.rpartition("@")[2] else "?"
        direct = "" if self.direct is None else f"&direct={quote(self.direct, safe='')}"
        return f"{self.url}{begin}pooler=transaction{direct}"


class DatabaseRole(StrEnum):
    """The roles of migration 045, each as the database names it."""

    MIGRATE = "heimdex_migrate"
    """Owns what the migrations make: for migrations and what only an owner may do."""
    WORKER = "heimdex_worker"
    """For the scheduler, the workers and the commands."""
    API = "heimdex_api"
    """For the HTTP endpoints."""
    READER = "heimdex_reader"
    """Reads, for notebooks."""


@dataclass(frozen=True)
class DatabaseUrls:
    """The URL of one database for each role; the same one where roles have none of their own."""

    migrate: str = field(repr=False)
    worker: str = field(repr=False)
    api: str = field(repr=False)
    reader: str = field(repr=False)

    def of(self, role: DatabaseRole) -> str:
        """The URL for a role."""
        found: str = getattr(self, role.name.lower())
        return found


def with_user_of(url: str, other: str) -> str:
    """``url`` with the user and password of ``other``."""
    there = urlsplit(url)
    user, _, _ = urlsplit(other).netloc.rpartition("@")
    place = there.netloc.rpartition("@")[2]
    return urlunsplit(there._replace(netloc=f"{user}@{place}" if user else place))


def without_password(text: str) -> str:
    """The same URL for a place where no secret may be: the settings have the password."""
    way = DatabaseUrl.read(text)
    return str(DatabaseUrl(_bare(way.url), way.pooled, None if way.direct is None else _bare(way.direct)))


def _bare(url: str) -> str:
    parts = _USER_AND_REST.match(url)
    if parts is None:
        return ""
    place, mark, query = parts["rest"].partition("?")
    kept = [p for p in query.split("&") if unquote(p.partition("=")[0]).lower() not in _SECRET_PARAMETERS]
    user = "" if parts["user"] is None else f"{parts['user']}@"
    return parts["scheme"] + user + place + (mark + "&".join(kept) if kept and mark else "")
