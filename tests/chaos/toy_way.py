"""Workers that take no time, on the real way of a video: everything but the models and the media is the product's.

A video's URI says what befalls it: ``toy://FAULT/STAGE/NUMBER``, or ``toy://none/none/NUMBER`` for a healthy one.
"""

import ctypes
import os
import shutil
import signal
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import UUID, uuid5

import numpy as np

from actors.stage_actor import LoadedWorker
from actors.worker_kinds import MAKES, Placement
from cluster.contracts.errors import DeviceFailure
from cluster.contracts.media import DetectedScene, LocalVideo, MediaInfo, SceneBlock, SpeechWindow
from cluster.contracts.results import EMBEDDING_DIM, SceneDescription, Segment, Transcript, Word, WrittenScene
from cluster.contracts.stages import Stage, WorkerKind

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
"""What may befall a stage, and the type of the error that must then be told."""
SCENES = 3


def toy_uri(number: int, fault: str = "none", stage: str = "none") -> str:
    return f"toy://{fault}/{stage}/{number}"


@dataclass(frozen=True)
class ToyPlan:
    """Stands for ``actors.worker_kinds.WorkerPlan``. ``pause_s``: how long each stage takes."""

    database_url: str
    scratch_dir: Path
    workers: int
    max_in_flight: int
    pause_s: float = 0.0

    @property
    def placements(self) -> Mapping[WorkerKind, Placement]:
        return {kind: Placement(self.workers if kind is WorkerKind.MEDIA else 1, 0.0) for kind in WorkerKind}

    def held(self, kind: WorkerKind) -> float:
        return 1.0

    def loader(self, kind: WorkerKind) -> Callable[[], LoadedWorker]:
        return _ToyLoader(self)


@dataclass(frozen=True)
class _ToyLoader:
    plan: ToyPlan

    def __call__(self) -> LoadedWorker:
        from cluster.store.database import open_pool
        from cluster.store.scenes import SceneStore
        from cluster.store.stage_results import StageResults

        pool = open_pool(self.plan.database_url, min_size=1, max_size=2, name="toy-worker")
        toys = _Toys(self.plan, SceneStore(pool), StageResults(pool))
        calls = {name: getattr(toys, name) for name in (*MAKES, "discard", "list_downloads")}
        return LoadedWorker(calls, batched=frozenset({"describe"}), makes=MAKES)


class _Toys:
    """Every call of every kind of worker."""

    def __init__(self, plan: ToyPlan, scenes: Any, results: Any) -> None:
        self._plan = plan
        self._scenes = scenes
        self._results = results

    def download(self, uri: str, key: str) -> Any:
        folder = self._plan.scratch_dir / key
        folder.mkdir(parents=True)
        (folder / "video").write_text(uri)
        return self._befall(uri, Stage.DOWNLOADING) or LocalVideo(folder / "video", len(uri), temporary=True)

    def probe(self, video: LocalVideo) -> Any:
        uri = video.path.read_text()
        return self._befall(uri, Stage.METADATA) or MediaInfo(
            float(SCENES), 0.0, 25.0, 64, 36, 0, "toy", "toy", video.size_bytes
        )

    def read_speech(self, video: LocalVideo, info: MediaInfo) -> Iterator[Any]:
        yield SpeechWindow(0.0, np.frombuffer(video.path.read_bytes(), np.uint8).astype(np.int16))

    def transcribe(self, windows: Iterable[SpeechWindow], language: str | None) -> Iterator[Any]:
        (window,) = windows
        uri = window.samples.astype(np.uint8).tobytes().decode()
        word = Word(0.0, 1.0, uri, 1.0)
        yield self._befall(uri, Stage.TRANSCRIPTION) or Transcript("en", (Segment(0.0, 1.0, uri, (word,)),), "toy")

    def keep_transcript(self, parts: Iterable[Transcript], video_id: UUID, lease_token: int) -> Iterator[Transcript]:
        (transcript,) = parts
        self._results.keep_transcript(video_id, lease_token, transcript)
        return iter([transcript])

    def recall_transcript(self, video_id: UUID) -> Iterator[Transcript]:
        return iter([self._results.recall_transcript(video_id)])

    def detect(self, video: LocalVideo, info: MediaInfo) -> Iterator[Any]:
        picture = np.zeros((4, 4, 3), np.uint8)
        scenes = tuple(DetectedScene(n, float(n), n + 1.0, n + 0.5, picture) for n in range(SCENES))
        yield self._befall(video.path.read_text(), Stage.SCENE_DETECTION) or SceneBlock(scenes, float(SCENES))

    def describe(self, batch: Sequence[tuple[Any, Any]]) -> list[Iterator[Any]]:
        return [iter([self._described(*item)]) for item in batch]

    def _described(self, blocks: Iterable[SceneBlock], transcripts: Iterable[Transcript]) -> Any:
        (transcript,) = transcripts
        said = transcript.segments[0].text
        embedding = np.zeros(EMBEDDING_DIM, np.float32)
        embedding[0] = 1.0
        scenes = [scene for block in blocks for scene in block.scenes]
        return self._befall(said, Stage.SCENE_PROCESSING) or [
            SceneDescription(scene.index, said, ("toy",), "toy", said, embedding, "toy") for scene in scenes
        ]

    def write(
        self, video_id: UUID, lease_token: int, blocks: Iterable[SceneBlock], parts: Iterable[Any], said: Iterable[Any]
    ) -> Any:
        (descriptions,), (transcript,) = parts, said
        odd = self._befall(transcript.segments[0].text, Stage.INDEXING)
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
            uri = (folder / "video").read_text()
            shutil.rmtree(folder)
            self._befall(uri, Stage.FINALIZING)

    def list_downloads(self) -> list[str]:
        return [path.name for path in self._plan.scratch_dir.iterdir()] if self._plan.scratch_dir.exists() else []

    def _befall(self, uri: str, stage: Stage) -> str | None:
        """What the URI says for this stage: nothing, the end of the process, an error, or a wrong answer."""
        time.sleep(self._plan.pause_s)
        fault, where, _ = uri.removeprefix("toy://").split("/")
        return _DEEDS[fault]() if where == stage.value else None


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
