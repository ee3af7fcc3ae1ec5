"""Workers that take no time, on the real way of a video: everything but the models and the media is the product's.

A video's URI names its fault: ``toy://FAULT/STAGE/NUMBER``, or ``toy://none/none/NUMBER`` for a healthy one.
Workers may keep a journal: a file each, which says what the process is at right now, for the test that is to kill it.
"""

import ctypes
import gc
import json
import os
import shutil
import signal
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import UUID, uuid5

import numpy as np

from actors.attempt.pipeline import ENGINE_CALL
from actors.workers.catalog import RESULT_TYPES, SHORT_VIDEOS_S, SMALL_FILES_BYTES
from actors.workers.configs import Placement
from actors.workers.fetch_slots import FetchLimit
from actors.workers.worker import SMALL_BYTES, LoadedWorker
from cluster.contracts.errors import DeviceFailure
from cluster.contracts.media import DetectedScene, LocalVideo, MediaInfo, SceneBlock, SpeechWindow
from cluster.contracts.results import SceneDescription, Segment, Transcript, Word, WrittenScene
from cluster.contracts.stages import Stage, WorkerKind
from cluster.contracts.videos import Origin
from tests.support.vector_lengths import EMBEDDING_DIM

FAULTS: dict[str, str] = {
    "raise": "ValueError",
    "hang": "StageTimeout",
    "sigkill": "WorkerLost",
    "segv": "WorkerLost",
    "exit": "WorkerLost",
    "memory": "MemoryError",
    "cuda": "DeviceFailure",
    "malformed": "MalformedResult",
}
"""Faults of a stage, and the type of the error that must then be reported."""
SCENES = 3
HOLD = "hold.all"
"""A file in the journal's folder: while it is there, every worker stays at what it is at."""
HOLD_POLL_S = 0.05
SWEPT_WITHIN_S = 90.0


def toy_uri(number: int, fault: str = "none", stage: str = "none") -> str:
    return f"toy://{fault}/{stage}/{number}"


def left_in(scratch: Path) -> list[str]:
    """Downloads that were not removed or swept away in time."""
    end_s = time.monotonic() + SWEPT_WITHIN_S
    while (left := sorted(path.name for path in scratch.iterdir())) and time.monotonic() < end_s:
        time.sleep(0.5)
    return [f"left in the scratch folder: {name}" for name in left]


@dataclass(frozen=True)
class ToyPlan:
    """In place of ``actors.workers.catalog.WorkerPlan``.

    ``pause_s``: how long each stage takes; ``others``: how many workers of each kind but the media workers; ``cpus``:
    what each reserves; ``journal_dir``: where workers say what they are at, for which ``share_calls`` must be false:
    whether videos are short enough to share the calls of media workers and writers. ``fetch_deadline_s``: as
    ``WorkerPlan``'s; every toy is fetched.
    """

    database_url: str
    scratch_dir: Path
    workers: int
    max_in_flight: int
    pause_s: float = 0.0
    others: int = 1
    cpus: float = 0.0
    journal_dir: Path | None = None
    share_calls: bool = True
    fetch_deadline_s: float = 3600.0

    @property
    def fetch_limit(self) -> FetchLimit:
        return FetchLimit(per_node=8, per_owner=4)

    @property
    def root_is_remote(self) -> bool:
        return False

    @property
    def placements(self) -> Mapping[WorkerKind, Placement]:
        counts = {WorkerKind.MEDIA: self.workers}
        pools = [kind for kind in WorkerKind if kind is not WorkerKind.FETCHER]
        return {kind: Placement(counts.get(kind, self.others), self.cpus) for kind in pools}

    def resource_share(self, kind: WorkerKind) -> float:
        return 1.0

    def loader(self, kind: WorkerKind) -> Callable[[], LoadedWorker]:
        return _ToyLoader(self)


@dataclass(frozen=True)
class Occupation:
    """The work of a worker: a stage, and the attempts that share the call, each as video id and lease token."""

    stage: Stage
    attempts: tuple[tuple[UUID, int], ...]


def occupations(journal_dir: Path) -> dict[int, Occupation]:
    """The journal's occupation of each worker process; those of processes that are gone are still there."""
    found: dict[int, Occupation] = {}
    for path in journal_dir.iterdir():
        if path.suffix:
            continue
        with suppress(FileNotFoundError):  # it is through with it
            found[int(path.name)] = _occupation(json.loads(path.read_text()))
    return found


def _occupation(said: dict[str, Any]) -> Occupation:
    keys = [key.rsplit("-", 1) for key in said["keys"]]
    return Occupation(Stage(said["stage"]), tuple((UUID(video), int(token)) for video, token in keys))


@dataclass(frozen=True)
class _ToyLoader:
    plan: ToyPlan

    def __call__(self) -> LoadedWorker:
        from cluster.store.postgres.connections import open_pool
        from cluster.store.queue.stage_results import StageResults
        from cluster.store.videos.scenes import SceneStore

        gc.disable()  # what videos took is given back without it
        pool = open_pool(self.plan.database_url, min_size=1, max_size=2, name="toy-worker")
        toys = _Toys(self.plan, SceneStore(pool), StageResults(pool))
        # Postgres finds the scenes itself, and no toy is a file of this machine.
        names = RESULT_TYPES.keys() - {ENGINE_CALL, "locate"} | {"discard", "list_downloads"}
        calls = {name: getattr(toys, name) for name in names}
        return LoadedWorker(calls, batched=frozenset({"describe", "transcribe"}), makes=RESULT_TYPES)


@dataclass(frozen=True)
class _Said:
    """The data that travel with a toy video along its way, in place of sound and pictures."""

    uri: str
    key: str

    @staticmethod
    def of(text: str) -> "_Said":
        return _Said(*text.split())

    def __str__(self) -> str:
        return f"{self.uri} {self.key}"


class _Toys:
    """Every call of every kind of worker."""

    def __init__(self, plan: ToyPlan, scenes: Any, results: Any) -> None:
        self._plan = plan
        self._scenes = scenes
        self._results = results
        self._place = plan.journal_dir / str(os.getpid()) if plan.journal_dir is not None else None
        self._now: list[_Said] = []
        self._writing = threading.Lock()
        if self._place is not None:
            self._place.unlink(missing_ok=True)  # of another process that had this id

    def fetch(self, uri: str, key: str, _owner_id: UUID | None = None, _origin: Origin = Origin.COMMAND) -> Any:
        said = _Said(uri, key)
        folder = self._plan.scratch_dir / key
        folder.mkdir(parents=True)
        part = folder / "part"  # renamed when complete: another download may end this process meanwhile
        part.write_text(str(said).ljust(SMALL_BYTES + 1))  # what is made of it stays in the object store
        part.rename(folder / "video")
        size_bytes = len(uri) if self._plan.share_calls else SMALL_FILES_BYTES
        return self._befall(said, Stage.DOWNLOADING) or LocalVideo(folder / "video", size_bytes, temporary=True)

    def probe(self, video: LocalVideo, language: str | None) -> Any:
        said = _Said.of(video.path.read_text())
        length_s = float(SCENES) if self._plan.share_calls else SHORT_VIDEOS_S
        return self._befall(said, Stage.METADATA) or MediaInfo(
            length_s, 0.0, 25.0, 64, 36, 0, "toy", "toy", video.size_bytes
        )

    def read_speech(self, video: LocalVideo, info: MediaInfo) -> Iterator[Any]:
        yield SpeechWindow(0.0, np.frombuffer(video.path.read_bytes(), np.uint8).astype(np.int16))

    def transcribe(self, batch: Sequence[tuple[Iterable[SpeechWindow], str | None]]) -> list[Iterator[Any]]:
        texts = [w.samples.astype(np.uint8).tobytes().decode().strip() for windows, _ in batch for w in windows]
        said = [_Said.of(text) for text in texts]
        with self._at(Stage.TRANSCRIPTION, *said):
            return [iter([self._transcribed(*item)]) for item in zip(said, texts, strict=True)]

    def _transcribed(self, said: _Said, text: str) -> Any:
        word = Word(0.0, 1.0, text, 1.0)
        odd = self._dealt(said, Stage.TRANSCRIPTION)
        return odd or Transcript("en", (Segment(0.0, 1.0, text, (word,)),), "toy")

    def keep_transcript(self, parts: Iterable[Transcript], video_id: UUID, lease_token: int) -> Iterator[Transcript]:
        (transcript,) = parts
        self._results.keep_transcript(video_id, lease_token, transcript)
        return iter([transcript])

    def recall_transcript(self, video_id: UUID) -> Iterator[Transcript]:
        return iter([self._results.recall_transcript(video_id)])

    def detect(self, video: LocalVideo, info: MediaInfo) -> Iterator[Any]:
        text = video.path.read_text()
        odd = self._befall(_Said.of(text), Stage.SCENE_DETECTION)
        # The picture says which attempt this is: the transcript may be an earlier one's.
        picture = np.frombuffer(text.encode(), np.uint8).reshape(1, -1, 1)
        scenes = tuple(DetectedScene(n, float(n), n + 1.0, n + 0.5, picture) for n in range(SCENES))
        yield odd or SceneBlock(scenes, float(SCENES))

    def describe(self, batch: Sequence[tuple[Any, Any]]) -> list[Iterator[Any]]:
        scenes = [[scene for block in blocks for scene in block.scenes] for blocks, _ in batch]
        spoken = [transcript.segments[0].text for _, transcripts in batch for transcript in transcripts]
        said = [_Said.of(video[0].key_frame.tobytes().decode()) for video in scenes]
        with self._at(Stage.SCENE_PROCESSING, *said):
            return [iter([self._described(*item)]) for item in zip(said, scenes, spoken, strict=True)]

    def _described(self, said: _Said, scenes: Sequence[DetectedScene], spoken: str) -> Any:
        embedding = np.zeros(EMBEDDING_DIM, np.float32)
        embedding[0] = 1.0
        return self._dealt(said, Stage.SCENE_PROCESSING) or [
            SceneDescription(scene.index, spoken, ("toy",), "toy", str(said), embedding, "toy", None, "toy")
            for scene in scenes
        ]

    def write(
        self, video_id: UUID, lease_token: int, blocks: Iterable[SceneBlock], parts: Iterable[Any], said: Iterable[Any]
    ) -> Any:
        (descriptions,), (transcript,) = parts, said
        odd = self._befall(_Said.of(descriptions[0].combined_text), Stage.INDEXING)
        if odd is not None:
            return odd
        written = [
            WrittenScene(uuid5(video_id, str(d.index)), d.index, d.index + 1.0, d.index + 0.5, "toy://", "toy://", d)
            for d in descriptions
        ]
        self._scenes.replace(video_id, lease_token, transcript, written, float(len(written)))
        return len(written)

    def discard(self, key: str) -> None:
        folder = self._plan.scratch_dir / key
        if folder.exists():
            video = folder / "video"
            said = _Said.of(video.read_text()) if video.exists() else None  # its worker died while it made the folder
            shutil.rmtree(folder)
            if said is not None:
                self._dealt(said, Stage.FINALIZING)  # charged to no video: not in the journal

    def list_downloads(self) -> list[str]:
        return [path.name for path in self._plan.scratch_dir.iterdir()] if self._plan.scratch_dir.exists() else []

    def _befall(self, said: _Said, stage: Stage) -> str | None:
        """Spend the stage's time, then do what the URI says."""
        with self._at(stage, said):
            return self._dealt(said, stage)

    def _dealt(self, said: _Said, stage: Stage) -> str | None:
        """The URI's fault for this stage: nothing, the end of the process, an error, or a wrong answer."""
        time.sleep(self._plan.pause_s)
        fault, where, _ = said.uri.removeprefix("toy://").split("/")
        return _DEEDS[fault]() if where == stage.value else None

    @contextmanager
    def _at(self, stage: Stage, *said: _Said) -> Iterator[None]:
        """Say in the journal what this process is at: all of it or nothing. A fetcher is at several at once."""
        if self._place is None:
            yield
            return
        self._note(self._place, stage, lambda: self._now.extend(said))
        try:
            while (self._place.parent / HOLD).exists():
                time.sleep(HOLD_POLL_S)
            yield
        finally:
            self._note(self._place, stage, lambda: self._leave(said))

    def _leave(self, said: Iterable[_Said]) -> None:
        for one in said:
            self._now.remove(one)

    def _note(self, place: Path, stage: Stage, change: Callable[[], object]) -> None:
        with self._writing:
            change()
            if not self._now:
                place.unlink(missing_ok=True)
                return
            draft = place.with_suffix(".new")
            draft.write_text(json.dumps({"stage": stage.value, "keys": [one.key for one in self._now]}))
            draft.replace(place)


def _hang() -> None:
    time.sleep(3600)


def _raise() -> None:
    raise ValueError("the toy is broken")


def _cuda() -> None:
    raise DeviceFailure("CUDA error: an illegal memory access was encountered")


def _out_of_memory() -> None:
    np.empty(1 << 58, np.uint8)


def _out_of_bounds() -> None:
    ctypes.string_at(0)


_DEEDS: dict[str, Callable[[], str | None]] = {
    "raise": _raise,
    "hang": _hang,
    "sigkill": lambda: os.kill(os.getpid(), signal.SIGKILL),
    "segv": _out_of_bounds,
    "exit": lambda: os._exit(3),
    "memory": _out_of_memory,
    "cuda": _cuda,
    "malformed": lambda: "nonsense",
}
