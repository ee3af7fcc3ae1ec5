"""The whole way against the same stage classes in a pipeline of Ray Data: clips of usual length, and many tiny ones.

Each side has a Ray and a Postgres of its own; both idle while the other one works. Held against each other: every row
of ``video_scenes``.
"""

import json
import pickle
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from cluster.plan import Hardware, plan_workers
from cluster.settings import Settings
from cluster.store.database import Pool, open_pool
from cluster.store.embedded import EmbeddedPostgres
from cluster.store.migrations import apply_migrations
from tests.benchmarks.made_clips import make_clips
from tests.benchmarks.own_cluster import own_cluster
from tests.benchmarks.rounds import Comparison, Side, Spent, in_turn
from tests.benchmarks.whole_way import CLIPS, CLIPS_QUICK, LONGEST_S, MIN_COSINE, SHORTEST_S

REACH, REACH_TINY = 1.2, 1.0
TINY, TINY_QUICK = 2000, 100
TINY_S = 1.0
TINY_SIZE = (160, 90)
CPUS = 2

Say = Callable[[str], None]


def compare(rounds: int, quick: bool, say: Say) -> list[Comparison]:
    """Two lines: usual clips, and tiny ones, which are so many that one round of them is enough."""
    count, tiny = (CLIPS_QUICK, TINY_QUICK) if quick else (CLIPS, TINY)
    with tempfile.TemporaryDirectory(prefix="heimdex-data-") as name, ExitStack() as stack:
        folder = Path(name)
        usual = make_clips(folder / "clips", [float(s) for s in np.linspace(SHORTEST_S, LONGEST_S, count)])
        (one,) = make_clips(folder / "tiny", [TINY_S], TINY_SIZE)
        cluster = stack.enter_context(own_cluster(folder))
        url = stack.enter_context(_database(folder / "postgres"))
        theirs = stack.enter_context(_ray_data(folder, url))
        mine = stack.enter_context(open_pool(cluster.heimdex("db", "url").strip(), max_size=1, name="bench"))
        other = stack.enter_context(open_pool(url, max_size=1, name="bench"))

        def line(title: str, paths: list[str], reach: float, rounds: int) -> Comparison:
            say(f"{title}: a first round of both, for their rows")
            answered, _ = cluster.process(paths)
            _, ids = theirs(paths)
            gate, wrong = _judged(_rows(mine, [r["id"] for r in answered]), _rows(other, ids))
            sides = Side("heimdex", lambda: cluster.process(paths)[1]), Side("Ray Data", lambda: theirs(paths)[0])
            spent = in_turn(*sides, rounds, say)
            return Comparison(title, "heimdex", "Ray Data", "wall", reach, *spent, gate, wrong)

        title = f"{count} clips of {SHORTEST_S:.0f} to {LONGEST_S:.0f} s, whole way"
        return [
            line(title, [str(clip.path) for clip in usual], REACH, rounds),
            line(f"{tiny:,} clips of {one.duration_s:.0f} s", [str(one.path)] * tiny, REACH_TINY, 1),
        ]


@contextmanager
def _database(folder: Path) -> Iterator[str]:
    server = EmbeddedPostgres(folder)
    url = server.start()
    try:
        apply_migrations(url)
        yield url
    finally:
        server.stop()


@contextmanager
def _ray_data(folder: Path, url: str) -> Iterator[Callable[[Sequence[str]], tuple[Spent, list[str]]]]:
    settings = Settings(
        data_dir=folder / "ray-data", scratch_dir=folder / "scratch", whisper_model="bundled", clip_model="bundled"
    )
    plan = folder / "plan.pickle"
    plan.write_bytes(pickle.dumps(plan_workers(settings, url, Hardware(CPUS, 0.0, CPUS))))
    command = [sys.executable, "-m", "tests.benchmarks.ray_data_way", str(plan)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        stdin, stdout = process.stdin, process.stdout
        while stdout.readline() != "ready\n":
            pass

        def ask(paths: Sequence[str]) -> tuple[Spent, list[str]]:
            stdin.write(json.dumps(list(paths)) + "\n")
            stdin.flush()
            answer = json.loads(stdout.readline())
            return Spent(answer["seconds"], float("nan")), answer["ids"]

        try:
            yield ask
        finally:
            stdin.close()


def _rows(pool: Pool, ids: Sequence[str]) -> list[list[dict[str, Any]]]:
    with pool.connection() as reads:
        rows = reads.execute(
            "SELECT s.video_id, s.start_s, s.end_s, s.transcript_segment, s.tags, e.embedding "
            "FROM video_scenes AS s JOIN scene_embeddings AS e ON e.scene_id = s.id "
            "WHERE s.video_id = ANY (%s::uuid[]) ORDER BY s.index",
            (list(ids),),
        ).fetchall()
    by_video: dict[str, list[dict[str, Any]]] = {video_id: [] for video_id in ids}
    for row in rows:
        by_video[str(row.pop("video_id"))].append(row)
    return list(by_video.values())


def _judged(ours: list[list[dict[str, Any]]], theirs: list[list[dict[str, Any]]]) -> tuple[str, str | None]:
    """Whether both wrote the same scenes, to the word."""
    cosines, different = [], 0
    for mine, other in zip(ours, theirs, strict=True):
        vectors = [[np.asarray(row.pop("embedding"), np.float32) for row in rows] for rows in (mine, other)]
        different += mine != other
        cosines += [float(a @ b) for a, b in zip(*vectors, strict=False)]
    scenes = sum(map(len, ours))
    gate = f"{scenes:,} scenes, {different} videos differ, embeddings' cosine at least {min(cosines):.4f}"
    wrong = "the rows differ" if different or min(cosines) < MIN_COSINE else None
    return gate, wrong
