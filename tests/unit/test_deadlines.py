"""Deadlines: bounded by what was measured, with a floor, a ceiling, and a rule for what is unknown."""

import pytest

from actors.workers.deadlines import ENOUGH, FACTOR, MOST_S, RECENT, Deadlines
from cluster.contracts.stages import DEADLINES, Stage

LONG_S = 12 * 3600.0
HOUR_S = 3600.0
SPOKEN = Stage.TRANSCRIPTION


def given_s(deadlines: Deadlines, duration_s: float | None, stage: Stage = SPOKEN, call: str = "transcribe") -> float:
    """The whole deadline of one video's call."""
    return DEADLINES[stage].fixed_s + deadlines.added_s(stage, call, duration_s)


def measured(rate: float, runs: int = ENOUGH, model: str | None = "small@1", call: str = "transcribe") -> Deadlines:
    """Runs of videos of 99 seconds, each ``rate`` seconds per second."""
    deadlines = Deadlines()
    for _ in range(runs):
        deadlines.note_run(call, model, 99.0, rate * 100.0)
    return deadlines


@pytest.mark.parametrize("stage", Stage)
def test_deadlines_without_measurements_end_within_a_day(stage: Stage) -> None:
    given = given_s(Deadlines(), LONG_S, stage, "any")
    assert DEADLINES[stage].fixed_s <= given <= DEADLINES[stage].fixed_s + MOST_S


def test_deadlines_of_short_videos_are_as_before_measuring() -> None:
    assert given_s(Deadlines(), 60.0) == 300.0 + 20.0 * 60.0


def test_deadlines_follow_the_slowest_hundredth() -> None:
    deadlines = measured(0.2)
    assert given_s(deadlines, HOUR_S) == pytest.approx(FACTOR * 0.2 * (HOUR_S + 1))
    for _ in range(RECENT - ENOUGH - 10):
        deadlines.note_run("transcribe", "small@1", 99.0, 20.0)
    for _ in range(10):
        deadlines.note_run("transcribe", "small@1", 99.0, 60.0)
    assert given_s(deadlines, HOUR_S) == pytest.approx(FACTOR * 0.6 * (HOUR_S + 1))


def test_deadlines_leave_out_one_slow_run_of_many() -> None:
    deadlines = measured(0.2, RECENT - 4)
    for _ in range(4):
        deadlines.note_run("transcribe", "small@1", 99.0, 5000.0)
    assert given_s(deadlines, HOUR_S) == pytest.approx(FACTOR * 0.2 * (HOUR_S + 1))


def test_deadlines_are_bounded_below() -> None:
    deadlines = measured(0.001)
    assert given_s(deadlines, 1.0) == DEADLINES[SPOKEN].fixed_s
    assert given_s(deadlines, LONG_S) == LONG_S  # no stage is given less than the video lasts
    described = measured(0.001, call="describe")
    assert given_s(described, LONG_S, Stage.SCENE_PROCESSING, "describe") == pytest.approx(0.01 * (LONG_S + 1))


@pytest.mark.parametrize("rate", [0.001, 0.01, 0.1, 0.3, 0.9])
def test_a_twelve_hour_video_holds_no_worker_for_days(rate: float) -> None:
    for stage, call in ((SPOKEN, "transcribe"), (Stage.SCENE_DETECTION, "detect")):
        assert given_s(measured(rate, call=call), LONG_S, stage, call) <= MOST_S


def test_deadlines_of_a_slow_machine_leave_it_the_time() -> None:
    assert given_s(measured(3.0), LONG_S) == pytest.approx(2.0 * 3.0 * (LONG_S + 1))


def test_deadlines_with_too_few_measurements_are_the_stages() -> None:
    assert given_s(measured(0.1, ENOUGH - 1), HOUR_S) == given_s(Deadlines(), HOUR_S)
    assert given_s(measured(0.1, ENOUGH), HOUR_S) < given_s(Deadlines(), HOUR_S)


def test_deadlines_after_a_model_change_are_unmeasured() -> None:
    deadlines = measured(0.01)
    deadlines.note_run("transcribe", "large-v3@2", 99.0, 400.0)
    assert given_s(deadlines, HOUR_S) == given_s(Deadlines(), HOUR_S)
    for _ in range(ENOUGH):
        deadlines.note_run("transcribe", "large-v3@2", 99.0, 400.0)
    assert given_s(deadlines, 600.0) == pytest.approx(FACTOR * 4.0 * 601.0)


def test_deadlines_of_other_calls_are_not_touched() -> None:
    deadlines = measured(0.1)
    assert given_s(deadlines, HOUR_S, SPOKEN, "read_speech") == given_s(Deadlines(), HOUR_S)


def test_deadlines_without_a_duration_are_the_fixed_part() -> None:
    deadlines = measured(0.1)
    deadlines.note_run("transcribe", "small@1", None, 5000.0)
    assert given_s(deadlines, None) == DEADLINES[SPOKEN].fixed_s
