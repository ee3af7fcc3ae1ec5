"""Embeds scenes that are there already, with Ray Data: tasks read which scenes lack vectors, actors embed and write.

Whatever was written is written for good: a pass sees only what is still lacking, so one that was killed is gone on with
by the next. When all is done and what follows is ``cluster.reembed.run``'s.
"""

import logging
import pickle
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Any
from uuid import UUID

from numpy.typing import NDArray

from cluster.contracts.errors import ConfigurationError, HeimdexError
from cluster.reembed.worker import Failure, Reembedder, Work
from cluster.runtime.plan import Hardware, device_for
from cluster.runtime.ray_driver import unwrap_ray_errors
from cluster.security.private_files import set_private_umask
from cluster.security.visible import guard_output
from cluster.settings import Settings
from cluster.store.index.embeddings import EVERY_ID, IdRange, LackingScene, SceneVectors
from cluster.store.index.model_registry import Models
from cluster.store.postgres.connections import open_pool

BATCHES_PER_CALL = 4
"""Batches of the models that share a call: few, or an actor has long been idle when the last one ends its own."""
MOST_RANGES = 2000
READER_CPUS, EMBEDDER_CPUS = 0.02, 0.05
"""CPUs that Ray reserves: it must find room beside the workers of a cluster that is up."""
READERS = 2
THREADS_OF_MANY_CPUS = 4
MANY_CPUS = 8

Batch = dict[str, NDArray[Any]]


@dataclass(frozen=True)
class Pass:
    """Result of a call: the number of its scenes, and those that failed."""

    scenes: int
    failures: list[Failure]


@dataclass(frozen=True)
class ActorPoolSpec:
    """Number of actors that work at most, their device, and what each holds."""

    device: str
    actors: int
    threads: int
    gpus: float = 0.0

    @staticmethod
    def free(settings: Settings) -> "ActorPoolSpec":
        """What the Ray that this process is connected to has left.

        Raises:
            ConfigurationError: models are to run on a GPU, and none has room.
        """
        import ray

        hardware, left = Hardware.of_cluster(), ray.available_resources()
        if device_for(settings, hardware) == "cpu":
            cpus = max(1, int(left.get("CPU", 0.0)))
            threads = THREADS_OF_MANY_CPUS if cpus >= MANY_CPUS else 1
            return ActorPoolSpec("cpu", cpus // threads, threads)
        share = settings.embedder_gpus
        room = int(left.get("GPU", 0.0) / share + 1e-9)
        if room == 0:
            raise ConfigurationError(
                f"no GPU has {share:g} left: lower HEIMDEX_EMBEDDER_GPUS, set HEIMDEX_DEVICE to cpu, or run "
                "`heimdex down` before"
            )
        return ActorPoolSpec("cuda", min(room, int(hardware.gpus)), 2, share)


class Reembedding:
    """Embeds by the models of ``models`` in the Ray that this process is connected to."""

    def __init__(self, database_url: str, scenes_url: str, models: Models, actors: ActorPoolSpec) -> None:
        self._work = Work(database_url, scenes_url, models, actors.device, actors.threads)
        self._actors = actors
        self._call_size = self._work.batch_size * BATCHES_PER_CALL
        self._kept: Any = None

    def run(self, lacking: int) -> Iterator[Pass]:
        """Look once at every scene that lacks a vector; about so many do.

        Raises:
            ConfigurationError: a model cannot be loaded.
            DatabaseUnavailable: Postgres is away.
            NodeLost: Ray died.
        """
        import ray.data

        context = ray.data.DataContext.get_current()
        context.enable_progress_bars = False
        logging.getLogger("ray.data").setLevel(logging.CRITICAL)  # the caller reports what failed
        actors = self._actors
        ranges = EVERY_ID.split(max(READERS, min(MOST_RANGES, lacking // self._call_size)))
        edges = [{"after": str(ids.after), "until": str(ids.until)} for ids in ranges]
        with unwrap_ray_errors():
            passes = (
                ray.data.from_items(edges, override_num_blocks=len(edges))
                .flat_map(
                    _Reader(self._work, self._call_size),
                    compute=ray.data.TaskPoolStrategy(READERS),
                    num_cpus=READER_CPUS,
                )
                .map_batches(
                    _Actor,
                    fn_constructor_args=(self._work,),
                    batch_size=self._call_size,
                    compute=ray.data.ActorPoolStrategy(size=actors.actors),
                    num_cpus=EMBEDDER_CPUS,
                    num_gpus=actors.gpus,
                )
            )
            for row in passes.iter_rows():
                yield _decoded(row["answer"])

    def make_ready(self) -> None:
        """Have one actor loaded that stays, for :meth:`run_alone`. Raises as :meth:`run`."""
        self._alone([])

    def run_alone(self, scenes: Iterable[LackingScene]) -> Iterator[Pass]:
        """Embed these by the actor that stays: for few scenes, which need not wait until models have been loaded.

        Raises as :meth:`run`.
        """
        for call in _calls(scenes, self._call_size):
            yield self._alone(call)

    def _alone(self, call: list[LackingScene]) -> Pass:
        import ray

        with unwrap_ray_errors():
            if self._kept is None:
                actor = ray.remote(num_cpus=EMBEDDER_CPUS, num_gpus=self._actors.gpus)(_Actor)
                self._kept = actor.remote(self._work)
            return _decoded(ray.get(self._kept.embed.remote(call)))


@dataclass(frozen=True)
class _Reader:
    """Reads the scenes of a range that lack something, as rows."""

    work: Work
    page_size: int

    def __call__(self, edges: dict[str, str]) -> Iterator[dict[str, Any]]:
        ids = IdRange(UUID(edges["after"]), UUID(edges["until"]))
        with open_pool(self.work.database_url, max_size=1, name="heimdex-reembed-reader") as pool:
            for scene in SceneVectors(pool, self.work.keys).lacking(ids, self.page_size):
                yield {
                    "scene_id": str(scene.scene_id),
                    "video_id": str(scene.video_id),
                    "made": scene.made,
                    "key_frame_url": scene.key_frame_url or "",
                    "text": scene.text or "",
                }


class _Actor:
    """A process with loaded models. Errors are answers: Ray would bury them, above all what a constructor raised."""

    def __init__(self, work: Work) -> None:
        guard_output()
        set_private_umask()
        self._loaded: Reembedder | HeimdexError
        try:
            self._loaded = Reembedder(work)
        except HeimdexError as error:
            self._loaded = error

    def __call__(self, batch: Batch) -> dict[str, list[bytes]]:
        names = ("scene_id", "video_id", "made", "key_frame_url", "text")
        rows = zip(*(batch[name].tolist() for name in names), strict=True)
        scenes = [LackingScene(UUID(i), UUID(v), made, url or None, text or None) for i, v, made, url, text in rows]
        return {"answer": [self.embed(scenes)]}

    def embed(self, scenes: list[LackingScene]) -> bytes:
        """A :class:`Pass` or the error that prevented it, pickled."""
        try:
            if isinstance(self._loaded, HeimdexError):
                raise self._loaded
            return pickle.dumps(Pass(len(scenes), self._loaded.embed(scenes)))
        except HeimdexError as error:
            return pickle.dumps(error)


def _decoded(answer: bytes) -> Pass:
    made: Pass | HeimdexError = pickle.loads(answer)
    if isinstance(made, HeimdexError):
        raise made
    return made


def _calls(scenes: Iterable[LackingScene], size: int) -> Iterator[list[LackingScene]]:
    remaining = iter(scenes)
    while call := list(islice(remaining, size)):
        yield call
