"""The media stages that need no model: fetch a video, say what it is, hand out its sound, remove it again.

Owns the limits that a file must keep before anything of it is decoded. Leaves opening to ``media_file``, the
sound to ``audio_reader``, the pictures to ``scene_detector``.
"""

import shutil
from collections.abc import Iterator
from pathlib import Path

import av
from av.audio.stream import AudioStream
from av.container import InputContainer
from av.stream import Stream
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from actors.stages.audio_reader import speech_windows
from actors.stages.media_file import (
    FPS_TOLERANCE,
    OpenMedia,
    Tally,
    open_media,
    packets,
    stated_extent_s,
    translated_errors,
)
from actors.stages.mp4_index import check_index
from actors.stages.stream_choice import choose_sound, picture_stream
from cluster.contracts.errors import InvalidVideo
from cluster.contracts.media import LocalVideo, MediaInfo, MediaLimits, SpeechWindow
from cluster.storage import FetchLimits, fetch

MAX_PACKETS_TO_FIRST_PICTURE = 500
"""A recording may begin inside a group of pictures; one that shows nothing for so many packets is broken."""


class MediaReader:
    """Reads media files on the node it runs on. Holds no file open between calls."""

    def __init__(self, limits: MediaLimits, fetch_limits: FetchLimits, temp_directory: Path) -> None:
        """Fetched files lie in ``temp_directory``, each in a folder of its own."""
        self._limits = limits
        self._fetch_limits = fetch_limits
        self._temp_directory = temp_directory

    def download(self, uri: str, key: str) -> LocalVideo:
        """Make ``uri`` a local file; ``key`` (a video's and attempt's) names its folder when it must be
        copied.

        Raises as ``cluster.storage.fetch`` does.
        """
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
        """What the headers and the first picture say of ``video``; its sound is chosen for ``language``.

        Raises ``InvalidVideo`` when it is no media file, has no pictures, uses a codec that cannot be
        decoded, breaks a limit (checked before anything is decoded), or when its first picture cannot be
        decoded.
        """
        self._check_bytes(video)
        with translated_errors():
            check_index(video.path, self._limits)
        with open_media(video.path, self._limits.max_pixels) as media, media.memory.bounded():
            container = media.container
            self._check_streams(container)
            stream = picture_stream(container)
            choice = choose_sound(container, language)
            duration_s, _ = stated_extent_s(container, stream)
            self._check_pictures(stream, duration_s)
            stream.codec_context.options = {"max_pixels": str(self._limits.max_pixels)}
            first = _first_picture(media, stream)
            turned = first.rotation % 180 != 0
            return MediaInfo(
                duration_s=duration_s,
                start_s=first.time if first.pts is not None else _header_start_s(stream),
                fps=self._fps(stream),
                width=first.height if turned else first.width,
                height=first.width if turned else first.height,
                rotation_deg=-first.rotation % 360,
                video_codec=stream.codec_context.name,
                audio_codec=choice.stream.codec_context.name if choice.stream else None,
                size_bytes=video.size_bytes,
                sound_index=choice.stream.index if choice.stream else None,
                warnings=choice.warnings,
            )

    def read_speech(self, video: LocalVideo, info: MediaInfo) -> Iterator[SpeechWindow]:
        """The video's sound in windows of at most ten minutes, cut at quiet places; none when it has no
        sound.

        What cannot be decoded is left out and its place kept silent. Raises ``InvalidVideo`` when the file
        has sound of which nothing at all can be decoded, or sound that runs past the longest duration
        allowed.
        """
        with open_media(video.path, self._limits.max_pixels) as media:
            if info.sound_index is None:
                return
            stream = media.container.streams[info.sound_index]
            assert isinstance(stream, AudioStream)
            windows = speech_windows(media, stream, info.start_s, self._limits.max_duration_s)
            yield from media.memory.bounded_steps(windows)

    def _check_bytes(self, video: LocalVideo) -> None:
        if video.size_bytes > self._limits.max_bytes:
            raise InvalidVideo(
                f"the file has {video.size_bytes:,} bytes, the limit is {self._limits.max_bytes:,} bytes"
            )

    def _check_streams(self, container: InputContainer) -> None:
        if len(container.streams) > self._limits.max_streams:
            raise InvalidVideo(
                f"the file has {len(container.streams)} streams, the limit is {self._limits.max_streams}"
            )

    def _check_pictures(self, stream: VideoStream, duration_s: float | None) -> None:
        limits = self._limits
        if stream.width * stream.height > limits.max_pixels:
            size = f"{stream.width} x {stream.height}"
            raise InvalidVideo(f"the pictures have {size} pixels, the limit is {limits.max_pixels:,} pixels")
        fps = float(stream.average_rate or 0)
        if fps > limits.max_fps * FPS_TOLERANCE:
            raise InvalidVideo(f"the video has {fps:g} pictures per second, the limit is {limits.max_fps:g}")
        if duration_s is not None and duration_s > limits.max_duration_s:
            raise InvalidVideo(f"the video lasts {duration_s:.1f} s, the limit is {limits.max_duration_s:g} s")

    def _fps(self, stream: VideoStream) -> float:
        """Pictures per second on the average as the header tells; 0 when it does not.

        What FFmpeg guesses from the first times is no more than the finest tick where pictures come unevenly.
        """
        guessed = float(stream.guessed_rate or 0)
        return float(stream.average_rate or (guessed if guessed <= self._limits.max_fps * FPS_TOLERANCE else 0))


def _first_picture(media: OpenMedia, stream: VideoStream) -> VideoFrame:
    tally = Tally()
    streams: list[Stream] = [stream]
    for tried, packet in enumerate(packets(media, streams, tally)):
        try:
            pictures = stream.decode(packet)
        except av.error.FFmpegError as error:
            tally.note_failure(error)
            pictures = []
        if pictures:
            return pictures[0]
        if tried >= MAX_PACKETS_TO_FIRST_PICTURE:
            break
    codec = stream.codec_context.name
    if not tally.ends and not tally.last_error:
        raise InvalidVideo(f"the file holds no pictures although its header announces some ({codec})")
    raise InvalidVideo(f"no picture can be decoded ({codec}): {tally.last_error or 'the data is damaged'}")


def _header_start_s(stream: VideoStream) -> float:
    return float(stream.start_time * stream.time_base) if stream.start_time and stream.time_base else 0.0
