"""Secrets that are read from files: ``HEIMDEX_X_FILE`` in place of ``HEIMDEX_X``.

Owns what such a file must be. Which settings are secrets, and how an error is shown, is ``settings``'.
"""

import os
import stat
from collections.abc import Iterable
from pathlib import Path
from typing import Any

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
    """The text of a file that no other account may open, without the line feed at its end.

    Raises:
        ValueError: it cannot be read, is open to every account, is no regular file, or holds no text.
    """
    try:
        # Without waiting: a named pipe would hang here.
        descriptor = os.open(path.expanduser(), os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        raise ValueError(f"the file cannot be read: {error.strerror}") from None
    try:
        _check_mode(os.fstat(descriptor).st_mode, path)
        return _text(os.read(descriptor, MAX_BYTES + 1), path)
    finally:
        os.close(descriptor)


def _check_mode(mode: int, path: Path) -> None:
    if not stat.S_ISREG(mode):
        raise ValueError(f"{path} is no regular file")
    if mode & stat.S_IRWXO:
        raise ValueError(f"{path} is open to every account of this machine; run: chmod o-rwx {path}")


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
