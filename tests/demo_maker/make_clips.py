"""Make the demo's clips and the truth beside them: `python -m tests.demo_maker.make_clips OUT` (needs flite).

Owns timing, narration and encoding. Pictures and times follow from the screenplay alone; the bytes differ
with the encoders' versions. What is shown and said is in `screenplay`.
"""

import argparse
import math
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
import numpy.typing as npt

from cluster.demo.truth import Dissolve, TrueQuery, TrueScene, Truth, write_truth
from tests.demo_maker.scenes import render
from tests.demo_maker.screenplay import CLIPS, Clip
from tests.demo_maker.vocabulary import Scene, label_groups

WIDTH, HEIGHT = 640, 360
_LEAD_S, _TAIL_S, _SHORTEST_S = 0.5, 1.7, 4.5
_DISSOLVE_S = 0.8
_DROPPED_SHARE = 0.25
_SPEECH_HZ = 16_000
_LOUDEST = 0.7
Samples = npt.NDArray[np.float32]
Pictures = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class _Shot:
    """A scene with its place in the film, in frames `[first, last)`, and its narration."""

    scene: Scene
    first: int
    last: int
    speech: Samples


def main() -> None:
    """Make every clip and the label list."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path, help="directory for the clips and their truth")
    out = parser.parse_args().out
    out.mkdir(parents=True, exist_ok=True)
    for clip in CLIPS:
        make_clip(clip, out / clip.file)
        print(f"{clip.file}: {(out / clip.file).stat().st_size / 1e6:.2f} MB", flush=True)
    (out.parent / "labels.txt").write_text("\n\n".join("\n".join(group) for group in label_groups()) + "\n")


def make_clip(clip: Clip, path: Path) -> None:
    """Render, narrate and encode one clip and write its truth beside it."""
    shots = _timed(clip)
    _encode(clip, shots, path)
    write_truth(path, _truth_of(clip, shots))


def _timed(clip: Clip) -> list[_Shot]:
    """Each scene lasts as long as its sentence, with a pause before and after it."""
    shots: list[_Shot] = []
    first = 0
    for shot, scene in zip(clip.shots, clip.scenes, strict=True):
        speech = spoken(shot.words)
        length_s = max(_LEAD_S + len(speech) / _SPEECH_HZ + _TAIL_S, _SHORTEST_S)
        last = first + math.ceil(length_s * clip.fps)
        shots.append(_Shot(scene, first, last, speech))
        first = last
    return shots


def spoken(words: str) -> Samples:
    """`words` in flite's voice slt: mono float32 at 16 kHz, without the silence around them."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "speech.wav"
        subprocess.run(["flite", "-voice", "slt", "-t", words, "-o", str(path)], check=True)
        with av.open(str(path)) as container:
            resampler = av.AudioResampler("flt", "mono", _SPEECH_HZ)
            parts = [
                piece.to_ndarray()[0] for frame in container.decode(audio=0) for piece in resampler.resample(frame)
            ]
    samples = np.concatenate(parts).astype(np.float32)
    loud = np.flatnonzero(np.abs(samples) > 0.01)
    samples = samples[loud[0] : loud[-1] + 1]
    return samples * np.float32(_LOUDEST / np.abs(samples).max())


def _frames(clip: Clip, shots: list[_Shot]) -> Iterator[tuple[int, Pictures]]:
    """Number and picture of every frame that is kept."""
    rng = np.random.default_rng(clip.seed)
    for number, shot in enumerate(shots):
        for frame in range(shot.first, shot.last):
            dropped = clip.variable_frame_rate and rng.random() < _DROPPED_SHARE
            if dropped and frame not in (shot.first, shots[-1].last - 1):
                continue
            picture = _picture(clip, shot, frame)
            if clip.dissolve_after in (number, number - 1) and clip.dissolve_after is not None:
                picture = _dissolved(clip, shots, frame, picture)
            yield frame, picture


def _picture(clip: Clip, shot: _Shot, frame: int) -> Pictures:
    return render(shot.scene, (frame - shot.first) / clip.fps + 1.0, WIDTH, HEIGHT)


def _dissolved(clip: Clip, shots: list[_Shot], frame: int, picture: Pictures) -> Pictures:
    assert clip.dissolve_after is not None
    before, after = shots[clip.dissolve_after : clip.dissolve_after + 2]
    start, end = _dissolve_frames(clip, after.first)
    if not start <= frame < end:
        return picture
    share = (frame - start + 1) / (end - start + 1)
    mixed = cv2.addWeighted(_picture(clip, after, frame), share, _picture(clip, before, frame), 1 - share, 0.0)
    return np.asarray(mixed, np.uint8)


def _dissolve_frames(clip: Clip, boundary: int) -> tuple[int, int]:
    half = round(_DISSOLVE_S * clip.fps / 2)
    return boundary - half, boundary + half


def _narration(clip: Clip, shots: list[_Shot]) -> Samples:
    whole = np.zeros(round(shots[-1].last / clip.fps * _SPEECH_HZ), np.float32)
    for shot in shots:
        start = round((shot.first / clip.fps + _LEAD_S) * _SPEECH_HZ)
        whole[start : start + len(shot.speech)] = shot.speech
    return whole


def _encode(clip: Clip, shots: list[_Shot], path: Path) -> None:
    webm = path.suffix == ".webm"
    with av.open(str(path), "w", options={} if webm else {"movflags": "+faststart"}) as container:
        options = (
            {"crf": "34", "deadline": "good", "cpu-used": "2", "row-mt": "1"}
            if webm
            else {"crf": "23", "preset": "slow", "tune": "animation"}
        )
        video = container.add_stream("libvpx-vp9" if webm else "libx264", rate=clip.fps, options=options)
        video.width, video.height, video.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        video.codec_context.gop_size = clip.fps * 4
        video.codec_context.time_base = Fraction(1, clip.fps)
        audio = container.add_stream("libopus" if webm else "aac", rate=48_000 if webm else 24_000)
        audio.layout = "mono"
        audio.bit_rate = 40_000
        for number, picture in _frames(clip, shots):
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            frame.pts, frame.time_base = number, Fraction(1, clip.fps)
            container.mux(video.encode(frame))
        container.mux(video.encode(None))
        _encode_speech(container, audio, _narration(clip, shots))


def _encode_speech(container: av.container.OutputContainer, stream: av.AudioStream, speech: Samples) -> None:
    frame = av.AudioFrame.from_ndarray(speech[None], format="flt", layout="mono")
    frame.sample_rate, frame.pts, frame.time_base = _SPEECH_HZ, 0, Fraction(1, _SPEECH_HZ)
    resampler = av.AudioResampler(stream.format.name, "mono", stream.rate, frame_size=stream.codec_context.frame_size)
    for piece in [*resampler.resample(frame), *resampler.resample(None)]:
        container.mux(stream.encode(piece))
    container.mux(stream.encode(None))


def _truth_of(clip: Clip, shots: list[_Shot]) -> Truth:
    boundaries = [shot.first for shot in shots[1:]]
    soft = [] if clip.dissolve_after is None else [boundaries[clip.dissolve_after]]
    spans = [_dissolve_frames(clip, boundary) for boundary in soft]
    visual = [(shot.scene.caption, number) for number, shot in enumerate(shots)]
    visual += [(shot.reworded, number) for number, shot in enumerate(clip.shots) if shot.reworded]
    return Truth(
        file=clip.file,
        duration_s=_seconds(clip, shots[-1].last),
        fps=clip.fps,
        variable_frame_rate=clip.variable_frame_rate,
        width=WIDTH,
        height=HEIGHT,
        cuts_s=tuple(_seconds(clip, frame) for frame in boundaries if frame not in soft),
        dissolves=tuple(Dissolve(start_s=_seconds(clip, start), end_s=_seconds(clip, end)) for start, end in spans),
        scenes=tuple(_true_scene(clip, number, shot) for number, shot in enumerate(shots)),
        words=" ".join(shot.words for shot in clip.shots),
        visual_queries=tuple(TrueQuery(query=query, scene=number) for query, number in visual),
        spoken_queries=tuple(TrueQuery(query=shot.spoken, scene=number) for number, shot in enumerate(clip.shots)),
    )


def _true_scene(clip: Clip, number: int, shot: _Shot) -> TrueScene:
    return TrueScene(
        start_s=_seconds(clip, shot.first),
        end_s=_seconds(clip, shot.last),
        shape=shot.scene.shape,
        colour=shot.scene.colour,
        place=shot.scene.place,
        caption=shot.scene.caption,
        words=clip.shots[number].words,
    )


def _seconds(clip: Clip, frame: int) -> float:
    return round(frame / clip.fps, 4)


if __name__ == "__main__":
    main()
