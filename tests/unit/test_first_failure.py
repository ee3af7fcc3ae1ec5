"""Two stages run side by side: the one that failed first is the one that is named, and the other one is given up."""

import asyncio
import inspect
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import UUID

import pytest

from actors.attempt.pipeline import Call, Done, StageFailed, walk
from actors.workers.catalog import _FetchLoader, _MediaLoader
from actors.workers.configs import FetchConfig, MediaConfig
from actors.workers.fetch_slots import FetchLimit
from cluster.contracts.media import LocalVideo, MediaInfo, MediaLimits
from cluster.contracts.results import StageFailure
from cluster.contracts.stages import Blame, Outcome, Stage, WorkerKind
from cluster.contracts.videos import ClaimedVideo
from cluster.files.storage import FetchLimits

CLAIMED = datetime(2026, 1, 1, tzinfo=UTC)
VIDEO = ClaimedVideo(UUID(int=1), UUID(int=2), "a.mp4", "a.mp4", None, 1, 1, CLAIMED, CLAIMED)
VALUES = {
    Stage.DOWNLOADING: LocalVideo(Path("a.mp4"), 1, temporary=False),
    Stage.METADATA: MediaInfo(1.0, 0.0, 25.0, 640, 360, 0, "h264", "aac", 1),
}


@dataclass
class Runner:
    """Each stage takes no time but those that fail, so many seconds after the claim, and one that never ends."""

    failing: dict[Stage, float]
    blames: dict[Stage, Blame] = field(default_factory=dict)
    endless: Stage | None = None
    found_out_at_once: bool = False
    given_up: list[Stage] = field(default_factory=list)

    async def run(
        self, stage: Stage, after: Sequence[Done], *calls: Call, outcome: Outcome = Outcome.COMPLETED
    ) -> Done:
        if stage is self.endless:
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                self.given_up.append(stage)
                raise
        if stage in self.failing:
            failure = StageFailure("TransientFailure", f"{stage} failed", self.blames.get(stage, Blame.ERROR))
            await asyncio.sleep(0.0 if self.found_out_at_once else 0.01 * self.failing[stage])
            raise StageFailed(stage, failure, CLAIMED + timedelta(seconds=self.failing[stage]))
        return Done(VALUES.get(stage), CLAIMED)


def failed_stage(runner: Runner) -> Stage:
    async def whole() -> None:
        await asyncio.wait_for(walk(VIDEO, Done(None, CLAIMED), runner), 5)

    with pytest.raises(StageFailed) as caught:
        asyncio.run(whole())
    return caught.value.stage


@pytest.mark.parametrize(
    ("transcription_s", "detection_s", "first"),
    [(1.0, 2.0, Stage.TRANSCRIPTION), (2.0, 1.0, Stage.SCENE_DETECTION)],
)
def test_of_two_that_failed_the_first_is_named(transcription_s: float, detection_s: float, first: Stage) -> None:
    failing = {Stage.TRANSCRIPTION: transcription_s, Stage.SCENE_DETECTION: detection_s}
    for at_once in (True, False):
        assert failed_stage(Runner(failing, found_out_at_once=at_once)) is first


@pytest.mark.parametrize(
    ("failing", "endless"),
    [(Stage.SCENE_DETECTION, Stage.TRANSCRIPTION), (Stage.TRANSCRIPTION, Stage.SCENE_DETECTION)],
)
def test_the_one_beside_is_given_up_at_once(failing: Stage, endless: Stage) -> None:
    runner = Runner({failing: 1.0}, endless=endless)
    assert failed_stage(runner) is failing
    assert runner.given_up == [endless]


@pytest.mark.parametrize(
    ("crashed", "interrupted"),
    [(Stage.SCENE_DETECTION, Stage.TRANSCRIPTION), (Stage.TRANSCRIPTION, Stage.SCENE_DETECTION)],
)
def test_crash_that_interrupts_its_neighbour_is_reported_first(crashed: Stage, interrupted: Stage) -> None:
    blames = {crashed: Blame.CRASH, interrupted: Blame.INTERRUPTION}
    assert failed_stage(Runner({interrupted: 1.0, crashed: 5.0}, blames)) is crashed


def test_an_interruption_waits_only_for_a_moment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("actors.attempt.pipeline.CAUSE_WITHIN_S", 0.05)
    runner = Runner({Stage.TRANSCRIPTION: 1.0}, {Stage.TRANSCRIPTION: Blame.INTERRUPTION}, Stage.SCENE_DETECTION)
    assert failed_stage(runner) is Stage.TRANSCRIPTION
    assert runner.given_up == [Stage.SCENE_DETECTION]


@pytest.mark.parametrize(("copied", "first"), [(False, "locate"), (True, "fetch")])
def test_media_workers_take_what_the_walk_hands_them(tmp_path: Path, copied: bool, first: str) -> None:
    limits = MediaLimits(max_duration_s=60, max_pixels=10**6, max_fps=60, max_streams=4, max_bytes=10**6)
    fetching = FetchLimits(10**6, 10.0)
    loaded = {
        WorkerKind.MEDIA: _MediaLoader(MediaConfig(limits, fetching, 64, 1))(),
        WorkerKind.FETCHER: _FetchLoader(FetchConfig(fetching, tmp_path, 1.0, FetchLimit()))(),
    }
    taken: list[str] = []

    class Binding(Runner):
        async def run(
            self, stage: Stage, after: Sequence[Done], *calls: Call, outcome: Outcome = Outcome.COMPLETED
        ) -> Done:
            for call in calls:
                if call.kind in loaded:
                    inspect.signature(loaded[call.kind].calls[call.name]).bind(*call.arguments)
                    taken.append(call.name)
            return await super().run(stage, after, *calls, outcome=outcome)

    asyncio.run(walk(VIDEO, Done(None, CLAIMED), Binding({}), copied=copied))
    assert sorted(taken) == sorted(["detect", first, "probe", "read_speech"])
