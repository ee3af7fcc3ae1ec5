"""Number of videos that are claimed: as much work as keeps the workers busy, and few of unknown length."""

from datetime import UTC, datetime
from uuid import UUID

import pytest

from actors.scheduler.admission import (
    FEW_PER_MEDIA_WORKER,
    LAST_CALL,
    UNMEASURED_PER_MEDIA_WORKER,
    WAY,
    WORK_S,
    Admission,
)
from actors.workers.run_estimates import RunEstimates
from cluster.contracts.stages import Stage, WorkerKind
from cluster.contracts.videos import URGENT_AHEAD, ClaimedVideo

MOST = 64
WORKERS = {WorkerKind.MEDIA: 2, WorkerKind.TRANSCRIBER: 1, WorkerKind.EMBEDDER: 1, WorkerKind.WRITER: 1}
FEW = FEW_PER_MEDIA_WORKER * WORKERS[WorkerKind.MEDIA]
MOMENT = datetime(2026, 1, 1, tzinfo=UTC)


def video(token: int, priority: int = 0, stored: frozenset[Stage] = frozenset()) -> ClaimedVideo:
    return ClaimedVideo(
        UUID(int=token), UUID(int=1), "a.mp4", "a.mp4", None, 1, token, MOMENT, MOMENT, priority, stored=stored
    )


def admission(most: int = MOST, **runs_s: float) -> Admission:
    """An empty one that has measured videos of 22 s; a call that is not named ran for no time."""
    estimates = RunEstimates()
    estimates.note_length(22.0)
    for call in WAY:
        estimates.note_run(call, 22.0, runs_s.get(call, 0.0))
    return Admission(WORKERS, most, estimates)


def new(most: int = MOST) -> Admission:
    return Admission(WORKERS, most, RunEstimates())


def done(admission: Admission, token: int, call: str, run_s: float) -> None:
    """A call of the video is done, as the pool and then the attempt say."""
    admission.estimates.note_run(call, 22.0, run_s)
    admission.note_done(token, call)


def claim(admission: Admission, *tokens: int) -> None:
    for token in tokens:
        admission.note_claimed(video(token))


def fill(admission: Admission, length_s: float) -> int:
    """Claim as much as there is room for, and learn its length, until there is none; returns how many."""
    token = 0
    while room := admission.room().videos:
        claim(admission, *range(token, token + room))
        for known in range(token, token + room):
            admission.note_length(known, length_s)
        token += room
    return token


# Work


def test_admission_claims_its_seconds_of_short_runs() -> None:
    assert fill(admission(transcribe=0.25, detect=0.25), 22.0) == WORK_S / 0.25


def test_admission_counts_a_kind_by_its_workers() -> None:
    assert fill(admission(transcribe=0.1, detect=0.25), 22.0) == 2 * WORK_S / 0.25


@pytest.mark.parametrize(("detect_s", "videos"), [(1.0, 2), (2.0, 3), (9.0, 3)])
def test_admission_claims_a_third_while_pictures_decode(detect_s: float, videos: int) -> None:
    assert fill(admission(transcribe=2.0, detect=detect_s), 22.0) == videos


def test_admission_of_long_videos_claims_two_per_worker() -> None:
    assert fill(admission(transcribe=100.0, detect=50.0), 22.0) == 2


def test_admission_of_a_long_video_counts_its_length() -> None:
    busy = admission(transcribe=0.3)
    claim(busy, 1, 2)
    busy.note_length(1, 10 * 22.0)
    busy.note_length(2, 22.0)
    assert busy.work_ahead_s(WorkerKind.TRANSCRIBER) == pytest.approx(0.3 * (221 / 23 + 1))
    assert busy.room().videos == 0


def test_admission_claims_one_to_follow_a_long_video() -> None:
    busy = admission(transcribe=0.3)
    claim(busy, 1)
    busy.note_length(1, 100 * 22.0)
    assert busy.room().videos == 1


def test_admission_when_a_call_ends_claims_the_next() -> None:
    full = admission(transcribe=1.0)
    assert fill(full, 22.0) == 2
    done(full, 0, "read_speech", 0.0)
    assert full.room().videos == 0
    done(full, 0, "transcribe", 1.0)
    assert full.room().videos == 1
    full.note_ended(0)
    assert full.room().videos == 1


def test_admission_follows_runs_that_become_slower() -> None:
    policy = admission(transcribe=0.1)
    for token in range(100, 140):
        claim(policy, token)
        policy.note_length(token, 22.0)
        done(policy, token, "transcribe", 1.5)
        policy.note_ended(token)
    assert fill(policy, 22.0) == 2


def test_admission_one_stalled_run_changes_nothing() -> None:
    policy = admission(transcribe=0.5)
    for token in range(100, 116):
        claim(policy, token)
        policy.note_length(token, 22.0)
        done(policy, token, "transcribe", 500.0 if token == 110 else 0.5)
        policy.note_ended(token)
    assert fill(policy, 22.0) == WORK_S / 0.5


def test_admission_stored_speech_is_no_work() -> None:
    policy = admission(transcribe=1.0)
    policy.note_claimed(video(1, stored=frozenset({Stage.TRANSCRIPTION})))
    assert policy.work_ahead_s(WorkerKind.TRANSCRIBER) == 0.0
    policy.note_claimed(video(2, stored=frozenset({Stage.TRANSCRIPTION, Stage.INDEXING})))
    assert policy.room().videos == 2


def test_admission_before_any_video_came_through_claims_few() -> None:
    policy = new()
    assert policy.room().videos == UNMEASURED_PER_MEDIA_WORKER * WORKERS[WorkerKind.MEDIA]
    claim(policy, 1)
    policy.note_length(1, 22.0)
    done(policy, 1, "transcribe", 1.0)
    assert policy.room().videos == UNMEASURED_PER_MEDIA_WORKER * WORKERS[WorkerKind.MEDIA] - 1
    done(policy, 1, LAST_CALL, 0.0)
    assert policy.room().videos == 2


def test_admission_while_a_call_is_unmeasured_claims_few() -> None:
    """Videos whose words are stored came through first."""
    policy = new()
    for call in WAY.keys() - {"transcribe"}:
        policy.estimates.note_run(call, 22.0, 0.01)
    assert fill(policy, 22.0) == UNMEASURED_PER_MEDIA_WORKER * WORKERS[WorkerKind.MEDIA]
    done(policy, 0, "transcribe", 1.0)
    assert policy.room().videos == 0


def test_admission_of_a_long_video_counts_for_one_worker() -> None:
    policy = admission(detect=0.1)
    for _ in range(16):
        policy.estimates.note_length(22.0)
    claim(policy, 1000)
    policy.note_length(1000, 50 * 22.0)
    assert fill(policy, 22.0) == WORK_S / 0.1


def test_admission_counts_the_workers_that_are_there() -> None:
    workers = dict(WORKERS)
    policy = admission(transcribe=0.25)
    policy.workers = workers
    workers[WorkerKind.TRANSCRIBER] = 4
    assert fill(policy, 22.0) == 4 * WORK_S / 0.25
    workers[WorkerKind.TRANSCRIBER] = 0
    for token in range(12):
        policy.note_ended(token)
    assert policy.room().videos == 0


# Memory


def test_admission_of_unknown_length_claims_few() -> None:
    policy = admission()
    policy.estimates.note_length(3600.0)
    assert policy.room().videos == FEW
    claim(policy, 1, 2, 3)
    assert policy.room().videos == FEW - 3
    policy.note_length(1, 3600.0)
    assert policy.room().videos == FEW - 3  # long, and yet no more than a few
    policy.note_ended(2)
    assert policy.room().videos == FEW - 2


def test_admission_after_short_ones_claims_more_unknown() -> None:
    policy = admission()
    for token in range(40):
        claim(policy, token)
        policy.note_length(token, 1.0)
        policy.note_ended(token)
    assert policy.room().videos == MOST // 2
    claim(policy, 50)
    policy.note_length(50, 3600.0)
    policy.note_ended(50)
    assert policy.room().videos == FEW


@pytest.mark.parametrize(
    ("length_s", "least", "most"), [(5.0, MOST, MOST), (3600.0, FEW, FEW + 2), (300.0, FEW + 1, 63)]
)
def test_admission_without_run_is_bound_by_memory(length_s: float, least: int, most: int) -> None:
    assert least <= fill(admission(), length_s) <= most


def test_admission_forgets_what_ended() -> None:
    policy = admission(transcribe=1.0)
    for token in range(fill(policy, 3600.0)):
        policy.note_ended(token)
        done(policy, token, "transcribe", 1.0)
    assert all(policy.work_ahead_s(kind) == pytest.approx(0.0, abs=1e-9) for kind in WorkerKind)
    assert policy.room().videos > 0


@pytest.mark.parametrize("most", [1, 3])
def test_admission_below_few_claims_the_most(most: int) -> None:
    assert fill(admission(most), 3600.0) == most


# What is urgent


def test_admission_when_full_has_room_for_one_urgent() -> None:
    policy = admission(transcribe=1.0)
    fill(policy, 22.0)
    assert (policy.room().videos, policy.room().urgent) == (0, 1)
    assert policy.note_claimed(video(100, priority=1)) is True
    assert policy.room().urgent == 0
    assert policy.note_claimed(video(101, priority=10)) is False
    policy.note_ended(100)
    assert policy.room().urgent == 1
    assert policy.note_claimed(video(102, priority=0)) is False
    assert policy.note_claimed(video(103, priority=10), ahead=URGENT_AHEAD + 0.1) is False
    assert policy.note_claimed(video(104, priority=10), ahead=URGENT_AHEAD) is True


# Sources that are slow


def test_a_video_whose_file_is_slow_to_come_takes_no_room() -> None:
    policy = new()
    before = policy.room()
    claim(policy, *range(before.videos))
    assert policy.room().videos == 0
    for token in range(before.videos):
        assert policy.note_slow(token)
        assert not policy.note_slow(token)
    assert policy.room() == before
    policy.note_done(0, "fetch")
    assert policy.room().videos == before.videos - 1
    assert not policy.note_slow(0)
    for token in range(before.videos):
        policy.note_ended(token)
    assert policy.room() == before
    assert policy.work_ahead_s(WorkerKind.MEDIA) == 0.0


def test_urgent_video_with_a_slow_file_leaves_the_reserve() -> None:
    policy = new()
    assert policy.note_claimed(video(1, priority=1))
    assert policy.room().urgent == 0
    policy.note_slow(1)
    assert policy.room().urgent == 1
    policy.note_done(1, "fetch")
    assert policy.room().urgent == 0


def test_a_file_that_came_in_time_is_never_slow() -> None:
    policy = new()
    claim(policy, 1)
    room = policy.room()
    policy.note_done(1, "fetch")
    assert not policy.note_slow(1)
    assert policy.room() == room
