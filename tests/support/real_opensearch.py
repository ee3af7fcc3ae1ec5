"""A real OpenSearch with its k-NN plugin on 127.0.0.1, for development and tests: started, ended, killed.

Its program comes from ``opensearch_program``; ``make opensearch`` is ``opensearch_command``'s. It refuses to run as
root: then it runs as the owner of its data, ``nobody`` at first.
"""

import fcntl
import http.client
import json
import os
import pwd
import shutil
import signal
import socket
import stat
import subprocess
import time
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

from cluster.contracts.errors import ConfigurationError
from tests.support.opensearch_program import PROGRAM, NotInstalled, find_java, find_maven, install

# For tests: half the CPU time of a start, since nothing is compiled for long use. A busy server would be slower.
QUICK_START = "-XX:TieredStopAtLevel=1"

_HEAP = "512m"
_START_TIMEOUT_S = 180
_STOP_TIMEOUT_S = 60
_POLL_S = 0.1
_ROOTS_STAND_IN = "nobody"

_LOG4J = """
status = error
appender.console.type = Console
appender.console.name = console
appender.console.layout.type = PatternLayout
appender.console.layout.pattern = [%d{ISO8601}][%-5p][%c{1.}] %m%n
rootLogger.level = info
rootLogger.appenderRef.console.ref = console
"""


class RealOpenSearch:
    """One server with its folder (data, configuration, log), made on the first start.

    ``port`` 0 takes a free one, which a later start of the same object takes again. The server ends with the thread
    that started it. ``java_options`` are added to the heap's.
    """

    def __init__(self, folder: Path, port: int = 0, program: Path = PROGRAM, java_options: str = "") -> None:
        self.folder = folder.expanduser().resolve()
        self._port = port
        self._program = program.expanduser().resolve()
        self._java_options = java_options
        self._process: subprocess.Popen[bytes] | None = None
        self._lock: IO[str] | None = None

    @property
    def url(self) -> str:
        """Raises ConfigurationError when the server does not run."""
        if not self.is_running() or not self._port:
            raise ConfigurationError(f"the OpenSearch in {self.folder} does not run: start it")
        return f"http://127.0.0.1:{self._port}"

    @property
    def log(self) -> Path:
        """The server's log since its last start."""
        return self.folder / "server.log"

    def is_running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def check_machine(self) -> None:
        """Raises NotInstalled for what ``start`` would miss, before anything is fetched."""
        find_java()
        self._runner()
        if not self._program.exists():
            find_maven()

    def start(self) -> str:
        """Starts the server unless it runs, waits until it answers for all its data, and returns its URL.

        Raises NotInstalled for what the machine lacks, ConfigurationError when it does not start.
        """
        if self.is_running():
            return self.url
        self.stop()  # clears up after one that died
        java = find_java()
        runner = self._runner()
        self._refuse_taken_port()
        try:
            self._take_folder()
            program = install(self._program)
            self._prepare(program, java)
            self._launch(program, java, runner)
            self._wait_until_it_answers()
        except OSError as error:
            self.stop()
            raise ConfigurationError(f"OpenSearch cannot be started in {self.folder}: {error}") from None
        except BaseException:
            self.stop()
            raise
        return self.url

    def stop(self) -> None:
        """Ends the server in good order. Nothing happens when none runs."""
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        """The server dies at once, as in a crash; ``start`` starts again on the same data and port."""
        self._end(signal.SIGKILL)

    @contextmanager
    def suspended(self) -> Iterator[None]:
        """The server takes connections within, and answers nothing."""
        assert self._process is not None
        os.killpg(self._process.pid, signal.SIGSTOP)
        try:
            yield
        finally:
            os.killpg(self._process.pid, signal.SIGCONT)

    def wait(self) -> str:
        """Waits until the server has ended, and returns what it said last."""
        assert self._process is not None
        self._process.wait()
        return _reason(self.log)

    def _end(self, number: signal.Signals) -> None:
        if self._process is not None and self._process.poll() is None:
            os.killpg(self._process.pid, number)
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(_STOP_TIMEOUT_S)
            # At first the server is a script, which asks other processes how to start it: they end with it.
            with suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
        self._process = None
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    def _account(self) -> tuple[int, int] | None:
        """User and group that the server runs as; None: as we do."""
        if os.geteuid() != 0:
            return None
        with suppress(FileNotFoundError, NotADirectoryError):
            owner = (self.folder / "data").stat()
            if owner.st_uid != 0:
                return owner.st_uid, owner.st_gid
        try:
            account = pwd.getpwnam(_ROOTS_STAND_IN)
        except KeyError:
            raise NotInstalled(
                f"OpenSearch refuses to run as root, and there is no account {_ROOTS_STAND_IN}: "
                f"make it (useradd --system {_ROOTS_STAND_IN}) or run as another user"
            ) from None
        return account.pw_uid, account.pw_gid

    def _runner(self) -> list[str]:
        """The beginning of the command: who runs it, and what becomes of it when we die.

        A test process may be killed and then ends nothing itself: the kernel does it. Only the signal of a parent's
        death reaches a server that is not made for this, without a process more that watches and may be killed too.
        """
        setpriv = shutil.which("setpriv")
        if setpriv is None:
            raise NotInstalled(
                "OpenSearch is started through setpriv, and there is none: "
                "install it (on Debian and Ubuntu: apt install util-linux)"
            )
        account = self._account()
        who = [] if account is None else [f"--reuid={account[0]}", f"--regid={account[1]}", "--clear-groups"]
        return [setpriv, "--pdeathsig=KILL", *who, "--"]

    def _refuse_taken_port(self) -> None:
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", self._port))
            except OSError as error:
                raise ConfigurationError(f"OpenSearch cannot have port {self._port}: {error.strerror}") from None

    def _take_folder(self) -> None:
        """Two servers on the same data would ruin each other's start."""
        if any(character.isspace() for character in str(self.folder)):
            raise ConfigurationError(f"OpenSearch cannot be started in {self.folder}: its path has a blank in it")
        self.folder.mkdir(parents=True, exist_ok=True)
        self._lock = (self.folder / ".lock").open("a")
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ConfigurationError(f"another OpenSearch runs in {self.folder}: end it or name another one") from None

    def _prepare(self, program: Path, java: Path) -> None:
        account = self._account()
        config, data, logs, temporary = (self.folder / name for name in ("config", "data", "logs", "tmp"))
        for made_anew in (config, logs, temporary):
            shutil.rmtree(made_anew, ignore_errors=True)
        for folder in (config, data, logs, temporary):
            folder.mkdir(mode=0o700, exist_ok=True)
        (config / "opensearch.yml").write_text(json.dumps(self._settings()))  # JSON is YAML, with safe paths
        (config / "jvm.options").write_text(_jvm_options(program))
        (config / "log4j2.properties").write_text(_LOG4J)
        if account is None:
            return
        # The folder stays root's, so that the server's account cannot put links where root writes.
        self.folder.chmod(0o755)
        for path in (*config.iterdir(), config, data, logs, temporary):
            os.chown(path, *account)
        for path in (config, program / "bin", java / "bin" / "java"):
            _let_others_traverse(path)

    def _settings(self) -> dict[str, object]:
        return {
            "cluster.name": "heimdex",
            "discovery.type": "single-node",
            "network.host": "127.0.0.1",
            "http.port": self._port,
            "transport.port": 0,
            "node.portsfile": True,  # says which port it took
            "path.data": str(self.folder / "data"),
            "path.logs": str(self.folder / "logs"),
            "cluster.routing.allocation.disk.threshold_enabled": False,  # a rather full disk is good enough here
        }

    def _launch(self, program: Path, java: Path, runner: Sequence[str]) -> None:
        environment = {
            "PATH": os.environ.get("PATH", os.defpath),
            "HOME": str(self.folder),
            "LANG": "C.UTF-8",
            "TMPDIR": str(self.folder / "tmp"),
            "OPENSEARCH_JAVA_HOME": str(java),
            "OPENSEARCH_JAVA_OPTS": f"-Xms{_HEAP} -Xmx{_HEAP} {self._java_options}",
            "OPENSEARCH_PATH_CONF": str(self.folder / "config"),
            "OPENSEARCH_TMPDIR": str(self.folder / "tmp"),
        }
        with self.log.open("wb") as log:
            self._process = subprocess.Popen(
                [*runner, str(program / "bin" / "opensearch")],
                cwd=program,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # Ctrl-C is ours to answer
            )

    def _wait_until_it_answers(self) -> None:
        assert self._process is not None
        deadline_s = time.monotonic() + _START_TIMEOUT_S
        while time.monotonic() < deadline_s:
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(_POLL_S)
                raise ConfigurationError(f"OpenSearch does not start: {_reason(self.log)} (whole log: {self.log})")
            if self._answers():
                return
        raise ConfigurationError(f"OpenSearch has not answered within {_START_TIMEOUT_S} s (its log: {self.log})")

    def _answers(self) -> bool:
        try:
            self._port = int((self.folder / "logs" / "http.ports").read_text().rsplit(":", 1)[1])
            plugins = self._get("/_cat/plugins?format=json")
            health = self._get("/_cluster/health?wait_for_status=yellow&timeout=1s")
        except (OSError, http.client.HTTPException):
            return False
        if "opensearch-knn" not in {plugin["component"] for plugin in plugins}:
            raise ConfigurationError(f"OpenSearch runs without its k-NN plugin: remove {self._program} and start again")
        return health["status"] in ("yellow", "green")

    def _get(self, path: str) -> Any:
        with _DIRECT.open(f"http://127.0.0.1:{self._port}{path}", timeout=5) as answer:
            return json.load(answer)


_DIRECT = urllib.request.build_opener(urllib.request.ProxyHandler({}))


def _jvm_options(program: Path) -> str:
    """Those of the distribution but for files beside the program, which the server's account may not write."""
    lines = (program / "config" / "jvm.options").read_text().splitlines()
    return "\n".join(line for line in lines if "logs/" not in line and "HeapDump" not in line)


def _reason(log: Path) -> str:
    """The exception that ended it, else the last line."""
    lines = [line.strip() for line in log.read_text(errors="replace").splitlines() if line.strip()]
    exceptions = [line for line in lines if "Exception" in line and not line.startswith("at ")]
    return (exceptions or lines or ["it said nothing"])[-1]


def _let_others_traverse(path: Path) -> None:
    """Lets the server's account pass through (not list) the folders above ``path``."""
    for folder in path.parents:
        mode = folder.stat().st_mode
        if not mode & stat.S_IXOTH:
            folder.chmod(stat.S_IMODE(mode) | stat.S_IXOTH)
