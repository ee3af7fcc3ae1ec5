"""Re-embedding with Ray Data against the models alone, on the same key frames and texts in the same batches.

Ours begins once all actors have loaded their models: until then nobody can read scenes. Key frames are pictures of the
demo's clips, as JPEG files; the models alone find them decoded, on all CPUs.
``python -m tests.benchmarks.reembedding``
"""

import os
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from uuid import UUID

import numpy as np
from numpy.typing import NDArray

from cluster.contracts.search import By
from cluster.models.text import load_text_model
from cluster.models.vision import load_vision_model
from cluster.ray_driver import ray_of_this_process
from cluster.reembedder import read_key_frame
from cluster.settings import load_settings
from cluster.store.database import Pool, connect, open_pool
from cluster.store.scene_vectors import EVERY_ID, LackingScene, SceneVectors
from cluster.store.search_models import IndexedModel, SearchModels
from tests.benchmarks.postgres_server import postgres_server
from tests.benchmarks.rounds import Comparison, Side, Spent, in_turn
from tests.cluster.stored_scenes import store_clips

REACH = 0.85
LEAST_COSINE = 0.999
COPIES, COPIES_QUICK = 60, 15
POLL_S = 0.05
CPUS = os.cpu_count() or 1
TABLES = {By.PICTURE: "scene_embeddings", By.MEANING: "scene_meanings"}

Vectors = dict[tuple[UUID, By], NDArray[np.float32]]


def compare(rounds: int, quick: bool, say: Callable[[str], None]) -> list[Comparison]:
    """The one line."""
    with stored_scenes(COPIES_QUICK if quick else COPIES) as stored, ray_of_this_process(CPUS):
        bare = Bare(stored)
        ours, theirs = stored.reembed(), bare.embed()
        made = stored.vectors()
        cosines = [float(made[which] @ vector) if which in made else 0.0 for which, vector in bare.vectors.items()]
        spent = in_turn([Side("heimdex", stored.reembed), Side("the models alone", bare.embed)], rounds, say)
    count = len(stored.scenes)
    least = min(cosines)
    return [
        Comparison(
            title=f"Re-embedding {count} scenes, pictures and meanings",
            ours="read, fetched, decoded, embedded and written by Ray Data",
            against="the models alone, in the same batches",
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
    pool: Pool
    models: dict[By, IndexedModel]
    scenes: list[LackingScene]

    def reembed(self) -> Spent:
        """All scenes by the product's pipeline, from when its actors are ready."""
        from cluster.reembedding import Hands, Reembedding

        _forget_vectors(self.pool)
        hands = Hands.free(load_settings(device="cpu"))
        reembedding = Reembedding(self.url, self.models, hands)
        seen: list[int] = []

        def work() -> None:
            seen.extend(done.scenes for done in reembedding.run(len(self.scenes)))

        worker = threading.Thread(target=work, daemon=True)
        with connect(self.url, statement_timeout_s=0) as connection:
            _wait_for_actors(self.pool, 0)  # those of the round before end
            connection.execute("LOCK TABLE video_scenes IN ACCESS EXCLUSIVE MODE")
            worker.start()
            _wait_for_actors(self.pool, hands.actors)
        began_s = time.monotonic()
        worker.join()
        wall_s = time.monotonic() - began_s
        assert sum(seen) == len(self.scenes)
        return Spent(wall_s, float("nan"))

    def vectors(self) -> Vectors:
        """All that are stored."""
        with self.pool.connection() as connection:
            return {
                (row["scene_id"], by): row["embedding"].to_numpy()
                for by, table in TABLES.items()
                for row in connection.execute(f"SELECT scene_id, embedding FROM {table}")  # type: ignore[call-overload]
            }


class Bare:
    """The models, and what they are to embed, in memory."""

    def __init__(self, stored: Stored) -> None:
        from cluster.reembedder import Work

        self._vision = load_vision_model("bundled", None, "cpu", CPUS)
        self._text = load_text_model("bundled", "cpu", CPUS)
        self._batch_size = Work(stored.url, stored.models, "cpu", 1).batch_size
        self._scenes = stored.scenes
        self._pictures = [read_key_frame(scene.key_frame_url or "") for scene in stored.scenes]
        self.vectors: Vectors = {}

    def embed(self) -> Spent:
        """All scenes, batch by batch."""
        began_s = time.monotonic()
        for start in range(0, len(self._scenes), self._batch_size):
            batch = self._scenes[start : start + self._batch_size]
            pictures = self._vision.encode_images(self._pictures[start : start + self._batch_size])
            said = [(scene.scene_id, scene.text) for scene in batch if scene.text]
            meanings = self._text.encode([text for _, text in said])
            self.vectors |= {(scene.scene_id, By.PICTURE): row for scene, row in zip(batch, pictures, strict=True)}
            self.vectors |= {(scene_id, By.MEANING): row for (scene_id, _), row in zip(said, meanings, strict=True)}
        return Spent(time.monotonic() - began_s, float("nan"))


@contextmanager
def stored_scenes(copies: int) -> Iterator[Stored]:
    """The demo's clips so many times, with their key frames as files."""
    with (
        postgres_server() as server,
        tempfile.TemporaryDirectory() as folder,
        open_pool(server.url, max_size=4, name="benchmark") as pool,
    ):
        store_clips(pool, UUID(int=1), Path(folder), copies)
        models = {
            By.PICTURE: IndexedModel(load_vision_model("bundled", None, "cpu").key, "bundled", None),
            By.MEANING: IndexedModel(load_text_model("bundled", "cpu").key, "bundled", None),
        }
        for by, model in models.items():
            SearchModels(pool).adopt(by, model)
        _forget_vectors(pool)
        scenes = list(SceneVectors(pool, {by: model.key for by, model in models.items()}).lacking(EVERY_ID, 1000))
        yield Stored(server.url, pool, models, scenes)


def _forget_vectors(pool: Pool) -> None:
    with pool.connection() as connection:
        connection.execute("TRUNCATE scene_embeddings, scene_meanings")


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
