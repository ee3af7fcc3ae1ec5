"""Number of videos to claim: as much work as the workers need to stay busy, so that nothing waits in between.

A pure policy without a clock: it is given what was claimed and which calls are done, and answers how many more may be
claimed. The rest stays PENDING, which is queue time. Two bounds apply at once:

- Work: of every kind of worker, what is in flight for each worker is at most ``WORK_S`` seconds of expected run, or two
  videos and what runs while a media worker is busy with pictures when the sound of the next video is wanted: one video
  in its call, one that is ready, one that is made ready. The scarcest kind decides. ``RunEstimates`` says what is
  expected; while it cannot of a call, few videos may have that ahead of them. A long video is the work of one worker.
- Memory: a video's sound and key frames are in the object store meanwhile and grow with its length, which is unknown
  before its metadata are read. So few may be in flight whose length is unknown, and few long ones.

A video whose file is slow to come takes no room until it has come: sources must not keep workers from other videos.
"""

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

from actors.workers.run_estimates import RunEstimates
from cluster.contracts.stages import Stage, WorkerKind
from cluster.contracts.videos import URGENT_AHEAD, ClaimedVideo

WORK_S = 1.0
"""Seconds of expected run in flight for each worker of a kind: two calls that several videos share (``turns``)."""
VIDEOS_PER_WORKER = 2
"""Videos in flight for each worker of a kind, however long they run: one in its call and one to follow."""
LEAD_S = 5.0
"""Longest wait for the next video's sound, as the work in flight counts it."""
FEW_PER_MEDIA_WORKER = 4
"""Videos in flight for each media worker, whatever their length."""
UNMEASURED_PER_MEDIA_WORKER = 2
"""Videos in flight for each media worker before any has come through."""
MEDIA_WORKERS_PER_RESERVED = 4
"""Media workers for each video that is claimed beyond the room because it is urgent."""
LONG_LENGTHS = 4.0
"""A video is long from so many typical lengths on."""
TYPICAL_S = 30.0
"""Of as many videos as may be claimed at all, the mean length from which on there may only be few."""

WAY: Mapping[str, WorkerKind] = {
    "probe": WorkerKind.MEDIA,
    "read_speech": WorkerKind.MEDIA,
    "detect": WorkerKind.MEDIA,
    "transcribe": WorkerKind.TRANSCRIBER,
    "keep_transcript": WorkerKind.WRITER,
    "describe": WorkerKind.EMBEDDER,
    "write": WorkerKind.WRITER,
}
"""The calls of a video's way that are work, and the kind of worker that runs each. Finding its file is none."""
CALLS = {kind: tuple(call for call, of_kind in WAY.items() if of_kind is kind) for kind in WorkerKind}
LAST_CALL = "write"
LONGEST_MEDIA_CALL = "detect"
SPEECH_CALLS = frozenset({"read_speech", "transcribe", "keep_transcript"})


@dataclass(eq=False)
class _Video:
    """A video in flight: whether it is urgent, its length once known, and the calls ahead of it."""

    urgent: bool
    ahead: set[str]
    length_s: float | None = None
    fetched: bool = False


@dataclass
class _Ahead:
    """Work ahead of a call: videos, those of unknown length, and units (``RunEstimates.units``) of the others."""

    units: float = 0.0
    unknown: int = 0
    videos: int = 0

    def add(self, units: float | None, sign: int) -> None:
        self.videos += sign
        if units is None:
            self.unknown += sign
        else:
            self.units += sign * units


@dataclass(frozen=True)
class Room:
    """Number of videos that may be claimed now, and of urgent ones beyond them."""

    videos: int
    urgent: int = 0

    def __bool__(self) -> bool:
        return self.videos > 0 or self.urgent > 0


@dataclass(eq=False)
class Admission:
    """Room for videos, named by their lease tokens. Used on the scheduler's event loop alone.

    ``workers``: how many of each kind there are now; ``most``: how many videos may be in flight at once;
    ``estimates``: what runs are expected.
    """

    workers: Mapping[WorkerKind, int]
    most: int
    estimates: RunEstimates
    work_s: float = WORK_S
    _videos: dict[int, _Video] = field(default_factory=dict)
    _slow: dict[int, _Video] = field(default_factory=dict)
    _long: set[_Video] = field(default_factory=set)
    _ahead: dict[str, _Ahead] = field(default_factory=lambda: {call: _Ahead() for call in WAY})
    _unknown: int = 0
    _urgent: int = 0
    _known_s: float = 0.0

    def room(self) -> Room:
        """Return the number of videos that may be claimed now."""
        there, few = len(self._videos), FEW_PER_MEDIA_WORKER * self.workers[WorkerKind.MEDIA]
        room = min(self.most - there, self._most_unknown(few) - self._unknown, self._that_keep_busy())
        if self._known_s >= self.most * TYPICAL_S:
            room = min(room, few - there)
        return Room(max(0, room), max(0, self._reserve() - self._urgent))

    def note_claimed(self, video: ClaimedVideo, ahead: float = 0.0) -> bool:
        """The video is in flight. Returns whether it goes before all others, as urgent ones do while few are.

        ``ahead``: what its owner has received beyond the others, in videos: far ahead, its videos are not urgent.
        """
        urgent = video.priority > 0 and self._urgent < self._reserve() and ahead <= URGENT_AHEAD
        self._enter(video.lease_token, _Video(urgent, set(_calls_ahead(video.stored))))
        return urgent

    def note_slow(self, token: int) -> bool:
        """The video's file is still being fetched: it is counted again once it is there. Whether it was counted."""
        video = self._videos.get(token)
        if video is None or video.fetched:
            return False
        self.note_ended(token)
        self._slow[token] = video
        return True

    def note_length(self, token: int, length_s: float) -> None:
        """The video's length is known now."""
        self.estimates.note_length(length_s)
        video = self._videos.get(token)
        if video is None or video.length_s is not None:
            return
        self._add(video, video.ahead, -1)
        video.length_s = length_s
        self._add(video, video.ahead, 1)
        if length_s > LONG_LENGTHS * self.estimates.typical_length_s:
            self._long.add(video)
        self._unknown -= 1
        self._known_s += length_s

    def note_done(self, token: int, call: str) -> None:
        """A call of the video is done."""
        if token in self._slow:
            self._enter(token, self._slow.pop(token))
        video = self._videos.get(token)
        if video is not None:
            video.fetched = True
            self._add(video, video.ahead & {call}, -1)
            video.ahead.discard(call)

    def note_ended(self, token: int) -> None:
        """The video is no more in flight."""
        self._slow.pop(token, None)
        video = self._videos.pop(token, None)
        if video is None:
            return
        self._add(video, video.ahead, -1)
        self._long.discard(video)
        self._urgent -= video.urgent
        if video.length_s is None:
            self._unknown -= 1
        else:
            self._known_s -= video.length_s

    def _enter(self, token: int, video: _Video) -> None:
        self._videos[token] = video
        self._unknown += 1
        self._urgent += video.urgent
        self._add(video, video.ahead, 1)

    def work_ahead_s(self, kind: WorkerKind) -> float:
        """Expected run in seconds that is in flight for workers of the kind."""
        typical = self.estimates.units(None)
        ahead = ((call, self._ahead[call]) for call in CALLS[kind])
        return sum((self.estimates.rate(call) or 0.0) * (one.units + one.unknown * typical) for call, one in ahead)

    def _that_keep_busy(self) -> int:
        """Number of further videos of typical length that the scarcest kind of worker needs."""
        if self.estimates.rate(LAST_CALL) is None:
            return UNMEASURED_PER_MEDIA_WORKER * self.workers[WorkerKind.MEDIA] - len(self._videos)
        return min(self._wanted_by(kind) for kind, calls in CALLS.items() if calls)

    def _wanted_by(self, kind: WorkerKind) -> int:
        """Number of further videos of typical length that the workers of the kind need."""
        calls = CALLS[kind]
        unmeasured = [call for call in calls if self.estimates.rate(call) is None]
        if unmeasured:
            most = UNMEASURED_PER_MEDIA_WORKER * self.workers[WorkerKind.MEDIA]
            return most - max(self._ahead[call].videos for call in unmeasured)
        each_s = sum(self.estimates.run_s(call, None) or 0.0 for call in calls)
        if each_s <= 0:
            return self.most
        lead_s = min(self.estimates.run_s(LONGEST_MEDIA_CALL, None) or 0.0, each_s, LEAD_S)
        enough_s = max(self.work_s, VIDEOS_PER_WORKER * each_s + lead_s)
        free_s = enough_s * self.workers[kind] - self.work_ahead_s(kind) + self._beyond_s(calls, enough_s)
        behind_long_ones = VIDEOS_PER_WORKER * self.workers[kind] - max(self._ahead[call].videos for call in calls)
        return max(math.floor(min(free_s / each_s + ROUNDING, self.most)), behind_long_ones)

    def _beyond_s(self, calls: Collection[str], enough_s: float) -> float:
        """Of the work ahead, what each long video has beyond ``enough_s``: it keeps one worker busy, not the others."""
        beyond_s = 0.0
        for video in self._long:
            rate = sum(self.estimates.rate(call) or 0.0 for call in calls if call in video.ahead)
            beyond_s += max(0.0, rate * self.estimates.units(video.length_s) - enough_s)
        return beyond_s

    def _most_unknown(self, few: int) -> int:
        """Most videos of unknown length: about as much as a few typical ones would be, half of all at most.

        The other half is left for those whose length has become known, which go on meanwhile.
        """
        mean_s = self.estimates.mean_length_s
        if mean_s is None:
            return few
        as_much = few * TYPICAL_S / max(mean_s, TYPICAL_S / self.most)
        return max(few, min(self.most // 2, int(as_much)))

    def _reserve(self) -> int:
        return max(1, self.workers[WorkerKind.MEDIA] // MEDIA_WORKERS_PER_RESERVED)

    def _add(self, video: _Video, calls: Collection[str], sign: int) -> None:
        units = None if video.length_s is None else self.estimates.units(video.length_s)
        for call in calls:
            self._ahead[call].add(units, sign)


ROUNDING = 1e-6
"""So that sums of units that went up and down again do not cost a video its place."""


def _calls_ahead(stored: Collection[Stage]) -> Collection[str]:
    """Calls that are ahead: stages whose results an earlier attempt stored are not run again."""
    if Stage.INDEXING in stored:
        return ()
    return WAY.keys() - SPEECH_CALLS if Stage.TRANSCRIPTION in stored else WAY.keys()
