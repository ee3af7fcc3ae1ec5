"""The calls that decode a video: as they are (``decoding_calls``), and in a process of their own (``confined``).

Owns which of them there are, what each may read, and what their answers may be. Leaves decoding to ``actors.stages``,
confinement to ``cluster.decoders.sandbox``.
"""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cluster.contracts.errors import MalformedResult
from cluster.contracts.media import (
    ClockShift,
    DetectedScene,
    FilePart,
    LocalVideo,
    MediaInfo,
    MediaLimits,
    MediaWarning,
    SceneBlock,
    SpeechWindow,
    Timeline,
)
from cluster.decoders.config import DecoderConfig, Decoders
from cluster.decoders.owner_decoders import OwnerDecoders
from cluster.decoders.process import Answers, DecoderProcess, only
from cluster.decoders.sandbox import readable_code

SCENES_PER_BLOCK = 32
NICENESS = 4
"""Niceness of decoding beyond that of the models on the same CPUs: speech takes longest, so it must
never wait for pictures. Ray's workers are at 15 of 19."""
ANSWERS = Answers(
    (MediaInfo, Timeline, FilePart, ClockShift, MediaWarning, SpeechWindow, SceneBlock, DetectedScene),
)

Calls = dict[str, Callable[..., Any]]
Probe = Callable[[LocalVideo, str | None], MediaInfo]
ReadSpeech = Callable[[LocalVideo, MediaInfo], Iterator[SpeechWindow]]
Detect = Callable[[LocalVideo, MediaInfo], Iterator[SceneBlock]]
NAMES = "probe", "read_speech", "detect"
SLACK_S = 60.0
"""Read beyond a file's longest duration before that is noticed, at most."""


def decoding_calls(limits: MediaLimits, key_frame_px: int, threads: int) -> Calls:
    """The calls within this process."""
    return _watched(*_decoders(limits, key_frame_px, threads))


def _decoders(limits: MediaLimits, key_frame_px: int, threads: int) -> tuple[Probe, ReadSpeech, Detect]:
    from actors.stages.media_reader import MediaReader
    from actors.stages.scene_detector import SceneDetector

    reader = MediaReader(limits)
    return reader.probe, reader.read_speech, SceneDetector(key_frame_px, SCENES_PER_BLOCK, limits, threads).detect


def _watched(probe: Probe, read_speech: ReadSpeech, detect: Detect) -> Calls:
    """The calls, which raise SourceChanging for a file that becomes another one meanwhile."""
    from actors.stages.growing_file import unchanged

    def probe_unchanged(video: LocalVideo, language: str | None = None) -> MediaInfo:
        with unchanged(video):
            return probe(video, language)

    def read_unchanged(video: LocalVideo, info: MediaInfo) -> Iterator[SpeechWindow]:
        with unchanged(video):
            yield from read_speech(video, info)

    def detect_unchanged(video: LocalVideo, info: MediaInfo) -> Iterator[SceneBlock]:
        with unchanged(video, to_the_end=True):
            yield from detect(video, info)

    return {"probe": probe_unchanged, "read_speech": read_unchanged, "detect": detect_unchanged}


def load(limits: MediaLimits, key_frame_px: int, threads: int) -> Decoders:
    """The same for a decoder process, where each reads its video and no other file."""
    calls: Calls = dict(zip(NAMES, _decoders(limits, key_frame_px, threads), strict=True))
    return Decoders(calls, readable=_readable, niceness=NICENESS)


def _readable(video: LocalVideo, *_: object) -> list[Path]:
    return [video.path, *readable_code()]


def start_decoder(limits: MediaLimits, key_frame_px: int, threads: int) -> DecoderProcess:
    """The decoder process, loaded. Raises WorkerLost when it does not start."""
    decoder = DecoderProcess(DecoderConfig("actors.workers.media_calls:load", (limits, key_frame_px, threads)), ANSWERS)
    decoder.start()
    return decoder


def confined(decoder: DecoderProcess, limits: MediaLimits, copies_dir: Path | None = None) -> Calls:
    """The calls by way of ``decoder``; what they answer is as they promise, or MalformedResult is raised.

    ``limits``: what nothing of a file is longer or larger than, also where a decoder that was taken over says so.
    ``copies_dir``: a private folder in which small files are copied, so that a decoder serves several of one owner.
    """
    parts = decoder.parts if copies_dir is None else OwnerDecoders(decoder, copies_dir).parts

    def probe(*arguments: Any) -> MediaInfo:
        return _checked_info(only(parts("probe", *arguments)), limits)

    def read_speech(*arguments: Any) -> Iterator[SpeechWindow]:
        return (_checked_window(window, limits) for window in parts("read_speech", *arguments))

    def detect(*arguments: Any) -> Iterator[SceneBlock]:
        return (_checked_block(block, limits) for block in parts("detect", *arguments))

    return _watched(probe, read_speech, detect)


def _checked_info(info: Any, limits: MediaLimits) -> MediaInfo:
    if (
        isinstance(info, MediaInfo)
        and _are_within(limits, info.duration_s, info.timeline.sound_end_s)
        and 0 <= info.width * info.height <= limits.max_pixels
    ):
        return info
    raise MalformedResult("the decoder answered nothing possible about the file")


def _checked_window(window: Any, limits: MediaLimits) -> SpeechWindow:
    if (
        isinstance(window, SpeechWindow)
        and _is_array(window.samples, np.int16, 1)
        and _are_within(limits, window.start_s, window.duration_s)
    ):
        return window
    raise MalformedResult("the decoder answered no window of speech")


def _checked_block(block: Any, limits: MediaLimits) -> SceneBlock:
    if (
        isinstance(block, SceneBlock)
        and _are_within(limits, block.decoded_duration_s)
        and all(
            _is_array(scene.key_frame, np.uint8, 3)
            and _are_within(limits, scene.start_s, scene.end_s, scene.key_frame_s)
            and scene.index >= 0
            for scene in block.scenes
        )
    ):
        return block
    raise MalformedResult("the decoder answered no block of scenes")


def _are_within(limits: MediaLimits, *times_s: float | None) -> bool:
    """Whether times or lengths of a file can be those of one that is as long as is allowed."""
    return all(time_s is None or abs(time_s) <= 2 * limits.max_duration_s + SLACK_S for time_s in times_s)


def _is_array(array: NDArray[Any], kind: type, dimensions: int) -> bool:
    return isinstance(array, np.ndarray) and array.dtype == kind and array.ndim == dimensions
