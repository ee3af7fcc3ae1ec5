"""The whole way as a pipeline of Ray Data: the same calls of the same workers, one after the other, unconfined.

``python -m tests.benchmarks.ray_data_way PLAN`` brings up a Ray of its own, then answers lines of JSON on standard
input. ``{"rounds": [[FILE, ...], ...]}`` starts one pipeline for all these rounds, in which each round waits for its
beginning, and is answered by the ids of the videos once all models are loaded; ``{"begin": NUMBER}`` by the seconds
that the round took. Scenes go into the same Postgres, under leases that were claimed before.
"""

import json
import pickle
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, cast
from uuid import UUID

import ray

from actors.workers.catalog import WorkerPlan
from actors.workers.media_calls import decoding_calls
from cluster.contracts.stages import WorkerKind
from cluster.contracts.videos import ClaimedVideo, Submission
from cluster.files.storage import locate
from cluster.store.postgres.connections import Pool, open_pool
from cluster.store.queue.submissions import submit
from cluster.store.queue.video_queue import Finish, VideoQueue

VIDEOS_PER_BATCH = 5
"""Rounds are multiples of it: a batch that waits for another round's videos would wait indefinitely."""
MOST_BLOCKS = 200
"""As Ray Data partitions rows by default."""
SHARE_OF_CPUS = 0.2
"""CPUs that Ray reserves for each of the four actors; their own threads are as the plan says."""
LEASE_S = 3600.0
POLL_S = 0.02

Row = dict[str, Any]


@dataclass(frozen=True)
class Rendezvous:
    """A folder where actors say that they have loaded, rounds are begun, and each video's end is noted."""

    folder: Path

    def note_loaded(self, kind: WorkerKind) -> None:
        (self.folder / kind.value).touch()

    def are_all_loaded(self) -> bool:
        return all((self.folder / actor.kind.value).exists() for actor in (Media, Speech, Vision, Writer))

    def begin(self, number: int) -> None:
        self._of(number).touch()

    def wait_for(self, number: int) -> None:
        while not self._of(number).exists():
            time.sleep(POLL_S)

    def note_end(self, number: int, ended_s: float) -> None:
        with self._of(number).open("a") as file:
            file.write(f"{ended_s}\n")

    def ends_s(self, number: int) -> list[float]:
        return [float(line) for line in self._of(number).read_text().splitlines()]

    def _of(self, number: int) -> Path:
        return self.folder / f"round-{number}"


class _Actor:
    """A worker's calls, loaded once."""

    kind: WorkerKind

    def __init__(self, plan: WorkerPlan, rendezvous: Rendezvous) -> None:
        self._calls = self._loaded(plan)
        self._rendezvous = rendezvous
        rendezvous.note_loaded(self.kind)

    def _loaded(self, plan: WorkerPlan) -> Mapping[str, Callable[..., Any]]:
        return plan.loader(self.kind)().calls


class Media(_Actor):
    """Decodes in its own process, as a pipeline does that confines nothing."""

    kind = WorkerKind.MEDIA

    def _loaded(self, plan: WorkerPlan) -> Mapping[str, Callable[..., Any]]:
        media = plan.media
        calls = decoding_calls(media.media_limits, media.key_frame_px, media.threads)
        return {"locate": partial(locate, limits=media.local_limits), **calls}

    def __call__(self, row: Row) -> Row:
        self._rendezvous.wait_for(row["round"])
        local = self._calls["locate"](row["uri"])
        info = self._calls["probe"](local)
        windows = list(self._calls["read_speech"](local, info))
        blocks = list(self._calls["detect"](local, info))
        return {**row, "windows": pickle.dumps(windows), "blocks": pickle.dumps(blocks)}


class Speech(_Actor):
    kind = WorkerKind.TRANSCRIBER

    def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
        videos = [(pickle.loads(windows), None) for windows in batch.pop("windows")]
        answers = self._calls["transcribe"](videos)
        batch["transcript"] = [pickle.dumps(next(share.value)) for share in answers]
        return batch


class Vision(_Actor):
    kind = WorkerKind.EMBEDDER

    def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
        videos = [
            (pickle.loads(blocks), [pickle.loads(said)])
            for blocks, said in zip(batch["blocks"], batch["transcript"], strict=True)
        ]
        batch["described"] = [pickle.dumps(next(share.value)) for share in self._calls["describe"](videos)]
        return batch


class Writer(_Actor):
    kind = WorkerKind.WRITER

    def __call__(self, row: Row) -> Row:
        blocks, described, transcript = (pickle.loads(row[name]) for name in ("blocks", "described", "transcript"))
        self._calls["write"](UUID(row["id"]), row["token"], blocks, [described], [transcript])
        self._rendezvous.note_end(int(row["round"]), time.time())
        return {"id": row["id"]}


class Pipeline:
    """All rounds on their way, in a thread."""

    def __init__(self, plan: WorkerPlan, rounds: Sequence[Sequence[ClaimedVideo]], folder: Path) -> None:
        """Returns once all actors have loaded."""
        self._rounds = rounds
        self._rendezvous = Rendezvous(folder)
        self._thread = threading.Thread(target=self._run, args=(plan,), daemon=True)
        self._thread.start()
        self._wait(self._rendezvous.are_all_loaded)

    def seconds(self, number: int) -> float:
        """Of a round, from its beginning to its last video's scenes."""
        began_s = time.time()
        self._rendezvous.begin(number)
        self._wait(lambda: len(self._rendezvous.ends_s(number)) == len(self._rounds[number]))
        return max(self._rendezvous.ends_s(number)) - began_s

    def join(self) -> None:
        """Wait until the actors are gone."""
        self._thread.join()

    def _wait(self, holds: Callable[[], bool]) -> None:
        while not holds():
            if not self._thread.is_alive() and not holds():
                raise SystemExit("the pipeline has ended before its time")
            time.sleep(POLL_S)

    def _run(self, plan: WorkerPlan) -> None:
        rows = [
            {"round": number, "uri": v.uri, "key": f"data-{v.id}", "id": str(v.id), "token": v.lease_token}
            for number, videos in enumerate(self._rounds)
            for v in videos
        ]
        actor: dict[str, Any] = {
            "concurrency": 1,
            "num_cpus": SHARE_OF_CPUS,
            "fn_constructor_args": (plan, self._rendezvous),
        }
        batched: dict[str, Any] = {"batch_size": VIDEOS_PER_BATCH, "batch_format": "numpy", **actor}
        (
            ray.data.from_items(rows, override_num_blocks=min(MOST_BLOCKS, len(rows)))
            .map(cast(Any, Media), **actor)
            .map_batches(Speech, **batched)
            .map_batches(Vision, **batched)
            .map(cast(Any, Writer), **actor)
            .take_all()
        )


@contextmanager
def _claimed(pool: Pool, rounds: Sequence[Sequence[str]]) -> Iterator[list[list[ClaimedVideo]]]:
    """A leased video for each file, READY afterwards."""
    queue = VideoQueue(pool, "ray-data", LEASE_S)
    claimed = []
    for paths in rounds:
        submit(pool, UUID(int=1), [Submission(uri=path) for path in paths])
        claimed.append(queue.claim(len(paths)))
    yield claimed
    queue.finish([Finish(video, 0.0, "", "ray-data") for videos in claimed for video in videos])


def _answer(plan: WorkerPlan, pool: Pool, rounds: Sequence[Sequence[str]]) -> None:
    with tempfile.TemporaryDirectory(prefix="heimdex-data-") as name, _claimed(pool, rounds) as claimed:
        pipeline = Pipeline(plan, claimed, Path(name))
        print(json.dumps([[str(video.id) for video in videos] for videos in claimed]), flush=True)
        for _ in rounds:
            print(json.dumps(pipeline.seconds(json.loads(sys.stdin.readline())["begin"])), flush=True)
        pipeline.join()


def main() -> None:
    """Answer until standard input ends."""
    plan: WorkerPlan = pickle.loads(Path(sys.argv[1]).read_bytes())
    ray.init(address="local", include_dashboard=False, log_to_driver=False, object_store_memory=2**30)
    ray.data.DataContext.get_current().enable_progress_bars = False
    print("ready", flush=True)
    with open_pool(plan.writer.database_url, max_size=2, name="ray-data") as pool:
        for line in iter(sys.stdin.readline, ""):
            _answer(plan, pool, json.loads(line)["rounds"])
    ray.shutdown()


if __name__ == "__main__":
    main()
