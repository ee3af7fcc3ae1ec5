"""A local media file as FFmpeg sees it: opened safely, its packets read, its errors translated.

Owns what FFmpeg may open (this one file, in a real container format) and how its errors read. Leaves the bytes to
``media_source``, the choice of streams to ``stream_choice`` and what is made of the packets to ``media_reader``,
``audio_reader`` and ``scene_detector``.
"""

import errno
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TypeVar

import av
import av.logging
from av.container import InputContainer
from av.packet import Packet
from av.stream import Discard, Stream

from actors.stages.clock_shifting import Shifting
from actors.stages.media_source import MediaSource
from actors.stages.memory_watch import TOO_MUCH_MEMORY, MemoryWatch
from cluster.contracts.errors import InvalidVideo, TransientFailure
from cluster.contracts.events import Event
from cluster.contracts.media import WHOLE_FILE, FilePart
from cluster.security.event_log import EventLog

logger = EventLog(__name__)
VIDEO_FORMATS = (
    "mov,mp4,matroska,webm,avi,mpegts,mpeg,mpegvideo,m4v,h264,hevc,obu,ivf,flv,live_flv,asf,ogg,mxf,mxf_opatom,"
    "gxf,nut,rm,dv,vob,wtv,ty,yuv4mpegpipe,amv,nsv,smk,bink,avs,dhav,kux"
)
AUDIO_FORMATS = "aac,ac3,eac3,aiff,amr,ape,au,caf,dts,flac,mp3,tta,w64,wav,wv"
"""Read only to be able to say that they have no pictures."""
# Formats that lead elsewhere (hls, dash, concat, image2, sdp, lavfi, ...) are in neither list: FFmpeg probes
# the content, so the list, not the name, keeps a playlist called .mp4 from opening other files and hosts.

_COMPLAINT = re.compile(
    r"parameters for stream (?P<index>\d+) \((?:Video|Audio): (?P<name>[^\s,)]+)(?: \((?P<tag>.*?) / 0x)?"
)

MEASURABLE = 4
"""Pictures up to so many times the limit are still measured, to be refused by their size."""
FPS_TOLERANCE = 1.01
"""A camera's 240 pictures per second are 240.1 on the average of its file."""
EXTENT_SLACK_S = 30.0
"""Headers are held to the longest duration; what is read may end a little later than they said."""
Frame = TypeVar("Frame")


class Decoding(Protocol[Frame]):
    """A stream of pictures or of sound."""

    @property
    def index(self) -> int: ...

    def decode(self, packet: Any = None) -> list[Frame]: ...


@dataclass(frozen=True)
class OpenMedia:
    """A file that FFmpeg has open, and the watch over the memory that this takes."""

    container: InputContainer
    memory: MemoryWatch


@contextmanager
def open_media(
    path: Path, max_pixels: int, part: FilePart = WHOLE_FILE, memory: MemoryWatch | None = None
) -> Iterator[OpenMedia]:
    """The file, or a part of it, as FFmpeg sees it, closed at the end of the block.

    No picture much larger than ``max_pixels`` is decoded on opening. Within the block FFmpeg's errors become
    ``InvalidVideo``, the machine's own (a disk that cannot be read) ``TransientFailure``. What is read in it belongs
    within ``memory.bounded``.
    """
    with translated_errors(), MediaSource(path, part.begin, part.end, memory) as source:
        with source.memory.bounded():
            try:
                container = _opened(source, max_pixels, part.probe_bytes)
            except (av.error.InvalidDataError, av.error.ArgumentError, av.error.EOFError) as error:
                raise InvalidVideo(_why_unopened(path, error)) from error
        with container:
            yield OpenMedia(container, source.memory)


def open_parts(
    path: Path, max_pixels: int, parts: Sequence[FilePart], memory: MemoryWatch
) -> Iterator[tuple[OpenMedia, FilePart]]:
    """The parts of a file one after the other, each open while it is in the caller's hands."""
    for part in parts:
        with open_media(path, max_pixels, part, memory) as media:
            yield media, part


def _opened(source: MediaSource, max_pixels: int, probe_bytes: int = 0) -> InputContainer:
    # By default FFmpeg looks for streams in the first 5 MB, for some seconds.
    probing = {"probesize": str(probe_bytes), "analyzeduration": str(2**62)} if probe_bytes else {}
    container: InputContainer = av.open(
        source,
        "r",
        # FFmpeg decodes some pictures to find out what they are; so those that are too large are known by their size.
        options={"max_pixels": str(MEASURABLE * max_pixels), **probing},
        container_options={"protocol_whitelist": "file", "format_whitelist": f"{VIDEO_FORMATS},{AUDIO_FORMATS}"},
        metadata_errors="replace",
    )
    return container


def _why_unopened(path: Path, error: av.error.FFmpegError) -> str:
    with path.open("rb") as file:
        head = file.read(4096)
    if not head:
        return "the file is empty"
    if isinstance(error, av.error.ArgumentError):
        return "not a media file: a playlist or a format that is not read"
    if head[4:8] in {b"ftyp", b"mdat", b"wide", b"free", b"skip"}:
        return "the file is cut off or damaged: its index (the moov atom) is missing or damaged"
    if b"\0" not in head:
        return "not a media file: it holds text"
    return "not a media file, or its beginning is damaged"


@contextmanager
def translated_errors() -> Iterator[None]:
    """Let no raw error out of the block: FFmpeg's are the file's fault, the others the machine's."""
    try:
        yield
    except (av.error.FFmpegError, MemoryError) as error:
        raise InvalidVideo(f"the file cannot be read: {_reason(error)}") from error
    except OSError as error:
        raise TransientFailure(f"the file cannot be read now: {error.strerror or error}") from error


def _reason(error: Exception) -> str:
    """What FFmpeg says in words of its own; what it says in the system's says nothing about the system."""
    if isinstance(error, av.error.MemoryError):
        return "it announces more than can be held in memory"
    if isinstance(error, MemoryError):
        return f"it takes {TOO_MUCH_MEMORY}"
    if not isinstance(error, av.error.FFmpegError) or error.errno in errno.errorcode:
        return "its data is damaged or of a kind that is not read"
    return error.strerror or str(error)


def is_decodable(stream: Stream) -> bool:
    """Whether there is a decoder for it."""
    # PyAV gives a stream without a decoder no codec context, whatever the stubs say.
    return getattr(stream, "codec_context", None) is not None


def codec_name(container: InputContainer, stream: Stream) -> str:
    """What FFmpeg calls a codec that it cannot decode.

    PyAV does not hand the name out; FFmpeg's own complaint on opening the file has it.
    """
    level = av.logging.get_level()
    av.logging.set_level(av.logging.WARNING)
    try:
        with av.logging.Capture() as complaints, MediaSource(Path(container.name)) as source:
            _opened(source, 1).close()
    finally:
        av.logging.set_level(level)
    for _, _, text in complaints:
        named = _COMPLAINT.search(text)
        if named and int(named["index"]) == stream.index:
            return str(named["name"] if named["name"] != "none" else named["tag"] or "(unnamed)")
    return "(unnamed)"


@dataclass
class Tally:
    """What became of the packets that were read: how many of all, and how many were read or failed to be decoded."""

    read: int = 0
    packets: int = 0
    failed: int = 0
    last_error: str = ""

    def note_failure(self, error: av.error.FFmpegError) -> None:
        """Count a packet that could not be decoded."""
        self.failed += 1
        self.last_error = _reason(error)


def packets(
    media: OpenMedia, streams: list[Stream], tally: Tally, part: FilePart = WHOLE_FILE
) -> "Iterator[Packet[Stream]]":
    """Packets of ``streams`` in the file's order, ending with an empty one per stream that drains its
    decoder. Their times are those of the file's one clock, as the ``part`` says that they are of.

    A file that breaks off in the middle simply ends: how far it came is in ``tally``. Raises ``InvalidVideo`` when
    what is made of the packets takes too much memory.
    """
    drained = set()
    shifting = Shifting(part, set(media.container.format.name.split(",")))
    for stream in media.container.streams:
        if stream not in streams:
            stream.discard = Discard.all  # not even read, where the container allows it
    try:
        for packet in media.container.demux(*streams):
            if packet.size == 0 and packet.dts is None:
                drained.add(packet.stream.index)
            else:
                tally.read += 1
                shifting.apply(packet)
            yield packet
            media.memory.check()
    except (av.error.FFmpegError, IndexError) as error:
        # IndexError: PyAV comes across a stream that was not there when the file was opened.
        logger.info(Event.CONTAINER_TRUNCATED, error=error, packets=tally.read)
        tally.last_error = _reason(error)
        for stream in streams:
            if stream.index not in drained:
                yield _drain_packet(stream)


def frames(media: OpenMedia, streams: Sequence[Decoding[Frame]], tally: Tally, part: FilePart) -> Iterator[Frame]:
    """The frames of ``streams``, each of which carries on the one before. What cannot be decoded is counted."""
    order = {stream.index: place for place, stream in enumerate(streams)}
    place = 0
    for packet in packets(media, [media.container.streams[index] for index in order], tally, part):
        now = order[packet.stream.index]
        if now > place:
            for ended in streams[place:now]:
                yield from _decoded(ended, None, tally)
            place = now
        if now == place and not is_empty(packet):
            tally.packets += 1
            yield from _decoded(streams[now], packet, tally)


def is_empty(packet: "Packet[Stream]") -> bool:
    """Whether a packet has a time but no data: the picture before it stays. One that drains has neither."""
    return packet.size == 0 and packet.dts is not None


def _decoded(stream: Decoding[Frame], packet: "Packet[Stream] | None", tally: Tally) -> list[Frame]:
    try:
        return stream.decode(packet)
    except av.error.EOFError:
        return []  # drained before
    except av.error.FFmpegError as error:
        tally.note_failure(error)
        return []


def _drain_packet(stream: Stream) -> "Packet[Stream]":
    packet: Packet[Stream] = Packet()
    packet.stream = stream
    return packet


def check_extent(what: str, end_s: float, max_duration_s: float) -> None:
    """Raise ``InvalidVideo`` when what was read, named as in "the sound lasts", has come too far past the limit."""
    if end_s > max_duration_s + EXTENT_SLACK_S:
        raise InvalidVideo(f"{what} longer than the limit of {max_duration_s:g} s")
