"""Which tracks hold other sound than the chosen one: a microphone each, not copies of one mix.

Owns when two tracks sound the same. Leaves the places where is listened, and what silence is, to ``silence``.
"""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import av
import numpy as np
from av.audio.stream import AudioStream
from numpy.typing import NDArray

from actors.stages.media_file import OpenMedia, open_media
from actors.stages.silence import PLACE_BYTES, SILENCE, SOUND_S, decoded, places, seek
from actors.stages.sound_layout import channels_of, drop_custom_order
from cluster.contracts.errors import InvalidVideo
from cluster.contracts.media import FilePart

WINDOW_S = 5.0
"""Seconds of all tracks that are held in memory at once."""
BLOCK_S = 0.05
"""Two tracks are compared block by block."""
SAME = 0.9
"""Blocks whose correlation is at least this are the same sound, at whatever level."""

_Samples = NDArray[np.float32]
_Heard = Mapping[int, tuple[float, _Samples]]
"""By track: when its samples begin, and float32[samples]."""


def separate_tracks(path: Path, part: FilePart, index: int, others: Sequence[int]) -> list[int]:
    """Those of the mono tracks ``others`` with sound of their own, which the stream ``index`` lacks.

    All have the same sample rate. The file is listened to at the places that are tried for silence, not as a whole.
    """
    try:
        with open_media(path, max_pixels=1, part=part) as media, media.memory.bounded():
            return _separate(media, index, others)
    except InvalidVideo:
        return []


def _separate(media: OpenMedia, index: int, others: Sequence[int]) -> list[int]:
    streams: dict[int, AudioStream] = {}
    for number in (index, *others):
        stream = media.container.streams[number]
        assert isinstance(stream, AudioStream)
        drop_custom_order(stream)
        streams[number] = stream
    rate_hz = streams[index].codec_context.sample_rate
    blocks = dict.fromkeys(others, 0)
    for samples in _windows(media, streams):
        for number in others:
            if index in samples and number in samples:
                blocks[number] += _differing_blocks(*_aligned(samples[index], samples[number], rate_hz), rate_hz)
        if all(count * BLOCK_S >= SOUND_S for count in blocks.values()):
            break
    return [number for number, count in blocks.items() if count * BLOCK_S >= SOUND_S]


def _windows(media: OpenMedia, streams: Mapping[int, AudioStream]) -> Iterator[_Heard]:
    for place_s, length_s in places(media):
        if place_s and not seek(media, place_s):
            return
        for _ in range(max(1, round(length_s / WINDOW_S))):
            samples = _window(media, streams, min(WINDOW_S, length_s))
            if not samples:
                break
            yield samples


def _window(media: OpenMedia, streams: Mapping[int, AudioStream], length_s: float) -> _Heard:
    """The next ``length_s`` of all tracks; less where the file ends or too much would be read."""
    begins_s: dict[int, float] = {}
    samples: dict[int, list[_Samples]] = {number: [] for number in streams}
    lengths_s = dict.fromkeys(streams, 0.0)
    read_bytes = 0
    try:
        for packet in media.container.demux():
            read_bytes += packet.size
            media.memory.check()
            number = packet.stream.index
            if number in streams and packet.size:
                for frame in decoded(streams[number], packet):
                    begins_s.setdefault(number, frame.time or 0.0)
                    samples[number].append(np.array(channels_of(frame)[0], np.float32))
                    lengths_s[number] += frame.samples / max(1, frame.sample_rate)
            least_s, most_s = min(lengths_s.values()), max(lengths_s.values())
            if least_s >= length_s or most_s >= 2 * length_s or read_bytes > PLACE_BYTES:
                break
    except (av.error.FFmpegError, IndexError):
        pass
    return {number: (begin_s, np.concatenate(samples[number])) for number, begin_s in begins_s.items()}


def _aligned(one: tuple[float, _Samples], other: tuple[float, _Samples], rate_hz: int) -> tuple[_Samples, _Samples]:
    """What both tracks have of the same time."""
    begin_s = max(one[0], other[0])
    first, second = (samples[round((begin_s - from_s) * rate_hz) :] for from_s, samples in (one, other))
    length = min(len(first), len(second))
    return first[:length], second[:length]


def _differing_blocks(chosen: _Samples, other: _Samples, rate_hz: int) -> int:
    """Number of blocks of ``other`` with sound that is not the same in ``chosen``."""
    size = max(1, round(BLOCK_S * rate_hz))
    whole = len(other) // size * size
    first, second = (samples[:whole].reshape(-1, size) for samples in (chosen, other))
    first, second = (blocks - blocks.mean(axis=1, keepdims=True) for blocks in (first, second))
    audible = second.var(axis=1) > SILENCE
    together = np.abs((first * second).mean(axis=1))
    same = together >= SAME * np.sqrt(first.var(axis=1) * second.var(axis=1))
    return int(np.count_nonzero(audible & ~(same & (first.var(axis=1) > 0))))
