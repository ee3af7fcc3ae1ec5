"""Faults of the search engine: killed while videos are indexed, as is the process that builds its index again.

Afterwards ``heimdex index verify`` must find no difference, and while indexes are built no search may have failed.
``python -m tests.chaos.search_faults --seed 1``
"""

import argparse
import json
import os
import queue
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID, uuid5

import numpy as np
from numpy.typing import NDArray

from actors.maintenance.index_sweep import IndexSweep
from cluster.contracts.errors import SearchUnavailable
from cluster.contracts.results import SceneDescription, Transcript, WrittenScene
from cluster.contracts.search import EngineAddress, ModelKeys, QueryVector, Retriever, Scope, parse_words
from cluster.contracts.videos import ClaimedVideo, Submission
from cluster.store.index.model_registry import IndexedModel, SearchModels
from cluster.store.opensearch.client import open_client
from cluster.store.opensearch.index import OpenSearchIndex
from cluster.store.opensearch.rebuild import SearchIndexes, alias_of
from cluster.store.opensearch.sync import IndexFollower
from cluster.store.postgres.connections import Pool, open_pool
from cluster.store.queue.submissions import submit
from cluster.store.queue.video_queue import VideoQueue
from cluster.store.videos.deletion import forget
from cluster.store.videos.scenes import SceneStore
from tests.benchmarks.postgres_server import postgres_server
from tests.support.own_server import running
from tests.support.real_opensearch import QUICK_START, RealOpenSearch
from tests.support.vector_lengths import EMBEDDING_DIM, MEANING_DIM

OWNER = UUID(int=7)
MODELS = ModelKeys("vision@chaos", "text@chaos")
WRITERS = 4
MOST_SCENES = 60
WORDS = ["tide", "moon", "sea", "harbour", "lantern", "sail", "rope", "gull", "storm", "anchor"]

Progress = Callable[[str], None]


@dataclass
class Counts:
    """What was run, and a sentence for each thing that must hold and did not."""

    videos: int = 0
    engine_kills: int = 0
    builder_kills: int = 0
    searches: int = 0
    compared: int = 0
    violations: list[str] = field(default_factory=list)


class Indexed:
    """A cluster's Postgres and its search engine, with what works on them."""

    def __init__(self, pool: Pool, url: str, engine: RealOpenSearch, rng: random.Random) -> None:
        self.pool = pool
        self.url = url
        self.engine = engine
        self.rng = rng
        self.address = EngineAddress(engine.url, prefix="chaos")
        self.client = open_client(self.address)
        self.follower = IndexFollower(pool, self.client)
        self.sweep = IndexSweep(self.follower)
        self._scenes = SceneStore(pool)

    def claim(self, count: int) -> list[ClaimedVideo]:
        submit(self.pool, OWNER, [Submission(uri=f"s3://bucket/{number}.mp4") for number in range(count)])
        return list(VideoQueue(self.pool, "chaos", 3600.0).claim(count))

    def write(self, video: ClaimedVideo) -> None:
        """As a writer does: scenes in Postgres, then in the index, for as long as that takes."""
        count = self.rng.randrange(1, MOST_SCENES)
        written = [self._scene(video.id, number) for number in range(count)]
        self._scenes.replace(video.id, video.lease_token, Transcript("en", (), "chaos"), written, float(count))
        while True:
            try:
                self.follower.follow(video.id)
            except SearchUnavailable:
                time.sleep(0.1)
            else:
                return

    def end(self, video: ClaimedVideo) -> None:
        """It is READY, as far as forgetting goes."""
        with self.pool.connection() as connection:
            connection.execute("DELETE FROM video_leases WHERE video_id = %s", (video.id,))
            connection.execute("UPDATE videos SET status = 'READY' WHERE id = %s", (video.id,))

    def settle(self) -> None:
        """Sweep changes that no attempt follows any more, as the scheduler does."""
        with self.pool.connection() as connection:
            connection.execute("UPDATE search_changes SET due_at = clock_timestamp()")
        self.sweep.sweep()

    def _scene(self, video_id: UUID, number: int) -> WrittenScene:
        text = " ".join(self.rng.choices(WORDS, k=12))
        return WrittenScene(
            id=uuid5(video_id, str(number)),
            start_s=float(number),
            end_s=number + 1.0,
            key_frame_s=number + 0.5,
            thumbnail_url="",
            key_frame_url="",
            description=SceneDescription(
                index=number,
                transcript_segment=text,
                tags=(text.split()[0],),
                visual_summary="",
                combined_text=text,
                embedding=self._vector(EMBEDDING_DIM),
                vision_model=MODELS.vision,
                meaning=self._vector(MEANING_DIM),
                text_model=MODELS.text,
            ),
        )

    def _vector(self, size: int) -> NDArray[np.float32]:
        vector = np.random.default_rng(self.rng.randrange(2**32)).standard_normal(size, np.float32)
        return np.asarray(vector / np.linalg.norm(vector), np.float32)


def run(seed: int, videos: int = 200, kills: int = 20, builder_kills: int = 10, progress: Progress = print) -> Counts:
    """All of it; smaller for a test."""
    counts = Counts()
    with _indexed(random.Random(seed)) as indexed:
        indexes = SearchIndexes(indexed.pool, indexed.url, indexed.client, indexed.address)
        indexes.ensure(MODELS)
        _kill_engine(indexed, videos, kills, counts, progress)
        _expect_no_difference(indexed, counts, "after the engine was killed")
        _kill_builders(indexed, builder_kills, counts, progress)
        _expect_no_difference(indexed, counts, "after builders were killed")
    return counts


@contextmanager
def _indexed(rng: random.Random) -> Iterator[Indexed]:
    with (
        running(lambda folder: RealOpenSearch(folder / "opensearch", java_options=QUICK_START)) as engine,
        postgres_server() as server,
        open_pool(server.url, max_size=16, name="chaos") as pool,
    ):
        for by, key, length in (
            (Retriever.PICTURE, MODELS.vision, EMBEDDING_DIM),
            (Retriever.MEANING, MODELS.text, MEANING_DIM),
        ):
            SearchModels(pool).adopt(by, IndexedModel(key, key, None, length))
        yield Indexed(pool, server.url, engine, rng)


class _Writers:
    """Threads that write the videos they are given; what they write is now and then written again, or forgotten."""

    def __init__(self, indexed: Indexed) -> None:
        self.written: list[ClaimedVideo] = []
        self._indexed = indexed
        self._waiting: queue.Queue[ClaimedVideo | None] = queue.Queue()
        self._threads = [threading.Thread(target=self._work) for _ in range(WRITERS)]
        for thread in self._threads:
            thread.start()

    def give(self, videos: Sequence[ClaimedVideo]) -> None:
        for video in videos:
            self._waiting.put(video)

    def join(self) -> None:
        """Returns when all is written."""
        for _ in self._threads:
            self._waiting.put(None)
        for thread in self._threads:
            thread.join()

    def _work(self) -> None:
        while (video := self._waiting.get()) is not None:
            indexed = self._indexed
            indexed.write(video)
            if indexed.rng.random() < 0.3:
                indexed.write(video)
            indexed.end(video)
            if indexed.rng.random() < 0.1:
                forget(indexed.pool, [video.id])
            self.written.append(video)


def _kill_engine(indexed: Indexed, videos: int, kills: int, counts: Counts, progress: Progress) -> None:
    """Each time, videos are given to the writers, and the engine dies when some of these are done."""
    writers = _Writers(indexed)
    claimed = indexed.claim(videos)
    share = max(2, videos // max(1, kills))
    for number in range(kills):
        writers.give(claimed[number * share : (number + 1) * share])
        enough = min(number * share + indexed.rng.randrange(1, share), videos)
        while len(writers.written) < enough:
            time.sleep(0.01)
        indexed.engine.kill()
        time.sleep(indexed.rng.uniform(0.0, 0.5))
        indexed.engine.start()
        counts.engine_kills += 1
        progress(f"search: engine killed {counts.engine_kills} of {kills} times, {len(writers.written)} videos indexed")
    writers.give(claimed[kills * share :])
    writers.join()
    counts.videos += len(writers.written)
    if len(writers.written) != videos:
        counts.violations.append(f"{videos - len(writers.written)} of {videos} videos did not come to an end")


def _kill_builders(indexed: Indexed, kills: int, counts: Counts, progress: Progress) -> None:
    """``heimdex index rebuild`` is killed at any moment of its work, while people search."""
    began_s = time.monotonic()
    _heimdex(indexed, "index", "rebuild").wait()
    takes_s = time.monotonic() - began_s
    done = threading.Event()
    searching = threading.Thread(target=_search, args=(indexed, done, counts))
    searching.start()
    try:
        for number in range(kills):
            building = _heimdex(indexed, "index", "rebuild")
            time.sleep(indexed.rng.uniform(0.1, 1.0) * takes_s)
            building.send_signal(signal.SIGKILL)
            building.wait()
            counts.builder_kills += 1
            for video in indexed.claim(2):  # into whatever indexes there are now
                indexed.write(video)
            progress(f"search: builder killed {number + 1} of {kills} times, {counts.searches} searches")
        if _heimdex(indexed, "index", "rebuild").wait() != 0:
            counts.violations.append("a rebuild after the killed ones did not succeed")
    finally:
        done.set()
        searching.join()


def _search(indexed: Indexed, done: threading.Event, counts: Counts) -> None:
    index = OpenSearchIndex(open_client(indexed.address), alias_of(indexed.address.prefix, MODELS))
    rng = random.Random(0)
    vector = np.ones(EMBEDDING_DIM, np.float32) / np.sqrt(EMBEDDING_DIM)
    while not done.is_set():
        try:
            words = index.words(parse_words(rng.choice(WORDS)), Scope(OWNER), 10)
            near = index.nearest(Retriever.PICTURE, QueryVector(MODELS.vision, vector), Scope(OWNER), 10)
        except Exception as error:  # whatever it is, it is counted
            counts.violations.append(f"a search failed: {error}")
        else:
            if len(words) != 10 or len(near) != 10:
                counts.violations.append(f"a search found {len(words)} and {len(near)} scenes instead of 10")
        counts.searches += 2


def _expect_no_difference(indexed: Indexed, counts: Counts, when: str) -> None:
    indexed.settle()
    verifying = _heimdex(indexed, "index", "verify", "--json")
    output, _ = verifying.communicate()
    for verdict in json.loads(output):
        counts.compared += verdict["compared"]
        if verdict["differences"] or verdict["pending"]:
            counts.violations.append(f"{when}: {json.dumps(verdict)}")


def _heimdex(indexed: Indexed, *arguments: str) -> "subprocess.Popen[bytes]":
    environment: dict[str, Any] = {
        **{name: value for name, value in os.environ.items() if not name.startswith("HEIMDEX_")},
        "HEIMDEX_DATABASE_URL": indexed.url,
        "HEIMDEX_OPENSEARCH_URL": indexed.address.url,
        "HEIMDEX_OPENSEARCH_PREFIX": indexed.address.prefix,
        "HEIMDEX_DATA_DIR": str(indexed.engine.folder.parent / "data"),
    }
    command = [sys.executable, "-m", "cluster.cli.main", *arguments]
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)


def main() -> int:
    """Run it alone, and print what was counted."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--videos", type=int, default=200)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--builder-kills", type=int, default=10)
    options = parser.parse_args()
    counts = run(options.seed, options.videos, options.kills, options.builder_kills)
    print(counts)
    return 1 if counts.violations else 0


if __name__ == "__main__":
    sys.exit(main())
