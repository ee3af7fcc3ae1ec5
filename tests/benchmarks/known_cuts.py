"""Videos whose cuts are known, the programs that look for them, and how well what they find agrees."""

import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import av

from tests.benchmarks.made_clips import MadeClip, make_clips
from tests.benchmarks.rounds import Spent, timed

SIZE = 1280, 720
LONG_S, QUICK_S = 45.0, 20.0
"""So long that starting a Python process is not much of the work; and shorter, to be seen only."""
SCENEDETECT = str(Path(sys.executable).with_name("scenedetect"))
TOLERANCE_S = 0.05
FLOOR_ROUNDS = 3


@dataclass(frozen=True)
class Found:
    """A program's answer for a video."""

    cuts_s: Sequence[float]
    key_frames: int = 0
    samples: int = 0


@contextmanager
def video(quick: bool) -> Iterator[tuple[str, MadeClip]]:
    """What it is and where, gone after the block: H.264 with B-frames, AAC, 25 pictures a second."""
    with tempfile.TemporaryDirectory(prefix="heimdex-bench-") as folder:
        [clip] = make_clips(Path(folder) / "made", [QUICK_S if quick else LONG_S], SIZE)
        yield f"{clip.duration_s:.0f} s of {SIZE[1]}p", clip


def run(module: str, *arguments: str) -> Found:
    """The output of one of the programs beside this file."""
    command = [sys.executable, "-m", f"tests.benchmarks.{module}", *arguments]
    return Found(**json.loads(subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout))


def f1(found_s: Sequence[float], clip: MadeClip) -> float:
    """Agreement with the known cuts, 0 to 1; each of them is found at most once."""
    rest = list(clip.cuts_s)
    right = 0
    for cut_s in found_s:
        near = [known_s for known_s in rest if abs(known_s - cut_s) <= TOLERANCE_S]
        right += bool(near)
        rest = [known_s for known_s in rest if known_s not in near[:1]]
    return 2 * right / (len(found_s) + len(clip.cuts_s))


def decoding(clip: MadeClip) -> Spent:
    """The least that decoding every picture once takes, with nothing made of it: the best of some rounds."""
    return min((timed(lambda: _decode(clip.path))[1] for _ in range(FLOOR_ROUNDS)), key=lambda spent: spent.cpu_s)


def _decode(path: Path) -> int:
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        stream.codec_context.thread_count = 1
        return sum(1 for _ in container.decode(stream))
