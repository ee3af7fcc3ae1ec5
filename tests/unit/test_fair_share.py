"""Owners who received least come first, and who was away has saved nothing up."""

from uuid import UUID

from actors.workers.fair_share import FairShare

ANNA, BERT, CARL = UUID(int=1), UUID(int=2), UUID(int=3)


def served(shares: FairShare, owner: UUID, run_s: float) -> None:
    """A video of the owner comes, runs and goes."""
    shares.enter(owner.int, owner)
    shares.note_run(owner, run_s)
    shares.leave(owner.int)


def test_shares_of_owners_alternate_one_video_at_a_time() -> None:
    shares, order = FairShare(), []
    for _ in range(6):
        owner = min((ANNA, BERT), key=shares.served_s)
        order.append(owner)
        served(shares, owner, 10.0)
    assert order == [ANNA, BERT] * 3


def test_share_of_long_videos_counts_their_run() -> None:
    shares, order = FairShare(), []
    for _ in range(8):
        owner = min((ANNA, BERT), key=shares.served_s)
        order.append(owner)
        served(shares, owner, 30.0 if owner is ANNA else 10.0)
    assert order.count(BERT) == 3 * order.count(ANNA)


def test_share_of_a_newcomer_begins_where_the_others_are() -> None:
    shares = FairShare()
    for _ in range(100):
        served(shares, ANNA, 10.0)
    shares.enter(1, ANNA)
    shares.enter(2, BERT)
    assert shares.served_s(ANNA) - shares.served_s(BERT) <= 10.0
    assert shares.served_s(CARL) == shares.served_s(BERT)


def test_share_ahead_is_what_a_newcomer_has_not_received() -> None:
    shares = FairShare()
    for owner, run_s in ((ANNA, 20.0), (BERT, 10.0), (CARL, 0.0)):
        shares.enter(owner.int, owner)
        shares.note_run(owner, run_s)
    assert shares.ahead_s() == {ANNA: 20.0, BERT: 10.0}


def test_shares_of_owners_long_gone_are_forgotten() -> None:
    shares = FairShare()
    for number in range(1000):
        served(shares, UUID(int=number), 1.0)
    for _ in range(3):
        served(shares, ANNA, 5.0)
    assert len(shares.ahead_s()) <= 1


def test_owner_whose_video_needs_no_worker_saves_no_share() -> None:
    shares = FairShare()
    shares.enter(1, ANNA)
    shares.leave(1)  # its file is slow to come
    for _ in range(100):
        shares.enter(2, BERT)
        shares.note_run(BERT, 10.0)
        shares.leave(2)
    shares.enter(2, BERT)
    shares.enter(1, ANNA)
    assert shares.served_s(BERT) - shares.served_s(ANNA) <= 10.0


def test_shares_count_a_video_once() -> None:
    shares = FairShare()
    shares.enter(1, ANNA)
    shares.enter(1, ANNA)
    shares.leave(1)
    shares.leave(1)
    served(shares, BERT, 10.0)
    served(shares, BERT, 10.0)
    assert shares.served_s(ANNA) == shares.served_s(CARL)
