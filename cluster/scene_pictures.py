"""Where the pictures of scenes lie: a folder for each video below ``scenes_url``, a directory or any fsspec URL."""

import posixpath
from contextlib import suppress
from typing import Any
from uuid import UUID

import fsspec

from cluster.contracts.errors import TransientFailure


class ScenePictures:
    """The folders of all videos."""

    def __init__(self, scenes_url: str) -> None:
        self.filesystem: Any
        self.filesystem, self._root = fsspec.core.url_to_fs(scenes_url)

    def folder(self, video_id: UUID) -> str:
        """Where a video's pictures are written, as the file system names it."""
        return posixpath.join(self._root, str(video_id))

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
            raise TransientFailure(f"the pictures in {folder} cannot be removed: {error}") from error
