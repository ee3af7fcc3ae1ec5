"""A full disk stops claims. One video at a time tries it, and all go on when it has room again."""

import sys

import pytest

from actors.scheduler.back_pressure import FIRST_PAUSE_S, FORGET_S, MAX_PAUSE_S, BackPressure

NO_LIMIT = sys.maxsize


class Clock:
    now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def pressure(clock: Clock) -> BackPressure:
    pressure = BackPressure(clock)
    assert (pressure.trouble, pressure.room()) == (None, NO_LIMIT)
    pressure.note_claimed([1, 2, 3])
    pressure.note_trouble("the disk is full")
    assert (pressure.trouble, pressure.room()) == ("the disk is full", 0)
    return pressure


def test_pause_ends_when_the_one_video_tried_succeeds(pressure: BackPressure, clock: Clock) -> None:
    clock.now_s += FIRST_PAUSE_S
    assert pressure.room() == 1
    pressure.note_claimed([4])
    assert pressure.room() == 0
    pressure.note_settled(3)  # claimed before the disk was full: says nothing
    assert (pressure.trouble, pressure.room()) == ("the disk is full", 0)
    pressure.note_settled(4)
    assert (pressure.trouble, pressure.room()) == (None, NO_LIMIT)


def test_failure_in_a_pause_doubles_the_next_interval_only(pressure: BackPressure, clock: Clock) -> None:
    pressure.note_trouble("the disk is full")
    pauses = []
    for token in range(10, 18):
        began_s = clock.now_s
        while pressure.room() == 0:
            clock.now_s += 1.0
        pauses.append(clock.now_s - began_s)
        pressure.note_claimed([token])
        pressure.note_trouble("the disk is full")
        pressure.note_settled(token)
    assert pauses == [10.0, 20.0, 40.0, 80.0, 160.0, 300.0, 300.0, 300.0]
    assert max(pauses) == MAX_PAUSE_S


def test_a_try_that_says_nothing_is_followed_by_another(pressure: BackPressure, clock: Clock) -> None:
    clock.now_s += FIRST_PAUSE_S
    pressure.note_claimed([4])
    pressure.note_abandoned(3)
    assert pressure.room() == 0
    pressure.note_abandoned(4)
    assert (pressure.trouble, pressure.room()) == ("the disk is full", 1)


def test_what_was_claimed_while_the_trouble_came_up_is_no_try(pressure: BackPressure) -> None:
    pressure.note_claimed([4, 5])
    pressure.note_settled(4)
    assert pressure.trouble == "the disk is full"


def test_a_trouble_that_nobody_can_try_is_forgotten(pressure: BackPressure, clock: Clock) -> None:
    clock.now_s += FIRST_PAUSE_S
    pressure.note_claimed([])
    assert pressure.trouble == "the disk is full"
    clock.now_s += FORGET_S
    pressure.note_claimed([])
    assert (pressure.trouble, pressure.room()) == (None, NO_LIMIT)
