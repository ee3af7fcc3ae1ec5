"""Key frames for scenes that an existing Heimdex made: copies of their thumbnails, each read with care.

A thumbnail's address comes from a database that users may write to, so it is read by the rules of an adopted row: what
its owner could submit by HTTP, or a file below the storage root in no folder of another owner; never a file of this
machine.
"""

import io
import posixpath
import tempfile
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from uuid import UUID

from PIL import Image

from cluster.contracts.errors import HeimdexError, TransientFailure
from cluster.contracts.uris import scheme_of, shown
from cluster.contracts.videos import Origin
from cluster.files.origins import limits_for
from cluster.files.scene_pictures import ScenePictures
from cluster.files.storage import FetchLimits, fetch
from cluster.files.storage_root import check_folder, is_relative
from cluster.search.query_picture import read_picture
from cluster.store.videos.adoption import UnshownScene

READERS = 8
MAX_BYTES = 16 * 2**20
TIMEOUT_S = 20.0
QUALITY = 95
GIVEN_UP_AFTER = 20
"""Thumbnails in a row that a host did not deliver, after which the others of that host are not asked for."""


@dataclass(frozen=True)
class CopiedThumbnail:
    """The key frame that was made of a scene's thumbnail, or why none was: the same words for all of one host."""

    scene_id: UUID
    url: str | None
    reason: str | None


class Thumbnails:
    """Copies thumbnails to ``pictures``. ``limits``: where videos may be read; thumbnails are bound further.

    A host that does not answer is waited for a few times, not once for each of its thumbnails.
    """

    def __init__(self, pictures: ScenePictures, limits: FetchLimits) -> None:
        self._pictures = pictures
        self._limits = replace(limits, max_bytes=MAX_BYTES, timeout_s=TIMEOUT_S)
        self._in_a_row: Counter[str] = Counter()

    def copy(self, scenes: Sequence[UnshownScene]) -> list[CopiedThumbnail]:
        """Copy what can be read, several at once.

        Raises:
            OSError: a copy cannot be written.
        """
        with ThreadPoolExecutor(READERS) as threads:
            return list(threads.map(self._copy_one, scenes))

    def _copy_one(self, scene: UnshownScene) -> CopiedThumbnail:
        host = _host_of(scene.url)
        if self._in_a_row[host] >= GIVEN_UP_AFTER:
            return CopiedThumbnail(scene.id, None, f"not asked for, since {host} does not answer")
        try:
            picture = self._read(scene)
            self._in_a_row[host] = 0
        except (HeimdexError, ValueError) as error:
            self._in_a_row[host] = self._in_a_row[host] + 1 if isinstance(error, TransientFailure) else 0
            return CopiedThumbnail(scene.id, None, self._without_address(str(error), scene.url, host))
        encoded = io.BytesIO()
        picture.save(encoded, "JPEG", quality=QUALITY)
        filesystem = self._pictures.filesystem
        directory = self._pictures.folder(scene.video_id)
        filesystem.makedirs(directory, exist_ok=True)
        path = posixpath.join(directory, f"{scene.id}-key.jpg")
        filesystem.pipe_file(path, encoded.getvalue())
        return CopiedThumbnail(scene.id, str(filesystem.unstrip_protocol(path)), None)

    def _read(self, scene: UnshownScene) -> Image.Image:
        limits = self._limits
        if is_relative(scene.url):  # pictures need not be in folders of their owners; others' folders stay closed
            check_folder(scene.url, scene.owner_id)
        else:
            limits = limits_for(scene.url, Origin.ADOPTED, scene.owner_id, limits)
        with tempfile.TemporaryDirectory(prefix="heimdex-thumbnail-") as folder:
            read = fetch(scene.url, Path(folder), limits)
            try:
                encoded = read.path.read_bytes()
            except OSError as error:
                raise TransientFailure(f"cannot read {shown(scene.url)}: {error.strerror}") from error
            return Image.fromarray(read_picture(encoded))

    def _without_address(self, sentence: str, url: str, host: str) -> str:
        return sentence.replace(shown(url), host)


def _host_of(url: str) -> str:
    """Who is asked for a thumbnail, for people."""
    if is_relative(url):
        return "HEIMDEX_STORAGE_ROOT"
    return shown(url).partition("://")[2].partition("/")[0] or scheme_of(url)
