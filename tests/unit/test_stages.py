"""The shared vocabulary: a graph that can be walked, deadlines that grow with the video, retries that spread out."""

import pytest

from cluster.contracts.stages import DEADLINES, QUEUED, REQUIRES, Blame, Deadline, Outcome, RetryRule, Setbacks, Stage


def test_every_stage_has_its_place_and_its_deadline() -> None:
    assert set(REQUIRES) == set(DEADLINES) == set(Stage)


def test_stage_order_never_needs_a_later_stage() -> None:
    done: set[Stage] = set()
    for stage in Stage:
        assert set(REQUIRES[stage]) <= done
        done.add(stage)


def test_one_stage_begins_and_one_ends_every_video() -> None:
    required = {stage for stages in REQUIRES.values() for stage in stages}
    assert [stage for stage, requires in REQUIRES.items() if not requires] == [Stage.DOWNLOADING]
    assert set(Stage) - required == {Stage.FINALIZING}


def test_speech_and_pictures_are_worked_on_side_by_side() -> None:
    assert REQUIRES[Stage.TRANSCRIPTION] == REQUIRES[Stage.SCENE_DETECTION] == (Stage.METADATA,)
    assert set(REQUIRES[Stage.SCENE_PROCESSING]) == {Stage.TRANSCRIPTION, Stage.SCENE_DETECTION}


def test_names_are_what_sql_and_json_say() -> None:
    assert [stage.value for stage in Stage] == [
        "downloading", "metadata", "transcription", "scene_detection", "scene_processing", "indexing", "finalizing",
    ]  # fmt: skip
    assert f"{Stage.METADATA}" == "metadata"
    assert QUEUED not in set(Stage)
    assert {outcome.value for outcome in Outcome} == {"running", "completed", "failed", "skipped", "lost"}


def test_a_deadline_has_a_fixed_part_and_grows_with_the_video() -> None:
    deadline = Deadline(60.0, 2.0)
    assert (deadline.added_s(None), deadline.added_s(0.0), deadline.added_s(30.0)) == (0.0, 0.0, 60.0)
    for stage, given in DEADLINES.items():
        assert given.fixed_s >= 60.0, stage
        assert given.per_video_s >= 0.0, stage


@pytest.mark.parametrize("jitter", [0.0, 0.5, 0.999])
def test_back_off_doubles_to_its_bound_and_keeps_half(jitter: float) -> None:
    rule = RetryRule(max_errors=20, first_delay_s=2.0, max_delay_s=300.0)
    for failures in range(1, 20):
        whole = min(300.0, 2.0 * 2 ** (failures - 1))
        assert whole / 2 <= rule.delay_s(Setbacks(errors=failures), jitter) <= whole
    assert rule.delay_s(Setbacks(crashes=1), 0.0) == 1.0
    assert rule.delay_s(Setbacks(interruptions=20), 0.0) == 150.0
    assert rule.delay_s(Setbacks(errors=1000), 0.0) == 150.0


def test_errors_crashes_and_interruptions_are_counted_apart() -> None:
    rule = RetryRule(max_errors=3, max_crashes=3, max_interruptions=20)
    counted = [blame for blame in Blame if blame is not Blame.POSTPONEMENT]
    tired = Setbacks(errors=2, crashes=2, interruptions=19)
    assert tired.plus(Blame.ERROR) == Setbacks(3, 2, 19)
    assert [rule.is_final(Setbacks(2, 2, 19), blame) for blame in counted] == [True, False, False, False]
    assert [rule.is_final(tired.plus(blame), blame) for blame in counted] == [True] * 4


def test_a_postponement_counts_by_its_time_alone() -> None:
    rule = RetryRule(max_postponed_s=100.0)
    patient = Setbacks(errors=9, crashes=9, interruptions=99, postponed_s=99.0)
    assert patient.plus(Blame.POSTPONEMENT) == patient
    assert not rule.is_final(patient, Blame.POSTPONEMENT)
    assert rule.is_final(Setbacks(postponed_s=100.0), Blame.POSTPONEMENT)


@pytest.mark.parametrize("jitter", [0.0, 0.999])
def test_a_postponement_lasts_as_long_as_the_source_says(jitter: float) -> None:
    rule = RetryRule(max_postponement_s=3600.0)
    for said_s, waited_s, wanted_s in (
        (20.0, 0.0, 20.0),
        (20.0, 80.0, 20.0),
        (20.0, 400.0, 100.0),
        (0.0, 0.0, 1.0),
        (3600.0, 0.0, 3600.0),
        (1e18, 0.0, 3600.0),
    ):
        delay_s = rule.postponement_s(Setbacks(postponed_s=waited_s), said_s, jitter)
        assert wanted_s <= delay_s <= 1.1 * wanted_s


def test_a_source_that_is_never_ready_is_given_up() -> None:
    rule, setbacks, attempts = RetryRule(), Setbacks(), 0
    while not rule.is_final(setbacks, Blame.POSTPONEMENT):
        attempts += 1
        waited_s = setbacks.postponed_s + rule.postponement_s(setbacks, 0.0, 0.0)
        setbacks = Setbacks(postponed_s=waited_s)
    assert attempts < 60
    assert rule.max_postponed_s <= setbacks.postponed_s < 2 * rule.max_postponed_s


def test_a_video_runs_alone_once_it_has_one_crash_left() -> None:
    assert [RetryRule(max_crashes=3).runs_alone(Setbacks(crashes=n)) for n in range(4)] == [False, False, True, True]
    assert not RetryRule(max_crashes=1).runs_alone(Setbacks())
