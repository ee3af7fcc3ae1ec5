"""Finding scenes against PySceneDetect's command, with whichever of its decoders takes less.

Each side is a process of its own, its start counted; ours chooses key frames too.
``python -m tests.benchmarks.detection``
"""

import csv
import subprocess
import tempfile
from collections.abc import Callable
from functools import partial
from importlib.metadata import version
from pathlib import Path

from tests.benchmarks import known_cuts
from tests.benchmarks.known_cuts import Found, decoding, f1
from tests.benchmarks.made_clips import MadeClip
from tests.benchmarks.rounds import Comparison, Side, in_turn, timed

DECODERS = ("opencv", "pyav")
REACH = 1.35


def compare(rounds: int, quick: bool, say: Callable[[str], None]) -> list[Comparison]:
    """The one line."""
    with known_cuts.video(quick) as (name, clip):
        return [_compare(name, clip, rounds, say)]


def _compare(name: str, clip: MadeClip, rounds: int, say: Callable[[str], None]) -> Comparison:
    found = by_heimdex(clip)
    tried = {decoder: timed(partial(by_command, clip, decoder)) for decoder in DECODERS}
    decoder = min(tried, key=lambda decoder: tried[decoder][1].cpu_s)
    ours, theirs = f1(found.cuts_s, clip), f1(tried[decoder][0].cuts_s, clip)
    spent = in_turn(
        [
            Side("heimdex", lambda: by_heimdex(clip)),
            Side(f"scenedetect, {decoder}", lambda: by_command(clip, decoder)),
        ],
        rounds,
        say,
    )
    floor_s = decoding(clip).cpu_s
    least_s = min(theirs.cpu_s for theirs in spent[1])
    return Comparison(
        title=f"Scene detection, {name}",
        ours="SceneDetector, cuts and key frames",
        against=f"scenedetect {version('scenedetect-headless')} detect-adaptive, {decoder}",
        measure="cpu",
        reach=REACH,
        of_ours=spent[0],
        of_theirs=spent[1],
        gate=f"F1 of {len(clip.cuts_s)} cuts: {ours:.3f} against {theirs:.3f}",
        wrong=None if ours >= theirs else "cuts are found less well",
        limit=f"decoding alone takes {floor_s:.2f} s of CPU: {least_s / floor_s:.2f} x less",
        details=[f"{other}: {took.cpu_s:.2f} s of CPU" for other, (_, took) in tried.items()],
    )


def by_heimdex(clip: MadeClip) -> Found:
    """Cuts and key frames, no sound."""
    return known_cuts.run("media_by_heimdex", str(clip.path))


def by_command(clip: MadeClip, decoder: str) -> Found:
    """Cuts as ``scenedetect ... list-scenes`` writes them into its table."""
    with tempfile.TemporaryDirectory() as folder:
        opened = ["-q", "-i", str(clip.path), "-b", decoder, "-o", folder]
        subprocess.run([known_cuts.SCENEDETECT, *opened, "detect-adaptive", "list-scenes", "-q", "-s"], check=True)
        [table] = Path(folder).glob("*.csv")
        with table.open() as file:
            return Found([float(row["Start Time (seconds)"]) for row in csv.DictReader(file)][1:])


if __name__ == "__main__":
    for line in compare(5, False, lambda text: print(text, flush=True)):
        print(
            line.title,
            f"{line.ratio:.2f} of {line.reach}",
            line.gate,
            line.wrong,
            line.limit,
            *line.details,
            sep="\n  ",
        )
