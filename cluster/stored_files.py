"""Removes the file of a video that is forgotten, where its owner asks for that too."""

from contextlib import suppress
from uuid import UUID

import fsspec

from cluster.contracts.errors import InvalidVideo, TransientFailure
from cluster.redaction import store_reason
from cluster.storage_root import StorageRoot, check_folder, is_relative
from cluster.video_uris import scheme_of, shown


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
        filesystem, path = fsspec.core.url_to_fs(uri)
        with suppress(FileNotFoundError, NotADirectoryError):
            filesystem.rm_file(path)
    except (OSError, ValueError, ImportError) as error:
        raise TransientFailure(f"{named} cannot be removed: {store_reason(error)}") from error
