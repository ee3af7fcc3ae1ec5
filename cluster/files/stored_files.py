"""Removes the file of a video that is forgotten, where its owner asks for that too."""

from contextlib import suppress
from uuid import UUID

from cluster.contracts.errors import ConfigurationError, InvalidVideo, TransientFailure
from cluster.contracts.uris import local_path, scheme_of, shown
from cluster.files.storage import driver_of
from cluster.files.storage_root import StorageRoot, check_folder, is_relative
from cluster.security.redaction import store_reason


def remove_file(uri: str, root: StorageRoot | None, owner_id: UUID) -> None:
    """Remove the file of the owner's that ``uri`` names; it may be gone already. A relative path is one below ``root``.

    Raises:
        InvalidVideo: it is not a file that can be removed from here: one on the web, a path below no root, another's.
        TransientFailure: it could not be removed.
    """
    named = shown(uri)
    if is_relative(uri):
        check_folder(uri, owner_id)
        if root is None:
            raise InvalidVideo(f"{named} is below the storage root: set HEIMDEX_STORAGE_ROOT")
        uri = root.uri_of(uri)
    if scheme_of(uri) in {"http", "https"}:
        raise InvalidVideo(f"{named} is on the web: it can be removed only where it is kept")
    try:
        with suppress(FileNotFoundError, NotADirectoryError):
            _remove(uri)
    except ConfigurationError as error:
        raise TransientFailure(f"{named} cannot be removed: {error}") from error
    except (OSError, ValueError) as error:
        raise TransientFailure(f"{named} cannot be removed: {store_reason(error)}") from error


def _remove(uri: str) -> None:
    """Exactly the file that a worker would read."""
    if scheme_of(uri) != "file":
        filesystem, key = driver_of(uri)
        filesystem.rm_file(key)
        return
    path = local_path(uri)
    if path is None:
        raise InvalidVideo(f"file:// names a file of this machine, not of another host: {shown(uri)}")
    path.unlink()
