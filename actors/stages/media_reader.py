"""The media stages that need no model: fetch a video, say what it is, hand out its sound, remove it again.

Owns the limits that a file must keep before anything of it is decoded. Leaves opening to ``media_file``, the
sound to ``audio_reader``, the pictures to ``scene_detector``.
"""

import shutil
from collections.abc import Iterator
from pathlib import Path

import av
from av.container import InputContainer
from av.packet import Packet
from av.stream import Stream
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from actors.stages.audio_reader import speech_windows
from actors.stages.display import Orientation
from actors.stages.media_file import (
    FPS_TOLERANCE,
    OpenMedia,
    Tally,
    check_extent,
    open_media,
    packets,
    translated_errors,
)
from actors.stages.mp4_index import check_index
from actors.stages.packet_scan import PacketScan
from actors.stages.stream_choice import choose_sound, picture_stream
from cluster.contracts.errors import InvalidVideo
from cluster.contracts.media import LocalVideo, MediaInfo, MediaLimits, SpeechWindow
from cluster.storage import FetchLimits, fetch

MOST_TO_FIRST_PICTURE_BYTES = 256 * 2**20
LONGEST_TO_FIRST_PICTURE_S = 900.0
"""A recording may begin inside a group of pictures, and these may be long; one that shows nothing for so much data or
time is broken."""
LIMIT_CHECK_PACKETS = 500
"""How often a file is held to the longest duration while its packets are read."""
RATE_AGREES = 1.5
"""A stated rate is believed when it is at most so many times the measured one, or that of it."""


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
        """What headers, first picture and all packets' times say of ``video``; its sound is chosen for ``language``.

        Raises ``InvalidVideo`` when it is no media file, has no pictures, uses a codec that cannot be
        decoded, breaks a limit (size and streams are checked before anything is decoded), or when no picture can be
        decoded.
        """
        self._check_bytes(video)
        with translated_errors():
            check_index(video.path, self._limits)
        info, follows = self._surveyed(video, language, {})
        # Where one stream carries on another, the second one's times can only be judged once that is known.
        return self._surveyed(video, language, follows)[0] if follows else info

    def _surveyed(
        self, video: LocalVideo, language: str | None, follows: dict[int, int]
    ) -> tuple[MediaInfo, dict[int, int]]:
        with open_media(video.path, self._limits.max_pixels) as media, media.memory.bounded():
            container = media.container
            self._check_streams(container)
            stream = picture_stream(container)
            choice = choose_sound(container, language)
            sound = choice.stream
            self._check_size(stream)
            stream.codec_context.options = {"max_pixels": str(self._limits.max_pixels)}
            scan = PacketScan(container, follows)
            first = self._scanned(media, stream, scan)
            pictures, sounds = scan.chain(stream), () if sound is None else scan.chain(sound)
            start_s = scan.start_s([*pictures, *sounds])
            duration_s = scan.duration_s(start_s, [*pictures, *sounds])
            fps = self._rate(stream, scan.rate(stream.index))
            self._check_extent(duration_s, fps)
            turned = Orientation.of(first).transposed
            info = MediaInfo(
                duration_s=duration_s,
                start_s=start_s,
                fps=fps,
                width=first.height if turned else first.width,
                height=first.width if turned else first.height,
                rotation_deg=-first.rotation % 360,
                video_codec=stream.codec_context.name,
                audio_codec=sound.codec_context.name if sound else None,
                size_bytes=video.size_bytes,
                timeline=scan.timeline(pictures, sounds, start_s),
                warnings=choice.warnings,
            )
            return info, scan.follows(pictures, sounds)

    def _scanned(self, media: OpenMedia, stream: VideoStream, scan: PacketScan) -> VideoFrame:
        """Read all packets into ``scan``; the first picture that can be decoded on the way."""
        tally = Tally()
        search = _FirstPicture(stream, tally)
        for packet in packets(media, PacketScan.streams(media.container), tally):
            if packet.stream is stream and search.picture is None:
                search.try_packet(packet)
            if packet.size or packet.dts is not None:
                scan.note(packet)
            if tally.read % LIMIT_CHECK_PACKETS == 0:
                check_extent("the video lasts", scan.extent_s, self._limits.max_duration_s)
        return search.found()

    def read_speech(self, video: LocalVideo, info: MediaInfo) -> Iterator[SpeechWindow]:
        """The video's sound in windows of at most ten minutes, cut at quiet places; none when it has no
        sound.

        What cannot be decoded is left out and its place kept silent. Raises ``InvalidVideo`` when the file
        has sound of which nothing at all can be decoded, or sound that runs past the longest duration
        allowed.
        """
        with open_media(video.path, self._limits.max_pixels) as media:
            streams = [s for s in media.container.streams.audio if s.index in info.timeline.sound]
            if not streams:
                return
            streams.sort(key=lambda stream: info.timeline.sound.index(stream.index))
            windows = speech_windows(media, streams, info, self._limits.max_duration_s)
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

    def _check_size(self, stream: VideoStream) -> None:
        limit = self._limits.max_pixels
        if stream.width * stream.height > limit:
            size = f"{stream.width} x {stream.height}"
            raise InvalidVideo(f"the pictures have {size} pixels, the limit is {limit:,} pixels")

    def _check_extent(self, duration_s: float | None, fps: float) -> None:
        limits = self._limits
        if fps > limits.max_fps * FPS_TOLERANCE:
            raise InvalidVideo(f"the video has {fps:g} pictures per second, the limit is {limits.max_fps:g}")
        if duration_s is not None and duration_s > limits.max_duration_s:
            raise InvalidVideo(f"the video lasts {duration_s:.1f} s, the limit is {limits.max_duration_s:g} s")

    def _rate(self, stream: VideoStream, measured: float | None) -> float:
        """Pictures per second on the average: as the header says where the packets agree, else as these come.

        FFmpeg's average may be the finest tick, and its guess too where pictures come unevenly. 0: unknown.
        """
        stated = [float(rate) for rate in (stream.average_rate, stream.guessed_rate) if rate]
        if measured is None:
            possible = [rate for rate in stated if rate <= self._limits.max_fps * FPS_TOLERANCE]
            return (possible or [float(stream.average_rate or 0)])[0]
        agreeing = [rate for rate in stated if measured / RATE_AGREES <= rate <= measured * RATE_AGREES]
        return agreeing[0] if agreeing else round(measured, 3)


class _FirstPicture:
    """The search for the first picture of a stream, within bounds of data and of time."""

    def __init__(self, stream: VideoStream, tally: Tally) -> None:
        self.picture: VideoFrame | None = None
        self._stream = stream
        self._tally = tally
        self._packets = 0
        self._bytes = 0
        self._started_s: float | None = None

    def try_packet(self, packet: "Packet[Stream]") -> None:
        """Decode the stream's next packet. Raises ``InvalidVideo`` when the search has gone on for too long."""
        if packet.size:
            self._packets += 1
            self._bytes += packet.size
        try:
            pictures = self._stream.decode(packet)
        except av.error.FFmpegError as error:
            self._tally.note_failure(error)
            pictures = []
        if pictures:
            self.picture = pictures[0]
        elif self._bytes > MOST_TO_FIRST_PICTURE_BYTES or self._passed_s(packet) > LONGEST_TO_FIRST_PICTURE_S:
            raise self._nothing()

    def found(self) -> VideoFrame:
        """The picture, now that the file has ended. Raises ``InvalidVideo`` when there is none."""
        if self.picture is None:
            raise self._nothing()
        return self.picture

    def _passed_s(self, packet: "Packet[Stream]") -> float:
        time = packet.pts if packet.dts is None else packet.dts
        if time is None or not packet.time_base:
            return 0.0
        time_s = float(time * packet.time_base)
        self._started_s = time_s if self._started_s is None else self._started_s
        return time_s - self._started_s

    def _nothing(self) -> InvalidVideo:
        codec = self._stream.codec_context.name
        if not self._packets and not self._tally.last_error:
            return InvalidVideo(f"the file holds no pictures although its header announces some ({codec})")
        return InvalidVideo(f"no picture can be decoded ({codec}): {self._tally.last_error or 'the data is damaged'}")
