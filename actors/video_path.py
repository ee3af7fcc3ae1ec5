"""A video's way, from claim to READY, as one coroutine to be read from top to bottom.

Says which call of which worker makes up each stage and what flows between them: small values and references
(``Parts``), never pictures or sound. What ``run`` does around a stage (ledger, waiting, measuring) is the
scheduler's.
"""

import asyncio
from collections.abc import Awaitable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol

from actors.stage_actor import Parts
from cluster.contracts.media import LocalVideo, MediaInfo
from cluster.contracts.results import StageFailure
from cluster.contracts.stages import Stage, WorkerKind
from cluster.contracts.videos import ClaimedVideo


@dataclass(frozen=True)
class Call:
    """One call of a worker. ``on_file_node``: only where the video's file lies."""

    kind: WorkerKind
    name: str
    arguments: tuple[Any, ...]
    on_file_node: bool = False


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

    async def run(self, stage: Stage, after: Sequence[Done], *calls: Call) -> Done:
        """Run a stage: its calls one after the other, each given the previous one's value as its first argument.

        Raises:
            StageFailed: a call failed; the ledger says so already.
            LeaseLost: another scheduler owns the video.
        """
        ...

    async def record_media(self, info: MediaInfo) -> None:
        """Write down what the probe found."""
        ...


PREVIOUS = object()
"""Stands for the previous call's value in a later call's arguments."""


async def walk(video: ClaimedVideo, claimed: Done, runner: StageRunner) -> Done:
    """Take a claimed video to the point where only finalizing is left; returns the indexing stage.

    ``claimed`` is the moment of the claim. Raises what ``StageRunner.run`` raises.
    """
    download = Call(WorkerKind.MEDIA, "download", (video.uri, f"{video.id}-{video.lease_token}"))
    downloaded = await runner.run(Stage.DOWNLOADING, [claimed], download)
    local: LocalVideo = downloaded.value

    probed = await runner.run(Stage.METADATA, [downloaded], _on_file("probe", local))
    info: MediaInfo = probed.value
    await runner.record_media(info)

    # Sound is decoded first, so that speech is recognised while the pictures are still being decoded.
    transcribed, detected = await _both(
        runner.run(
            Stage.TRANSCRIPTION,
            [probed],
            _on_file("read_speech", local, info),
            Call(WorkerKind.TRANSCRIBER, "transcribe", (PREVIOUS, video.language)),
        ),
        runner.run(Stage.SCENE_DETECTION, [probed], _on_file("detect", local, info)),
    )
    transcript: Parts = transcribed.value
    scenes: Parts = detected.value

    described = await runner.run(
        Stage.SCENE_PROCESSING,
        [transcribed, detected],
        Call(WorkerKind.EMBEDDER, "describe", (scenes, transcript)),
    )
    return await runner.run(
        Stage.INDEXING,
        [described],
        Call(WorkerKind.WRITER, "write", (video.id, video.lease_token, scenes, described.value, transcript)),
    )


def _on_file(name: str, *arguments: Any) -> Call:
    return Call(WorkerKind.MEDIA, name, arguments, on_file_node=True)


async def _both(first: Awaitable[Done], second: Awaitable[Done]) -> tuple[Done, Done]:
    """Both results; when either fails, the one that failed first is raised after both have ended.

    The other one is waited for, so that its run is closed in the ledger as what it was.
    """
    results = await asyncio.gather(first, second, return_exceptions=True)
    failed = [result for result in results if isinstance(result, StageFailed)]
    if failed:
        raise min(failed, key=lambda failure: failure.finished_at)
    one, other = results
    if isinstance(one, BaseException):
        raise one
    if isinstance(other, BaseException):
        raise other
    return one, other
