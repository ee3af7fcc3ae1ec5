"""Videos of any length with known words and cuts: scenes of the demo's clips, recombined and encoded as usual.

A scene lasts four to seven seconds and holds one sentence, so the list of joined scenes gives the truth.
"""

import itertools
import json
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from fractions import Fraction
from functools import cache
from pathlib import Path

import av
import numpy as np
from av.video.reformatter import Colorspace
from numpy.typing import NDArray

from cluster.demo import clips, truth

FPS = 25
SOUND_HZ = 48_000
SCENE_S = 5.7
"""Average length of a scene."""
SIZE = (1280, 720)
ENCODER = {"preset": "veryfast", "crf": "23"}
"""As cameras and editors encode: B-frames and the loop filter on."""

Samples = NDArray[np.float32]


@dataclass(frozen=True)
class Scene:
    """A scene of a demo clip, hard-cut at both ends."""

    clip: Path
    start_s: float
    end_s: float
    words: str


@dataclass(frozen=True)
class MadeClip:
    """A video that was made: what is said in it and where it is cut."""

    path: Path
    duration_s: float
    cuts_s: tuple[float, ...]
    words: str


def scenes() -> list[Scene]:
    """Those of the demo's clips that have constant picture rates and no dissolve."""
    found = []
    for clip in clips():
        known = truth(clip)
        if known.dissolves or known.variable_frame_rate:
            continue
        found += [Scene(clip, scene.start_s, scene.end_s, scene.words) for scene in known.scenes]
    return found


def make_clips(folder: Path, durations_s: Sequence[float], size: tuple[int, int] = SIZE) -> list[MadeClip]:
    """A video for each duration, as near to it as whole scenes come, of scenes in turn; made once, found again in
    ``folder``.
    """
    kept = folder / "made.json"
    if kept.exists():
        return [_read(record) for record in json.loads(kept.read_text())]
    folder.mkdir(parents=True, exist_ok=True)
    turn = itertools.cycle(scenes())
    made = []
    for number, duration_s in enumerate(durations_s):
        chosen = [next(turn)]
        while _length_s(chosen) + SCENE_S / 2 < duration_s:
            chosen.append(next(turn))
        made.append(_make(folder / f"clip{number:03d}.mp4", chosen, size))
    kept.write_text(json.dumps([asdict(clip) | {"path": str(clip.path)} for clip in made]))
    return made


def make_pieces(folder: Path, duration_s: float, size: tuple[int, int]) -> list[MadeClip]:
    """A video for each scene: so much out of its middle, with silence for sound."""
    folder.mkdir(parents=True)
    made = []
    for number, scene in enumerate(scenes()):
        start_s = (scene.start_s + scene.end_s - duration_s) / 2
        piece = replace(scene, start_s=start_s, end_s=start_s + duration_s, words="")
        made.append(_make(folder / f"piece{number:03d}.mp4", [piece], size, loudness=0.0))
    return made


def _read(record: dict[str, object]) -> MadeClip:
    path, cuts_s = Path(str(record["path"])), record["cuts_s"]
    assert isinstance(cuts_s, list)
    return MadeClip(path, float(str(record["duration_s"])), tuple(cuts_s), str(record["words"]))


def _length_s(chosen: Sequence[Scene]) -> float:
    return sum(scene.end_s - scene.start_s for scene in chosen)


def _make(path: Path, chosen: Sequence[Scene], size: tuple[int, int], loudness: float = 1.0) -> MadeClip:
    ends_s = []
    with av.open(str(path), "w", options={"movflags": "+faststart"}) as out:
        video = out.add_stream("libx264", rate=FPS, width=size[0], height=size[1], pix_fmt="yuv420p", options=ENCODER)
        video.codec_context.colorspace = Colorspace.ITU601  # the demo's; pictures so large would be taken for BT.709
        audio = out.add_stream("aac", rate=SOUND_HZ, layout="stereo")
        heard, number = [], 0
        for scene in chosen:
            count = round((scene.end_s - scene.start_s) * FPS)
            for frame in _pictures(scene, count):
                large = frame.reformat(width=size[0], height=size[1], format="yuv420p")
                large.pts, large.time_base, number = number, Fraction(1, FPS), number + 1
                out.mux(video.encode(large))
            heard.append(loudness * _sound(scene, count / FPS))
            ends_s.append(number / FPS)
        out.mux(video.encode(None))
        _encode_sound(out, audio, np.concatenate(heard))
    words = " ".join(scene.words for scene in chosen)
    return MadeClip(path, ends_s[-1], tuple(ends_s[:-1]), words)


def _pictures(scene: Scene, count: int) -> list[av.VideoFrame]:
    """So many of the scene's own pictures at ``FPS``: where its clip has another rate, some are shown twice or not."""
    half_s = 0.5 / FPS
    with av.open(str(scene.clip)) as container:
        shown = container.decode(video=0)
        own = [frame for frame in shown if scene.start_s <= frame.time + half_s < scene.end_s]
    times_s = [frame.time - scene.start_s for frame in own]
    return [own[max(0, bisect_right(times_s, number / FPS + half_s) - 1)] for number in range(count)]


def _sound(scene: Scene, duration_s: float) -> Samples:
    whole = _narration(scene.clip)
    begin, count = round(scene.start_s * SOUND_HZ), round(duration_s * SOUND_HZ)
    piece = whole[begin : begin + count]
    return np.pad(piece, (0, count - len(piece)))


@cache
def _narration(clip: Path) -> Samples:
    """float32[n], mono, ``SOUND_HZ``."""
    with av.open(str(clip)) as container:
        resampler = av.AudioResampler("flt", "mono", SOUND_HZ)
        frames = [*container.decode(audio=0), None]
        return np.concatenate([part.to_ndarray()[0] for frame in frames for part in resampler.resample(frame)])


def _encode_sound(out: av.container.OutputContainer, stream: av.AudioStream, samples: Samples) -> None:
    frame = av.AudioFrame.from_ndarray(samples[None], format="flt", layout="mono")
    frame.sample_rate, frame.pts, frame.time_base = SOUND_HZ, 0, Fraction(1, SOUND_HZ)
    resampler = av.AudioResampler(stream.format.name, "stereo", SOUND_HZ, frame_size=stream.codec_context.frame_size)
    for piece in [*resampler.resample(frame), *resampler.resample(None)]:
        out.mux(stream.encode(piece))
    out.mux(stream.encode(None))
