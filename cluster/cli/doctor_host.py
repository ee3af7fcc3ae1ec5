"""What `heimdex doctor` says of other accounts of this machine: whether they reach files and folders of the cluster."""

import os
import stat
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

from cluster.cli.finding import Finding
from cluster.contracts.errors import ConfigurationError
from cluster.runtime import launch
from cluster.runtime.ray_token import check_token, token_file
from cluster.security.data_folder import SETTING
from cluster.security.private_files import check_private_file, check_private_folder
from cluster.settings import Settings


def private_files(settings: Settings) -> Iterator[Finding]:
    """One finding for each place of the cluster on this machine; a place that is not there yet is well."""
    yield _finding("data directory", settings.data_dir, partial(check_private_folder, settings.data_dir, SETTING))
    scratch = settings.resolved_scratch_dir
    yield _finding("scratch directory", scratch, partial(check_private_folder, scratch, "HEIMDEX_SCRATCH_DIR"))
    yield _finding("Ray's token", token_file(), check_token)
    for name in ("jwt_secret", "owner_id", launch.RECORD):
        path = settings.data_dir / name
        if os.path.lexists(path):
            yield _finding(name, path, partial(check_private_file, path, SETTING))
    yield from _database_folder(settings)
    yield from _ray_folder(settings)


def _finding(part: str, path: Path, check: Callable[[], None]) -> Finding:
    part = f"other accounts: {part}"
    try:
        check()
    except ConfigurationError as error:
        return Finding(part, False, str(error), "as it says")
    return Finding(part, True, f"{path} is closed to them")


def _database_folder(settings: Settings) -> Iterator[Finding]:
    """The server's account owns it, which is another one than root's."""
    folder = settings.postgres_dir
    if settings.database_url is None and os.path.lexists(folder):
        mode = stat.S_IMODE(folder.lstat().st_mode)
        seen = f"{folder} has mode {mode:04o}"
        yield Finding("other accounts: Postgres", not mode & 0o077, seen, f"chmod 700 {folder}")


def _ray_folder(settings: Settings) -> Iterator[Finding]:
    try:
        state = launch.find(settings)
    except ConfigurationError:  # another finding
        return
    if state is None or state.node is None:
        return
    if state.node.temp_dir is None:
        seen = "Ray's sessions are in a folder that is open to every account"
        yield Finding("other accounts: Ray's folder", False, seen, "heimdex down, then heimdex up")
        return
    folder = Path(state.node.temp_dir)
    yield _finding("Ray's folder", folder, partial(check_private_folder, folder, "TMPDIR"))
