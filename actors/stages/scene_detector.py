"""Pictures -> scenes: every picture is decoded once; out come the cuts and each scene's best picture.

Owns the pictures' times and the verdict on files that break off. Leaves finding cuts to ``cuts``, choosing and
rendering key frames to ``key_frames``. Holds the current block of scenes and a few seconds' pictures.
"""

from collections.abc import Generator, Iterable, Iterator
from dataclasses import dataclass

import cv2
import numpy as np
from av.video.frame import VideoFrame
from av.video.stream import VideoStream
from numpy.typing import NDArray

from actors.stages.cuts import SIDE_PX, UNCERTAIN_US, CutFinder
from actors.stages.display import PixelAspect, StatedColours
from actors.stages.key_frames import KeyFrame, KeyFramePicker, KeyFrameRenderer
from actors.stages.media_file import (
    FPS_TOLERANCE,
    OpenMedia,
    Tally,
    check_extent,
    frames,
    open_parts,
)
from actors.stages.memory_watch import MemoryWatch
from actors.stages.packet_scan import is_short
from actors.stages.small_pictures import Shrinker
from cluster.contracts.errors import InvalidVideo
from cluster.contracts.events import Event
from cluster.contracts.media import (
    DetectedScene,
    FilePart,
    LocalVideo,
    MediaInfo,
    MediaLimits,
    MediaWarning,
    SceneBlock,
)
from cluster.security.event_log import EventLog

logger = EventLog(__name__)

LARGE_PX = 4096 * 2304
"""Larger pictures are decoded by one thread: each further one holds pictures of its own."""
DEFAULT_FPS = 25.0
"""Assumed of a stream that states neither times nor a rate."""


@dataclass(frozen=True)
class _Picture:
    """A decoded picture with its time in whole microseconds, so that a cut is found again exactly."""

    time_us: int
    frame: VideoFrame
    small: NDArray[np.uint8]

    @property
    def time_s(self) -> float:
        return self.time_us / 1_000_000


class SceneDetector:
    """Finds scenes. Holds nothing between videos."""

    def __init__(
        self,
        key_frame_size_px: int,
        block_size: int,
        limits: MediaLimits,
        threads: int | None = None,
    ) -> None:
        """``threads``: how many decode at most; None leaves it to FFmpeg. ``limits`` are held while decoding too."""
        cv2.setNumThreads(1)  # pictures are so small that a second thread costs more than it brings
        self._key_frame_size_px = key_frame_size_px
        self._block_size = block_size
        self._limits = limits
        self._threads = threads

    def detect(self, video: LocalVideo, info: MediaInfo) -> Iterator[SceneBlock]:
        """Yield the scenes in blocks as they become known; they tile ``[0, end of the file)``.

        Raises ``InvalidVideo`` when nothing can be decoded, when the pictures break a limit, when more of them are
        damaged than whole and, before the last block, when the file ends well before its stated duration: all
        before is void.
        """
        memory = MemoryWatch()
        yield from memory.bounded_steps(self._blocks(video, info, memory))

    def _blocks(self, video: LocalVideo, info: MediaInfo, memory: MemoryWatch) -> Generator[SceneBlock, None, None]:
        parts = open_parts(video.path, self._limits.max_pixels, info.timeline.parts, memory)
        large = info.width * info.height > LARGE_PX
        reading = _PictureReading(parts, info, self._limits, threads=1 if large else self._threads or 0)
        scenes: list[DetectedScene] = []
        for scene in self._scenes(reading):
            if len(scenes) == self._block_size:
                yield SceneBlock(tuple(scenes))
                scenes = []
            scenes.append(scene)
        reading.check_complete()
        yield SceneBlock(tuple(scenes), decoded_duration_s=reading.file_end_s, warnings=reading.warnings())

    def _scenes(self, reading: "_PictureReading") -> Iterator[DetectedScene]:
        cuts = CutFinder()
        picker = KeyFramePicker(KeyFrameRenderer(self._key_frame_size_px, reading.pixel_aspect))
        start_s, index = 0.0, 0
        for picture in reading.pictures():
            picker.offer(picture.time_s, picture.frame)
            for cut_us in cuts.feed(picture.time_us, picture.small):
                end_s = cut_us / 1_000_000
                yield _scene(index, start_s, end_s, picker.take(end_s))
                start_s, index = end_s, index + 1
            picker.settle(picture.time_s - UNCERTAIN_US / 1_000_000)
        if reading.is_empty:
            return
        picker.sample_last()
        for end_s in (*(cut_us / 1_000_000 for cut_us in cuts.finish()), reading.file_end_s):
            yield _scene(index, start_s, end_s, picker.take(end_s))
            start_s, index = end_s, index + 1


def _scene(index: int, start_s: float, end_s: float, key_frame: KeyFrame) -> DetectedScene:
    return DetectedScene(index, start_s, end_s, key_frame.time_s, key_frame.image)


class _PictureReading:
    """One pass over a video's pictures: their times, and how far they came."""

    def __init__(
        self, parts: Iterable[tuple[OpenMedia, FilePart]], info: MediaInfo, limits: MediaLimits, threads: int
    ) -> None:
        self._parts = parts
        self._info = info
        self._limits = limits
        self._threads = threads
        self._tally = Tally()
        self._aspect: PixelAspect | None = None
        self._shrinker = Shrinker(SIDE_PX)
        self._decoded = 0
        self._shown = 0
        self._failed_before = 0
        self._last_us = -1
        self._interval_s = 1.0 / (info.fps if info.fps > 0 else DEFAULT_FPS)
        self._last_duration_s = 0.0

    def pixel_aspect(self) -> float:
        """Width of a pixel of the picture that was decoded last, over its height."""
        return 1.0 if self._aspect is None else self._aspect.now()

    @property
    def is_empty(self) -> bool:
        """Whether no picture has been shown."""
        return self._shown == 0

    @property
    def end_s(self) -> float:
        """Where the last picture ends."""
        return max(0, self._last_us) / 1_000_000 + (self._last_duration_s or self._interval_s)

    @property
    def file_end_s(self) -> float:
        """Where the file ends: with its last picture or with its sound, whichever ends last."""
        return max(self.end_s, self._info.duration_s or 0.0)

    def pictures(self) -> Iterator[_Picture]:
        """Every picture that is shown, in strictly rising time."""
        for frame in self._frames():
            self._decoded += 1
            self._check_rate()
            tick_s = float(frame.time_base or 0)
            time_us = self._time_us(frame.pts, tick_s)
            if time_us <= self._last_us:
                continue  # shown for no time at all
            if self._last_us >= 0:
                self._interval_s = (time_us - self._last_us) / 1_000_000
            self._last_us = time_us
            self._last_duration_s = frame.duration * tick_s
            if self.is_empty:
                self._failed_before = self._tally.failed  # a recording may begin within a group of pictures
            self._shown += 1
            check_extent("the pictures last", self.end_s, self._limits.max_duration_s)
            yield _Picture(time_us, frame, self._shrinker.shrink(frame))

    def _frames(self) -> Iterator[VideoFrame]:
        for media, part in self._parts:
            streams = [s for index in part.pictures for s in media.container.streams.video if s.index == index]
            for stream in streams:
                self._prepare(stream)
            self._aspect, colours = PixelAspect(streams[0]), StatedColours(streams[0])
            for frame in frames(media, streams, self._tally, part):
                colours.complete(frame)
                yield frame

    def _prepare(self, stream: VideoStream) -> None:
        stream.codec_context.options = {
            "max_pixels": str(self._limits.max_pixels),
            # Only pictures that no other is made from stay unsmoothed: made small, they differ by 47 dB or more.
            "skip_loop_filter": "noref",
        }
        stream.codec_context.thread_type = "AUTO"
        stream.codec_context.thread_count = self._threads

    def _check_rate(self) -> None:
        """Headers need not state the rate, and what they state need not be true."""
        if self._decoded > self._limits.max_fps * FPS_TOLERANCE * (self.end_s + 1.0):
            raise InvalidVideo(f"the video has more than {self._limits.max_fps:g} pictures per second")

    def _time_us(self, pts: int | None, tick_s: float) -> int:
        if pts is None or not tick_s:
            return 0 if self._last_us < 0 else round(self.end_s * 1_000_000)
        time_us = round((pts * tick_s - self._info.start_s) * 1_000_000)
        return max(0, time_us) if self._last_us < 0 else time_us

    def check_complete(self) -> None:
        """Raise ``InvalidVideo`` unless the pictures were readable and the file reaches its stated duration."""
        tally, timeline = self._tally, self._info.timeline
        if self.is_empty:
            raise InvalidVideo(f"no picture can be decoded: {tally.last_error or 'the file holds none'}")
        if timeline.stated_s is not None:
            reached_s = self.end_s if timeline.stated_of_pictures else max(self.end_s, timeline.sound_end_s)
            if is_short(reached_s, timeline.stated_s):
                share = f"{reached_s:.1f} s of {timeline.stated_s:.1f} s"
                raise InvalidVideo(f"only {share} could be read: the file is cut off or damaged")
        if self._failed > self._shown:
            announced = self._shown + self._failed
            raise InvalidVideo(f"only {self._shown} of {announced} pictures could be decoded: {tally.last_error}")

    @property
    def _failed(self) -> int:
        return self._tally.failed - self._failed_before

    def warnings(self) -> tuple[MediaWarning, ...]:
        """What could not be decoded after the first picture."""
        if not self._failed:
            return ()
        packets = self._shown + self._failed
        message = f"{self._failed} of {packets} pictures could not be decoded: {self._tally.last_error}"
        logger.warning(Event.PICTURES_SKIPPED, failed=self._failed, pictures=packets, error=self._tally.last_error)
        return (MediaWarning("pictures_skipped", message),)
