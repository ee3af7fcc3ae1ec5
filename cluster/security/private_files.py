"""Files and folders that no other account of the machine can read, write or swap.

Owns their modes, and what makes a path safe: each folder and symbolic link on the way to it belongs to this account or
to the machine's administrator, and none of the folders lets other accounts replace what is in it. Leaves to the callers
which folders and files there are. No mode of an existing file or folder is changed here.
"""

import contextlib
import grp
import os
import pwd
import shlex
import stat
import uuid
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import IO

from cluster.contracts.errors import ConfigurationError

PRIVATE_UMASK = 0o077
PRIVATE_FOLDER, PRIVATE_FILE = 0o700, 0o600
_OTHER_ACCOUNTS = stat.S_IRWXG | stat.S_IRWXO
_MOST_LINKS = 40
"""Symbolic links on the way to one file at most; as many as Linux follows."""


def set_private_umask() -> None:
    """Have this process, and those that it starts, make files and folders for its own account alone."""
    os.umask(PRIVATE_UMASK)


def make_private_folder(folder: Path, setting: str) -> None:
    """Make ``folder`` and what is missing above it, and check it as :func:`check_private_folder` does."""
    _make_missing([folder, *folder.parents], folder, setting)
    check_private_folder(folder, setting)


def make_private_parents(path: Path, setting: str) -> None:
    """Make the folders that are missing above ``path``, for this account alone."""
    _make_missing([*path.parents], path, setting)


def _make_missing(folders: Sequence[Path], path: Path, setting: str) -> None:
    try:
        for missing in reversed([folder for folder in folders if not os.path.lexists(folder)]):
            with contextlib.suppress(FileExistsError):
                missing.mkdir(mode=PRIVATE_FOLDER)
    except OSError as error:
        raise ConfigurationError(f"{setting}: {path} cannot be made: {error.strerror}") from None


def check_private_folder(folder: Path, setting: str) -> None:
    """Raise ConfigurationError unless ``folder`` is this account's and closed to others; it need not exist.

    ``setting``: what the sentence names as the way to choose another folder.
    """
    if not os.path.lexists(folder):
        return
    found = check_way(folder, setting)
    if not stat.S_ISDIR(found.st_mode):
        raise ConfigurationError(f"{setting}: {folder} is not a folder: remove it, or set {setting} to another one")
    if found.st_uid != os.geteuid():
        raise ConfigurationError(
            f"{setting}: {folder} belongs to the account {account_name(found.st_uid)}: remove it, or set {setting} to "
            "a folder of this account"
        )
    _check_mode(folder, found, f"{setting}: ", PRIVATE_FOLDER)


def check_private_file(path: Path, name: str) -> None:
    """Raise ConfigurationError unless only this account (or root) can read and replace the file.

    ``name``: what the sentence calls it.
    """
    found = check_way(path, name)
    if not stat.S_ISREG(found.st_mode):
        raise ConfigurationError(f"{name}: {path} is not a regular file: remove it")
    if found.st_uid not in {os.geteuid(), 0}:
        raise ConfigurationError(f"{name}: {path} belongs to the account {account_name(found.st_uid)}: remove it")
    _check_mode(path, found, f"{name}: ", PRIVATE_FILE)


def open_new(path: Path) -> IO[str]:
    """Open a text file that must not exist yet and that no other account can read; a link there is not followed."""
    return os.fdopen(open_new_descriptor(path), "w")


def open_new_descriptor(path: Path) -> int:
    """The descriptor, for reading and writing, of a file that must not exist yet."""
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, PRIVATE_FILE)


def open_log(path: Path) -> IO[str]:
    """Open a file for appending, made for this account alone; its folder is made too, a link there is not followed."""
    path.parent.mkdir(mode=PRIVATE_FOLDER, parents=True, exist_ok=True)
    flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC
    return os.fdopen(os.open(path, flags, PRIVATE_FILE), "a")


def replace_private_file(path: Path, text: str) -> None:
    """Write a file whole or not at all: others of this account read it at any moment."""
    draft = path.with_name(f".{path.name}.{uuid.uuid4()}")
    try:
        with open_new(draft) as file:
            file.write(text)
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)


def make_once(path: Path, name: str, make: Callable[[], str]) -> str:
    """The text of a private file; made at first use, by the process that is first.

    Raises:
        ConfigurationError: it cannot be read or made, or other accounts can read it.
    """
    try:
        if not os.path.lexists(path):
            draft = path.with_name(f".{path.name}.{uuid.uuid4()}")
            try:
                with open_new(draft) as file:
                    file.write(make() + "\n")
                with contextlib.suppress(FileExistsError):
                    os.link(draft, path)
            finally:
                draft.unlink(missing_ok=True)
        check_private_file(path, name)
        return path.read_text().strip()
    except OSError as error:
        raise ConfigurationError(f"{name}: {path} cannot be read or made: {error.strerror}") from None


def check_way(path: Path, name: str) -> os.stat_result:
    """What is at ``path``, once every folder and link on the way is known to be safe from other accounts.

    Raises:
        ConfigurationError: another account could swap it; or it is not there.
    """
    try:
        return safe_status(path)
    except ValueError as error:
        raise ConfigurationError(f"{name}: {error}") from None


def safe_status(path: Path) -> os.stat_result:
    """As :func:`check_way`, with a ``ValueError`` that does not say what the path is for."""
    try:
        *way, last = _way(path)
    except OSError as error:
        raise ValueError(f"{path} cannot be looked at: {error.strerror}") from None
    for place, found in way:
        if found.st_uid not in _trusted():
            raise ValueError(
                f"{place}, on the way to {path}, belongs to the account {account_name(found.st_uid)}, which could "
                f"swap what is below it: remove it, or choose a place elsewhere"
            )
        if stat.S_ISDIR(found.st_mode) and _others_may_replace(found):
            raise ValueError(
                f"other accounts could swap what is in {place} (mode {stat.S_IMODE(found.st_mode):04o}): "
                f"chmod go-w {shlex.quote(str(place))}, or choose a place elsewhere"
            )
    return last[1]


def _way(path: Path) -> Iterator[tuple[Path, os.stat_result]]:
    """Each folder and symbolic link that the kernel passes on the way to ``path``, and at last what is there."""
    here, todo, links = Path("/"), [*path.absolute().parts[1:]], 0
    yield here, here.lstat()
    while todo:
        part = todo.pop(0)
        here = here.parent if part == ".." else here / part
        found = here.lstat()
        yield here, found
        if stat.S_ISLNK(found.st_mode):
            links += 1
            if links > _MOST_LINKS:
                raise OSError(0, "too many symbolic links")
            target = here.readlink()
            here = Path("/") if target.is_absolute() else here.parent
            todo = [*(target.parts[1:] if target.is_absolute() else target.parts), *todo]


def _trusted() -> set[int]:
    """This account, root, and the owner of the root folder, which is another one in some containers."""
    return {os.geteuid(), 0, Path("/").stat().st_uid}


def _others_may_replace(found: os.stat_result) -> bool:
    """Whether other accounts can rename or remove what is in this folder: a sticky one keeps each owner's entries."""
    if found.st_mode & stat.S_ISVTX:
        return False
    by_group = found.st_mode & stat.S_IWGRP and has_other_members(found.st_gid)
    return bool(found.st_mode & stat.S_IWOTH or by_group)


def has_other_members(gid: int) -> bool:
    """Whether the group is more than the private one of this account (or of root)."""
    own = {os.geteuid(), 0}
    if any(entry.pw_gid == gid and entry.pw_uid not in own for entry in pwd.getpwall()):
        return True
    try:
        named = grp.getgrgid(gid).gr_mem
    except KeyError:
        return True
    return any(_uid(name) not in own for name in named)


def _uid(name: str) -> int | None:
    try:
        return pwd.getpwnam(name).pw_uid
    except KeyError:
        return None


def _check_mode(path: Path, found: os.stat_result, prefix: str, wanted: int) -> None:
    if found.st_mode & _OTHER_ACCOUNTS:
        raise ConfigurationError(
            f"{prefix}{path} is open to other accounts (mode {stat.S_IMODE(found.st_mode):04o}): "
            f"chmod {wanted:o} {shlex.quote(str(path))}"
        )


def account_name(uid: int) -> str:
    """The name of an account, or its number where it has none."""
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)
