"""A local media file as FFmpeg sees it: opened safely, its picture and sound streams chosen, its errors
translated.

Owns what FFmpeg may open (this one file, in a real container format) and how its errors read. Leaves what is
made of the packets to ``media_reader``, ``audio_reader`` and ``scene_detector``.
"""

import errno
import logging
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import av
import av.logging
from av.audio.stream import AudioStream
from av.container import InputContainer
from av.packet import Packet
from av.stream import Disposition, Stream
from av.video.stream import VideoStream

from cluster.contracts.errors import InvalidVideo, TransientFailure

logger = logging.getLogger(__name__)

VIDEO_FORMATS = (
    "mov,mp4,matroska,webm,avi,mpegts,mpeg,mpegvideo,m4v,h264,hevc,obu,ivf,flv,live_flv,asf,ogg,mxf,mxf_opatom,"
    "gxf,nut,rm,dv,vob,wtv,ty,yuv4mpegpipe,amv,nsv,smk,bink,avs,dhav,kux"
)
AUDIO_FORMATS = "aac,ac3,eac3,aiff,amr,ape,au,caf,dts,flac,mp3,tta,w64,wav,wv"
"""Read only to be able to say that they have no pictures."""
# Formats that lead elsewhere (hls, dash, concat, image2, sdp, lavfi, ...) are in neither list: FFmpeg probes
# the content, so the list, not the name, keeps a playlist called .mp4 from opening other files and hosts.

_NOT_PICTURES = Disposition.attached_pic | Disposition.timed_thumbnails
_WORTH_ANOTHER_TRY = {errno.EIO, errno.ENOMEM, errno.EMFILE, errno.ENFILE, errno.ESTALE, errno.ENOENT}

_COMPLAINT = re.compile(
    r"parameters for stream (?P<index>\d+) \((?:Video|Audio): (?P<name>\S+)(?: \((?P<tag>.*?) / 0x)?"
)

BACKWARD_JUMP_S = 1.0
"""A time-stamp this far behind the one before begins a new count (joined files); less is an overlap."""


@contextmanager
def open_media(path: Path) -> Iterator[InputContainer]:
    """The file as a PyAV container, closed at the end of the block.

    Within the block FFmpeg's errors become ``InvalidVideo``, the machine's own (disk, memory)
    ``TransientFailure``.
    """
    with translated_errors():
        try:
            # "file:" keeps FFmpeg from reading a protocol or an option into the name.
            container = _opened(f"file:{os.fspath(path)}")
        except (av.error.InvalidDataError, av.error.ArgumentError, av.error.EOFError) as error:
            raise InvalidVideo(_why_unopened(path, error)) from error
        with container:
            yield container


def _opened(url: str) -> InputContainer:
    options = {"protocol_whitelist": "file", "format_whitelist": f"{VIDEO_FORMATS},{AUDIO_FORMATS}"}
    return av.open(url, container_options=options)


def _why_unopened(path: Path, error: av.error.FFmpegError) -> str:
    with path.open("rb") as file:
        head = file.read(4096)
    if not head:
        return "the file is empty"
    if isinstance(error, av.error.ArgumentError):
        return "not a media file: a playlist or a format that is not read"
    if head[4:8] in {b"ftyp", b"mdat", b"wide", b"free", b"skip"}:
        return "the file is cut off or damaged: its index (the moov atom) is missing"
    if b"\0" not in head:
        return "not a media file: it holds text"
    return "not a media file, or its beginning is damaged"


@contextmanager
def translated_errors() -> Iterator[None]:
    """Let no raw FFmpeg error out of the block."""
    try:
        yield
    except (av.error.FFmpegError, OSError) as error:
        reason = error.strerror or str(error)
        if error.errno in _WORTH_ANOTHER_TRY:
            raise TransientFailure(f"the file cannot be read now: {reason}") from error
        raise InvalidVideo(f"the file cannot be read: {reason}") from error


def picture_stream(container: InputContainer) -> VideoStream:
    """The stream of pictures to watch: the default one, of several the largest; cover art is none.

    Raises ``InvalidVideo`` when there are no pictures or nothing here decodes them.
    """
    streams = [stream for stream in container.streams.video if not stream.disposition & _NOT_PICTURES]
    if not streams:
        raise InvalidVideo(_why_no_pictures(container))
    decodable = [stream for stream in streams if _decodable(stream)]
    if not decodable:
        raise InvalidVideo(f"the pictures' codec {_codec_name(container, streams[0])} cannot be decoded")
    return max(decodable, key=lambda stream: (_is_default(stream), stream.width * stream.height, -stream.index))


def _why_no_pictures(container: InputContainer) -> str:
    cover = ", only cover art" if container.streams.video else ""
    if container.streams.audio:
        return f"the file has sound but no pictures{cover}"
    return f"the file has neither pictures nor sound{cover}"


def sound_stream(container: InputContainer) -> AudioStream | None:
    """The stream of sound to listen to: the default one that can be decoded; None when the file has no sound.

    Raises ``InvalidVideo`` when there is sound but nothing here decodes it.
    """
    streams = container.streams.audio
    if not streams:
        return None
    decodable = [stream for stream in streams if _decodable(stream)]
    if not decodable:
        raise InvalidVideo(f"the sound's codec {_codec_name(container, streams[0])} cannot be decoded")
    return max(decodable, key=lambda stream: (_is_default(stream), -stream.index))


def _decodable(stream: Stream) -> bool:
    # PyAV gives a stream without a decoder no codec context, whatever the stubs say.
    return getattr(stream, "codec_context", None) is not None


def _is_default(stream: Stream) -> bool:
    return bool(stream.disposition & Disposition.default)


def _codec_name(container: InputContainer, stream: Stream) -> str:
    """What FFmpeg calls a codec that it cannot decode.

    PyAV does not hand the name out; FFmpeg's own complaint on opening the file has it.
    """
    level = av.logging.get_level()
    av.logging.set_level(av.logging.WARNING)
    try:
        with av.logging.Capture() as complaints, _opened(container.name):
            pass
    finally:
        av.logging.set_level(level)
    for _, _, text in complaints:
        named = _COMPLAINT.search(text)
        if named and int(named["index"]) == stream.index:
            return named["tag"] if named["name"] == "none" else named["name"]
    return "(unnamed)"


def stated_extent_s(container: InputContainer, stream: VideoStream) -> tuple[float | None, bool]:
    """How long the pictures last as far as headers tell, and whether that is said of the pictures themselves.

    Matroska and others state only the whole file's duration, which the sound may carry on to.
    """
    if stream.duration and stream.time_base:
        return float(stream.duration * stream.time_base), True
    if container.duration:
        return container.duration / av.time_base, False
    return None, False


@dataclass
class Tally:
    """What became of the packets that were read; ``ends_s`` by stream, in the file's own time."""

    packets: int = 0
    failed: int = 0
    last_error: str = ""
    ends_s: dict[int, float] = field(default_factory=dict)

    def note_packet(self, packet: "Packet[Stream]") -> None:
        """Count a packet and remember how far its stream has come."""
        time = packet.pts if packet.pts is not None else packet.dts
        if time is not None and packet.time_base:
            end_s = float((time + (packet.duration or 0)) * packet.time_base)
            self.ends_s[packet.stream.index] = max(end_s, self.ends_s.get(packet.stream.index, end_s))

    def note_failure(self, error: av.error.FFmpegError) -> None:
        """Count a packet that could not be decoded."""
        self.failed += 1
        self.last_error = error.strerror or str(error)


def packets(container: InputContainer, streams: list[Stream], tally: Tally) -> "Iterator[Packet[Stream]]":
    """Packets of ``streams`` in the file's order, ending with an empty one per stream that drains its
    decoder.

    A file that breaks off in the middle simply ends: how far it came is in ``tally``.
    """
    drained = set()
    try:
        for packet in container.demux(*streams):
            if packet.size == 0 and packet.dts is None:
                drained.add(packet.stream.index)
            else:
                tally.note_packet(packet)
            yield packet
    except (av.error.InvalidDataError, av.error.EOFError) as error:
        logger.info("the container ends early: %s", error)
        tally.last_error = error.strerror or str(error)
        for stream in streams:
            if stream.index not in drained:
                yield _drain_packet(stream)


def _drain_packet(stream: Stream) -> "Packet[Stream]":
    packet: Packet[Stream] = Packet()
    packet.stream = stream
    return packet


class PresentationClock:
    """Makes a stream's presentation times count on without going back.

    Joined recordings start to count anew in the middle; from there on times carry on where the last item
    ended.
    """

    def __init__(self) -> None:
        self._offset_s = 0.0
        self._begun = False

    def time_s(self, stated_s: float, expected_s: float) -> float:
        """``stated_s`` on the continuous count; ``expected_s`` is where the last item ended on it."""
        if self._begun and stated_s + self._offset_s < expected_s - BACKWARD_JUMP_S:
            self._offset_s = expected_s - stated_s
        self._begun = True
        return stated_s + self._offset_s
