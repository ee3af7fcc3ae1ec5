"""Files whose sound is hostile: rates, channels and times that no microphone has; and files that hold nothing else."""

from pathlib import Path
from typing import Any

import av
import numpy as np

from tests.chaos.containers import EBML_HEADER, INFO, SEGMENT, TRACKS, element, number
from tests.chaos.hostile_file import NO_PICTURES, NO_STREAMS, READY, TOO_LONG, Becomes, Make, either, refused
from tests.chaos.whole_media import transport_stream
from tests.support.media_files import Recipe, Shot, Sound, tone, write_video

SIZE = (64, 64)
SHOTS = [Shot(0.6, 1), Shot(0.6, 2)]
LIVE = {"live": "1"}


def _sound(sounds: list[Sound], start_s: float = 0.0, rate_hz: int = 16_000) -> Make:
    """Sound at any time, in a file whose header does not say how long it lasts."""
    recipe = Recipe(SIZE, start_s=start_s, audio_codec="pcm_s16le", rate_hz=rate_hz, options=LIVE)
    return lambda path: write_video(path, SHOTS, sounds, recipe)


def _blip(start_s: float) -> Sound:
    return Sound(start_s, tone(0.02))


def _changing_sound(path: Path) -> None:
    """Recordings joined whose sound has other rates."""
    path.write_bytes(
        transport_stream(1) + transport_stream(3, 48_000) + transport_stream(5, 8_000) + transport_stream(7)
    )


def _many_channels(path: Path) -> None:
    with av.open(str(path), "w") as container:
        video: Any = container.add_stream("mjpeg", rate=25, width=64, height=64, pix_fmt="yuvj420p")
        audio: Any = container.add_stream("pcm_s16le", rate=48_000, layout="64 channels")
        for number_ in range(30):
            container.mux(video.encode(av.VideoFrame.from_ndarray(SHOTS[0].picture(number_, *SIZE), format="rgb24")))
        samples = np.tile(tone(1.0, 48_000)[:, None], (1, 64)).reshape(1, -1)
        frame = av.AudioFrame.from_ndarray(samples, format="s16", layout="64 channels")
        frame.sample_rate = 48_000
        container.mux(audio.encode(frame))


def _only(kind: int, codec: bytes) -> Make:
    """A file with one track that is neither pictures nor sound."""
    entry = element(0xAE, number(0xD7, 1), number(0x73C5, 1), number(0x83, kind), element(0x86, codec))
    cluster = element(0x1F43B675, number(0xE7, 0), element(0xA3, b"\x81\0\0\x80Hello"))
    data = EBML_HEADER + element(SEGMENT, element(INFO, number(0x2AD7B1, 10**6)), element(TRACKS, entry), cluster)
    return lambda path: path.write_bytes(data)


_NO_SOUND = (
    r"nothing of the sound can be decoded .*"
    r"|the sound comes in pieces of [\d,]+ samples at \d+ Hz: its stated rate cannot be right"
)
_NO_MIX = r"the sound \(64 channels, 48000 Hz, s16\) cannot be mixed to one channel"

SOUND: dict[str, tuple[Make, Becomes]] = {
    "1-hz.mkv": (_sound([Sound(0.0, tone(4000, 1))], rate_hz=1), refused(f"{_NO_SOUND}|{TOO_LONG}")),
    "768-khz.mkv": (_sound([Sound(0.0, tone(1.2, 768_000))], rate_hz=768_000), READY),
    "changing-rates.ts": (_changing_sound, READY),
    "64-channels.mov": (_many_channels, either(_NO_MIX)),
    "gap-of-10-days.mkv": (_sound([_blip(0.0), _blip(864_000.0)]), refused(TOO_LONG)),
    "gap-of-10-hours.mkv": (_sound([_blip(0.0), _blip(36_000.0)]), READY),
    "29-s-apart-for-11-hours.mkv": (_sound([_blip(29.0 * n) for n in range(1400)]), READY),
    "10-days-before-the-pictures.mkv": (_sound([_blip(0.0), _blip(864_000.0)], start_s=864_000.0), refused(TOO_LONG)),
    "only-sound.mp4": (lambda p: write_video(p, [], [Sound(0.0, tone(1.0))]), refused(NO_PICTURES)),
    "only-subtitles.mkv": (_only(0x11, b"S_TEXT/UTF8"), refused(NO_STREAMS)),
    "only-buttons.mkv": (_only(0x12, b"B_VOBBTN"), refused(f"{NO_STREAMS}|not a media file.*")),
}
