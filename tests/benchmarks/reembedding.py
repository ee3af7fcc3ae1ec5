"""Re-embedding with Ray Data against the models alone, on the same key frames and texts in the same batches.

Ours begins once all actors have loaded their models: until then no scenes can be read. Key frames are pictures of the
demo's clips, as JPEG files; the models alone, in a process per CPU, find them decoded.
``python -m tests.benchmarks.reembedding``
"""

import multiprocessing
import os
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import UUID

import numpy as np
from numpy.typing import NDArray
from psycopg import sql

from actors.workers.configs import KEY_FRAMES_PER_BATCH
from cluster.contracts.search import Retriever
from cluster.files.scene_pictures import ScenePictures
from cluster.models.text import load_text_model
from cluster.models.vision import load_vision_model
from cluster.reembed.worker import read_key_frame
from cluster.runtime.ray_driver import ray_of_this_process
from cluster.settings import load_settings
from cluster.store.index.embeddings import EVERY_ID, LackingScene, SceneVectors
from cluster.store.index.model_registry import IndexedModel, Models, SearchModels
from cluster.store.index.vector_tables import find_tables
from cluster.store.postgres.connections import Pool, connect, open_pool
from tests.benchmarks.postgres_server import postgres_server
from tests.benchmarks.rounds import Comparison, Side, Spent, in_turn
from tests.support.stored_scenes import store_clips
from tests.support.stored_vectors import stored_vectors

REACH = 0.85
LEAST_COSINE = 0.999
COPIES, COPIES_QUICK = 120, 30
POLL_S = 0.05
BATCH = KEY_FRAMES_PER_BATCH["cpu"]
CPUS = os.cpu_count() or 1

Vectors = dict[tuple[UUID, Retriever], NDArray[np.float32]]


def compare(rounds: int, quick: bool, say: Callable[[str], None]) -> list[Comparison]:
    """The one line."""
    with stored_scenes(COPIES_QUICK if quick else COPIES) as stored, ray_of_this_process(CPUS):
        bare = Bare(stored)
        ours, theirs = stored.reembed(), bare.embed()
        made = stored.vectors()
        cosines = [float(made[which] @ vector) if which in made else 0.0 for which, vector in bare.vectors.items()]
        theirs = bare.embed()  # before, they were still loading
        spent = in_turn([Side("heimdex", stored.reembed), Side("the models alone", bare.embed)], rounds, say)
        bare.end()
    count = len(stored.scenes)
    least = min(cosines)
    return [
        Comparison(
            title=f"Re-embedding {count} scenes, pictures and meanings",
            ours="read, fetched, decoded, embedded and written by Ray Data",
            against="the models alone, in the same batches, a process per CPU",
            measure="wall",
            reach=REACH,
            of_ours=spent[0],
            of_theirs=spent[1],
            gate=f"{len(made)} vectors, the least cosine {least:.5f}",
            wrong=None if len(made) == len(bare.vectors) and least >= LEAST_COSINE else "vectors differ",
            limit=f"at first {count / ours.wall_s:.0f} scenes a second against {count / theirs.wall_s:.0f}",
        )
    ]


@dataclass(frozen=True)
class Stored:
    """Scenes in a database of their own, and the models they are embedded by."""

    url: str
    scenes_url: str
    pool: Pool
    models: dict[Retriever, IndexedModel]
    scenes: list[LackingScene]

    def reembed(self) -> Spent:
        """All scenes by the product's pipeline, from when its actors are ready."""
        from cluster.reembed.passes import ActorPoolSpec, Reembedding

        _forget_vectors(self.pool, self.models)
        actors = ActorPoolSpec.free(load_settings(device="cpu"))
        reembedding = Reembedding(self.url, self.scenes_url, self.models, actors)
        seen: list[int] = []

        def work() -> None:
            seen.extend(done.scenes for done in reembedding.run(len(self.scenes)))

        worker = threading.Thread(target=work, daemon=True)
        with connect(self.url, statement_timeout_s=0) as connection:
            _wait_for_actors(self.pool, 0)  # those of the round before end
            connection.execute("LOCK TABLE video_scenes IN ACCESS EXCLUSIVE MODE")
            worker.start()
            _wait_for_actors(self.pool, actors.actors)
        began_s = time.monotonic()
        worker.join()
        wall_s = time.monotonic() - began_s
        assert sum(seen) == len(self.scenes)
        return Spent(wall_s, float("nan"))

    def vectors(self) -> Vectors:
        """All that are stored."""
        return {
            (scene_id, by): vector
            for by, model in self.models.items()
            for scene_id, vector in stored_vectors(self.pool, by, model.key).items()
        }


class Bare:
    """The models in a process per CPU, each with what is to be embedded in memory."""

    def __init__(self, stored: Stored) -> None:
        self._starts = range(0, len(stored.scenes), BATCH)
        spawn = multiprocessing.get_context("spawn")
        self._processes = ProcessPoolExecutor(CPUS, spawn, _load, (stored.scenes_url, stored.scenes))
        self.vectors: Vectors = {}

    def embed(self) -> Spent:
        """All scenes, batch by batch."""
        began_s = time.monotonic()
        for made in self._processes.map(_embed_batch, self._starts):
            self.vectors |= made
        return Spent(time.monotonic() - began_s, float("nan"))

    def end(self) -> None:
        """End the processes."""
        self._processes.shutdown()


_held: list[Any] = []
"""The models that such a process has loaded."""


def _load(scenes_url: str, scenes: list[LackingScene]) -> None:
    below = ScenePictures(scenes_url)
    pictures = [read_key_frame(below, scene) for scene in scenes]
    models = load_vision_model("bundled", None, "cpu", 1), load_text_model("bundled", "cpu", 1)
    _held.extend([scenes, pictures, *models])


def _embed_batch(start: int) -> Vectors:
    scenes, pictures, vision, text = _held
    batch = scenes[start : start + BATCH]
    said = [scene for scene in batch if scene.text]
    seen = vision.encode_images(pictures[start : start + BATCH])
    meant = text.encode([scene.text for scene in said])
    made = {(scene.scene_id, Retriever.PICTURE): row for scene, row in zip(batch, seen, strict=True)}
    return made | {(scene.scene_id, Retriever.MEANING): row for scene, row in zip(said, meant, strict=True)}


@contextmanager
def stored_scenes(copies: int) -> Iterator[Stored]:
    """The demo's clips so many times, with their key frames as files."""
    with (
        postgres_server() as server,
        tempfile.TemporaryDirectory() as folder,
        open_pool(server.url, max_size=4, name="benchmark") as pool,
    ):
        store_clips(pool, UUID(int=1), Path(folder), copies)
        vision, text = load_vision_model("bundled", None, "cpu"), load_text_model("bundled", "cpu")
        models = {
            Retriever.PICTURE: IndexedModel(vision.key, "bundled", None, vision.dimensions),
            Retriever.MEANING: IndexedModel(text.key, "bundled", None, text.dimensions),
        }
        for by, model in models.items():
            SearchModels(pool).adopt(by, model)
        _forget_vectors(pool, models)
        scenes = list(SceneVectors(pool, {by: model.key for by, model in models.items()}).lacking(EVERY_ID, 1000))
        yield Stored(server.url, folder, pool, models, scenes)


def _forget_vectors(pool: Pool, models: Models) -> None:
    with pool.connection() as connection:
        for table in find_tables(connection, {by: model.key for by, model in models.items()}).values():
            connection.execute(sql.SQL("TRUNCATE {}").format(table.name))


def _wait_for_actors(pool: Pool, count: int) -> None:
    """Until so many have loaded all: then each keeps a session. 0: until those of the round before are gone."""
    statement = (
        "SELECT count(*) AS n FROM pg_stat_activity WHERE application_name = 'heimdex-reembed' "
        "AND (%s = 0 OR backend_start < clock_timestamp() - interval '0.3 s')"
    )
    while True:
        with pool.connection() as connection:  # in each transaction this view stays as it was first seen
            sessions = connection.execute(statement, (count,)).fetchall()[0]["n"]
        if sessions >= count if count else sessions == 0:
            return
        time.sleep(POLL_S)


if __name__ == "__main__":
    for line in compare(3, True, lambda text: print(text, flush=True)):
        print(line.title, f"{line.ratio:.2f} of {line.reach}", line.gate, line.wrong, line.limit, sep="\n  ")
