"""``heimdex reembed`` killed at any moment, there and back, while people search: what it left is gone on with.

Afterwards no scene lacks a vector and no document differs. ``python -m tests.chaos.reembed_kills --seed 1``
"""

import argparse
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from uuid import UUID

import psutil

from cluster.contracts.search import EngineAddress, Retriever, Scope
from cluster.search.active_models import ModelName
from cluster.search.query_models import ModelLoaders, QueryModels
from cluster.search.service import SearchRequest, SearchService
from cluster.store.index.embeddings import SceneVectors
from cluster.store.index.model_registry import SearchModels, keys_of
from cluster.store.index.outbox import SearchChanges
from cluster.store.opensearch.client import open_client
from cluster.store.opensearch.rebuild import SearchIndexes
from cluster.store.opensearch.sync import FollowedIndex, IndexFollower
from cluster.store.opensearch.verify import IndexCheck
from cluster.store.postgres.connections import Pool, open_pool
from cluster.store.search.engines import index_opener
from tests.benchmarks.postgres_server import postgres_server
from tests.support.own_server import running
from tests.support.real_opensearch import QUICK_START, RealOpenSearch
from tests.support.stored_scenes import other_vision_model, store_clips

OWNER = UUID(int=7)
COPIES = 8
BUNDLED = ModelName("bundled")
DIES_WITHIN_S = 180.0

Progress = Callable[[str], None]


@dataclass
class Counts:
    """What was run, and a sentence for each thing that must hold and did not."""

    scenes: int = 0
    kills: int = 0
    switches: int = 0
    searches: int = 0
    violations: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class _Scene:
    """The environment of a run."""

    pool: Pool
    url: str
    folder: Path
    address: EngineAddress

    def reembed(self, model: str) -> "subprocess.Popen[bytes]":
        """The command, in a Ray of its own."""
        environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith("HEIMDEX_")},
            "HEIMDEX_DATABASE_URL": self.url,
            "HEIMDEX_DATA_DIR": str(self.folder / "data"),
            "HEIMDEX_CLIP_MODEL": "bundled",
            "HEIMDEX_TEXT_MODEL": "bundled",
            "HEIMDEX_OPENSEARCH_URL": self.address.url,
        }
        command = [sys.executable, "-m", "cluster.cli.main", "reembed", "--vision", model]
        return subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def settle(self) -> None:
        """Sweep changes that no attempt follows any more, as the scheduler does."""
        with self.pool.connection() as connection:
            connection.execute("UPDATE search_changes SET due_at = clock_timestamp()")
        IndexFollower(self.pool, open_client(self.address)).follow_due()


def run(seed: int, kills: int = 10, progress: Progress = print) -> Counts:
    """All of it."""
    counts, rng = Counts(), random.Random(seed)
    with _scene(counts) as scene:
        models = [str(other_vision_model(scene.folder / "other")), "bundled"]
        done = threading.Event()
        searching = threading.Thread(target=_search, args=(scene, done, counts))
        searching.start()
        try:
            takes_s = _takes_s(scene, models[0], counts)
            while counts.kills < kills:
                models.reverse()
                SearchModels(scene.pool).drop_old()
                _go_there(scene, models[0], kills, takes_s, rng, counts, progress)
        finally:
            done.set()
            searching.join()
    return counts


@contextmanager
def _scene(counts: Counts) -> Iterator[_Scene]:
    with (
        running(lambda folder: RealOpenSearch(folder / "opensearch", java_options=QUICK_START)) as engine,
        postgres_server() as server,
        open_pool(server.url, max_size=8, name="chaos") as pool,
    ):
        scene = _Scene(pool, server.url, engine.folder.parent, EngineAddress(engine.url))
        counts.scenes = store_clips(pool, OWNER, scene.folder / "data" / "scenes", copies=COPIES)
        with pool.connection() as connection:
            connection.execute("DELETE FROM video_leases")
        QueryModels(pool, ModelLoaders.on_cpu(BUNDLED, BUNDLED, threads=1))  # they are the active ones from now on
        client = open_client(scene.address)
        SearchIndexes(pool, server.url, client, scene.address).ensure(SearchModels(pool).keys())
        yield scene


def _takes_s(scene: _Scene, model: str, counts: Counts) -> float:
    """Seconds that the command takes when it is not killed."""
    began_s = time.monotonic()
    if scene.reembed(model).wait() != 0:
        counts.violations.append("a re-embedding that nobody killed failed")
    _expect_all_well(scene, counts)
    return time.monotonic() - began_s


def _go_there(
    scene: _Scene, model: str, kills: int, takes_s: float, rng: random.Random, counts: Counts, progress: Progress
) -> None:
    """Start the command, and kill it, until it has come to its end."""
    while True:
        process = scene.reembed(model)
        mortal = counts.kills < kills
        try:
            status = process.wait(rng.uniform(0.1, 1.0) * takes_s if mortal else None)
        except subprocess.TimeoutExpired:
            _kill(process, counts)
            progress(f"search: re-embedding killed {counts.kills} of {kills} times, {counts.searches} searches")
            continue
        if status != 0:
            counts.violations.append(f"a re-embedding after {counts.kills} kills ended with {status}")
        _expect_all_well(scene, counts)
        return


def _kill(process: "subprocess.Popen[bytes]", counts: Counts) -> None:
    """It dies at once, and its Ray with it."""
    family = psutil.Process(process.pid).children(recursive=True)
    process.send_signal(signal.SIGKILL)
    process.wait()
    counts.kills += 1
    _, left = psutil.wait_procs(family, DIES_WITHIN_S)
    if left:
        counts.violations.append(f"{len(left)} processes outlived a killed re-embedding: {left[0].name()}")
    for process_left in left:
        process_left.kill()


def _expect_all_well(scene: _Scene, counts: Counts) -> None:
    """No scene lacks a vector, and no document of any index differs."""
    counts.switches += 1
    scene.settle()
    active = SearchModels(scene.pool).active()
    lacking = SceneVectors(scene.pool, {by: model.key for by, model in active.items()}).count_lacking()
    if lacking:
        counts.violations.append(f"{lacking} scenes lack a vector of the active models")
    client = open_client(scene.address)
    keys = keys_of(active)
    for row in SearchIndexes(scene.pool, scene.url, client, scene.address).rows():
        if (row["vision_model"], row["text_model"]) != (keys.vision, keys.text):
            continue  # its vectors are dropped before the next turn
        verdict = IndexCheck(scene.pool, client, FollowedIndex(row["name"], keys)).verify()
        if verdict.differences or verdict.compared != counts.scenes:
            counts.violations.append(f"{verdict.differences} differences in {verdict.compared}: {verdict.examples}")
    if SearchChanges(scene.pool).backlog().pending:
        counts.violations.append("videos are still to be followed")


def _search(scene: _Scene, done: threading.Event, counts: Counts) -> None:
    models = QueryModels(scene.pool, ModelLoaders.on_cpu(BUNDLED, BUNDLED, threads=1), ahead=True)
    service = SearchService(index_opener(scene.pool, scene.address), models, scene.pool)
    request = SearchRequest(
        Scope(OWNER), "a red circle in front of the sea", by=frozenset({Retriever.PICTURE, Retriever.MEANING})
    )
    while not done.wait(0.05):
        try:
            hits = service.search(request).hits
        except Exception as error:  # whatever it is, it is counted
            counts.violations.append(f"a search failed: {type(error).__name__}: {error}")
        else:
            if len(hits) != request.limit:
                counts.violations.append(f"a search found {len(hits)} scenes instead of {request.limit}")
        counts.searches += 1


def main() -> int:
    """Run it alone, and print what was counted."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--kills", type=int, default=10)
    options = parser.parse_args()
    counts = run(options.seed, options.kills)
    print(counts)
    return 1 if counts.violations else 0


if __name__ == "__main__":
    sys.exit(main())
