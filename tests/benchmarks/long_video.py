"""An hour of 1080p made in seconds: a demo clip enlarged and encoded once, then its packets repeated."""

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import av
from av.packet import Packet

from cluster.demo import clips

HOUR_S = 3600.0
SIZE = (1920, 1080)


def write_hour(path: Path) -> None:
    """Write an hour of H.264 and AAC to ``path``: the first demo clip, scaled to 1920x1080, over and over."""
    once = path.with_name("once.mp4")
    _enlarge(clips()[0], once)
    _repeat(once, path, HOUR_S)
    once.unlink()


def _enlarge(source: Path, target: Path) -> None:
    with av.open(str(source)) as clip, av.open(str(target), "w") as out:
        pictures, sound = clip.streams.video[0], clip.streams.audio[0]
        video = out.add_stream("libx264", rate=25, width=SIZE[0], height=SIZE[1], pix_fmt="yuv420p")
        video.options = {"preset": "veryfast", "bf": "0"}
        audio = out.add_stream("aac", rate=16_000, layout="mono")
        for index, frame in enumerate(clip.decode(pictures)):
            large = frame.reformat(width=SIZE[0], height=SIZE[1], format="yuv420p")
            large.pts, large.time_base = index, Fraction(1, 25)
            out.mux(video.encode(large))
        out.mux(video.encode(None))
        clip.seek(0)
        resampler = av.AudioResampler(format="fltp", layout="mono", rate=16_000)
        for heard in clip.decode(sound):
            for part in resampler.resample(heard):
                out.mux(audio.encode(part))
        out.mux(audio.encode(None))


def _repeat(source: Path, target: Path, duration_s: float) -> None:
    with av.open(str(source)) as clip:
        # A little longer than the clip: AAC begins before zero, and times must rise from one round to the next.
        period_s = float(clip.duration or 0) / av.time_base + 0.2
        with av.open(str(target), "w") as out:
            streams = {stream.index: out.add_stream_from_template(stream) for stream in clip.streams}
            packets = [packet for packet in clip.demux() if packet.dts is not None]
            for number in range(int(duration_s / period_s) + 1):
                for packet in _shifted(packets, number * period_s):
                    packet.stream = streams[packet.stream.index]
                    out.mux(packet)


def _shifted(packets: Sequence[Packet], by_s: float) -> list[Packet]:
    shifted = []
    for packet in packets:
        copy = Packet(bytes(packet))
        offset = round(by_s / packet.time_base)
        assert packet.pts is not None
        assert packet.dts is not None
        copy.stream, copy.time_base, copy.is_keyframe = packet.stream, packet.time_base, packet.is_keyframe
        copy.pts, copy.dts, copy.duration = packet.pts + offset, packet.dts + offset, packet.duration
        shifted.append(copy)
    return shifted
