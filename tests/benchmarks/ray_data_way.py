"""The whole way as a pipeline of Ray Data, of the very same calls of the very same workers, one after the other.

``python -m tests.benchmarks.ray_data_way PLAN`` brings up a Ray of its own, then answers each line of standard input, a
JSON array of files, by the seconds that the pipeline took once all of its actors had loaded. Scenes go into the same
Postgres, under leases that were claimed before.
"""

import json
import pickle
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast
from uuid import UUID

import ray

from actors.worker_kinds import WorkerPlan
from cluster.contracts.stages import WorkerKind
from cluster.contracts.videos import ClaimedVideo, Submission
from cluster.store.database import open_pool
from cluster.store.submissions import submit
from cluster.store.video_queue import Finish, VideoQueue

VIDEOS_PER_BATCH = 8
SHARE_OF_CPUS = 0.2
"""What Ray reserves for each of the four actors; their own threads are what the plan says."""
LEASE_S = 3600.0
POLL_S = 0.02

Row = dict[str, Any]
Call = Callable[..., Any]


@dataclass(frozen=True)
class Rendezvous:
    """Where actors say that they have loaded: nothing begins before all have."""

    folder: Path

    def note_loaded(self, kind: WorkerKind) -> None:
        (self.folder / kind.value).touch()

    def wait(self) -> None:
        while not all((self.folder / kind.value).exists() for kind in WorkerKind):
            time.sleep(POLL_S)


class _Actor:
    """A worker's calls, loaded once."""

    kind: WorkerKind

    def __init__(self, plan: WorkerPlan, rendezvous: Rendezvous) -> None:
        self._calls = plan.loader(self.kind)().calls
        self._rendezvous = rendezvous
        rendezvous.note_loaded(self.kind)


class Media(_Actor):
    kind = WorkerKind.MEDIA

    def __call__(self, row: Row) -> Row:
        self._rendezvous.wait()
        began_s = time.time()
        local = self._calls["download"](row["uri"], row["key"])
        info = self._calls["probe"](local)
        windows = list(self._calls["read_speech"](local, info))
        blocks = list(self._calls["detect"](local, info))
        self._calls["discard"](row["key"])
        return {**row, "began_s": began_s, "windows": pickle.dumps(windows), "blocks": pickle.dumps(blocks)}


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
        scenes = self._calls["write"](UUID(row["id"]), row["token"], blocks, [described], [transcript])
        return {"began_s": row["began_s"], "ended_s": time.time(), "scenes": scenes}


def run(plan: WorkerPlan, claimed: Sequence[ClaimedVideo]) -> float:
    """Seconds from the first video's beginning to the last one's scenes."""
    rows = [{"uri": v.uri, "key": f"data-{v.id}", "id": str(v.id), "token": v.lease_token} for v in claimed]
    with tempfile.TemporaryDirectory(prefix="heimdex-data-") as name:
        actor: dict[str, Any] = {
            "concurrency": 1,
            "num_cpus": SHARE_OF_CPUS,
            "fn_constructor_args": (plan, Rendezvous(Path(name))),
        }
        batched: dict[str, Any] = {"batch_size": VIDEOS_PER_BATCH, "batch_format": "numpy", **actor}
        done = (
            ray.data.from_items(rows)
            .map(cast(Any, Media), **actor)
            .map_batches(Speech, **batched)
            .map_batches(Vision, **batched)
            .map(cast(Any, Writer), **actor)
            .take_all()
        )
    assert len(done) == len(claimed)
    return float(max(row["ended_s"] for row in done) - min(row["began_s"] for row in done))


def main() -> None:
    """Answer until standard input ends."""
    plan: WorkerPlan = pickle.loads(Path(sys.argv[1]).read_bytes())
    ray.init(address="local", include_dashboard=False, log_to_driver=False, object_store_memory=2**30)
    ray.data.DataContext.get_current().enable_progress_bars = False
    print("ready", flush=True)
    with open_pool(plan.writer.database_url, max_size=2, name="ray-data") as pool:
        queue = VideoQueue(pool, "ray-data", LEASE_S)
        for line in sys.stdin:
            paths = json.loads(line)
            submit(pool, UUID(int=1), [Submission(uri=path) for path in paths])
            claimed = queue.claim(len(paths))
            seconds = run(plan, claimed)
            queue.finish([Finish(video, 0.0, "", "ray-data") for video in claimed])
            print(json.dumps({"seconds": seconds, "ids": [str(video.id) for video in claimed]}), flush=True)
    ray.shutdown()


if __name__ == "__main__":
    main()
