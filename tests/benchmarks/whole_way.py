"""Videos of 5 to 60 s on their whole way: against one script of the same libraries, against the same stage classes in a
pipeline of Ray Data, and against the decoder and the models alone. And very many tiny ones against Ray Data.

Models are loaded on all sides, and each has done some clips before the rounds. Held against the truth: the cuts and the
words of both; the embeddings of the cluster against those that open_clip's own way gives for the same pictures; the
rows of the cluster against Ray Data's.
"""

import json
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from itertools import cycle, islice
from pathlib import Path
from typing import Any

import numpy as np
import psutil

from cluster.store.postgres.connections import Pool, open_pool
from tests.benchmarks import ray_data
from tests.benchmarks.answering import answering
from tests.benchmarks.made_clips import MadeClip, make_clips, make_pieces
from tests.benchmarks.one_after_another import Script, pictures_at
from tests.benchmarks.own_cluster import OwnCluster, own_cluster
from tests.benchmarks.ray_data import MIN_COSINE, RayDataWay
from tests.benchmarks.rounds import Comparison, Side, Spent, in_turn
from tests.benchmarks.words import LEAST_CHANCE, chance_of_more_wrong, error_rate

SHORTEST_S, LONGEST_S = 5.0, 60.0
CLIPS, CLIPS_QUICK = 20, 5
WARMING_UP = 5
"""Number of the shortest clips that each side does beforehand."""
TINY, TINY_QUICK = 2000, 100
TINY_S, TINY_SIZE = 1.0, (160, 90)
REACH_SCRIPT, REACH_RAY_DATA, REACH_TINY, REACH_LIGHT = 2.5, 1.2, 1.0, 0.85
CUT_TOLERANCE_S = 0.12
CPUS = psutil.cpu_count() or 1

Say = Callable[[str], None]
Found = list[dict[str, Any]]


def compare(rounds: int, quick: bool, say: Say) -> list[Comparison]:
    """The lines about the whole way."""
    count, tiny = (CLIPS_QUICK, TINY_QUICK) if quick else (CLIPS, TINY)
    with tempfile.TemporaryDirectory(prefix="heimdex-way-") as name, ExitStack() as stack:
        folder = Path(name)
        say(f"making {count} clips of {SHORTEST_S:.0f} to {LONGEST_S:.0f} s")
        clips = make_clips(folder / "clips", _lengths_s(count))
        pieces = make_pieces(folder / "tiny", TINY_S, TINY_SIZE)
        for made in ("script", "ray-data"):
            (folder / made).mkdir()
        cluster = stack.enter_context(own_cluster(folder))
        pool = stack.enter_context(open_pool(cluster.heimdex("db", "url").strip(), max_size=1, name="bench"))
        script = stack.enter_context(answering("one_after_another", str(folder / "script")))
        pipeline = stack.enter_context(ray_data.ray_data_way(folder / "ray-data", CPUS))
        return [
            *_usual(clips, cluster, pool, script, pipeline, rounds, say),
            _tiny([str(piece.path) for piece in islice(cycle(pieces), tiny)], cluster, pool, pipeline, say),
        ]


def _lengths_s(count: int) -> list[float]:
    """From the shortest to the longest in steps of 1 / length²: short ones are many and long ones few."""
    return [float(share**-0.5) for share in np.linspace(SHORTEST_S**-2, LONGEST_S**-2, count)]


def _usual(
    clips: Sequence[MadeClip],
    cluster: OwnCluster,
    pool: Pool,
    script: Callable[[object], Any],
    way: RayDataWay,
    rounds: int,
    say: Say,
) -> Iterator[Comparison]:
    paths = [str(clip.path) for clip in clips]
    say("models are loaded, and a few clips done")
    pipeline = way.load([paths[:WARMING_UP], *[paths] * rounds])
    pipeline.process(0)
    cluster.process(paths[:WARMING_UP])
    script(paths[:WARMING_UP])
    answered: dict[str, list[Any]] = {"heimdex": [], "script": []}

    def by_heimdex() -> Spent:
        results, spent = cluster.process(paths)
        answered["heimdex"].append([result["id"] for result in results])
        return spent

    def by_script() -> Spent:
        answer = script(paths)
        answered["script"].append(answer["found"])
        return Spent(**answer["spent"])

    numbers = iter(range(1, rounds + 1))
    sides = [
        Side("heimdex", by_heimdex),
        Side("one script", by_script),
        Side("Ray Data", lambda: pipeline.process(next(numbers))),
    ]
    ours, scripts, pipelines = in_turn(sides, rounds, say)
    say("what all found is compared")
    # The words of every round are the same; were they not, the round with the most wrong is held against the others.
    said = [clip.words for clip in clips]
    every = [_found(pool, ids) for ids in answered["heimdex"]]
    worst = max(range(rounds), key=lambda number: error_rate(said, [video["words"] for video in every[number]]))
    ids, found = answered["heimdex"][worst], every[worst]
    against_script = _judged(clips, found, answered["script"][-1])
    against_pipeline = ray_data.judged(ray_data.written(pool, ids), pipeline.written(rounds))
    length_s = sum(clip.duration_s for clip in clips)
    what = f"{len(clips)} clips of {SHORTEST_S:.0f} to {LONGEST_S:.0f} s ({length_s:.0f} s), whole way"
    yield Comparison(what, "heimdex", "one script", "wall", REACH_SCRIPT, ours, scripts, *against_script)
    yield Comparison(what, "heimdex", "Ray Data", "wall", REACH_RAY_DATA, ours, pipelines, *against_pipeline)
    say("the decoder and the models alone")
    bare = _bare(paths)
    yield _light(what, ours, bare, _same_work(clips, found, bare))


def _light(what: str, ours: Sequence[Spent], bare: dict[str, Any], gate: tuple[str, str | None]) -> Comparison:
    """How near to what no way around the same models can beat."""
    least_s = sum(bare["cpu_s"].values())
    parts = ", ".join(f"{part} {cpu_s:.1f} s" for part, cpu_s in bare["cpu_s"].items())
    cpu_s = statistics.median(one.cpu_s for one in ours)
    used = statistics.median(one.cpu_s / (CPUS * one.wall_s) for one in ours)
    return Comparison(
        "Speed of light: " + what,
        "heimdex",
        "the decoder and the models alone, on all CPUs",
        "wall",
        REACH_LIGHT,
        ours,
        [Spent(least_s / CPUS, least_s)] * len(ours),
        *gate,
        details=[f"CPU of the decoder and the models alone: {parts}; of the whole cluster: {cpu_s:.1f} s"],
        limit=f"{used:.0%} of all CPUs' time is used, {least_s / cpu_s:.0%} of what is used is the decoder's and the "
        "models' own",
    )


def _tiny(paths: Sequence[str], cluster: OwnCluster, pool: Pool, way: RayDataWay, say: Say) -> Comparison:
    """So many that one round of them is enough; silent, so that it is not Whisper's time that is compared."""
    title = f"{len(paths):,} silent clips of {TINY_S:.0f} s"
    say(title)
    pipeline = way.load([paths])
    answered, ours = cluster.process(paths)
    theirs = pipeline.process(0)
    say(f"heimdex {ours.wall_s:.1f} s, Ray Data {theirs.wall_s:.1f} s")
    ids = [result["id"] for result in answered]
    gate, wrong = ray_data.judged(ray_data.written(pool, ids), pipeline.written(0))
    return Comparison(
        title,
        "heimdex",
        "Ray Data",
        "wall",
        REACH_TINY,
        [ours],
        [theirs],
        gate,
        wrong,
        details=[
            f"Ray Data: {len(paths) / theirs.wall_s:.0f} clips a second; it keeps no ledger and starts over when "
            "it is killed"
        ],
        limit=f"heimdex: {len(paths) / ours.wall_s:.0f} clips a second, {ours.cpu_s / len(paths) * 1000:.0f} ms of CPU "
        f"a clip, {ours.cpu_s / (CPUS * ours.wall_s):.0%} of all CPUs' time",
    )


def _bare(paths: Sequence[str]) -> dict[str, Any]:
    command = [sys.executable, "-m", "tests.benchmarks.bare_models", *paths]
    answer: dict[str, Any] = json.loads(subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout)
    return answer


def _same_work(clips: Sequence[MadeClip], ours: Found, bare: dict[str, Any]) -> tuple[str, str | None]:
    """Whether the models alone were given as many key frames, and recognised no less."""
    scenes = sum(len(video["scenes"]) for video in ours)
    said = [clip.words for clip in clips]
    wer, bare_wer = error_rate(said, [video["words"] for video in ours]), error_rate(said, bare["words"])
    gate = f"{scenes} key frames against {bare['key_frames']}, word error rate {wer:.3f} against {bare_wer:.3f}"
    same = scenes == bare["key_frames"] and abs(wer - bare_wer) <= ray_data.MAX_WORDS_APART
    return gate, None if same else "it was other work"


def _found(pool: Pool, ids: Sequence[str]) -> Found:
    """The results that the cluster stored: words, scenes with their key frames' times, and embeddings."""
    found = []
    with pool.connection() as reads:
        for video_id in ids:
            scenes = reads.execute(
                "SELECT s.start_s, s.end_s, s.key_frame_s, s.transcript_segment AS words, e.embedding::real[] "
                "FROM video_scenes AS s JOIN scene_embeddings AS e ON e.scene_id = s.id "
                "WHERE s.video_id = %s ORDER BY s.index",
                (video_id,),
            ).fetchall()
            found.append({"words": " ".join(scene["words"] for scene in scenes), "scenes": scenes})
    return found


def _judged(clips: Sequence[MadeClip], ours: Found, theirs: Found) -> tuple[str, str | None]:
    f1, of_theirs = (
        cut_f1(clips, [[s["start_s"] for s in video["scenes"]] for video in found]) for found in (ours, theirs)
    )
    said, by_us, by_them = ([clip.words for clip in clips], *([v["words"] for v in found] for found in (ours, theirs)))
    wer, wer_of_theirs = error_rate(said, by_us), error_rate(said, by_them)
    chance = chance_of_more_wrong(said, by_us, by_them)
    cosine = min(_cosines(clips, ours, Script(Path("/nonexistent"))))
    gate = (
        f"cut F1 {f1:.3f} against {of_theirs:.3f}, word error rate {wer:.3f} against {wer_of_theirs:.3f} (sign test "
        f"{chance:.2f}), "
        f"embeddings' cosine at least {cosine:.4f}"
    )
    worse = [
        what
        for what, holds in [
            ("cuts", f1 >= of_theirs),
            ("words", wer <= wer_of_theirs or chance >= LEAST_CHANCE),
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
