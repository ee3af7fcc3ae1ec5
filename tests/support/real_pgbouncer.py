"""A real PgBouncer in transaction mode in front of a Postgres on a Unix socket.

It refuses to run as root: then it runs as the owner of that socket's folder. Every transaction is given the session
that has waited longest, so what was left in another session is missed at once.
"""

import os
import pwd
import shutil
import socket
import subprocess
import time
from contextlib import suppress
from pathlib import Path

import psycopg
from psycopg.conninfo import conninfo_to_dict

from cluster.contracts.errors import ConfigurationError
from tests.support.missing_part import skip_but_on_ci

SESSIONS = 4
_START_TIMEOUT_S = 20


class RealPgBouncer:
    """One pooler with its folder. ``role``: the role at the server for every client."""

    def __init__(self, folder: Path, server_url: str, role: str = "postgres") -> None:
        self._folder = folder
        self._server = conninfo_to_dict(server_url)
        self._role = role
        self._port = 0
        self._process: subprocess.Popen[bytes] | None = None

    def url(self, database: str) -> str:
        """Through the pooler to a database of the server."""
        return f"postgresql://{self._role}@127.0.0.1:{self._port}/{database}"

    def start(self) -> None:
        """Return when it answers."""
        program = shutil.which("pgbouncer", path=f"{os.environ.get('PATH', os.defpath)}:/usr/sbin")
        if program is None:
            skip_but_on_ci("pgbouncer is not installed (on Debian and Ubuntu: apt install pgbouncer)")
        with socket.create_server(("127.0.0.1", 0)) as probe:
            self._port = probe.getsockname()[1]
        configuration = self._folder / "pgbouncer.ini"
        configuration.write_text(self._configuration())
        self._folder.chmod(0o755)
        log = (self._folder / "pgbouncer.log").open("wb")
        with log:
            self._process = subprocess.Popen(
                [*self._runner(), program, str(configuration)], stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )
        self._wait_until_it_answers()

    def stop(self) -> None:
        """End it; nothing happens when it does not run."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def _runner(self) -> list[str]:
        setpriv = shutil.which("setpriv")
        if setpriv is None:
            skip_but_on_ci("pgbouncer is started through setpriv (on Debian and Ubuntu: apt install util-linux)")
        owner = pwd.getpwuid(Path(str(self._server["host"])).stat().st_uid)
        who = [f"--reuid={owner.pw_uid}", f"--regid={owner.pw_gid}", "--clear-groups"] if os.geteuid() == 0 else []
        return [setpriv, "--pdeathsig=KILL", *who, "--"]

    def _configuration(self) -> str:
        return f"""
[databases]
* = host={self._server["host"]} port={self._server.get("port", 5432)} user={self._role}
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {self._port}
unix_socket_dir =
auth_type = any
pool_mode = transaction
default_pool_size = {SESSIONS}
min_pool_size = {SESSIONS}
server_round_robin = 1
max_client_conn = 200
"""

    def _wait_until_it_answers(self) -> None:
        assert self._process is not None
        end_s = time.monotonic() + _START_TIMEOUT_S
        while time.monotonic() < end_s:
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(0.05)
                raise ConfigurationError(f"pgbouncer ended: {(self._folder / 'pgbouncer.log').read_text()}")
            with suppress(psycopg.OperationalError):
                psycopg.connect(self.url("postgres"), connect_timeout=2).close()
                return
        raise ConfigurationError(f"pgbouncer does not answer: {(self._folder / 'pgbouncer.log').read_text()}")
