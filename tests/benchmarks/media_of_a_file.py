"""Cuts, key frames and sound of a file against a script of PySceneDetect, PyAV and ffmpeg.

Each side is a process of its own that has loaded its libraries and done the file once. Ours decodes the pictures once
and chooses each key frame among all that a scene offers, the script decodes up to the middle of every scene once more
and takes what is there.
``python -m tests.benchmarks.media_of_a_file``
"""

import shutil
import subprocess
import tempfile
from collections.abc import Callable
from importlib.metadata import version

from tests.benchmarks import known_cuts
from tests.benchmarks.answering import answering
from tests.benchmarks.known_cuts import Found, decoding, f1
from tests.benchmarks.made_clips import MadeClip
from tests.benchmarks.rounds import Comparison, Side, Spent, in_turn, timed

REACH = 2.5
SOUND_HZ = 16_000
SOUND_TOLERANCE_S = 0.1


def compare(rounds: int, quick: bool, say: Callable[[str], None]) -> list[Comparison]:
    """The one line."""
    with known_cuts.video(quick) as (name, clip):
        return [_compare(name, clip, rounds, say)]


def _compare(name: str, clip: MadeClip, rounds: int, say: Callable[[str], None]) -> Comparison:
    with answering("media_by_heimdex") as heimdex, answering("media_by_script") as script:
        ours, theirs = Found(**heimdex(str(clip.path))["found"]), Found(**script(str(clip.path))["found"])
        sides = [
            Side("heimdex", lambda: Spent(**heimdex(str(clip.path))["spent"])),
            Side("script", lambda: Spent(**script(str(clip.path))["spent"])),
        ]
        spent = in_turn(sides, rounds, say)
    floor_s = decoding(clip).cpu_s
    least_s = min(theirs.cpu_s for theirs in spent[1])
    sound = "ffmpeg" if shutil.which("ffmpeg") else "PyAV (there is no ffmpeg here)"
    return Comparison(
        title=f"Cuts, key frames and sound of a file, {name}",
        ours="probe, read_speech and SceneDetector",
        against=f"PySceneDetect {version('scenedetect-headless')}, PyAV to each scene's middle, sound by {sound}",
        measure="cpu",
        reach=REACH,
        of_ours=spent[0],
        of_theirs=spent[1],
        gate=f"F1 of {len(clip.cuts_s)} cuts: {f1(ours.cuts_s, clip):.3f} against {f1(theirs.cuts_s, clip):.3f}",
        wrong=_wrong(clip, ours, theirs),
        details=[f"scenedetect's own save-images, {_save_images(clip):.2f} s of CPU, sound not counted"],
        limit=f"decoding the pictures alone takes {floor_s:.2f} s of CPU: {least_s / floor_s:.2f} x less",
    )


def _wrong(clip: MadeClip, ours: Found, theirs: Found) -> str | None:
    if f1(ours.cuts_s, clip) < f1(theirs.cuts_s, clip):
        return "cuts are found less well"
    if ours.key_frames != len(ours.cuts_s) + 1:
        return f"{ours.key_frames} key frames for {len(ours.cuts_s) + 1} scenes"
    if abs(ours.samples - theirs.samples) > SOUND_TOLERANCE_S * SOUND_HZ:
        return f"{ours.samples} samples of sound against {theirs.samples}"
    return None


def _save_images(clip: MadeClip) -> float:
    """CPU seconds for the three pictures of every scene that PySceneDetect's command writes."""
    with tempfile.TemporaryDirectory() as folder:
        command = [known_cuts.SCENEDETECT, "-q", "-i", str(clip.path), "-o", folder, "detect-adaptive", "save-images"]
        return timed(lambda: subprocess.run(command, check=True))[1].cpu_s


if __name__ == "__main__":
    for line in compare(5, False, lambda text: print(text, flush=True)):
        print(
            line.title,
            f"{line.ratio:.2f} of {line.reach}",
            line.against,
            line.gate,
            line.wrong,
            line.limit,
            *line.details,
            sep="\n  ",
        )
