"""The contents of a submission travel to the workers that need them."""

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from uuid import UUID

from actors.attempt.pipeline import Call, Done, walk
from cluster.contracts.media import LocalVideo, MediaInfo
from cluster.contracts.stages import Outcome, Stage, WorkerKind
from cluster.contracts.videos import ClaimedVideo, Origin

CLAIMED = datetime(2026, 1, 1, tzinfo=UTC)
VALUES = {
    Stage.DOWNLOADING: LocalVideo(Path("a.mp4"), 1, temporary=False),
    Stage.METADATA: MediaInfo(1.0, 0.0, 25.0, 640, 360, 0, "h264", "aac", 1),
}


class Runner:
    """Completes every stage at once and keeps its calls."""

    def __init__(self) -> None:
        self.calls: dict[str, Call] = {}

    async def run(
        self, stage: Stage, after: Sequence[Done], *calls: Call, outcome: Outcome = Outcome.COMPLETED
    ) -> Done:
        self.calls |= {call.name: call for call in calls}
        return Done(VALUES.get(stage), CLAIMED)


def test_submitted_language_reaches_media_and_speech_workers() -> None:
    video = ClaimedVideo(UUID(int=1), UUID(int=2), "a.mp4", "a.mp4", "de", 1, 1, CLAIMED, CLAIMED)
    runner = Runner()
    asyncio.run(walk(video, Done(None, CLAIMED), runner))
    assert runner.calls["probe"].arguments == (VALUES[Stage.DOWNLOADING], "de")
    assert runner.calls["transcribe"].arguments[1] == "de"
    assert runner.calls["locate"].arguments == ("a.mp4", video.owner_id, Origin.COMMAND)


def test_a_file_that_is_copied_is_fetched_beside_media_workers() -> None:
    known = ClaimedVideo(UUID(int=1), UUID(int=2), "s3://b/a.mp4", "a.mp4", None, 1, 1, CLAIMED, CLAIMED)
    video = replace(known, origin=Origin.HTTP)
    runner = Runner()
    asyncio.run(walk(video, Done(None, CLAIMED), runner, copied=True))
    fetch = runner.calls["fetch"]
    assert fetch.kind is WorkerKind.FETCHER
    assert fetch.arguments == ("s3://b/a.mp4", "00000000-0000-0000-0000-000000000001-1", video.owner_id, Origin.HTTP)
    assert "locate" not in runner.calls
