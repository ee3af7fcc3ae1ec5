"""Whose video is next: owners in turn, each up to a cap; within an owner, priority against the time waited."""

import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from uuid import UUID

import pytest

from cluster.contracts.results import StageFailure
from cluster.contracts.stages import Blame, Stage
from cluster.contracts.videos import PRIORITY_STEP_S, URGENT_AHEAD, ClaimedVideo, Submission
from cluster.store.postgres.connections import Pool, connect, open_pool
from cluster.store.queue.reprocessing import retry
from cluster.store.queue.submissions import cancel, submit
from cluster.store.queue.video_queue import VideoQueue
from tests.support.queued_videos import begin, finish, recovery, row

ANNA, BERT, CARL = UUID(int=1), UUID(int=2), UUID(int=3)
TROUBLE = StageFailure("TransientFailure", "the network is away", Blame.ERROR)


@pytest.fixture
def queue(pool: Pool) -> VideoQueue:
    return VideoQueue(pool, "first", 60.0)


def send(pool: Pool, owner: UUID, count: int = 1, priority: int = 0) -> list[UUID]:
    return submit(pool, owner, [Submission(uri=f"{n}.mp4", priority=priority) for n in range(count)])


def owners_of(pool: Pool, videos: list[ClaimedVideo]) -> dict[UUID, int]:
    return dict(Counter(row(pool, video.id)["owner_id"] for video in videos))


def ids_of(videos: list[ClaimedVideo]) -> list[UUID]:
    return [video.id for video in videos]


# Between owners


def test_single_video_overtakes_the_bulk_of_another_owner(pool: Pool, queue: VideoQueue) -> None:
    send(pool, ANNA, 400, priority=10)
    assert owners_of(pool, queue.claim(8)) == {ANNA: 8}
    (single,) = send(pool, BERT, priority=-10)
    assert ids_of(queue.claim(1)) == [single]


def test_owners_take_turns_within_a_claim(pool: Pool, queue: VideoQueue) -> None:
    for owner, count in ((ANNA, 50), (BERT, 50), (CARL, 1)):
        send(pool, owner, count)
    assert owners_of(pool, queue.claim(7)) == {ANNA: 3, BERT: 3, CARL: 1}


def test_owner_with_fewest_in_flight_comes_first_everywhere(pool: Pool, queue: VideoQueue) -> None:
    send(pool, ANNA, 50)
    assert len(queue.claim(6)) == 6
    send(pool, BERT, 50)
    second = VideoQueue(pool, "second", 60.0)
    assert owners_of(pool, second.claim(4)) == {BERT: 4}
    assert owners_of(pool, second.claim(6)) == {BERT: 4, ANNA: 2}  # eight of each are on the way


def test_an_owner_with_a_cap_is_claimed_up_to_it(pool: Pool, queue: VideoQueue) -> None:
    send(pool, ANNA, 5)
    send(pool, BERT, 5)
    assert owners_of(pool, queue.claim(8, caps={ANNA: 1})) == {ANNA: 1, BERT: 5}
    assert queue.claim(8, caps={ANNA: 0}) == []
    assert owners_of(pool, queue.claim(8, caps={BERT: 0})) == {ANNA: 4}


def test_urgent_videos_of_an_owner_with_a_cap_are_capped(pool: Pool, queue: VideoQueue) -> None:
    send(pool, ANNA, 5, priority=1)
    send(pool, BERT, 5, priority=1)
    assert owners_of(pool, queue.claim(0, 4, caps={ANNA: 0})) == {BERT: 4}
    assert owners_of(pool, queue.claim(1, 4, caps={ANNA: 2, BERT: 0})) == {ANNA: 2}
    assert owners_of(pool, queue.claim(0, 4)) == {ANNA: 3, BERT: 1}


def test_turns_follow_what_ended(pool: Pool, queue: VideoQueue) -> None:
    send(pool, ANNA, 10)
    annas = queue.claim(4)
    send(pool, BERT, 10)
    queue.claim(2)
    for video in annas:
        queue.fail(video, "metadata", TROUBLE)
    assert owners_of(pool, queue.claim(2)) == {ANNA: 2}


@pytest.mark.parametrize("analyzed", [False, True])
def test_claims_reads_do_not_grow_with_ended_or_waiting_videos(database_url: str, pool: Pool, analyzed: bool) -> None:
    send(pool, ANNA, 300)
    send(pool, BERT, 1)
    VideoQueue(pool, "first", 60.0).claim(100)
    with connect(database_url, autocommit=True) as connection:
        connection.execute(
            """
            WITH added AS (
                INSERT INTO videos (owner_id, storage_path, filename, status, queued_at)
                SELECT %s, 'x', 'x', CASE WHEN n %% 3 = 0 THEN 'PENDING' ELSE 'READY' END::video_status, now
                FROM generate_series(1, 30000) AS n, clock_timestamp() AS now
                RETURNING *
            )
            INSERT INTO video_processing (video_id, owner_id, due_at, available_at, priority)
            SELECT id, owner_id, queued_at, CASE WHEN status = 'PENDING' THEN queued_at END,
                   CASE WHEN row_number() OVER () = 30000 THEN 10 ELSE 0 END
            FROM added
            """,
            (ANNA,),
        )
        if analyzed:
            connection.execute("ANALYZE videos, video_processing, video_leases")
    with open_pool(database_url, max_size=1, name="counted") as counted:
        before = rows_read(counted)
        assert len(VideoQueue(counted, "second", 60.0).claim(10, urgent=1)) == 11
        assert rows_read(counted) - before < 1000


def rows_read(pool: Pool) -> int:
    """Number of rows of videos and of their processing read by all sessions, this pool's only one included."""
    with pool.connection() as connection:
        connection.execute("SELECT pg_stat_force_next_flush()")
        connection.commit()
        row = connection.execute(
            """
            SELECT sum(seq_tup_read) + (SELECT sum(idx_tup_read) FROM pg_stat_user_indexes
                                        WHERE relname IN ('videos', 'video_processing')) AS n
            FROM pg_stat_user_tables WHERE relname IN ('videos', 'video_processing')
            """
        ).fetchone()
    assert row is not None
    return int(row["n"])


def test_of_owners_with_as_many_the_one_served_least_is_next(pool: Pool, queue: VideoQueue) -> None:
    for owner in (ANNA, BERT, CARL):
        send(pool, owner, 2)
    videos = [queue.claim(1, ahead={ANNA: 0.2, BERT: 0.1})[0] for _ in range(3)]
    assert [list(owners_of(pool, [video])) for video in videos] == [[CARL], [BERT], [ANNA]]


def test_a_video_that_an_owner_is_ahead_counts_as_one_in_flight(pool: Pool, queue: VideoQueue) -> None:
    send(pool, ANNA, 10)
    send(pool, BERT, 10)
    assert owners_of(pool, queue.claim(5, ahead={ANNA: 3.0})) == {BERT: 4, ANNA: 1}


# What is urgent, beyond the limit


def test_an_urgent_video_is_claimed_when_there_is_no_room(pool: Pool, queue: VideoQueue) -> None:
    send(pool, ANNA, 50)
    queue.claim(4)
    urgent = send(pool, ANNA, 2, priority=10)
    (video,) = queue.claim(0, urgent=1)
    assert (video.id, video.priority, video.owner_id) == (urgent[0], 10, ANNA)
    assert ids_of(queue.claim(0, urgent=3)) == urgent[1:]
    assert queue.claim(0, urgent=3) == []


def test_an_owner_far_ahead_has_no_urgent_videos(pool: Pool, queue: VideoQueue) -> None:
    send(pool, ANNA, 2, priority=10)
    assert queue.claim(0, urgent=1, ahead={ANNA: URGENT_AHEAD + 0.1}) == []
    assert owners_of(pool, queue.claim(0, urgent=1, ahead={ANNA: URGENT_AHEAD})) == {ANNA: 1}
    assert owners_of(pool, queue.claim(1, urgent=1, ahead={ANNA: 9.0})) == {ANNA: 1}


def test_urgent_videos_come_beside_the_others_and_once(pool: Pool, queue: VideoQueue) -> None:
    usual, urgent = send(pool, ANNA, 5), send(pool, ANNA, 3, priority=10)
    assert ids_of(queue.claim(1, urgent=1)) == urgent[:2]
    assert set(ids_of(queue.claim(2, urgent=2))) == {urgent[2], usual[0]}
    assert ids_of(queue.claim(9, urgent=2)) == usual[1:]


def test_an_urgent_video_does_not_wait_for_older_ones(pool: Pool, queue: VideoQueue) -> None:
    """The reserve goes by priority, not by when videos are due: a long queue holds up nothing urgent."""
    waiting = send(pool, ANNA, 5)
    wait(pool, waiting, timedelta(days=1))
    (urgent,) = send(pool, ANNA, priority=1)
    assert ids_of(queue.claim(1, urgent=1)) == [waiting[0], urgent]


def test_urgent_videos_of_owners_take_turns(pool: Pool, queue: VideoQueue) -> None:
    send(pool, ANNA, 5, priority=10)
    send(pool, BERT, 5, priority=1)
    claimed = [queue.claim(0, urgent=1)[0] for _ in range(4)]
    assert owners_of(pool, claimed[:2]) == owners_of(pool, claimed[2:]) == {ANNA: 1, BERT: 1}
    assert owners_of(pool, queue.claim(0, urgent=1, ahead={ANNA: 0.1})) == {BERT: 1}


def test_urgent_videos_are_under_the_owners_cap(pool: Pool) -> None:
    send(pool, ANNA, 9)
    send(pool, ANNA, 9, priority=10)
    capped = VideoQueue(pool, "first", 60.0, owner_cap=4)
    assert len(capped.claim(3, urgent=3)) == 4
    assert capped.claim(3, urgent=3) == []


def test_an_urgent_video_that_backs_off_is_not_claimed(pool: Pool, queue: VideoQueue) -> None:
    send(pool, ANNA, priority=10)
    queue.retry(queue.claim(1)[0], TROUBLE, delay_s=3600.0)
    assert queue.claim(0, urgent=1) == []


# The cap


def test_an_owner_has_no_more_on_the_way_than_the_cap(pool: Pool) -> None:
    send(pool, ANNA, 30)
    send(pool, BERT, 2)
    first, second = (VideoQueue(pool, name, 60.0, owner_cap=5) for name in ("first", "second"))
    videos = first.claim(20)
    assert owners_of(pool, videos) == {ANNA: 5, BERT: 2}
    assert second.claim(20) == []
    annas = [video for video in videos if row(pool, video.id)["owner_id"] == ANNA]
    first.retry(annas[0], TROUBLE, delay_s=3600.0)
    begin(pool, annas[1], Stage.FINALIZING)
    finish(first, annas[1])
    cancel(pool, [annas[2].id])
    assert owners_of(pool, second.claim(20)) == {ANNA: 3}
    assert first.claim(20) == []


def test_what_is_handed_back_makes_room_under_the_cap(pool: Pool) -> None:
    send(pool, ANNA, 5)
    first, second = (VideoQueue(pool, name, 60.0, owner_cap=2) for name in ("first", "second"))
    handed_back = ids_of(first.claim(5))
    recovery(pool, "first").hand_back()
    assert ids_of(second.claim(5)) == handed_back


def test_a_lower_cap_takes_nothing_away(pool: Pool) -> None:
    send(pool, ANNA, 9)
    VideoQueue(pool, "first", 60.0, owner_cap=6).claim(9)
    assert VideoQueue(pool, "second", 60.0, owner_cap=2).claim(9) == []


def test_the_cap_holds_when_schedulers_claim_at_once(pool: Pool) -> None:
    send(pool, ANNA, 200)
    send(pool, BERT, 200)
    together, rounds = 4, 12
    start = threading.Barrier(together)

    def claim(number: int) -> list[list[ClaimedVideo]]:
        claims: list[list[ClaimedVideo]] = []
        scheduler = VideoQueue(pool, f"scheduler-{number}", 60.0, owner_cap=7)
        for _ in range(rounds):
            start.wait(30)
            claims.append(scheduler.claim(5))
            start.wait(30)
            recovery(pool, f"scheduler-{number}").hand_back()
        return claims

    with ThreadPoolExecutor(together) as threads:
        shares = list(threads.map(claim, range(together)))
    for number in range(rounds):
        assert owners_of(pool, [video for share in shares for video in share[number]]) == {ANNA: 7, BERT: 7}


# Within an owner


def wait(pool: Pool, ids: list[UUID], waited: timedelta) -> None:
    """As if they had been submitted so much earlier."""
    with pool.connection() as connection:
        connection.execute(
            "WITH p AS (UPDATE video_processing SET due_at = due_at - %(t)s, available_at = available_at - %(t)s "
            "WHERE video_id = ANY (%(ids)s)) UPDATE videos SET queued_at = queued_at - %(t)s WHERE id = ANY (%(ids)s)",
            {"t": waited, "ids": ids},
        )


def test_a_higher_priority_goes_first(pool: Pool, queue: VideoQueue) -> None:
    low, usual, high = (send(pool, ANNA, 2, priority) for priority in (-3, 0, 3))
    assert [ids_of(queue.claim(1))[0] for _ in range(6)] == high + usual + low


def test_priority_is_worth_a_time_and_no_more(pool: Pool, queue: VideoQueue) -> None:
    """A video of lower priority overtakes once it has waited that long: none waits indefinitely."""
    steps = 10
    patient, impatient = send(pool, ANNA, priority=-5), send(pool, ANNA, priority=-5)
    wait(pool, patient, timedelta(seconds=steps * PRIORITY_STEP_S + 60))
    wait(pool, impatient, timedelta(seconds=steps * PRIORITY_STEP_S - 60))
    urgent = send(pool, ANNA, priority=5)
    assert [ids_of(queue.claim(1)) for _ in range(3)] == [patient, urgent, impatient]


def test_requeued_attempt_keeps_its_place_resubmission_does_not(pool: Pool, queue: VideoQueue) -> None:
    first, second, third = send(pool, ANNA, 3)
    queue.retry(queue.claim(1)[0], TROUBLE, delay_s=0.0)
    assert ids_of(queue.claim(1)) == [first]
    recovery(pool, "first").reap_own()
    assert ids_of(queue.claim(1)) == [first]
    assert cancel(pool, [first]) == retry(pool, [first]) == [first]
    assert [ids_of(queue.claim(1))[0] for _ in range(3)] == [second, third, first]


def test_a_video_that_backs_off_holds_up_none_behind_it(pool: Pool, queue: VideoQueue) -> None:
    first, second = send(pool, ANNA, 2)
    queue.retry(queue.claim(1)[0], TROUBLE, delay_s=3600.0)
    assert ids_of(queue.claim(5)) == [second]
    wait(pool, [first], timedelta(hours=2))
    assert ids_of(queue.claim(5)) == [first]
