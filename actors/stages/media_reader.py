"""The media stages that need no model: fetch a video, say what it is, hand out its sound, remove it again.

Leaves what a file is to ``survey``, opening to ``media_file``, the sound to ``audio_reader``, the pictures to
``scene_detector``.
"""

import shutil
from collections.abc import Iterator
from pathlib import Path
from uuid import UUID

from actors.stages.audio_reader import speech_windows
from actors.stages.media_file import open_parts, translated_errors
from actors.stages.memory_watch import MemoryWatch
from actors.stages.mp4_index import check_index
from actors.stages.survey import Survey
from cluster.contracts.errors import InvalidVideo
from cluster.contracts.media import LocalVideo, MediaInfo, MediaLimits, SpeechWindow
from cluster.storage import FetchLimits, fetch
from cluster.storage_root import check_folder


class MediaReader:
    """Reads media files on the node it runs on. Holds no file open between calls."""

    def __init__(self, limits: MediaLimits, fetch_limits: FetchLimits, temp_directory: Path) -> None:
        """Fetched files lie in ``temp_directory``, each in a folder of its own."""
        self._limits = limits
        self._fetch_limits = fetch_limits
        self._temp_directory = temp_directory

    def download(self, uri: str, key: str, owner_id: UUID | None = None) -> LocalVideo:
        """Make ``uri`` a local file; ``key`` (a video's and attempt's) names its folder when it must be
        copied.

        Raises as ``cluster.storage.fetch`` does, and ``InvalidVideo`` for a stored file of another owner than
        ``owner_id``: where users may write rows, the path is what the user says.
        """
        if owner_id is not None:
            check_folder(uri, owner_id)
        directory = self._temp_directory / key
        try:
            return fetch(uri, directory, self._fetch_limits)
        except BaseException:
            shutil.rmtree(directory, ignore_errors=True)
            raise

    def discard(self, key: str) -> None:
        """Remove what was fetched under ``key``; a file that was used in place stays. Safe to call twice."""
        shutil.rmtree(self._temp_directory / Path(key).name, ignore_errors=True)

    def list_downloads(self) -> list[str]:
        """The keys under which something lies on this node, whoever fetched it."""
        if not self._temp_directory.exists():
            return []
        return [folder.name for folder in self._temp_directory.iterdir()]

    def probe(self, video: LocalVideo, language: str | None = None) -> MediaInfo:
        """What headers, first picture and all packets' times say of ``video``; its sound is chosen for ``language``.

        Raises ``InvalidVideo`` when it is no media file, has no pictures, uses a codec that cannot be
        decoded, breaks a limit (size and streams are checked before anything is decoded), or when no picture can be
        decoded.
        """
        self._check_bytes(video)
        with translated_errors():
            check_index(video.path, self._limits)
        return Survey(video, language, self._limits).info()

    def read_speech(self, video: LocalVideo, info: MediaInfo) -> Iterator[SpeechWindow]:
        """The video's sound in windows of at most ten minutes, cut at quiet places; none when it has no
        sound.

        What cannot be decoded is left out and its place kept silent. Raises ``InvalidVideo`` when the file
        has sound of which nothing at all can be decoded, or sound that runs past the longest duration
        allowed.
        """
        if any(part.sound for part in info.timeline.parts):
            memory = MemoryWatch()
            parts = open_parts(video.path, self._limits.max_pixels, info.timeline.parts, memory)
            yield from memory.bounded_steps(speech_windows(parts, info, self._limits.max_duration_s))

    def _check_bytes(self, video: LocalVideo) -> None:
        if video.size_bytes > self._limits.max_bytes:
            raise InvalidVideo(
                f"the file has {video.size_bytes:,} bytes, the limit is {self._limits.max_bytes:,} bytes"
            )
