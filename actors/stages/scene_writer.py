"""Writes a video's scenes: thumbnail and key frame of each as JPEG, then all rows in one transaction.

The transaction is the store's, handed in; this class knows pictures and addresses.
"""

import errno
import io
import posixpath
import uuid
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Protocol
from uuid import UUID

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from cluster.contracts.errors import NoSpace, TransientFailure
from cluster.contracts.media import MediaWarning, SceneBlock
from cluster.contracts.results import SceneDescription, Transcript, WrittenScene
from cluster.files.scene_pictures import ScenePictures
from cluster.security.redaction import store_reason

THUMBNAIL_WIDTH_PX = 320
THUMBNAIL_QUALITY = 80
KEY_FRAME_QUALITY = 95


class ScenesSink(Protocol):
    """Target of the rows: replaces a video's scenes in one transaction, adds warnings; fenced by the lease token."""

    def replace(
        self,
        video_id: UUID,
        lease_token: int,
        transcript: Transcript,
        scenes: Sequence[WrittenScene],
        duration_s: float,
    ) -> None: ...

    def warn(self, video_id: UUID, lease_token: int, warnings: Sequence[MediaWarning]) -> None: ...


class SceneWriter:
    """Writes scenes below ``scenes_url``, a directory or any fsspec URL that takes files."""

    def __init__(self, sink: ScenesSink, scenes_url: str) -> None:
        self._sink = sink
        self._pictures = ScenePictures(scenes_url)
        self._filesystem = self._pictures.filesystem

    def write(
        self,
        video_id: UUID,
        lease_token: int,
        blocks: Iterable[SceneBlock],
        descriptions: Sequence[SceneDescription],
        transcript: Transcript,
    ) -> int:
        """Write pictures, then rows; returns the number of scenes. Blocks are read once, one at a time.

        Raises:
            LeaseLost: another scheduler owns the video; no row was written.
            TransientFailure: a picture could not be written.
        """
        directory = self._pictures.folder(video_id)
        place = self._pictures.named(video_id)
        written: list[WrittenScene] = []
        warnings: list[MediaWarning] = []
        duration_s = 0.0
        with _blaming_the_store(place):
            self._filesystem.makedirs(directory, exist_ok=True)
        for block in blocks:
            warnings += block.warnings
            for scene in block.scenes:
                stem = posixpath.join(directory, f"{scene.index:05d}")
                with _blaming_the_store(place):
                    thumbnail_url = self._put(f"{stem}.jpg", _thumbnail(scene.key_frame), THUMBNAIL_QUALITY)
                    key_frame_url = self._put(f"{stem}-key.jpg", Image.fromarray(scene.key_frame), KEY_FRAME_QUALITY)
                written.append(
                    WrittenScene(
                        id=uuid.uuid5(video_id, str(scene.index)),
                        start_s=scene.start_s,
                        end_s=scene.end_s,
                        key_frame_s=scene.key_frame_s,
                        thumbnail_url=thumbnail_url,
                        key_frame_url=key_frame_url,
                        description=descriptions[scene.index],
                    )
                )
                duration_s = scene.end_s
        if warnings:
            self._sink.warn(video_id, lease_token, warnings)
        self._sink.replace(video_id, lease_token, transcript, written, duration_s)
        return len(written)

    def _put(self, path: str, picture: Image.Image, quality: int) -> str:
        encoded = io.BytesIO()
        picture.save(encoded, "JPEG", quality=quality)
        self._filesystem.pipe_file(path, encoded.getvalue())
        return str(self._filesystem.unstrip_protocol(path))


@contextmanager
def _blaming_the_store(place: str) -> Iterator[None]:
    """Turn whatever a driver raises into the cluster's own errors, in words that name no more than ``place``."""
    try:
        yield
    except Exception as error:  # some drivers' errors are no OSError
        if isinstance(error, OSError) and error.errno in {errno.ENOSPC, errno.EDQUOT}:
            raise NoSpace(f"the disk is full: {place}") from error
        raise TransientFailure(f"a scene's picture could not be written to {place}: {store_reason(error)}") from error


def _thumbnail(picture: NDArray[np.uint8]) -> Image.Image:
    image = Image.fromarray(picture)
    image.thumbnail((THUMBNAIL_WIDTH_PX, THUMBNAIL_WIDTH_PX * 2))
    return image
