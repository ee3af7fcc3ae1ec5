"""Key frames for scenes that an existing Heimdex made: copies of their thumbnails, each read with care.

A thumbnail's address comes from a database that users may write to, so it is read by the rules of URIs that arrive by
HTTP: public addresses, or a relative path below the storage root; never a file of this machine.
"""

import io
import posixpath
import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from uuid import UUID

from PIL import Image

from cluster.contracts.errors import HeimdexError
from cluster.query_picture import read_picture
from cluster.scene_pictures import ScenePictures
from cluster.storage import FetchLimits, fetch
from cluster.store.adoption import UnshownScene

READERS = 8
MAX_BYTES = 16 * 2**20
TIMEOUT_S = 20.0
QUALITY = 95


@dataclass(frozen=True)
class CopiedThumbnail:
    """The key frame that was made of a scene's thumbnail, or why none was."""

    scene_id: UUID
    url: str | None
    reason: str | None


class Thumbnails:
    """Copies thumbnails to ``pictures``. ``limits``: where videos may be read; thumbnails are bound further."""

    def __init__(self, pictures: ScenePictures, limits: FetchLimits, schemes: Sequence[str]) -> None:
        self._pictures = pictures
        self._limits = replace(
            limits, max_bytes=MAX_BYTES, timeout_s=TIMEOUT_S, allowed_schemes=frozenset(schemes) - {"file"}
        )

    def copy(self, scenes: Sequence[UnshownScene]) -> list[CopiedThumbnail]:
        """Copy what can be read, several at once.

        Raises:
            OSError: a copy cannot be written.
        """
        with ThreadPoolExecutor(READERS) as threads:
            return list(threads.map(self._copy_one, scenes))

    def _copy_one(self, scene: UnshownScene) -> CopiedThumbnail:
        try:
            with tempfile.TemporaryDirectory(prefix="heimdex-thumbnail-") as folder:
                read = fetch(scene.url, Path(folder), self._limits)
                picture = Image.fromarray(read_picture(read.path.read_bytes()))
        except (HeimdexError, ValueError) as error:
            return CopiedThumbnail(scene.id, None, str(error))
        encoded = io.BytesIO()
        picture.save(encoded, "JPEG", quality=QUALITY)
        filesystem = self._pictures.filesystem
        directory = self._pictures.folder(scene.video_id)
        filesystem.makedirs(directory, exist_ok=True)
        path = posixpath.join(directory, f"{scene.index:05d}-key.jpg")
        filesystem.pipe_file(path, encoded.getvalue())
        return CopiedThumbnail(scene.id, str(filesystem.unstrip_protocol(path)), None)
