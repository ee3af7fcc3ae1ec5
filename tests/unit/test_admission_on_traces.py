"""The policy on runs that were recorded from a real cluster of two cores, on a clock that jumps.

``recorded_runs.json`` holds, by kind of batch, the length of each video and the run of each of its calls in seconds:
24 clips of 22 s, and 8 of 6 to 90 s. Other programs used the same cores meanwhile, so pictures took longer than speech;
on idle cores it is the other way round, which ``QUIET`` and the silent clips of one second represent.
"""

import json
from collections.abc import Sequence
from dataclasses import replace
from itertools import cycle, islice
from pathlib import Path
from statistics import fmean

import pytest

from actors.scheduler.admission import WAY
from actors.workers.turns import SHARED_CALL_S
from cluster.contracts.stages import WorkerKind
from cluster.contracts.videos import PRIORITY_STEP_S
from tests.support.simulated_cluster import TWO_CORES, Recorded, Sent, Simulation

TRACES = json.loads(Path(__file__).with_name("recorded_runs.json").read_text())
QUIET = {"detect": 0.1, "transcribe": 0.4}
"""By what the recorded runs of these calls are multiplied."""
SILENT = {
    "download": 0.001,
    "probe": 0.002,
    "read_speech": 0.003,
    "transcribe": 0.003,
    "keep_transcript": 0.002,
    "detect": 0.012,
    "describe": 0.008,
    "write": 0.006,
}
EVERYTHING_S = 1e9
"""Work in flight with which all is claimed that memory allows."""


def recorded(batch: str, count: int) -> list[Recorded]:
    """So many videos of a kind, the same ones again and again."""
    if batch == "silent":
        return [Recorded(1.0, SILENT)] * count
    found = [Recorded(video["length_s"], video["runs_s"]) for video in TRACES[batch.removeprefix("quiet ")]]
    if batch.startswith("quiet "):
        found = [
            replace(video, runs_s={call: run_s * QUIET.get(call, 1.0) for call, run_s in video.runs_s.items()})
            for video in found
        ]
    return list(islice(cycle(found), count))


def scaled(video: Recorded, factor: float) -> Recorded:
    """One that is so many times as long."""
    return Recorded(factor * video.length_s, {call: factor * run_s for call, run_s in video.runs_s.items()})


def run(sent: Sequence[Sent], **settings: object) -> Simulation:
    simulation = Simulation(sent, **settings)  # type: ignore[arg-type]
    simulation.run()
    assert all(video.ready_s > video.began_s >= video.at_s for video in sent)
    return simulation


def batch(name: str, count: int, owner: int = 1) -> list[Sent]:
    return [Sent(video, owner) for video in recorded(name, count)]


def whole_s(sent: Sequence[Sent]) -> float:
    return max(video.ready_s for video in sent)


def test_admission_knows_every_call_of_the_way() -> None:
    assert run(batch("clips", 1)).calls == {*WAY.items(), ("locate", WorkerKind.MEDIA)}


@pytest.mark.parametrize("name", ["clips", "quiet clips"])
def test_150_clips_take_no_three_times_their_run(name: str) -> None:
    sent = batch(name, 150)
    run(sent)
    mean_run_s = fmean(video.recorded.run_s for video in sent)
    assert fmean(video.processing_s for video in sent) <= 3 * mean_run_s


@pytest.mark.parametrize(
    ("name", "count"), [("clips", 150), ("quiet clips", 150), ("mixed", 60), ("quiet mixed", 60), ("silent", 500)]
)
def test_throughput_is_that_of_claiming_everything(name: str, count: int) -> None:
    sent, all_claimed = batch(name, count), batch(name, count)
    run(sent)
    run(all_claimed, work_s=EVERYTHING_S)
    assert whole_s(all_claimed) / whole_s(sent) >= 0.95


def test_claiming_everything_would_wait_long_in_between() -> None:
    """The reason for the bound: the same figure without it."""
    sent = batch("clips", 150)
    run(sent, work_s=EVERYTHING_S)
    assert fmean(video.processing_s for video in sent) > 10 * fmean(video.recorded.run_s for video in sent)


@pytest.mark.parametrize("name", ["clips", "quiet clips"])
@pytest.mark.parametrize("owner", [1, 2])
def test_an_urgent_clip_is_ready_soon(name: str, owner: int) -> None:
    (alone,) = batch(name, 1)
    run([alone])
    bulk = batch(name, 150)
    urgent = Sent(bulk[0].recorded, owner, priority=10, at_s=whole_s_of(bulk) / 3)
    run([*bulk, urgent])
    assert urgent.ready_s - urgent.at_s <= 3 * alone.ready_s


def whole_s_of(bulk: Sequence[Sent]) -> float:
    return sum(video.recorded.runs_s["transcribe"] for video in bulk)


def test_only_urgent_videos_leave_others_their_share() -> None:
    greedy = [Sent(video, owner=1, priority=10) for video in recorded("clips", 150)]
    usual = batch("clips", 60, owner=2)
    run([*greedy, *usual])
    begun = sum(video.ready_s <= whole_s(usual) for video in greedy)
    assert begun <= 2.2 * len(usual)


def test_long_urgent_videos_leave_others_their_share() -> None:
    greedy = [Sent(scaled(video, 20.0), owner=1, priority=10) for video in recorded("quiet clips", 6)]
    usual = batch("quiet clips", 120, owner=2)
    run([*greedy, *usual])
    meanwhile_s = min(whole_s(greedy), whole_s(usual))
    received_s = [
        sum(video.recorded.run_s for video in sent if video.ready_s <= meanwhile_s) for sent in (greedy, usual)
    ]
    assert received_s[1] > 0.5 * received_s[0]


def test_owners_of_equal_priority_share_alike() -> None:
    first, second = batch("clips", 100, owner=1), [Sent(v, owner=2, at_s=20.0) for v in recorded("clips", 40)]
    run([*first, *second])
    meanwhile = sum(20.0 < video.ready_s <= whole_s(second) for video in first)
    assert meanwhile == pytest.approx(len(second), abs=6)


@pytest.mark.parametrize("name", ["clips", "quiet clips"])
def test_owners_of_long_and_short_videos_share_alike(name: str) -> None:
    long = [Sent(scaled(video, 20.0), owner=1) for video in recorded(name, 8)]
    short = batch(name, 120, owner=2)
    run([*long, *short])
    meanwhile_s = min(whole_s(long), whole_s(short))
    received_s = [sum(video.recorded.run_s for video in sent if video.ready_s <= meanwhile_s) for sent in (long, short)]
    assert min(received_s) > 0.5 * max(received_s)


def test_nothing_in_flight_waits_for_all_who_come() -> None:
    many = {kind: 4 * count for kind, count in TWO_CORES.items()}
    bulk = [Sent(scaled(video, 0.3), owner=1) for video in recorded("clips", 20)]
    newcomers = [Sent(scaled(video, 0.3), n, at_s=0.3) for n, video in enumerate(recorded("clips", 300), start=2)]
    run([*bulk, *newcomers], workers=many, most=512)
    assert max(video.processing_s for video in [*bulk, *newcomers]) < 0.6 * whole_s(newcomers)
    assert max(video.processing_s for video in newcomers) < 5.0


def test_a_low_priority_that_has_waited_is_not_passed() -> None:
    many = {kind: 4 * count for kind, count in TWO_CORES.items()}
    low = Sent(scaled(recorded("clips", 1)[0], 0.3), priority=-1, at_s=5.0 - PRIORITY_STEP_S)
    before = [replace(low, priority=0, at_s=-2 * PRIORITY_STEP_S) for _ in range(40)]
    bulk = [*before, *(replace(low, priority=0, at_s=0.1 * n) for n in range(160))]
    run([*bulk, low], workers=many, most=512)
    assert low.processing_s < 0.2 * whole_s(bulk)


def test_work_in_flight_keeps_within_its_bound() -> None:
    sent = batch("clips", 150)
    simulation = run(sent)
    most_run_s = max(video.recorded.runs_s["transcribe"] for video in sent)
    assert (
        simulation.most_ahead_s[WorkerKind.TRANSCRIBER] <= max(5.0, 2 * most_run_s) * TWO_CORES[WorkerKind.TRANSCRIBER]
    )


def test_more_workers_have_more_in_flight() -> None:
    many = {kind: 4 * count for kind, count in TWO_CORES.items()}
    few, more = run(batch("clips", 100)), run(batch("clips", 100), workers=many, most=512)
    assert more.most_in_flight > 2 * few.most_in_flight


def test_a_clip_is_not_behind_all_long_videos_before_it() -> None:
    long = [Sent(max(recorded("mixed", 8), key=lambda video: video.length_s)) for _ in range(16)]
    clip = Sent(recorded("clips", 1)[0], owner=2, at_s=1.0)
    run([*long, clip])
    assert sum(video.ready_s < clip.ready_s for video in long) <= len(long) // 3


def test_a_shared_call_stays_short() -> None:
    sent = batch("clips", 150)
    simulation = run(sent)
    assert simulation.longest_shared_s <= 2 * SHARED_CALL_S
