"""Where the pictures of scenes are: a folder for each video below ``scenes_url``, a directory or any fsspec URL.

Owns which of the addresses in the database are opened: a video's own pictures below ``scenes_url``, nothing else.
Users of an existing database may write these addresses.
"""

import posixpath
from contextlib import suppress
from typing import Any
from uuid import UUID

import fsspec

from cluster.contracts.errors import InvalidVideo, TransientFailure
from cluster.contracts.uris import shown
from cluster.security.redaction import store_reason

MOST_BYTES = 64 * 2**20
"""No picture that was written here is larger."""


class ScenePictures:
    """The folders of all videos."""

    def __init__(self, scenes_url: str) -> None:
        self.filesystem: Any
        self.filesystem, self._root = fsspec.core.url_to_fs(scenes_url)

    def folder(self, video_id: UUID) -> str:
        """Where a video's pictures are written, as the file system names it."""
        return posixpath.join(self._root, str(video_id))

    def named(self, video_id: UUID) -> str:
        """What errors call that place: by its path on this machine, by the setting in a store."""
        return self.folder(video_id) if "file" in self.filesystem.protocol else "HEIMDEX_SCENES_URL"

    def read(self, url: str, video_id: UUID) -> bytes:
        """The bytes of one of the video's pictures.

        Raises:
            InvalidVideo: the address is not that of a file in the video's folder; nothing was opened.
            TransientFailure: it cannot be read.
        """
        path = posixpath.join(self.folder(video_id), posixpath.basename(url))
        if str(self.filesystem.unstrip_protocol(path)) != url or posixpath.basename(url) in {"", ".", ".."}:
            raise InvalidVideo(f"not a picture of this video below HEIMDEX_SCENES_URL: {shown(url)}")
        try:
            with self.filesystem.open(path, "rb") as file:
                read: bytes = file.read(MOST_BYTES)
        except Exception as error:  # each driver has errors of its own
            raise TransientFailure(f"the picture cannot be read: {store_reason(error)}") from error
        return read

    def remove(self, video_id: UUID) -> None:
        """Remove a video's pictures; there need not be any.

        Raises:
            TransientFailure: they could not be removed.
        """
        folder = self.folder(video_id)
        try:
            with suppress(FileNotFoundError):
                self.filesystem.invalidate_cache(folder)
                self.filesystem.rm(folder, recursive=True)
        except OSError as error:
            raise TransientFailure(
                f"the pictures in {self.named(video_id)} cannot be removed: {store_reason(error)}"
            ) from error
