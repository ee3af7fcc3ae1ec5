"""What each kind of worker loads and which calls it answers; how many of each a cluster gets.

The configurations are small and plain: they travel into the workers' constructors, models do not.
"""

import math
import os
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar
from uuid import UUID

from actors.workers.configs import FetchConfig, MediaConfig, Placement, SpeechConfig, VisionConfig, WriterConfig
from actors.workers.fetch_slots import FetchLimit
from actors.workers.media_calls import NICENESS, confined, decoding_calls, start_decoder
from actors.workers.turns import BatchLimit
from actors.workers.worker import LoadedWorker, Share
from cluster.contracts.errors import HeimdexError
from cluster.contracts.media import LocalVideo, MediaInfo, SceneBlock, SpeechWindow
from cluster.contracts.results import SceneDescription, Transcript
from cluster.contracts.stages import WorkerKind
from cluster.contracts.uris import scheme_of
from cluster.contracts.videos import Origin
from cluster.decoders.sandbox import available
from cluster.files.origins import limits_for
from cluster.files.storage import locate
from cluster.security.private_files import make_private_folder

Item = TypeVar("Item")

VIDEOS_PER_EMBEDDER_CALL = 8
VIDEOS_PER_TRANSCRIBER_CALL = 32
SOUND_PER_TRANSCRIBER_CALL_S = 300.0
"""So that no item waits long for those that share its call."""
SHORT_VIDEOS_PER_CALL = 16
SHORT_VIDEOS_S = 30.0
SMALL_FILES_BYTES = 16 * 2**20
"""Where a call takes less time than asking for it, short videos share one: so many, of such a length, or such a size
before the length is known. Whatever kills the worker hits all that share it, so longer videos have theirs alone."""
FETCHER_HANGS_S = 60.0
FETCH_PRIORITY = 19
"""The lowest: models never wait for a source that sends as fast as a CPU takes it."""
LEAST_WEIGHT_S = 0.1
"""Weight of a video without speech beside the others' seconds of speech: looking for it."""


@dataclass(frozen=True)
class WorkerPlan:
    """The pools of a cluster: configuration and placement of every kind, and how many videos are on the way at once."""

    fetch: FetchConfig
    media: MediaConfig
    speech: SpeechConfig
    vision: VisionConfig
    writer: WriterConfig
    placements: Mapping[WorkerKind, Placement]
    max_in_flight: int

    def loader(self, kind: WorkerKind) -> Callable[[], LoadedWorker]:
        """What a worker of ``kind`` runs in its own process to load itself."""
        loaders: dict[WorkerKind, Callable[[], LoadedWorker]] = {
            WorkerKind.FETCHER: _FetchLoader(self.fetch),
            WorkerKind.MEDIA: _MediaLoader(self.media, confine=True),
            WorkerKind.TRANSCRIBER: _SpeechLoader(self.speech),
            WorkerKind.EMBEDDER: _VisionLoader(self.vision),
            WorkerKind.WRITER: _WriterLoader(self.writer),
        }
        return loaders[kind]

    def resource_share(self, kind: WorkerKind) -> float:
        """GPUs, or CPU threads, that a busy worker of ``kind`` holds: what a second of its run costs."""
        placement = self.placements[kind]
        if placement.gpus:
            return placement.gpus
        threads = {
            WorkerKind.FETCHER: 0,
            WorkerKind.MEDIA: self.media.threads,
            WorkerKind.TRANSCRIBER: self.speech.threads,
            WorkerKind.EMBEDDER: self.vision.threads,
            WorkerKind.WRITER: 1,
        }
        return float(threads[kind])

    @property
    def fetch_limit(self) -> FetchLimit:
        """Number of downloads that run at once."""
        return self.fetch.limit

    @property
    def fetch_deadline_s(self) -> float:
        """Time that a download may run before its fetcher, which keeps the time itself, is taken for hung."""
        return self.fetch.limits.timeout_s + FETCHER_HANGS_S

    @property
    def root_is_remote(self) -> bool:
        """Whether relative paths are below a storage root that is no folder."""
        root = self.fetch.limits.storage_root
        return root is not None and scheme_of(root.url) != "file"


_SHORT = BatchLimit(SHORT_VIDEOS_PER_CALL, SHORT_VIDEOS_S, spread=True)
BATCH_LIMITS: dict[str, BatchLimit] = {
    "locate": _SHORT,
    "probe": BatchLimit(SHORT_VIDEOS_PER_CALL, SMALL_FILES_BYTES, spread=True),
    "read_speech": _SHORT,
    "detect": _SHORT,
    "keep_transcript": _SHORT,
    "write": _SHORT,
    "describe": BatchLimit(VIDEOS_PER_EMBEDDER_CALL),
    "transcribe": BatchLimit(VIDEOS_PER_TRANSCRIBER_CALL, SOUND_PER_TRANSCRIBER_CALL_S),
}
"""Limits on videos that share a call. The size is a video's length in seconds; in ``probe`` it is bytes, in ``locate``
nothing."""

DEFERRED = frozenset({"detect"})
"""Pictures take a media worker ten times as long as all before them: speech is handed on first, so that the
transcriber never waits for pictures, and finds windows' worth of it."""

RESULT_TYPES: dict[str, type] = {
    "fetch": LocalVideo,
    "locate": LocalVideo,
    "probe": MediaInfo,
    "read_speech": SpeechWindow,
    "detect": SceneBlock,
    "transcribe": Transcript,
    "keep_transcript": Transcript,
    "recall_transcript": Transcript,
    "describe": list,
    "write": int,
    "index": type(None),
}
"""The type of what each call answers, or of every part of it."""


def counts_for(cpus: float, gpus: float, transcriber_gpus: float, embedder_gpus: float) -> dict[WorkerKind, int]:
    """Number of workers of each kind that a cluster of so many CPUs and GPUs gets.

    On GPUs, each card takes one embedder and as many transcribers as fit beside it. On CPUs, decoding, speech and
    vision share the cores about as their work is shared: speech recognition takes the most. Two CPUs have
    two media workers already: while one waits for its next call, the other works.
    """
    media = max(min(2, int(cpus)), int(cpus) // 2, 1)
    if gpus >= 1:
        per_card = max(1, math.floor((1 - embedder_gpus) / transcriber_gpus + 1e-9))
        transcribers, embedders = int(gpus) * per_card, int(gpus)
    else:
        transcribers, embedders = max(1, int(cpus) // 4), max(1, int(cpus) // 16)
    return {
        WorkerKind.MEDIA: media,
        WorkerKind.TRANSCRIBER: transcribers,
        WorkerKind.EMBEDDER: embedders,
        WorkerKind.WRITER: max(1, media // 8),
    }


@dataclass(frozen=True)
class _FetchLoader:
    config: FetchConfig

    def __call__(self) -> LoadedWorker:
        from actors.stages.fetcher import Fetcher

        for folder in (self.config.scratch_dir.parent, self.config.scratch_dir):
            make_private_folder(folder, "HEIMDEX_SCRATCH_DIR")
        fetcher = Fetcher(self.config.limits, self.config.scratch_dir, self.config.owner_share)

        def fetch(uri: str, key: str, owner_id: UUID | None = None, origin: Origin = Origin.COMMAND) -> LocalVideo:
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), FETCH_PRIORITY)  # of this thread alone
            return fetcher.fetch(uri, key, owner_id, origin)

        calls: dict[str, Callable[..., Any]] = {
            "fetch": fetch,
            "discard": fetcher.discard,
            "list_downloads": fetcher.list_downloads,
        }
        return LoadedWorker(calls, makes=RESULT_TYPES)


@dataclass(frozen=True)
class _MediaLoader:
    """``confine``: files are decoded in a process of its own, which is kept from what it does not need."""

    config: MediaConfig
    confine: bool = False

    def __call__(self) -> LoadedWorker:
        from actors.stages.growing_file import found_by

        config = self.config

        def located(uri: str, owner_id: UUID | None = None, origin: Origin = Origin.COMMAND) -> LocalVideo:
            limits = config.local_limits
            if owner_id is not None:
                limits = limits_for(uri, origin, owner_id, limits)
            with found_by(uri):
                return replace(locate(uri, limits), owner_id=owner_id)

        how = (config.media_limits, config.key_frame_px, config.threads)
        if not self.confine:
            calls = decoding_calls(*how)
            return LoadedWorker({"locate": located, **calls}, makes=RESULT_TYPES, niceness=NICENESS)
        decoder, kept_from = start_decoder(*how), available()
        if config.copies_dir is not None:
            for folder in (config.copies_dir.parent, config.copies_dir):
                make_private_folder(folder, "HEIMDEX_SCRATCH_DIR")
        return LoadedWorker(
            {"locate": located, **confined(decoder, config.media_limits, config.copies_dir)},
            makes=RESULT_TYPES,
            model=lambda: None if kept_from.is_whole else f"decodes with {kept_from}",
            niceness=NICENESS,
            forgets=True,
            peak_memory_bytes=lambda: decoder.peak_memory_bytes,
        )


@dataclass(frozen=True)
class _SpeechLoader:
    config: SpeechConfig

    def __call__(self) -> LoadedWorker:
        from actors.stages.transcriber import SoundOfVideo, Transcriber

        config = self.config
        transcriber = Transcriber(
            config.model, config.device, config.compute_type, config.threads, beam_size=config.beam_size
        )

        def transcribe(batch: Sequence[tuple[Iterable[SpeechWindow], str | None]]) -> list[Share]:
            transcribed = transcriber.transcribe_all([SoundOfVideo(windows, language) for windows, language in batch])
            return [Share(_parts_or_error(video.transcript), video.spoken_s + LEAST_WEIGHT_S) for video in transcribed]

        return LoadedWorker(
            {"transcribe": transcribe},
            batched=frozenset({"transcribe"}),
            makes=RESULT_TYPES,
            device=config.device,
            model=lambda: transcriber.model_name,
        )


@dataclass(frozen=True)
class _VisionLoader:
    config: VisionConfig

    def __call__(self) -> LoadedWorker:
        from actors.stages.scene_embedder import ScenesOfVideo
        from actors.workers.active_embedder import ActiveEmbedder

        embedder = ActiveEmbedder(self.config)

        def describe(
            batch: Sequence[tuple[Iterable[SceneBlock], Iterable[Transcript]]],
        ) -> list[Share]:
            videos = [ScenesOfVideo(blocks, _only(transcript)) for blocks, transcript in batch]
            return [Share(iter([described]), len(described)) for described in embedder.describe(videos)]

        return LoadedWorker(
            {"describe": describe},
            batched=frozenset({"describe"}),
            makes=RESULT_TYPES,
            device=self.config.device,
            model=lambda: embedder.model,
        )


@dataclass(frozen=True)
class _WriterLoader:
    config: WriterConfig

    def __call__(self) -> LoadedWorker:
        from actors.stages.scene_writer import SceneWriter
        from cluster.store.opensearch.client import open_client
        from cluster.store.opensearch.sync import IndexFollower
        from cluster.store.postgres.connections import open_pool
        from cluster.store.queue.stage_results import StageResults
        from cluster.store.videos.scenes import SceneStore

        pool = open_pool(self.config.database_url, min_size=1, max_size=2, name="heimdex-writer")
        writer = SceneWriter(SceneStore(pool), self.config.scenes_url)
        results = StageResults(pool)

        def keep_transcript(parts: Iterable[Transcript], video_id: UUID, lease_token: int) -> Iterator[Transcript]:
            transcript = _only(parts)
            results.keep_transcript(video_id, lease_token, transcript)
            return iter([transcript])

        def recall_transcript(video_id: UUID) -> Iterator[Transcript]:
            return iter([results.recall_transcript(video_id)])

        def write(
            video_id: UUID,
            lease_token: int,
            blocks: Iterable[SceneBlock],
            descriptions: Iterable[list[SceneDescription]],
            transcript: Iterable[Transcript],
        ) -> int:
            return writer.write(video_id, lease_token, blocks, _only(descriptions), _only(transcript))

        calls: dict[str, Callable[..., Any]] = {
            "write": write,
            "keep_transcript": keep_transcript,
            "recall_transcript": recall_transcript,
        }
        if self.config.engine is not None:
            calls["index"] = IndexFollower(pool, open_client(self.config.engine)).follow
        return LoadedWorker(calls, makes=RESULT_TYPES)


def _parts_or_error(made: Item | HeimdexError) -> Iterator[Item] | HeimdexError:
    return made if isinstance(made, HeimdexError) else iter([made])


def _only(parts: Iterable[Item]) -> Item:
    """The one part of a result that is too large to travel through the scheduler."""
    (part,) = parts
    return part
