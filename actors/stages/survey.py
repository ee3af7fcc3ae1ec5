"""What a file is, measured before it is decoded: its parts, streams, size, rate, and its one clock.

Owns the limits that a file must keep, and the search for the first picture. Leaves where parts begin to ``file_parts``,
the measuring of packets to ``packet_scan``, the choice of streams to ``stream_choice``.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import pairwise

import av
from av.container import InputContainer
from av.packet import Packet
from av.stream import Stream
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from actors.stages.display import Orientation
from actors.stages.file_clock import BACKWARD_JUMP_S, FORWARD_JUMP_S
from actors.stages.file_parts import StreamsFrom, joined_at, next_change, second_mp4_at, stream_tables
from actors.stages.media_file import FPS_TOLERANCE, OpenMedia, Tally, check_extent, is_empty, open_media, packets
from actors.stages.packet_scan import PacketScan
from actors.stages.stream_choice import choose_sound, late_streams, picture_stream
from cluster.contracts.errors import InvalidVideo
from cluster.contracts.media import FilePart, LocalVideo, MediaInfo, MediaLimits, MediaWarning, Timeline

PART_LEFT_OUT = "part_left_out"
"""Code of the warning that a part of a joined file cannot be read."""
MOST_PROBED_BYTES = 64 * 2**20
"""Bytes of a file that are held in memory, if need be, to find streams that begin late."""
MOST_TO_FIRST_PICTURE_BYTES = 256 * 2**20
LONGEST_TO_FIRST_PICTURE_S = 900.0
"""A recording may begin inside a group of pictures, and these may be long; one that shows nothing for so much data or
time is broken."""
LIMIT_CHECK_PACKETS = 500
"""Packets between checks of a file against the longest duration while it is read."""
RATE_AGREES = 1.5
"""A stated rate is believed when it is at most so many times the measured one, or that of it."""


@dataclass(frozen=True)
class _Surveyed:
    """A part of a file as if it were alone.

    ``last_shift_s``: by what its last time-stamps are shifted; ``late_streams``: how many streams begin too late to be
    known.
    """

    info: MediaInfo
    part: FilePart
    last_shift_s: float
    late_streams: int


class Survey:
    """Measures one file; its sound is chosen for ``language``."""

    def __init__(self, video: LocalVideo, language: str | None, limits: MediaLimits) -> None:
        self._video = video
        self._language = language
        self._limits = limits

    def info(self) -> MediaInfo:
        """What the file is. Raises ``InvalidVideo`` when it breaks a limit or none of its parts shows a picture."""
        surveyed: list[_Surveyed] = []
        reasons: list[str] = []
        warnings: list[MediaWarning] = []
        for begin, end in self._stretches():
            try:
                surveyed.append(self._surveyed(FilePart(begin, end)))
            except InvalidVideo as error:
                reasons.append(str(error))
                message = f"the part of the file from byte {begin:,} on is left out: {error}"
                warnings.append(MediaWarning(PART_LEFT_OUT, message))
        if not surveyed:
            raise InvalidVideo(reasons[0])
        info = _combined(surveyed)
        second = second_mp4_at(self._video.path)
        if second is not None:
            message = f"another file begins at byte {second:,}: it is left out, as players do"
            warnings.append(MediaWarning(PART_LEFT_OUT, message))
        self._check_extent(info.duration_s, info.fps)
        return replace(info, warnings=(*info.warnings, *warnings))

    def _stretches(self) -> Iterator[tuple[int, int | None]]:
        """From which byte to which the parts of the file are."""
        starts = joined_at(self._video.path)
        if starts:
            yield from pairwise([0, *starts, None])
            return
        tables = stream_tables(self._video.path)
        begin: int = 0
        while (end := self._changes_at(tables, begin)) is not None:
            yield begin, end
            begin = end
        yield begin, None

    def _changes_at(self, tables: list[StreamsFrom], begin: int) -> int | None:
        """Where a transport stream's streams in use become others."""
        later = [table.position for table in tables[1:] if table.position > begin]
        if not later:
            return None
        try:
            rest = FilePart(begin, None)
            with open_media(self._video.path, self._limits.max_pixels, rest) as media:
                sound = choose_sound(media.container, self._language, rest).stream
                return next_change(tables, begin, picture_stream(media.container).id, sound.id if sound else None)
        except InvalidVideo:
            return later[0]

    def _surveyed(self, stretch: FilePart) -> _Surveyed:
        found, follows = self._first_scan(stretch)
        # Where one stream carries on another, the second one's times can only be judged once that is known.
        stretch = replace(stretch, probe_bytes=found.part.probe_bytes)
        found = self._scan(stretch, follows)[0] if follows else found
        if not found.late_streams:
            return found
        message = f"what begins in {found.late_streams} further streams after {MOST_PROBED_BYTES:,} bytes is left out"
        warning = MediaWarning(PART_LEFT_OUT, message)
        return replace(found, info=replace(found.info, warnings=(*found.info.warnings, warning)))

    def _first_scan(self, stretch: FilePart) -> tuple[_Surveyed, dict[int, int]]:
        """Streams that begin too late to be known are looked for further on."""
        try:
            scanned = self._scan(stretch, {})
            if not scanned[0].late_streams:
                return scanned
        except InvalidVideo:
            with open_media(self._video.path, self._limits.max_pixels, stretch) as media:
                if media.container.streams.video:
                    raise
        return self._scan(replace(stretch, probe_bytes=MOST_PROBED_BYTES), {})

    def _scan(self, stretch: FilePart, follows: dict[int, int]) -> tuple[_Surveyed, dict[int, int]]:
        with open_media(self._video.path, self._limits.max_pixels, stretch) as media, media.memory.bounded():
            container = media.container
            self._check_streams(container)
            stream = picture_stream(container)
            choice = choose_sound(container, self._language, stretch)
            sound = choice.stream
            self._check_size(stream)
            stream.codec_context.options = {"max_pixels": str(self._limits.max_pixels)}
            scan = PacketScan(container, follows)
            first = self._read(media, stream, scan)
            pictures, sounds = scan.chain(stream), () if sound is None else scan.chain(sound)
            start_s = scan.start_s([*pictures, *sounds])
            part = replace(stretch, pictures=pictures, sound=sounds, shifts=scan.shifts())
            turned = Orientation.of(first).transposed
            timeline, overstated = scan.timeline(part, start_s)
            info = MediaInfo(
                duration_s=scan.duration_s(start_s, [*pictures, *sounds]),
                start_s=start_s,
                fps=self._rate(stream, scan.rate(stream.index)),
                width=first.height if turned else first.width,
                height=first.width if turned else first.height,
                rotation_deg=-first.rotation % 360,
                video_codec=stream.codec_context.name,
                audio_codec=sound.codec_context.name if sound else None,
                size_bytes=self._video.size_bytes,
                timeline=timeline,
                warnings=(*choice.warnings, *overstated),
            )
            found = _Surveyed(info, part, scan.last_shift_s, late_streams(container))
            return found, scan.follows(pictures, sounds)

    def _read(self, media: OpenMedia, stream: VideoStream, scan: PacketScan) -> VideoFrame:
        """Read all packets into ``scan``; the first picture that can be decoded on the way."""
        tally = Tally()
        search = _FirstPicture(stream, tally)
        for packet in packets(media, PacketScan.streams(media.container), tally):
            if packet.stream is stream and search.picture is None and not is_empty(packet):
                search.try_packet(packet)
            if packet.size or packet.dts is not None:
                scan.note(packet)
            if tally.read % LIMIT_CHECK_PACKETS == 0:
                check_extent("the video lasts", scan.extent_s, self._limits.max_duration_s)
        return search.found()

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


def _combined(surveyed: list[_Surveyed]) -> MediaInfo:
    """The file whose parts follow one another: each begins where the one before ends, or where a clock runs on."""
    first = surveyed[0]
    info, parts, carried_s = first.info, [first.part], first.last_shift_s
    if len(surveyed) == 1:
        return info
    end_s = info.start_s + (info.duration_s or 0.0)
    sound_end_s = info.timeline.sound_end_s
    for after in surveyed[1:]:
        start_s = after.info.start_s
        runs_on = -BACKWARD_JUMP_S <= start_s - (end_s - carried_s) <= FORWARD_JUMP_S
        shift_s = carried_s if runs_on else end_s - start_s
        parts.append(replace(after.part, shift_s=shift_s))
        sound_end_s = max(sound_end_s, start_s + shift_s - info.start_s + after.info.timeline.sound_end_s)
        end_s = max(end_s, start_s + shift_s + (after.info.duration_s or 0.0))
        carried_s = shift_s + after.last_shift_s
    audio_codec = next((part.info.audio_codec for part in surveyed if part.info.audio_codec), None)
    timeline = Timeline(parts=tuple(parts), sound_end_s=sound_end_s)
    return replace(info, duration_s=end_s - info.start_s, audio_codec=audio_codec, timeline=timeline)


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
