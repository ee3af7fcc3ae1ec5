"""Secrets that are read from files: ``HEIMDEX_X_FILE`` in place of ``HEIMDEX_X``.

Owns what such a file must be. Which settings are secrets, and how an error is shown, is ``settings``'.
"""

import os
import stat
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from cluster.security.private_files import account_name, has_other_members, safe_status

MAX_BYTES = 64 * 1024
SUFFIX = "_file"


def with_secrets_read(values: dict[str, Any], names: Iterable[str]) -> dict[str, Any]:
    """``values`` with the secrets of ``names`` in place of the files that hold them.

    Raises:
        ValueError: a secret is set in both ways, or its file is refused; the text begins with the setting's name.
    """
    found = dict(values)
    for name in names:
        path = found.pop(name + SUFFIX, None)
        if path in (None, ""):
            continue
        if found.get(name) not in (None, ""):
            raise ValueError(f"{name}{SUFFIX}: the setting without _FILE is set too; unset one of them")
        try:
            found[name] = read_secret(Path(path))
        except ValueError as error:
            raise ValueError(f"{name}{SUFFIX}: {error}") from None
    return found


def read_secret(path: Path) -> str:
    """The text of a file that no other account may open or swap, without the line feed at its end.

    Its group may read it, as containers have it whose secrets are mounted by another account.

    Raises:
        ValueError: it cannot be read, other accounts may open or swap it, it is no regular file, or holds no text.
    """
    try:
        # Without waiting: a named pipe would hang here.
        descriptor = os.open(path.expanduser(), os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        raise ValueError(f"the file cannot be read: {error.strerror}") from None
    try:
        _check(os.fstat(descriptor), path)
        return _text(os.read(descriptor, MAX_BYTES + 1), path)
    finally:
        os.close(descriptor)


def _check(found: os.stat_result, path: Path) -> None:
    """``found``: what was opened at ``path``, following links."""
    if not stat.S_ISREG(found.st_mode):
        raise ValueError(f"{path} is no regular file")
    if found.st_mode & stat.S_IRWXO:
        raise ValueError(f"{path} is open to every account of this machine; run: chmod o-rwx {path}")
    if found.st_mode & stat.S_IWGRP and has_other_members(found.st_gid):
        raise ValueError(f"{path} can be written by other accounts of its group; run: chmod g-w {path}")
    if found.st_uid not in {os.geteuid(), 0}:
        raise ValueError(f"{path} belongs to the account {account_name(found.st_uid)}, which could change it")
    if not os.path.samestat(safe_status(path.expanduser()), found):
        raise ValueError(f"{path} was swapped while it was read")


def _text(content: bytes, path: Path) -> str:
    if len(content) > MAX_BYTES:
        raise ValueError(f"{path} is larger than {MAX_BYTES} bytes")
    try:
        text = content.decode().rstrip("\r\n")
    except UnicodeDecodeError:
        raise ValueError(f"{path} is not text in UTF-8") from None
    if not text:
        raise ValueError(f"{path} is empty")
    return text
