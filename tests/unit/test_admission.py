"""Many short videos may be on the way at once, few long ones, and few of which nobody knows what they are."""

import pytest

from actors.admission import Admission

MOST, FEW = 64, 4


@pytest.fixture
def admission() -> Admission:
    return Admission(MOST, FEW)


def claim_all(admission: Admission, duration_s: float) -> int:
    """Claim as much as there is room for, and learn its duration, until there is none; returns how many."""
    token = 0
    while room := admission.room():
        tokens = range(token, token + room)
        admission.note_claimed(tokens)
        assert admission.room() == 0 or len(tokens) <= MOST // 2
        for known in tokens:
            admission.note_duration(known, duration_s)
        token += room
    return token


def test_of_unknown_videos_there_are_few(admission: Admission) -> None:
    assert admission.room() == FEW
    admission.note_claimed([1, 2, 3])
    assert admission.room() == 1
    admission.note_duration(1, 3600.0)
    assert admission.room() == 1  # long, and yet no more than a few
    admission.note_ended(2)
    assert admission.room() == 2


def test_when_the_last_ones_were_short_more_unknown_ones_are_claimed_at_once(admission: Admission) -> None:
    claimed = range(FEW)
    admission.note_claimed(claimed)
    for token in claimed:
        admission.note_duration(token, 1.0)
        admission.note_ended(token)
    assert admission.room() == MOST // 2
    admission.note_claimed([FEW])
    admission.note_duration(FEW, 3600.0)
    admission.note_ended(FEW)
    assert admission.room() == FEW


def test_short_videos_fill_all_there_is(admission: Admission) -> None:
    assert claim_all(admission, 5.0) == MOST


def test_long_videos_are_few(admission: Admission) -> None:
    assert claim_all(admission, 3600.0) == FEW


def test_usual_videos_are_as_many_as_fit(admission: Admission) -> None:
    assert FEW < claim_all(admission, 300.0) < MOST


def test_what_has_ended_makes_room_and_is_forgotten(admission: Admission) -> None:
    for token in range(claim_all(admission, 3600.0)):
        admission.note_ended(token)
        admission.note_duration(token, 3600.0)
    assert admission.room() == FEW


def test_there_is_always_room_for_one() -> None:
    assert Admission(1, FEW).room() == 1


def test_a_bound_below_the_few_is_used_up() -> None:
    assert claim_all(Admission(3, FEW), 3600.0) == 3
