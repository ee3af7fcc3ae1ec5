"""Joins consecutive frames of sound into longer ones.

A frame of AAC lasts 21 ms, and what is done to each of them (times, mixing, resampling) costs five times its decoding.
Samples stay as they are, and no frame is moved by more than its time-stamp may be rounded.
"""

from collections.abc import Iterable, Iterator

from av.audio.frame import AudioFrame

from actors.stages.sound_layout import is_joinable, joined_frame

LONGEST_S = 0.5
"""Much longer ones would bring nothing more, and more sound would be held in memory."""
ROUNDING_S = 0.0015
"""Matroska and FLV round time-stamps to milliseconds."""


def joined(frames: Iterable[AudioFrame]) -> Iterator[AudioFrame]:
    """Join consecutive frames of the same format whose time-stamps leave no gap."""
    run = _Run()
    for frame in frames:
        if not run.is_followed_by(frame):
            yield from run.taken()
        run.add(frame)
    yield from run.taken()


class _Run:
    """Consecutive frames that are not yielded yet."""

    def __init__(self) -> None:
        self._frames: list[AudioFrame] = []
        self._kind: tuple[str, str, int] | None = None
        self._end_s = 0.0
        self._longest_end_s = 0.0

    def is_followed_by(self, frame: AudioFrame) -> bool:
        """Whether ``frame`` continues the run without a gap."""
        if self._kind is None or frame.time is None or self._kind != _kind(frame):
            return False
        is_next = abs(frame.time - self._end_s) <= ROUNDING_S
        return is_next and self._end_s + frame.samples / frame.sample_rate <= self._longest_end_s

    def add(self, frame: AudioFrame) -> None:
        """Append ``frame``."""
        if not self._frames:
            timed = frame.time_base and frame.time is not None and frame.sample_rate > 0
            self._kind = _kind(frame) if timed and is_joinable(frame) else None
            self._end_s = frame.time or 0.0
            self._longest_end_s = self._end_s + LONGEST_S
        self._frames.append(frame)
        if self._kind is not None:
            self._end_s += frame.samples / frame.sample_rate

    def taken(self) -> Iterator[AudioFrame]:
        """Yield the frames as one."""
        frames, self._frames = self._frames, []
        if frames:
            yield frames[0] if len(frames) == 1 else joined_frame(frames)


def _kind(frame: AudioFrame) -> tuple[str, str, int]:
    return frame.format.name, frame.layout.name, frame.sample_rate
