"""Places for downloads: an owner gets its number and no more, and never the last ones beside its own."""

from uuid import UUID

import pytest

from actors.workers.fetch_slots import FIRST_PAUSE_S, MAX_PAUSE_S, FetchLimit, FetchSlots, OwnerPauses, caps_of

ANNA, BERT, MALLORY = UUID(int=1), UUID(int=2), UUID(int=3)


def fill(slots: FetchSlots, owner: UUID, node: str = "node") -> int:
    """Number of downloads that the owner may begin, one after the other."""
    count = 0
    while slots.may_begin(node, owner):
        slots.begin(node, owner)
        count += 1
    return count


def test_slots_of_one_owner_have_a_limit_per_node() -> None:
    slots = FetchSlots(FetchLimit(per_node=32, per_owner=8))
    assert [fill(slots, MALLORY, "one"), fill(slots, MALLORY, "two")] == [8, 8]
    assert slots.taken_by(MALLORY) == 16
    assert fill(slots, ANNA, "one") == 8


@pytest.mark.parametrize("per_node", [2, 3, 4, 32])
@pytest.mark.parametrize("per_owner", [1, 8, 100])
def test_slots_never_all_go_to_one_owner(per_node: int, per_owner: int) -> None:
    slots = FetchSlots(FetchLimit(per_node, per_owner))
    assert fill(slots, MALLORY) < per_node
    assert slots.may_begin("node", ANNA)


def test_slots_that_are_kept_are_one_for_each_newcomer() -> None:
    slots = FetchSlots(FetchLimit(per_node=8, per_owner=6))
    assert [fill(slots, owner) for owner in (MALLORY, ANNA, BERT)] == [6, 1, 1]


def test_slots_come_back() -> None:
    slots = FetchSlots(FetchLimit(per_node=4, per_owner=1))
    slots.begin("node", ANNA)
    assert not slots.may_begin("node", ANNA)
    slots.end("node", ANNA)
    assert slots.may_begin("node", ANNA)
    assert slots.taken_by(ANNA) == 0


def test_pauses_of_an_owner_grow_and_end_with_a_file_that_fits() -> None:
    now = [0.0]
    pauses = OwnerPauses(lambda: now[0])
    for pause_s in (FIRST_PAUSE_S, 2 * FIRST_PAUSE_S):
        pauses.note_no_room(MALLORY)
        pauses.note_no_room(MALLORY)  # beside it: this says nothing new
        now[0] += pause_s - 0.1
        assert pauses.paused() == {MALLORY}
        now[0] += 0.2
        assert pauses.paused() == set()
    pauses.note_room(MALLORY)
    pauses.note_no_room(MALLORY)
    now[0] += FIRST_PAUSE_S
    assert pauses.paused() == set()


def test_pauses_have_a_longest() -> None:
    now = [0.0]
    pauses = OwnerPauses(lambda: now[0])
    for _ in range(20):
        pauses.note_no_room(MALLORY)
        now[0] += MAX_PAUSE_S
        assert pauses.paused() == set()


def test_caps_are_what_is_left_of_each_owner() -> None:
    assert caps_of([ANNA, BERT, ANNA], 3, [MALLORY]) == {ANNA: 1, BERT: 2, MALLORY: 0}
    assert caps_of([ANNA] * 5, 3, [ANNA]) == {ANNA: 0}
