"""Whether a track holds any sound at all, by decoding it here and there.

Owns where is listened, and what silence is. Opens the file once more, so that the caller's place in it stays.
"""

from collections.abc import Iterator
from pathlib import Path

import av
from av.audio.frame import AudioFrame
from av.audio.stream import AudioStream
from av.packet import Packet
from av.stream import Stream

from actors.stages.media_file import OpenMedia, open_media
from actors.stages.sound_layout import channels_of, disown, drop_custom_order
from cluster.contracts.errors import InvalidVideo
from cluster.contracts.media import FilePart

BEGINNING_S = 30.0
"""So much is listened to at the beginning,"""
PLACES, PLACE_S = 8, 5.0
"""and so much at this many places after it."""
PLACE_BYTES = 64 * 2**20
"""More than this is not read at one place: a track may have no packets there."""
SILENCE = 1e-6
"""Variance of a channel below this (-60 dB) is silence: encoders leave that much of digital silence."""
SOUND_S = 0.2
"""Less sound than this is a click."""


def holds_sound(path: Path, part: FilePart, index: int) -> bool:
    """Whether anything is audible in the stream ``index`` of ``part`` at any of the places that are tried."""
    try:
        with open_media(path, max_pixels=1, part=part) as media, media.memory.bounded():
            stream = media.container.streams[index]
            assert isinstance(stream, AudioStream)
            drop_custom_order(stream)
            return _is_audible(media, stream)
    except InvalidVideo:
        return False


def _is_audible(media: OpenMedia, stream: AudioStream) -> bool:
    heard_s = 0.0
    for place_s, length_s in places(media):
        if place_s and not seek(media, place_s):
            return False
        for frame in _frames(media, stream, length_s):
            samples = channels_of(frame)
            if samples.size and float(samples.var(axis=1).max()) > SILENCE:
                heard_s += frame.samples / frame.sample_rate
            if heard_s >= SOUND_S:
                return True
    return False


def places(media: OpenMedia) -> Iterator[tuple[float, float]]:
    """Where is listened, and for how long, in seconds."""
    yield 0.0, BEGINNING_S
    duration_s = (media.container.duration or 0) / av.time_base
    start_s = (media.container.start_time or 0) / av.time_base
    if duration_s > BEGINNING_S:
        step_s = (duration_s - BEGINNING_S) / PLACES
        yield from ((start_s + BEGINNING_S + number * step_s, min(PLACE_S, step_s)) for number in range(PLACES))


def seek(media: OpenMedia, place_s: float) -> bool:
    """Go to a place of the file; whether that was possible."""
    try:
        media.container.seek(round(place_s * av.time_base))
    except av.error.FFmpegError:
        return False
    return True


def _frames(media: OpenMedia, stream: AudioStream, length_s: float) -> Iterator[AudioFrame]:
    """The stream's next ``length_s`` of sound; less where the file ends or too much would be read."""
    decoded_s, read_bytes = 0.0, 0
    try:
        for packet in media.container.demux():
            read_bytes += packet.size
            media.memory.check()
            if packet.stream.index == stream.index and packet.size:
                for frame in decoded(stream, packet):
                    decoded_s += frame.samples / max(1, frame.sample_rate)
                    yield frame
            if decoded_s >= length_s or read_bytes > PLACE_BYTES:
                return
    except (av.error.FFmpegError, IndexError):
        return


def decoded(stream: AudioStream, packet: "Packet[Stream]") -> list[AudioFrame]:
    """The sound of a packet; none where it is damaged."""
    try:
        frames = stream.decode(packet)
    except av.error.FFmpegError:
        return []
    for frame in frames:
        disown(frame.layout)
    return frames
