"""OpenSearch's program, fetched by Maven, checked and unpacked once, and a Java that can run it.

What is fetched is known by its SHA-256 sum; where it is fetched from is Maven's configuration. A server is started
by ``real_opensearch``.
"""

import fcntl
import hashlib
import os
import re
import shutil
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from zipfile import ZipFile

from cluster.contracts.errors import ConfigurationError

VERSION = "3.5.0"
CACHE = Path("~/.cache/heimdex").expanduser()
PROGRAM = CACHE / f"opensearch-{VERSION}"
JVM_FOLDER = Path("/usr/lib/jvm")

_OLDEST_JAVA = 21


class NotInstalled(ConfigurationError):
    """This machine lacks something that OpenSearch needs; the sentence says what, and how to get it."""


@dataclass(frozen=True)
class Archive:
    """A zip as Maven names it, and the SHA-256 sum that it must have (hexadecimal)."""

    group: str
    name: str
    version: str
    sha256: str

    @property
    def coordinates(self) -> str:
        return f"{self.group}:{self.name}:{self.version}:zip"

    def path_in(self, repository: Path) -> Path:
        """Its path in a local repository of Maven's."""
        folder = repository.joinpath(*self.group.split("."), self.name, self.version)
        return folder / f"{self.name}-{self.version}.zip"


SERVER = Archive(
    "org.opensearch.distribution.integ-test-zip",
    "opensearch",
    VERSION,
    "b676ad392c95a94d8d2bd8785b8b922c7811536daf6a9ec0c7277a34bd8a17a9",
)
KNN_PLUGIN = Archive(
    "org.opensearch.plugin",
    "opensearch-knn",
    f"{VERSION}.0",
    "99fdf3ac9ef95974e276298b83a58532bf21ba13bd5fd96a4b59465b7e613309",
)


def install(folder: Path = PROGRAM) -> Path:
    """The folder of the program with its k-NN plugin, fetched if it is not there. Several processes may call it.

    Raises NotInstalled without Maven, ConfigurationError when an archive cannot be fetched or is another than wanted.
    """
    if folder.exists():
        return folder
    maven = find_maven()
    folder.parent.mkdir(parents=True, exist_ok=True)
    with _alone(folder):
        if not folder.exists():
            # Whole or not at all: what an interrupted or refused fetch left is not taken for the program.
            new = folder.with_name(f".{folder.name}.new")
            shutil.rmtree(new, ignore_errors=True)
            try:
                _unpacked(new, maven).rename(folder)
            finally:
                shutil.rmtree(new, ignore_errors=True)
    return folder


def find_maven() -> str:
    """Raises NotInstalled when there is none."""
    maven = shutil.which("mvn")
    if maven is None:
        raise NotInstalled(
            f"OpenSearch {VERSION} is fetched with Maven, and there is no mvn: "
            "install it (on Debian and Ubuntu: apt install maven)"
        )
    return maven


def find_java(environment: Mapping[str, str] = os.environ) -> Path:
    """The home of a Java that is new enough: a named one, else an installed one, else that of PATH.

    Each is asked for its version, since names and places say little. Raises NotInstalled when none is new enough.
    """
    found = set()
    for program in _java_programs(environment):
        answer = _ask_java(program)
        if answer is None:
            continue
        version, home = answer
        if version >= _OLDEST_JAVA:
            return home
        found.add(version)
    only = f"only Java {', '.join(map(str, sorted(found)))}" if found else "no Java"
    raise NotInstalled(
        f"OpenSearch {VERSION} needs Java {_OLDEST_JAVA} or newer, and there is {only}: install one (on Debian and "
        f"Ubuntu: apt install openjdk-{_OLDEST_JAVA}-jre-headless) or set OPENSEARCH_JAVA_HOME"
    )


def _java_programs(environment: Mapping[str, str]) -> Iterator[Path]:
    for variable in ("OPENSEARCH_JAVA_HOME", "JAVA_HOME"):
        if environment.get(variable):
            yield Path(environment[variable]) / "bin" / "java"
    yield from sorted({program.resolve() for program in JVM_FOLDER.glob("*/bin/java")})
    on_path = shutil.which("java", path=environment.get("PATH"))
    if on_path is not None:
        yield Path(on_path)


def _ask_java(program: Path) -> tuple[int, Path] | None:
    """Its version and its home, as itself says; None when it does not run."""
    try:
        command = [str(program), "-XshowSettings:properties", "-version"]
        said = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False).stderr
    except OSError:
        return None
    version = re.search(r"^\s*java\.specification\.version = (?:1\.)?(\d+)", said, re.MULTILINE)
    home = re.search(r"^\s*java\.home = (.+)$", said, re.MULTILINE)
    return (int(version[1]), Path(home[1])) if version and home else None


def _unpacked(new: Path, maven: str) -> Path:
    """Fetches both archives into a folder that is not there yet, and returns where in it the program is."""
    new.mkdir()
    server, plugin = (_fetch(archive, new, maven) for archive in (SERVER, KNN_PLUGIN))
    program = new / f"{SERVER.name}-{VERSION}"
    with ZipFile(server) as archive:
        archive.extractall(new)
    with ZipFile(plugin) as archive:
        archive.extractall(program / "plugins" / KNN_PLUGIN.name)
    # Another account may have to run it, whatever the umask; and zipfile does not keep what is executable.
    for path in (program, *program.rglob("*")):
        runs = path.is_dir() or path.parent.name == "bin"
        path.chmod(0o755 if runs else 0o644)
    return program


def _fetch(archive: Archive, folder: Path, maven: str) -> Path:
    # A local repository that goes away with the folder: the user's own would keep the archive for nothing.
    repository = folder / "maven"
    options = ["--batch-mode", "--quiet", "-Dstyle.color=never", f"-Dmaven.repo.local={repository}"]
    what = ["-Dtransitive=false", f"-Dartifact={archive.coordinates}"]
    done = subprocess.run(
        [maven, *options, "dependency:get", *what],
        cwd=folder,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        raise ConfigurationError(f"Maven cannot fetch {archive.coordinates}: {_first_error(done.stdout.splitlines())}")
    path = archive.path_in(repository)
    with path.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != archive.sha256:
        raise ConfigurationError(
            f"{archive.coordinates} is not what it should be and is not used: "
            f"its SHA-256 sum is {found} instead of {archive.sha256}"
        )
    return path


def _first_error(lines: Sequence[str]) -> str:
    errors = [line.removeprefix("[ERROR]").strip() for line in lines if line.startswith("[ERROR]")]
    return (errors or [line for line in lines if line.strip()] or ["it said nothing"])[0]


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Only one process at a time makes this folder."""
    with folder.with_name(f".{folder.name}.lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
