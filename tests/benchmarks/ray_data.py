"""The same stage classes in a pipeline of Ray Data, with a Ray and a Postgres of its own; its rows are compared."""

import math
import pickle
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from cluster.runtime.plan import Hardware, plan_workers
from cluster.settings import Settings
from cluster.store.postgres.connections import Pool, open_pool
from cluster.store.postgres.embedded import EmbeddedPostgres
from cluster.store.postgres.migrations import apply_migrations
from tests.benchmarks.answering import answering
from tests.benchmarks.rounds import Spent
from tests.benchmarks.words import error_rate

MIN_COSINE = 0.999
MAX_WORDS_APART = 0.02
"""Neighbours in Whisper's window move about one word in a hundred, on either side."""

Rows = list[list[dict[str, Any]]]


@dataclass(frozen=True)
class LoadedRounds:
    """A pipeline whose models are loaded and whose rounds wait to be begun, each once and in order."""

    pool: Pool
    _ask: Callable[[object], Any]
    _ids: Sequence[Sequence[str]]

    def process(self, number: int) -> Spent:
        """The time of a round, by the clock alone."""
        return Spent(self._ask({"begin": number}), math.nan)

    def written(self, number: int) -> Rows:
        """The scenes of each video of a round."""
        return written(self.pool, self._ids[number])


@dataclass(frozen=True)
class RayDataWay:
    """Ray, with nothing running yet."""

    pool: Pool
    _ask: Callable[[object], Any]

    def load(self, rounds: Sequence[Sequence[str]]) -> LoadedRounds:
        """Loads the models. All rounds must have ended before the next ones are loaded."""
        return LoadedRounds(self.pool, self._ask, self._ask({"rounds": [list(paths) for paths in rounds]}))


@contextmanager
def ray_data_way(folder: Path, cpus: int) -> Iterator[RayDataWay]:
    """The pipeline with the workers that the plan has for so many CPUs."""
    server = EmbeddedPostgres(folder / "postgres")
    url = server.start()
    try:
        apply_migrations(url)
        settings = Settings(
            data_dir=folder / "data",
            scratch_dir=folder / "scratch",
            whisper_model="bundled",
            clip_model="bundled",
            text_model="bundled",
        )
        plan = folder / "plan.pickle"
        plan.write_bytes(pickle.dumps(plan_workers(settings, url, Hardware(cpus, 0.0, cpus))))
        with answering("ray_data_way", str(plan)) as ask, open_pool(url, max_size=1, name="bench") as pool:
            yield RayDataWay(pool, ask)
    finally:
        server.stop()


def written(pool: Pool, ids: Sequence[str]) -> Rows:
    """The scenes of each video, in order."""
    with pool.connection() as reads:
        rows = reads.execute(
            "SELECT s.video_id, s.start_s, s.end_s, s.transcript_segment, s.tags, e.embedding::real[] "
            "FROM video_scenes AS s JOIN scene_embeddings AS e ON e.scene_id = s.id "
            "WHERE s.video_id = ANY (%s::uuid[]) ORDER BY s.index",
            (list(ids),),
        ).fetchall()
    by_video: dict[str, list[dict[str, Any]]] = {video_id: [] for video_id in ids}
    for row in rows:
        by_video[str(row.pop("video_id"))].append(row)
    return list(by_video.values())


def judged(ours: Rows, theirs: Rows) -> tuple[str, str | None]:
    """Whether both wrote the same scenes, and recognised the same words but for one here and there."""
    cosines, different = [], 0
    words = [[" ".join(row.pop("transcript_segment") for row in rows) for rows in side] for side in (ours, theirs)]
    for mine, other in zip(ours, theirs, strict=True):
        vectors = [[np.asarray(row.pop("embedding"), np.float32) for row in rows] for rows in (mine, other)]
        different += mine != other
        cosines += [float(a @ b) for a, b in zip(*vectors, strict=False)]
    apart = error_rate(words[1], words[0])
    scenes = sum(map(len, ours))
    gate = (
        f"{scenes:,} scenes, of {different} videos they differ, {apart:.2%} of the words, embeddings' cosine at least "
        f"{min(cosines):.4f}"
    )
    wrong = "the rows differ" if different or min(cosines) < MIN_COSINE or apart > MAX_WORDS_APART else None
    return gate, wrong
