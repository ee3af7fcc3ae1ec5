"""The data directory: private before anything in it is read or written.

Owns what is done about one that an earlier version left open to other accounts. Leaves what makes a folder private to
``private_files``.
"""

import os
import pwd
import stat
from pathlib import Path

from cluster.security.private_files import PRIVATE_FOLDER, check_private_folder, make_private_folder

SETTING = "HEIMDEX_DATA_DIR"
_OWN_ENTRIES = frozenset(
    {"cluster.json", "demo", "jwt_secret", "logs", "owner_id", "postgres", "postgres-roles", "scenes", "scratch"}
)
_MOUNT_ENTRY = "lost+found"


def prepare_data_folder(folder: Path) -> None:
    """Make the data directory where it is missing. Close it to other accounts if it is ours alone, and check it.

    Raises:
        ConfigurationError: other accounts can enter or swap it; the message says the chmod.
    """
    if not os.path.lexists(folder):
        make_private_folder(folder, SETTING)
        return
    check_data_folder(folder)


def check_data_folder(folder: Path) -> None:
    """As :func:`prepare_data_folder`, but nothing is made."""
    if _may_be_closed(folder):
        folder.chmod(PRIVATE_FOLDER)
    check_private_folder(folder, SETTING)


def is_home(folder: Path) -> bool:
    """Whether it is the home directory of any account, whose mode is the account's own to choose."""
    homes = {Path(entry.pw_dir) for entry in pwd.getpwall()} | {Path.home()}
    return folder in homes or folder.resolve() in {home.resolve() for home in homes}


def _may_be_closed(folder: Path) -> bool:
    """Whether the mode is lax and closing the folder concerns nothing but the cluster: all in it is the cluster's."""
    try:
        found = folder.lstat()
        if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid() or not found.st_mode & 0o077:
            return False
        return not is_home(folder) and all(_is_own(path.name) for path in folder.iterdir())
    except OSError:
        return False


def _noun(name: str) -> str:
    return name.partition(".")[0]


_OWN_NOUNS = frozenset(map(_noun, _OWN_ENTRIES))


def _is_own(name: str) -> bool:
    """Drafts and locks are named after what they are for, with a dot in front."""
    return name == _MOUNT_ENTRY or name in _OWN_ENTRIES or (name[:1] == "." and _noun(name[1:]) in _OWN_NOUNS)
