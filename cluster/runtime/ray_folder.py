"""The folder of a Ray node's sessions: its sockets, logs and working directories, which Ray opens to every account.

Ray gives its folders mode 0777, also the one that it is started with: only a closed folder around it keeps others out.
Its name cannot be guessed, so that no other account can make it beforehand.
"""

import shutil
import tempfile
from pathlib import Path

from cluster.security.private_files import PRIVATE_FOLDER, check_private_folder

PREFIX = "heimdex-ray-"
LONGEST_PATH_BYTES = 40
"""A socket's path has 107 bytes at most; below this folder, 66 are taken by its session and the socket's name."""


def new_ray_folder() -> Path:
    """A new folder for this account alone, with a path that is short enough for sockets in it."""
    folder = Path(tempfile.mkdtemp(prefix=PREFIX))
    if len(bytes(folder)) > LONGEST_PATH_BYTES:
        folder.rmdir()
        folder = Path(tempfile.mkdtemp(prefix=PREFIX, dir="/tmp"))
    folder.chmod(PRIVATE_FOLDER)
    check_private_folder(folder, "TMPDIR")
    return folder


def given_to_ray(folder: Path) -> Path:
    """What Ray takes as its own and opens to every account; no other account gets there."""
    return folder / "r"


def remove_ray_folder(folder: Path) -> None:
    """Remove it with what its node left; a folder that was not made here stays."""
    if folder.name.startswith(PREFIX):
        shutil.rmtree(folder, ignore_errors=True)
