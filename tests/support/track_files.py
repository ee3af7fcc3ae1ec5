"""Files with several sound tracks, each a tone of its own, and transport streams of two programs."""

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from av.audio.stream import AudioStream
from av.container import OutputContainer
from av.stream import Disposition

from tests.support.media_files import Samples, Shot, tone

RATE_HZ = 48_000
TONES_HZ = (300.0, 500.0, 700.0, 1100.0, 1300.0)
PACKET_BYTES = 188
NO_FLAG = Disposition(0)


@dataclass(frozen=True)
class Track:
    """A track: its tone begins at ``sounds_from_s`` (None: never). ``tone_of``: another track's tone."""

    language: str | None = None
    disposition: Disposition = NO_FLAG
    title: str | None = None
    sounds_from_s: float | None = 0.0
    length_s: float | None = None
    tone_of: int | None = None
    gain: float = 1.0


def write_tracks(
    path: Path,
    tracks: Sequence[Track],
    seconds: float = 2.0,
    size: tuple[int, int] = (64, 48),
    options: dict[str, str] | None = None,
    codec: str | None = None,
) -> Path:
    """Write a picture stream and these tracks beside it; the suffix names the container."""
    codec = codec or ("mp2" if path.suffix == ".ts" else "aac")
    with av.open(str(path), "w", options=options or {}) as container:
        video = container.add_stream("mpeg2video" if path.suffix == ".ts" else "mpeg4", rate=25)
        video.width, video.height, video.pix_fmt = *size, "yuv420p"
        streams = [_add(container, codec, track) for track in tracks]
        packets = []
        for number in range(round(seconds * 25)):
            packets += video.encode(av.VideoFrame.from_ndarray(Shot(1.0, 1).picture(number, *size), format="rgb24"))
        packets += video.encode(None)
        for stream, samples in zip(streams, _sounds(tracks, seconds), strict=True):
            for begin in range(0, len(samples), 1152):
                frame = av.AudioFrame.from_ndarray(samples[None, begin : begin + 1152], "s16", "mono")
                frame.sample_rate, frame.time_base, frame.pts = RATE_HZ, Fraction(1, RATE_HZ), begin
                packets += stream.encode(frame)
            packets += stream.encode(None)
        for packet in sorted(packets, key=lambda packet: float((packet.dts or 0) * packet.time_base)):
            container.mux(packet)
    return path


def _add(container: OutputContainer, codec: str, track: Track) -> AudioStream:
    stream: AudioStream = container.add_stream(codec, rate=RATE_HZ, layout="mono")  # type: ignore[assignment]
    stream.disposition = track.disposition  # type: ignore[misc]
    if track.language is not None:
        stream.metadata["language"] = track.language
    if track.title is not None:
        stream.metadata["title"] = track.title
    return stream


def _sounds(tracks: Sequence[Track], seconds: float) -> list[Samples]:
    numbers = [number if track.tone_of is None else track.tone_of for number, track in enumerate(tracks)]
    return [_sound(track, TONES_HZ[number], seconds) for track, number in zip(tracks, numbers, strict=True)]


def _sound(track: Track, frequency_hz: float, seconds: float) -> Samples:
    samples = tone(track.length_s or seconds, RATE_HZ, frequency_hz)
    begin_s = len(samples) / RATE_HZ if track.sounds_from_s is None else track.sounds_from_s
    samples[: round(begin_s * RATE_HZ)] = 0
    return np.asarray(samples * track.gain, samples.dtype)


def track_of(samples: Samples, rate_hz: int) -> int | None:
    """The track whose tone this is; None for silence."""
    if not np.abs(samples.astype(int)).max(initial=0) > 300:
        return None
    spectrum = np.abs(np.fft.rfft(samples.astype(float)))
    frequency_hz = float(np.argmax(spectrum)) * rate_hz / len(samples)
    return int(np.argmin(np.abs(np.array(TONES_HZ) - frequency_hz)))


def write_program(path: Path, number: int, tracks: Sequence[Track], size: tuple[int, int] = (64, 48)) -> Path:
    """A transport stream of one program whose identifiers leave room for others'."""
    identifiers = {
        "mpegts_service_id": str(number),
        "mpegts_start_pid": str(0x100 * number),
        "mpegts_pmt_start_pid": str(0x1000 + number),
    }
    return write_tracks(path, tracks, size=size, options=identifiers)


def join_programs(path: Path, *programs: Path) -> Path:
    """One transport stream with the packets of several, whose numbers count from 1 (ISO/IEC 13818-1, 2.4.4.3)."""
    table = _association_table(range(1, len(programs) + 1))
    parts = []
    for share in range(20):
        for program in programs:
            data = program.read_bytes()
            packets = [data[at : at + PACKET_BYTES] for at in range(0, len(data), PACKET_BYTES)]
            own = [packet for packet in packets if _pid(packet) not in (0x0000, 0x0011)]
            parts += own[share * len(own) // 20 : (share + 1) * len(own) // 20]
    path.write_bytes(table + b"".join(parts))
    return path


def _pid(packet: bytes) -> int:
    return int.from_bytes(packet[1:3], "big") & 0x1FFF


def _association_table(numbers: range) -> bytes:
    entries = b"".join(struct.pack(">HH", number, 0xE000 | (0x1000 + number)) for number in numbers)
    section = struct.pack(">BHHBBB", 0x00, 0xB000 | (9 + len(entries)), 1, 0xC1, 0, 0) + entries
    packet = b"\x47\x40\x00\x10\x00" + section + struct.pack(">I", _crc(section))
    return packet.ljust(PACKET_BYTES, b"\xff")


def _crc(section: bytes) -> int:
    """CRC-32/MPEG-2."""
    crc = 0xFFFFFFFF
    for byte in section:
        crc ^= byte << 24
        for _ in range(8):
            crc = (crc << 1 ^ 0x04C11DB7) & 0xFFFFFFFF if crc & 0x80000000 else crc << 1
    return crc
