"""The media stages that need no model: say what a video is, hand out its sound.

Leaves what a file is to ``survey``, opening to ``media_file``, the sound to ``audio_reader``, the pictures to
``scene_detector``.
"""

from collections.abc import Iterator

from actors.stages.audio_reader import speech_windows
from actors.stages.media_file import open_parts, translated_errors
from actors.stages.memory_watch import MemoryWatch
from actors.stages.mp4_index import check_index
from actors.stages.survey import Survey
from cluster.contracts.errors import InvalidVideo
from cluster.contracts.media import LocalVideo, MediaInfo, MediaLimits, SpeechWindow


class MediaReader:
    """Reads media files on the node it runs on. Holds no file open between calls."""

    def __init__(self, limits: MediaLimits) -> None:
        self._limits = limits

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
