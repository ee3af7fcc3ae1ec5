"""Cuts, key frames and sound of one file as one would script it without this project.

PySceneDetect finds the scenes; PyAV seeks to the middle of each and decodes that picture; the ``ffmpeg`` command, where
there is one, or PyAV makes the sound 16 kHz mono. That is less than what it is compared with does: the picture in the
middle is not chosen among others. ``python -m tests.benchmarks.media_by_script`` answers each line of standard input, a
file's name as JSON, by what it found and what that took.
"""

import shutil
import subprocess
from typing import Any

import av
import numpy as np
from scenedetect import AdaptiveDetector, detect

from tests.benchmarks.answering import answer

KEY_FRAME_PX = 288
SOUND_HZ = 16_000


def process(path: str) -> dict[str, Any]:
    """Cuts in seconds, how many key frames there are, how many samples of sound."""
    spans = [(start.seconds, end.seconds) for start, end in detect(path, AdaptiveDetector())]
    pictures = _pictures(path, [(start_s + end_s) / 2 for start_s, end_s in spans])
    samples = _by_ffmpeg(path) if shutil.which("ffmpeg") else _by_pyav(path)
    return {"cuts_s": [start_s for start_s, _ in spans[1:]], "key_frames": len(pictures), "samples": len(samples)}


def _pictures(path: str, times_s: list[float]) -> list[np.ndarray]:
    pictures = []
    with av.open(path) as container:
        stream = container.streams.video[0]
        stream.codec_context.thread_count = 1  # costs least
        assert stream.time_base
        width = round(stream.width * KEY_FRAME_PX / stream.height)
        for time_s in times_s:
            container.seek(round(time_s / stream.time_base), stream=stream)
            frame = next(frame for frame in container.decode(stream) if frame.time >= time_s)
            pictures.append(frame.reformat(width=width, height=KEY_FRAME_PX, format="rgb24").to_ndarray())
    return pictures


def _by_ffmpeg(path: str) -> np.ndarray:
    command = ["ffmpeg", "-v", "error", "-i", path, "-vn", "-ac", "1", "-ar", str(SOUND_HZ), "-f", "s16le", "-"]
    return np.frombuffer(subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout, np.int16)


def _by_pyav(path: str) -> np.ndarray:
    with av.open(path) as container:
        resampler = av.AudioResampler("s16", "mono", SOUND_HZ)
        frames = [*container.decode(audio=0), None]
        return np.concatenate([part.to_ndarray()[0] for frame in frames for part in resampler.resample(frame)])


if __name__ == "__main__":
    answer(process)
