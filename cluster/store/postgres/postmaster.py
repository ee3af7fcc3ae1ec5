"""Which Postgres server runs on a data directory, as it says itself in the directory's postmaster.pid.

Only looks; starting and stopping is ``cluster.store.postgres.embedded``'s.
"""

from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote, urlencode

import psutil  # type: ignore[import-untyped,unused-ignore]
from psycopg.pq import PGconn, Ping

from cluster.contracts.errors import ConfigurationError
from cluster.store.postgres.embedded_roles import SUPERUSER, password_file


@dataclass(frozen=True)
class Postmaster:
    """What a server wrote into its postmaster.pid; it may have died since."""

    pid: int
    data_dir: Path
    port: int
    socket_dir: str

    def url(self, database: str, role: str = SUPERUSER) -> str:
        """The port is named, so that PGPORT in the environment does not mislead libpq."""
        where: dict[str, object] = {"host": self.socket_dir, "port": self.port}
        password = password_file(self.data_dir, role)
        if password.exists():
            where["passfile"] = password
        return f"postgresql://{role}@/{database}?{urlencode(where, quote_via=quote)}"

    def answer(self) -> Ping:
        return Ping(PGconn.ping(f"{self.url('postgres')}&connect_timeout=3".encode()))

    def is_alive(self) -> bool:
        """Whether this very server lives, though it may not answer (starting, stopping, or stuck)."""
        if self.answer() != Ping.NO_RESPONSE:
            return True
        try:
            process = psutil.Process(self.pid)
            return process.name() == "postgres" and Path(process.cwd()) == self.data_dir
        except psutil.Error:
            return False


def read_postmaster_file(data_dir: Path) -> Postmaster | None:
    """None when there is none, or when the server has only begun to write it."""
    data_dir = data_dir.expanduser().resolve()
    try:
        lines = (data_dir / "postmaster.pid").read_text().splitlines()
    except (FileNotFoundError, NotADirectoryError):
        return None
    except PermissionError:
        raise ConfigurationError(f"{data_dir} belongs to another user") from None
    if len(lines) < 5 or not lines[0].isdecimal() or not lines[3].isdecimal():
        return None
    return Postmaster(int(lines[0]), data_dir, int(lines[3]), str(data_dir / lines[4]))  # "." where it is in there
