"""Sound out of a container: 16 kHz mono windows whose samples are where the file's time-stamps put them.

Owns resampling, gaps, and where a long recording is cut. Leaves separating speech from noise to ``transcriber``.

Memory is one window (19 MB), whatever the length of the recording.
"""

from collections.abc import Generator, Iterable, Iterator, Sequence

import av
import numpy as np
from av.audio.frame import AudioFrame
from av.audio.resampler import AudioResampler
from numpy.typing import NDArray

from actors.stages.media_file import OpenMedia, Tally, check_extent, frames
from actors.stages.mix_down import mixable
from actors.stages.sound_layout import disown, drop_custom_order
from actors.stages.sound_runs import joined
from cluster.contracts.errors import InvalidVideo
from cluster.contracts.events import Event
from cluster.contracts.media import SPEECH_RATE_HZ, FilePart, MediaInfo, SpeechWindow
from cluster.security.event_log import EventLog

logger = EventLog(__name__)

WINDOW_S = 600.0
QUIET_SEARCH_S = 30.0
"""The cut is looked for in this much of a window's end."""
QUIET_S = 0.1
JITTER_S = 0.2
"""Time-stamps may be off the samples' count by this much before silence is put in or an overlap left out."""
LONG_GAP_S = 30.0
"""A longer gap ends the window instead of being filled."""

Samples = NDArray[np.int16]


def speech_windows(
    parts: Iterable[tuple[OpenMedia, FilePart]], info: MediaInfo, max_duration_s: float
) -> Generator[SpeechWindow, None, None]:
    """Decode the sound of a file's parts into windows; times count from the file's start.

    Packets that cannot be decoded are skipped: their time becomes silence. Raises ``InvalidVideo`` when none can be,
    or when the sound lasts longer than ``max_duration_s``.
    """
    tally = Tally()
    resampler = _Resampler()
    window = _Window()
    begin_s: float | None = None
    for frame in mixable(joined(_sounding(parts, tally))):
        stated_s = _time_s(frame)
        time_s = window.end_s if stated_s is None else stated_s - info.start_s
        begin_s = time_s if begin_s is None else begin_s
        gap_s = time_s - window.end_s if window else 0.0
        if gap_s < -JITTER_S:
            continue
        if gap_s > JITTER_S:
            window.append(resampler.flush())
            yield from _bridge(window, gap_s)
        if not window:
            window.begin(time_s)
        window.append(resampler.push(frame))
        check_extent("the sound lasts", window.end_s - min(0.0, begin_s), max_duration_s)
        if window.is_full:
            yield window.take_to_quiet_place()
    window.append(resampler.flush())
    if window:
        yield window.take_all()
    _report(tally, begin_s is not None, info)


def _sounding(parts: Iterable[tuple[OpenMedia, FilePart]], tally: Tally) -> Iterator[AudioFrame]:
    for media, part in parts:
        streams = [stream for index in part.sound for stream in media.container.streams.audio if stream.index == index]
        for stream in streams:
            drop_custom_order(stream)
        for frame in frames(media, streams, tally, part) if streams else ():
            disown(frame.layout)
            if frame.samples:
                yield frame


def _time_s(frame: AudioFrame) -> float | None:
    """When the frame begins, on the file's clock."""
    return frame.pts * float(frame.time_base) if frame.pts is not None and frame.time_base else None


def _bridge(window: "_Window", gap_s: float) -> Iterator[SpeechWindow]:
    """Fill a gap with silence; a long one ends the window instead."""
    if gap_s <= LONG_GAP_S:
        window.append(np.zeros(round(gap_s * SPEECH_RATE_HZ), np.int16))
    else:
        yield window.take_all()


def _report(tally: Tally, any_sound: bool, info: MediaInfo) -> None:
    if not any_sound and tally.failed:
        raise InvalidVideo(f"nothing of the sound can be decoded ({info.audio_codec}): {tally.last_error}")
    if tally.failed:
        logger.warning(Event.SOUND_SKIPPED, failed=tally.failed, packets=tally.packets, error=tally.last_error)


class _Resampler:
    """Any sound to ``SPEECH_RATE_HZ`` mono int16; copes with a format that changes on the way."""

    def __init__(self) -> None:
        self._resampler: AudioResampler | None = None
        self._format: tuple[str, str, int] | None = None

    def push(self, frame: AudioFrame) -> Samples:
        """The samples that ``frame`` completes. Raises ``InvalidVideo`` when they are more than a window."""
        if frame.samples > WINDOW_S * frame.sample_rate:
            piece = f"{frame.samples:,} samples at {frame.sample_rate} Hz"
            raise InvalidVideo(f"the sound comes in pieces of {piece}: its stated rate cannot be right")
        form = (frame.format.name, frame.layout.name, frame.sample_rate)
        before = np.zeros(0, np.int16) if form == self._format else self.flush()
        if self._resampler is None:
            self._resampler = AudioResampler(format="s16", layout="mono", rate=SPEECH_RATE_HZ)
            self._format = form
        frame.pts = None  # samples are placed here by their own count, not by the filter
        try:
            samples = _arrays(self._resampler.resample(frame))
        except av.error.ArgumentError as error:
            raise InvalidVideo(f"the sound cannot be resampled from {frame.sample_rate} Hz") from error
        return np.concatenate([before, *samples])

    def flush(self) -> Samples:
        """The samples still inside; the next frame begins afresh."""
        resampler, self._resampler, self._format = self._resampler, None, None
        rest = [] if resampler is None else _arrays(resampler.resample(None))
        return np.concatenate([np.zeros(0, np.int16), *rest])


def _arrays(frames: Sequence[AudioFrame | None]) -> list[Samples]:
    # A resampler with nothing to do hands None through when it is flushed.
    return [
        np.frombuffer(memoryview(frame.planes[0]), np.int16, frame.samples) for frame in frames if frame is not None
    ]


class _Window:
    """The samples collected since the last cut; false while there are none."""

    def __init__(self) -> None:
        self._start_s = 0.0
        self._parts: list[Samples] = []
        self._count = 0

    def __bool__(self) -> bool:
        return self._count > 0

    @property
    def end_s(self) -> float:
        """Where the next sample goes."""
        return self._start_s + self._count / SPEECH_RATE_HZ

    @property
    def is_full(self) -> bool:
        return self._count >= WINDOW_S * SPEECH_RATE_HZ

    def begin(self, start_s: float) -> None:
        """Put the first sample at ``start_s``."""
        self._start_s = start_s

    def append(self, samples: Samples) -> None:
        """Add ``samples`` at the end."""
        if len(samples):
            self._parts.append(samples)
            self._count += len(samples)

    def take_all(self) -> SpeechWindow:
        """Hand out everything; what follows begins where it ends."""
        return self._take(self._count)

    def take_to_quiet_place(self) -> SpeechWindow:
        """Hand out the samples up to the quietest place near the end, keep the rest."""
        samples = self._joined()
        return self._take(quietest_place(samples, int(QUIET_SEARCH_S * SPEECH_RATE_HZ)))

    def _joined(self) -> Samples:
        joined = np.concatenate(self._parts)
        self._parts = [joined]
        return joined

    def _take(self, count: int) -> SpeechWindow:
        samples = self._joined()
        window = SpeechWindow(start_s=self._start_s, samples=samples[:count].copy())
        end_s = self._start_s + count / SPEECH_RATE_HZ
        self._parts, self._count, self._start_s = [], 0, end_s
        self.append(samples[count:].copy())
        return window


def quietest_place(samples: Samples, search: int) -> int:
    """Index of the middle of the quietest ``QUIET_S`` of the last ``search`` samples, in steps of 10 ms."""
    step = SPEECH_RATE_HZ // 100
    steps = min(search, len(samples)) // step
    span = round(QUIET_S * SPEECH_RATE_HZ / step)
    if steps <= span:
        return len(samples)
    first = len(samples) - steps * step
    energy = np.square(samples[first:].astype(np.float64)).reshape(steps, step).sum(axis=1)
    loudness = np.convolve(energy, np.ones(span), mode="valid")
    return first + (int(np.argmin(loudness)) * step + span * step // 2)
