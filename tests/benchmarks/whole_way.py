"""Videos of 5 to 60 s on their whole way, against the same libraries called one after the other in one script.

Models are loaded on both sides. Held against the truth: the cuts and the words of both; and the embeddings of the
cluster against those that open_clip's own way gives for the same pictures.
"""

import json
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import jiwer
import numpy as np

from cluster.store.database import open_pool
from tests.benchmarks.made_clips import MadeClip, make_clips
from tests.benchmarks.one_after_another import Script, pictures_at
from tests.benchmarks.own_cluster import OwnCluster, own_cluster
from tests.benchmarks.rounds import Comparison, Side, Spent, in_turn

SHORTEST_S, LONGEST_S = 5.0, 60.0
CLIPS, CLIPS_QUICK = 20, 5
REACH = 2.5
CUT_TOLERANCE_S = 0.12
MIN_COSINE = 0.999

Say = Callable[[str], None]
Found = list[dict[str, Any]]


def compare(rounds: int, quick: bool, say: Say) -> list[Comparison]:
    """The line about the whole way."""
    count = CLIPS_QUICK if quick else CLIPS
    durations_s = [float(length) for length in np.linspace(SHORTEST_S, LONGEST_S, count)]
    with tempfile.TemporaryDirectory(prefix="heimdex-way-") as name:
        folder = Path(name)
        say(f"making {count} clips of {SHORTEST_S:.0f} to {LONGEST_S:.0f} s")
        clips = make_clips(folder / "clips", durations_s)
        with own_cluster(folder) as cluster, _script(folder) as script:
            paths = [str(clip.path) for clip in clips]
            say("a first round of both, for what they find")
            gate, wrong = _judged(clips, _found(cluster, paths), script(paths), folder)

            def ours() -> Spent:
                return cluster.process(paths)[1]

            spent = in_turn(Side("heimdex", ours), Side("one script", lambda: script(paths)), rounds, say)
    title = f"{count} clips of {SHORTEST_S:.0f} to {LONGEST_S:.0f} s, whole way, models loaded"
    return [Comparison(title, "heimdex", "one script", "wall", REACH, *spent, gate, wrong)]


@contextmanager
def _script(folder: Path) -> Iterator[Callable[[Sequence[str]], Found]]:
    into = folder / "script"
    into.mkdir()
    command = [sys.executable, "-m", "tests.benchmarks.one_after_another", str(into)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        stdin, stdout = process.stdin, process.stdout
        assert stdout.readline() == "ready\n"

        def ask(paths: Sequence[str]) -> Found:
            stdin.write(json.dumps(list(paths)) + "\n")
            stdin.flush()
            found: Found = json.loads(stdout.readline())
            return found

        try:
            yield ask
        finally:
            stdin.close()


def _found(cluster: OwnCluster, paths: Sequence[str]) -> Found:
    """What the cluster stored: words, scenes with their key frames' times, and embeddings."""
    results, _ = cluster.process(paths)
    found = []
    with open_pool(cluster.heimdex("db", "url").strip(), max_size=1, name="bench") as pool, pool.connection() as reads:
        for result in results:
            scenes = reads.execute(
                "SELECT s.start_s, s.end_s, s.key_frame_s, s.transcript_segment AS words, e.embedding "
                "FROM video_scenes AS s JOIN scene_embeddings AS e ON e.scene_id = s.id "
                "WHERE s.video_id = %s ORDER BY s.index",
                (result["id"],),
            ).fetchall()
            found.append({"words": " ".join(scene["words"] for scene in scenes), "scenes": scenes})
    return found


def _judged(clips: Sequence[MadeClip], ours: Found, theirs: Found, folder: Path) -> tuple[str, str | None]:
    f1, of_theirs = (
        cut_f1(clips, [[s["start_s"] for s in video["scenes"]] for video in found]) for found in (ours, theirs)
    )
    wer, wer_of_theirs = (
        error_rate([clip.words for clip in clips], [video["words"] for video in found]) for found in (ours, theirs)
    )
    cosine = min(_cosines(clips, ours, Script(folder)))
    gate = (
        f"cut F1 {f1:.3f} against {of_theirs:.3f}, word error rate {wer:.3f} against {wer_of_theirs:.3f}, "
        f"embeddings' cosine at least {cosine:.4f}"
    )
    worse = [
        what
        for what, holds in [
            ("cuts", f1 >= of_theirs),
            ("words", wer <= wer_of_theirs),
            ("embeddings", cosine >= MIN_COSINE),
        ]
        if not holds
    ]
    return gate, f"worse: {', '.join(worse)}" if worse else None


def _cosines(clips: Sequence[MadeClip], ours: Found, script: Script) -> Iterator[float]:
    """Each scene's embedding with that of the whole picture at the same time, made open_clip's own way."""
    for clip, video in zip(clips, ours, strict=True):
        times_s = [scene["key_frame_s"] for scene in video["scenes"]]
        for scene, embedding in zip(video["scenes"], script.embed(list(pictures_at(clip.path, times_s))), strict=True):
            yield float(np.asarray(scene["embedding"], np.float32) @ embedding.numpy())


def cut_f1(clips: Sequence[MadeClip], starts_s: Sequence[Sequence[float]]) -> float:
    """Of all cuts of all clips; a scene that starts at 0 is none."""
    right = found = 0
    for clip, starts in zip(clips, starts_s, strict=True):
        cuts_s = [start_s for start_s in starts if start_s > 0]
        found += len(cuts_s)
        right += sum(any(abs(cut_s - known_s) <= CUT_TOLERANCE_S for cut_s in cuts_s) for known_s in clip.cuts_s)
    return 2 * right / (found + sum(len(clip.cuts_s) for clip in clips))


def error_rate(said: Sequence[str], heard: Sequence[str]) -> float:
    """Of all words of all clips."""
    return float(jiwer.wer([_plain(text) for text in said], [_plain(text) for text in heard]))


def _plain(text: str) -> str:
    return " ".join(re.sub(r"[^a-z0-9' ]+", " ", text.lower()).split())
