"""A video's way, from claim to READY, as one coroutine to be read from top to bottom.

Says which call of which worker makes up each stage and what flows between them: small values and references
(``Parts``), never pictures or sound. What ``run`` does around a stage (ledger, waiting, measuring) is the
scheduler's.
"""

import asyncio
import math
from collections.abc import Coroutine, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol

from actors.workers.worker import Parts
from cluster.contracts.media import LocalVideo, MediaInfo
from cluster.contracts.results import StageFailure
from cluster.contracts.stages import FETCH_CALL, REQUIRES, Blame, Outcome, Stage, WorkerKind
from cluster.contracts.videos import ClaimedVideo


@dataclass(frozen=True)
class Call:
    """One call of a worker. ``on_file_node``: only on the node of the video's file. ``size``: what it is in a batch."""

    kind: WorkerKind
    name: str
    arguments: tuple[Any, ...]
    on_file_node: bool = False
    size: float = 0.0


@dataclass(frozen=True)
class Done:
    """A completed stage: its value and when it was finished, on the database's clock."""

    value: Any
    finished_at: datetime


class StageFailed(Exception):
    """A stage of this video failed; carries which one and why."""

    def __init__(self, stage: Stage, failure: StageFailure, finished_at: datetime) -> None:
        super().__init__(f"{stage}: {failure.message}")
        self.stage = stage
        self.failure = failure
        self.finished_at = finished_at


class StageRunner(Protocol):
    """Runs the stages of one video and keeps its ledger."""

    async def run(
        self, stage: Stage, after: Sequence[Done], *calls: Call, outcome: Outcome = Outcome.COMPLETED
    ) -> Done:
        """Run a stage: its calls one after the other; ``PREVIOUS`` in a call is replaced by the value before it.

        ``outcome`` is what the ledger says when all went well. Without calls, nothing is done. A ``MediaInfo`` is
        written down as what the video is.

        Raises:
            StageFailed: a call failed; the ledger says so already.
            LeaseLost: another scheduler owns the video.
        """
        ...


CAUSE_WITHIN_S = 3.0
"""Wait of an interrupted stage for the one beside it to say why: longer than it takes to report a death."""
ENGINE_CALL = "index"
"""The call that waits for the search engine while it is away, instead of failing the video."""
PREVIOUS = object()
"""Placeholder for the previous call's value in a later call's arguments."""


def download_key(video: ClaimedVideo) -> str:
    """The name under which this attempt's file is stored on its node, if it had to be copied."""
    return f"{video.id}-{video.lease_token}"


async def walk(
    video: ClaimedVideo, claimed: Done, runner: StageRunner, with_engine: bool = False, *, copied: bool = False
) -> Done:
    """Take a claimed video to the point where only finalizing is left; returns the indexing stage.

    ``claimed`` is the moment of the claim; ``with_engine``: whether an engine beside Postgres finds the scenes;
    ``copied``: whether the file has to be fetched. What an earlier attempt left stored is skipped. Raises what
    ``StageRunner.run`` raises.
    """
    engine = [Call(WorkerKind.WRITER, ENGINE_CALL, (video.id,))] if with_engine else []
    if Stage.INDEXING in video.stored:
        return await _skip_to_the_end(claimed, runner, engine)

    if copied:
        source = (video.uri, download_key(video), video.owner_id, video.origin)
        get = Call(WorkerKind.FETCHER, FETCH_CALL, source)
    else:
        get = Call(WorkerKind.MEDIA, "locate", (video.uri, video.owner_id, video.origin))
    downloaded = await runner.run(Stage.DOWNLOADING, [claimed], get)
    local: LocalVideo = downloaded.value

    probe = _on_file("probe", local, video.language, size=local.size_bytes)
    probed = await runner.run(Stage.METADATA, [downloaded], probe)
    info: MediaInfo = probed.value
    length_s = _length_s(info)

    # Sound is decoded first, so that speech is recognised while the pictures are still being decoded.
    transcribed, detected = await _both(
        _transcribe(video, local, probed, runner),
        runner.run(Stage.SCENE_DETECTION, [probed], _on_file("detect", local, info, size=length_s)),
    )
    transcript: Parts = transcribed.value
    scenes: Parts = detected.value

    described = await runner.run(
        Stage.SCENE_PROCESSING,
        [transcribed, detected],
        Call(WorkerKind.EMBEDDER, "describe", (scenes, transcript)),
    )
    written = (video.id, video.lease_token, scenes, described.value, transcript)
    write = Call(WorkerKind.WRITER, "write", written, size=length_s)
    return await runner.run(Stage.INDEXING, [described], write, *engine)


async def _transcribe(video: ClaimedVideo, local: LocalVideo, probed: Done, runner: StageRunner) -> Done:
    """The transcript: made and kept, or the one that an earlier attempt kept."""
    stage = Stage.TRANSCRIPTION
    if stage in video.stored:
        recall = Call(WorkerKind.WRITER, "recall_transcript", (video.id,))
        return await runner.run(stage, [probed], recall, outcome=Outcome.SKIPPED)
    info: MediaInfo = probed.value
    length_s = _length_s(info)
    return await runner.run(
        stage,
        [probed],
        _on_file("read_speech", local, info, size=length_s),
        Call(WorkerKind.TRANSCRIBER, "transcribe", (PREVIOUS, video.language), size=length_s),
        Call(WorkerKind.WRITER, "keep_transcript", (PREVIOUS, video.id, video.lease_token), size=length_s),
    )


async def _skip_to_the_end(claimed: Done, runner: StageRunner, engine: Sequence[Call]) -> Done:
    """The scenes are written already; only READY could not be, or the search engine does not have them yet."""
    done: dict[Stage, Done] = {}
    for stage in Stage:
        if stage is not Stage.FINALIZING:
            after = [done[required] for required in REQUIRES[stage]] or [claimed]
            calls = engine if stage is Stage.INDEXING else []
            outcome = Outcome.COMPLETED if calls else Outcome.SKIPPED
            done[stage] = await runner.run(stage, after, *calls, outcome=outcome)
    return done[Stage.INDEXING]


def _on_file(name: str, *arguments: Any, size: float) -> Call:
    return Call(WorkerKind.MEDIA, name, arguments, on_file_node=True, size=size)


def _length_s(info: MediaInfo) -> float:
    """A video whose headers do not say shares no call."""
    return info.duration_s or math.inf


async def _both(first: Coroutine[Any, Any, Done], second: Coroutine[Any, Any, Done]) -> tuple[Done, Done]:
    """Both results; when either fails, the other one is given up and the one that failed first is raised.

    An interruption may be the other one's doing: a worker that dies in one stage takes along what it made for the
    other. So it waits a moment for a failure that is none.
    """
    tasks = [asyncio.create_task(first), asyncio.create_task(second)]
    try:
        ended, running = await asyncio.wait(tasks, return_when=asyncio.FIRST_EXCEPTION)
        if running and any(_is_interruption(task.exception()) for task in ended):
            await asyncio.wait(running, timeout=CAUSE_WITHIN_S)
    finally:
        for task in tasks:
            task.cancel()
        results = await asyncio.gather(*tasks, return_exceptions=True)
    failed = [result for result in results if isinstance(result, StageFailed)]
    if failed:
        raise min(failed, key=lambda failure: (_is_interruption(failure), failure.finished_at))
    for result in results:
        if isinstance(result, BaseException) and not isinstance(result, asyncio.CancelledError):
            raise result
    return tasks[0].result(), tasks[1].result()


def _is_interruption(error: BaseException | None) -> bool:
    return isinstance(error, StageFailed) and error.failure.blame is Blame.INTERRUPTION
