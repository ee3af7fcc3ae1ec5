"""How a database's URL says that a transaction pooler is in front of it.

The settings write it, the store reads it; in between the URL travels as text, into actors and files.
"""

import re
from dataclasses import dataclass
from urllib.parse import quote, unquote

_MARK = re.compile(r"[?&]pooler=transaction(?:&direct=(?P<direct>[^&?]+))?$")


@dataclass(frozen=True)
class DatabaseUrl:
    """A database's URL as libpq reads it.

    ``pooled``: each transaction may get another session of the server, so nothing of a session can be relied on.
    ``direct``: the same database without the pooler, for what needs a session; None: there is no such way.
    """

    url: str
    pooled: bool = False
    direct: str | None = None

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
