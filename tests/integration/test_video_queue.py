"""The durable queue on a real Postgres: who gets a video, who may still write about it, and how it waits again."""

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta
from typing import Any
from uuid import uuid4

import psycopg
import pytest
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict

from cluster.contracts.errors import DatabaseUnavailable, LeaseLost
from cluster.contracts.media import MediaInfo, MediaWarning
from cluster.contracts.quotas import SubmissionLimits
from cluster.contracts.results import StageFailure, Transcript
from cluster.contracts.stages import Blame, RetryRule, Setbacks, Stage
from cluster.contracts.videos import ClaimedVideo, Submission
from cluster.store.postgres.connections import EmbeddedPostgres, Pool, connect, open_pool
from cluster.store.queue.notify import LEASES_CHANNEL, Hints, notifications
from cluster.store.queue.stage_runs import OpenRun, StageLedger
from cluster.store.queue.submissions import cancel, submit
from cluster.store.queue.video_queue import Finish, VideoQueue
from cluster.store.videos.progress import read_results
from cluster.store.videos.scenes import SceneStore
from tests.support.queued_videos import (
    MS,
    OWNER,
    begin,
    claim_one,
    enqueue,
    everything,
    expire,
    finish,
    note_begun,
    only,
    record_media,
    recovery,
    row,
    runs,
    until_a_session_waits,
)

TROUBLE = StageFailure("TransientFailure", "the network is away", blame=Blame.ERROR)
INFO = MediaInfo(
    duration_s=12.5,
    start_s=0.0,
    fps=25.0,
    width=640,
    height=360,
    rotation_deg=0,
    video_codec="h264",
    audio_codec=None,
    size_bytes=4096,
)


@pytest.fixture
def queue(pool: Pool) -> VideoQueue:
    return VideoQueue(pool, "first", lease_s=60.0)


@pytest.fixture
def other(pool: Pool) -> VideoQueue:
    return VideoQueue(pool, "second", lease_s=60.0)


# Submitting


def test_submitted_videos_keep_their_order_and_are_claimed_in_it(pool: Pool, queue: VideoQueue) -> None:
    ids = enqueue(pool, 300)
    assert len(set(ids)) == 300
    assert [row(pool, video_id)["filename"] for video_id in ids[:3]] == ["00000.mp4", "00001.mp4", "00002.mp4"]
    claimed = queue.claim(100) + queue.claim(100) + queue.claim(100)
    assert [video.id for video in claimed] == ids
    assert queue.claim(100) == []


def test_earlier_submissions_are_claimed_first(pool: Pool, queue: VideoQueue) -> None:
    first, second = enqueue(pool, 3), enqueue(pool, 3)
    assert [video.id for video in queue.claim(6)] == first + second


def test_a_submitted_video_waits_under_its_owner(pool: Pool) -> None:
    (video_id,) = submit(pool, OWNER, [Submission(uri="https://host/a%20clip.mp4?token=x", language="de")])
    video = row(pool, video_id)
    assert (video["owner_id"], video["status"], video["processing_stage"]) == (OWNER, "PENDING", "queued")
    assert (video["filename"], video["language"], video["attempt"]) == ("a clip.mp4", "de", 0)
    assert video["storage_path"] == "https://host/a%20clip.mp4?token=x"


def test_a_submission_writes_no_profile(pool: Pool) -> None:
    submit(pool, OWNER, [Submission(uri="a.mp4")])
    submit(pool, OWNER, [Submission(uri="b.mp4")], limits=SubmissionLimits(9))
    assert only(pool, "SELECT count(*) AS n FROM user_profiles")["n"] == 0


@pytest.mark.parametrize("uri", ["/videos/a\0b.mp4", "/videos/\udce4.mp4"])
def test_a_uri_that_no_database_can_hold_is_no_submission(uri: str) -> None:
    with pytest.raises(ValueError, match="uri"):
        Submission(uri=uri)


def test_nothing_submitted_is_nothing_enqueued(pool: Pool) -> None:
    assert submit(pool, OWNER, []) == []


# Claiming


def test_a_claim_is_an_attempt_under_a_fresh_lease(pool: Pool, queue: VideoQueue) -> None:
    video = claim_one(pool, queue)
    assert (video.attempt, video.setbacks, video.uri) == (1, Setbacks(), "/videos/00000.mp4")
    stored = row(pool, video.id)
    assert (stored["status"], stored["attempt"]) == ("PROCESSING", 1)
    assert stored["processing_started_at"] is None  # no worker has begun
    lease = only(pool, "SELECT *, expires_at - clock_timestamp() AS left_over FROM video_leases")
    assert (lease["lease_token"], lease["scheduler"]) == (video.lease_token, "first")
    assert timedelta(seconds=55) < lease["left_over"] <= timedelta(seconds=60)


def test_processing_never_starts_before_the_queue_time(pool: Pool, queue: VideoQueue) -> None:
    for _ in range(50):
        video = claim_one(pool, queue)
        assert timedelta(0) <= video.claimed_at - video.queued_at < timedelta(seconds=5)
        assert video.claimed_at.microsecond % 1000 == 0


def test_eight_schedulers_share_the_videos_without_overlap(pool: Pool) -> None:
    ids = enqueue(pool, 400)
    start = threading.Barrier(8)

    def claim_all(number: int) -> list[ClaimedVideo]:
        queue = VideoQueue(pool, f"scheduler-{number}", 60.0)
        start.wait()
        mine: list[ClaimedVideo] = []
        while claimed := queue.claim(7):
            mine += claimed
        return mine

    with ThreadPoolExecutor(8) as threads:
        shares = list(threads.map(claim_all, range(8)))
    claimed = [video for share in shares for video in share]
    assert sorted(video.id for video in claimed) == sorted(ids)
    assert len({video.lease_token for video in claimed}) == 400
    assert {video.attempt for video in claimed} == {1}


def test_claim_skips_a_video_that_another_claim_holds(pool: Pool, queue: VideoQueue) -> None:
    first, second = enqueue(pool, 2)
    with pool.connection() as connection:
        connection.execute("SELECT 1 FROM videos WHERE id = %s FOR UPDATE", (first,))
        assert [video.id for video in queue.claim(2)] == [second]


def test_rows_that_another_system_left_pending_are_never_touched(pool: Pool, queue: VideoQueue) -> None:
    with pool.connection() as connection:
        connection.execute("INSERT INTO user_profiles (user_id) VALUES (%s)", (OWNER,))
        connection.execute(
            "INSERT INTO videos (id, owner_id, storage_path, filename, status) VALUES (%s, %s, 'x', 'x', 'PENDING')",
            (uuid4(), OWNER),
        )
    before = everything(pool)
    assert (
        queue.claim(10),
        recovery(pool, "first").reap(),
        recovery(pool, "first").reap_own(),
        recovery(pool, "first").hand_back(),
    ) == ([], [], [], [])
    assert everything(pool) == before


def test_a_retried_video_is_not_claimable_before_its_time(pool: Pool, queue: VideoQueue) -> None:
    video = claim_one(pool, queue)
    queue.retry(video, TROUBLE, delay_s=3600.0)
    assert queue.claim(10) == []
    with pool.connection() as connection:
        connection.execute("UPDATE video_processing SET available_at = clock_timestamp()")
    (again,) = queue.claim(10)
    assert (again.id, again.attempt, again.setbacks) == (video.id, 2, Setbacks(errors=1))
    assert again.lease_token > video.lease_token


# Settling


def test_a_finished_video_has_exact_timings(pool: Pool, queue: VideoQueue) -> None:
    video = claim_one(pool, queue)
    begin(pool, video, Stage.FINALIZING)
    finish(queue, video)
    stored = row(pool, video.id)
    assert (stored["status"], stored["processing_stage"], stored["available_at"]) == ("READY", "completed", None)
    span = stored["processing_finished_at"] - stored["processing_started_at"]
    assert stored["processing_duration_ms"] == span / timedelta(milliseconds=1)
    run = runs(pool, video.id)["finalizing"]
    assert (run["outcome"], run["node"], run["worker"]) == ("completed", "node", "worker")
    assert run["wait_ms"] + run["run_ms"] == pytest.approx((run["finished_at"] - run["ready_at"]) / MS, abs=0.01)
    assert everything(pool)[1] == []


@pytest.mark.parametrize("run_s", [0.0, 0.001, 9.0])
def test_finalizing_never_runs_longer_than_it_was_ready(pool: Pool, queue: VideoQueue, run_s: float) -> None:
    video = claim_one(pool, queue)
    begin(pool, video, Stage.FINALIZING)
    finish(queue, video, run_s)
    run = runs(pool, video.id)["finalizing"]
    assert run["ready_at"] <= run["started_at"] <= run["finished_at"]
    assert run["run_ms"] <= run_s * 1000 + 0.01


def test_only_held_videos_become_ready_of_many_at_once(pool: Pool, queue: VideoQueue) -> None:
    enqueue(pool, 20)
    videos = queue.claim(20)
    for video in videos:
        begin(pool, video, Stage.FINALIZING)
    lost, held = videos[:5], videos[5:]
    expire(pool, *lost)
    assert len(recovery(pool, "second").reap()) == 5
    before = [(row(pool, video.id), runs(pool, video.id)) for video in lost]
    done = [Finish(video, 0.001 * number, "node", f"worker-{number}") for number, video in enumerate(videos)]
    assert queue.finish(done) == {video.lease_token for video in held}
    assert [(row(pool, video.id), runs(pool, video.id)) for video in lost] == before
    for finish_of in done[5:]:
        stored, run = row(pool, finish_of.video.id), runs(pool, finish_of.video.id)["finalizing"]
        span = stored["processing_finished_at"] - stored["processing_started_at"]
        assert (stored["status"], stored["processing_duration_ms"]) == ("READY", span / MS)
        assert (run["outcome"], run["worker"]) == ("completed", finish_of.worker)
        assert run["run_ms"] <= finish_of.run_s * 1000 + 0.01
        assert run["finished_at"] in (stored["processing_finished_at"], run["ready_at"])
    assert everything(pool)[1] == []
    assert queue.finish([]) == set()


def test_a_failed_video_keeps_the_stage_and_the_reason(pool: Pool, queue: VideoQueue) -> None:
    video = claim_one(pool, queue)
    queue.fail(video, "transcription", StageFailure("InvalidVideo", "its sound is damaged", blame=Blame.VIDEO))
    stored = row(pool, video.id)
    assert (stored["status"], stored["processing_stage"]) == ("FAILED", "transcription")
    assert (stored["error_type"], stored["error_message"]) == ("InvalidVideo", "its sound is damaged")
    assert (stored["failures"], stored["available_at"]) == (1, None)
    span = stored["processing_finished_at"] - stored["processing_started_at"]
    assert stored["processing_duration_ms"] == span / MS
    assert everything(pool)[1] == []


def test_a_retried_video_is_queued_anew_with_its_reason(pool: Pool, queue: VideoQueue) -> None:
    video = claim_one(pool, queue)
    queue.retry(video, TROUBLE, delay_s=30.0)
    stored = row(pool, video.id)
    assert (stored["status"], stored["processing_stage"], stored["failures"]) == ("PENDING", "queued", 1)
    assert (stored["error_type"], stored["error_message"]) == ("TransientFailure", "the network is away")
    assert stored["queued_at"] > video.claimed_at
    waits = stored["available_at"] - stored["queued_at"]
    assert timedelta(seconds=29.9) < waits < timedelta(seconds=30.1)
    assert (stored["processing_started_at"], stored["processing_finished_at"]) == (None, None)


def test_a_claim_forgets_the_reason_of_the_attempt_before(pool: Pool, queue: VideoQueue) -> None:
    video = claim_one(pool, queue)
    queue.retry(video, TROUBLE, delay_s=0.0)
    queue.claim(1)
    stored = row(pool, video.id)
    assert (stored["error_type"], stored["error_message"]) == (None, None)


@pytest.mark.parametrize("end", ["fail", "retry"])
def test_no_run_stays_open_when_its_attempt_ends(pool: Pool, queue: VideoQueue, end: str) -> None:
    video = claim_one(pool, queue)
    begin(pool, video, Stage.TRANSCRIPTION)
    if end == "fail":
        queue.fail(video, "scene_detection", TROUBLE)
    else:
        queue.retry(video, TROUBLE, 0.0)
    run = runs(pool, video.id)["transcription"]
    assert (run["outcome"], run["error_type"]) == ("lost", "Abandoned")
    assert run["finished_at"] is not None


def test_probed_facts_are_kept_and_unknown_duration_is_none(pool: Pool, queue: VideoQueue) -> None:
    video = claim_one(pool, queue)
    record_media(pool, video, INFO)
    stored = row(pool, video.id)
    assert (stored["duration_s"], stored["width"], stored["height"], stored["fps"]) == (12.5, 640, 360, 25.0)
    assert stored["file_size_bytes"] == 4096
    record_media(pool, video, replace(INFO, duration_s=None, warnings=(MediaWarning("a", "left out"),)))
    assert row(pool, video.id)["duration_s"] == 12.5
    assert read_results(pool, [video.id])[0]["warnings"] == [{"code": "a", "message": "left out"}]


# The fence


def writes(queue: VideoQueue, pool: Pool) -> dict[str, Callable[[ClaimedVideo], object]]:
    return {
        "finish": lambda video: finish(queue, video, 0.1),
        "fail": lambda video: queue.fail(video, "metadata", TROUBLE),
        "retry": lambda video: queue.retry(video, TROUBLE, 1.0),
        "record_media": lambda video: record_media(pool, video, INFO),
        "begin": lambda video: note_begun(pool, video),
        "scenes": lambda video: SceneStore(pool).replace(
            video.id, video.lease_token, Transcript(None, (), "none"), [], 1.0
        ),
    }


@pytest.mark.parametrize("write", ["finish", "fail", "retry", "record_media", "begin", "scenes"])
@pytest.mark.parametrize("claimed_again", [False, True])
def test_a_stale_token_writes_nothing(
    pool: Pool, queue: VideoQueue, other: VideoQueue, write: str, claimed_again: bool
) -> None:
    stale = claim_one(pool, queue)
    begin(pool, stale, Stage.FINALIZING)
    expire(pool, stale)
    assert recovery(pool, "second").reap() == [stale.id]
    if claimed_again:
        (fresh,) = other.claim(1)
        begin(pool, fresh, Stage.FINALIZING)
    before = everything(pool)
    with pytest.raises(LeaseLost):
        writes(queue, pool)[write](stale)
    assert everything(pool) == before


@pytest.mark.parametrize("write", ["finish", "fail", "retry"])
def test_a_video_is_settled_once(pool: Pool, queue: VideoQueue, write: str) -> None:
    video = claim_one(pool, queue)
    begin(pool, video, Stage.FINALIZING)
    writes(queue, pool)[write](video)
    before = everything(pool)
    for again in ("finish", "fail", "retry", "record_media"):
        with pytest.raises(LeaseLost):
            writes(queue, pool)[again](video)
    assert everything(pool) == before


# Heartbeat


def test_a_heartbeat_prolongs_what_is_held_and_says_what_is_not(
    pool: Pool, queue: VideoQueue, other: VideoQueue
) -> None:
    enqueue(pool, 4)
    mine, (theirs,) = queue.claim(3), other.claim(1)
    queue.fail(mine[2], "metadata", TROUBLE)
    expire(pool, *mine, theirs)
    tokens = [video.lease_token for video in (*mine, theirs)]
    assert queue.heartbeat([*tokens, 10**12]) == set(tokens[:2])
    assert recovery(pool, "second").reap() == [theirs.id]
    assert queue.heartbeat([]) == set()


def test_a_heartbeat_is_not_held_up_by_a_long_write_of_scenes(pool: Pool, queue: VideoQueue) -> None:
    enqueue(pool, 2)
    writing, beside = queue.claim(2)
    with ThreadPoolExecutor(2) as threads:
        with pool.connection() as blocker:
            blocker.execute("LOCK TABLE video_transcripts IN EXCLUSIVE MODE")
            written = threads.submit(writes(queue, pool)["scenes"], writing)
            until_a_session_waits(pool)
            beat = threads.submit(queue.heartbeat, [writing.lease_token, beside.lease_token])
            assert beat.result(timeout=10) == {writing.lease_token, beside.lease_token}
            expire(pool, writing)
            assert recovery(pool, "first").reap() == []  # the writer is running: the lease is passed over
            assert not written.done()
        written.result(timeout=10)


# Taking back


def test_only_expired_leases_are_reaped(pool: Pool, queue: VideoQueue, other: VideoQueue) -> None:
    enqueue(pool, 2)
    alive, dead = queue.claim(2)
    begin(pool, dead, Stage.DOWNLOADING)
    expire(pool, dead)
    assert recovery(pool, "second").reap() == [dead.id]
    assert row(pool, alive.id)["status"] == "PROCESSING"
    stored = row(pool, dead.id)
    assert (stored["status"], stored["processing_stage"], stored["interruptions"]) == ("PENDING", "queued", 1)
    assert stored["error_type"] == "NodeLost"
    assert stored["queued_at"] >= dead.claimed_at
    assert stored["processing_started_at"] is None
    run = runs(pool, dead.id)["downloading"]
    assert (run["outcome"], run["error_type"], run["run_ms"]) == ("lost", "NodeLost", 0.0)
    assert run["wait_ms"] == pytest.approx((run["finished_at"] - run["ready_at"]) / MS, abs=1.0)
    assert recovery(pool, "second").reap() == []


def test_reaping_stops_at_its_limit(pool: Pool, queue: VideoQueue) -> None:
    enqueue(pool, 5)
    videos = queue.claim(5)
    expire(pool, *videos)
    assert [len(recovery(pool, "first").reap(limit=2)) for _ in range(4)] == [2, 2, 1, 0]


def test_a_heartbeat_that_comes_during_the_reaping_wins(pool: Pool, queue: VideoQueue, other: VideoQueue) -> None:
    video = claim_one(pool, queue)
    expire(pool, video)
    with pool.connection() as beating:
        beating.execute("UPDATE video_leases SET expires_at = clock_timestamp() + interval '1 minute'")
        assert recovery(pool, "second").reap() == []  # the row is locked: skipped
    assert recovery(pool, "second").reap() == []
    assert queue.heartbeat([video.lease_token]) == {video.lease_token}
    assert row(pool, video.id)["status"] == "PROCESSING"


def test_last_interruption_fails_naming_the_last_open_stage(pool: Pool, queue: VideoQueue) -> None:
    enqueue(pool)
    for attempt in (1, 2, 3):
        (video,) = queue.claim(1)
        assert (video.attempt, video.setbacks) == (attempt, Setbacks(interruptions=attempt - 1))
        begin(pool, video, Stage.DOWNLOADING, Stage.METADATA, Stage.SCENE_DETECTION)
        expire(pool, video)
        assert recovery(pool, "first", RetryRule(max_interruptions=3)).reap() == [video.id]
    stored = row(pool, video.id)
    assert (stored["status"], stored["processing_stage"], stored["interruptions"]) == ("FAILED", "scene_detection", 3)
    assert (stored["error_type"], stored["available_at"], stored["failures"]) == ("NodeLost", None, 0)
    assert stored["processing_finished_at"] is not None
    span = stored["processing_finished_at"] - stored["processing_started_at"]
    assert stored["processing_duration_ms"] == span / MS
    assert queue.claim(1) == []


def test_a_video_that_no_stage_of_began_fails_as_failed(pool: Pool) -> None:
    queue = VideoQueue(pool, "first", 60.0)
    video = claim_one(pool, queue)
    expire(pool, video)
    recovery(pool, "first", RetryRule(max_interruptions=1)).reap()
    assert row(pool, video.id)["processing_stage"] == "failed"


def test_a_restarted_scheduler_takes_back_its_own_alone(pool: Pool, queue: VideoQueue, other: VideoQueue) -> None:
    enqueue(pool, 3)
    mine, (theirs,) = queue.claim(2), other.claim(1)
    expire(pool, theirs)
    assert sorted(recovery(pool, "first").reap_own()) == sorted(video.id for video in mine)
    assert [row(pool, video.id)["interruptions"] for video in mine] == [1, 1]
    assert row(pool, theirs.id)["status"] == "PROCESSING"


def test_what_is_handed_back_counts_as_no_failure(pool: Pool, queue: VideoQueue, other: VideoQueue) -> None:
    enqueue(pool, 2)
    (mine,), (theirs,) = queue.claim(1), other.claim(1)
    begin(pool, mine, Stage.METADATA)
    expire(pool, theirs)
    assert recovery(pool, "first").hand_back() == [mine.id]
    stored = row(pool, mine.id)
    assert (stored["status"], stored["failures"], stored["attempt"]) == ("PENDING", 0, 1)
    assert (stored["error_type"], stored["error_message"]) == (None, None)
    run = runs(pool, mine.id)["metadata"]
    assert (run["outcome"], run["error_message"]) == ("lost", "the cluster was stopped while this stage ran")
    (again,) = queue.claim(10)
    assert (again.attempt, again.setbacks) == (2, Setbacks())


def test_handing_back_waits_for_a_heartbeat_that_is_under_way(pool: Pool, queue: VideoQueue) -> None:
    video = claim_one(pool, queue)
    with ThreadPoolExecutor(1) as threads:
        with pool.connection() as beating:
            beating.execute("UPDATE video_leases SET expires_at = clock_timestamp() + interval '1 minute'")
            handed_back = threads.submit(recovery(pool, "first").hand_back)
            until_a_session_waits(pool)
        assert handed_back.result(timeout=10) == [video.id]


def test_finishing_waits_for_a_heartbeat_that_is_under_way(pool: Pool, queue: VideoQueue) -> None:
    enqueue(pool, 2)
    first, second = queue.claim(2)
    with ThreadPoolExecutor(1) as threads:
        with pool.connection() as beating:
            beating.execute("UPDATE video_leases SET expires_at = clock_timestamp() + interval '1 minute'")
            finished = threads.submit(queue.finish, [Finish(video, 0.0, "node", "worker") for video in (first, second)])
            until_a_session_waits(pool)
        assert finished.result(timeout=10) == {first.lease_token, second.lease_token}
    assert row(pool, first.id)["status"] == row(pool, second.id)["status"] == "READY"


def test_heartbeat_reaping_and_ledger_do_not_wait_on_each_other(pool: Pool, queue: VideoQueue) -> None:
    enqueue(pool, 60)
    videos = queue.claim(60)
    tokens = [video.lease_token for video in videos]
    end = threading.Event()

    def repeat(work: Callable[[], object]) -> int:
        done = 0
        while not end.is_set():
            work()
            done += 1
        return done

    def write() -> None:
        ready = [OpenRun(video, Stage.DOWNLOADING, video.claimed_at) for video in reversed(videos)]
        StageLedger(pool).write(ready, [])

    with ThreadPoolExecutor(4) as threads:
        loops = [
            threads.submit(repeat, lambda: queue.heartbeat(tokens[::-1])),
            threads.submit(repeat, lambda: queue.heartbeat(tokens)),
            threads.submit(repeat, write),
            threads.submit(repeat, recovery(pool, "first").reap),
        ]
        end.wait(1.5)
        end.set()
        assert min(loop.result(timeout=30) for loop in loops) > 3


# Notifications and outages


def test_a_submission_is_heard_at_once(pool: Pool, database_url: str) -> None:
    heard = notifications(database_url, wait_s=0.05)
    try:
        assert [next(heard), next(heard)] == [Hints(videos_wait=True), Hints()]
        enqueue(pool)
        assert any(next(heard).videos_wait for _ in range(100))
        assert next(heard) == Hints()
    finally:
        heard.close()  # type: ignore[attr-defined]


def test_cancelled_videos_leases_are_named_to_listeners(pool: Pool, database_url: str) -> None:
    ids = enqueue(pool, count=700)
    tokens = {video.lease_token for video in VideoQueue(pool, "first", 60.0).claim(700)}
    (waiting,) = enqueue(pool)
    heard = notifications(database_url, wait_s=0.05)
    try:
        assert [next(heard), next(heard)] == [Hints(videos_wait=True), Hints()]
        cancel(pool, [*ids, waiting])
        hints = [next(heard) for _ in range(20)]
        assert {token for hint in hints for token in hint.ended_leases} == tokens
        assert not any(hint.videos_wait for hint in hints)
    finally:
        heard.close()  # type: ignore[attr-defined]


def test_any_sessions_notification_names_numbers_at_most(pool: Pool, database_url: str) -> None:
    heard = notifications(database_url, wait_s=0.05)
    try:
        next(heard)
        with pool.connection() as connection:
            for payload in ("", "7, x; -12", "9" * 7000, "\u0661\u0662"):
                connection.execute("SELECT pg_notify(%s, %s)", [LEASES_CHANNEL, payload])
        found = {token for _ in range(20) for token in next(heard).ended_leases}
        assert found == {7, 12, 10**18 - 1, int("9" * (7000 % 18))}
    finally:
        heard.close()  # type: ignore[attr-defined]


def test_held_leases_are_read_and_not_prolonged(pool: Pool) -> None:
    queue = VideoQueue(pool, "first", 60.0)
    video = claim_one(pool, queue)
    before = only(pool, "SELECT expires_at, xmin::text AS version FROM video_leases")
    assert queue.held([video.lease_token, video.lease_token + 1]) == {video.lease_token}
    assert VideoQueue(pool, "second", 60.0).held([video.lease_token]) == set()
    assert only(pool, "SELECT expires_at, xmin::text AS version FROM video_leases") == before


def test_expired_lease_that_the_scheduler_holds_is_its_own(pool: Pool) -> None:
    queue = VideoQueue(pool, "first", 60.0)
    held, unknown = claim_one(pool, queue), claim_one(pool, queue)
    expire(pool, held, unknown)
    assert recovery(pool, "first").reap(held=[held.lease_token]) == [unknown.id]
    assert queue.heartbeat([held.lease_token]) == {held.lease_token}
    expire(pool, held)
    assert recovery(pool, "second").reap(held=[held.lease_token]) == [held.id]


def test_a_listener_says_when_its_session_is_lost(pool: Pool, database_url: str) -> None:
    heard = notifications(database_url, wait_s=0.05)
    assert [next(heard), next(heard)] == [Hints(videos_wait=True), Hints()]
    _end_sessions(pool, "heimdex-listener")
    with pytest.raises(DatabaseUnavailable):
        next(heard)


@pytest.fixture
def closable(database_url: str, postgres_server: EmbeddedPostgres) -> Iterator[tuple[Pool, Callable[[bool], None]]]:
    """A pool, and a switch that shuts its database to all connections or opens it again, as a restart does."""
    name = conninfo_to_dict(database_url)["dbname"]
    assert isinstance(name, str)

    def switch(allowed: bool) -> None:
        with connect(postgres_server.url, autocommit=True) as connection:
            connection.execute(
                sql.SQL("ALTER DATABASE {} ALLOW_CONNECTIONS {}").format(sql.Identifier(name), sql.Literal(allowed))
            )
            if not allowed:
                connection.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", (name,))

    with open_pool(database_url, max_size=4, name="outage") as pool:
        pool.timeout = pool.reconnect_timeout = 0.5
        yield pool, switch
        switch(True)


def test_the_queue_recovers_from_a_restart_of_the_database(closable: tuple[Pool, Callable[[bool], None]]) -> None:
    pool, switch = closable
    queue = VideoQueue(pool, "first", 60.0)
    video = claim_one(pool, queue)
    switch(False)
    for call in (
        lambda: queue.claim(1),
        lambda: queue.heartbeat([1]),
        recovery(pool, "first").reap,
        lambda: record_media(pool, video, INFO),
    ):
        with pytest.raises(DatabaseUnavailable):
            call()
    switch(True)
    assert _eventually(lambda: queue.heartbeat([video.lease_token])) == {video.lease_token}
    record_media(pool, video, INFO)
    assert row(pool, video.id)["duration_s"] == 12.5


def _eventually(work: Callable[[], Any]) -> Any:
    """The first answer after the pool has found its way back."""
    for _ in range(40):
        try:
            return work()
        except DatabaseUnavailable:
            continue
    return work()


def _end_sessions(pool: Pool, name: str) -> None:
    with pool.connection() as connection:
        connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
            "WHERE datname = current_database() AND application_name = %s",
            (name,),
        )


def test_the_database_refuses_two_leases_of_one_video(pool: Pool, queue: VideoQueue) -> None:
    video = claim_one(pool, queue)
    with pytest.raises(psycopg.errors.UniqueViolation), pool.connection() as connection:
        connection.execute("INSERT INTO video_leases VALUES (%s, 999999, 'x', clock_timestamp())", (video.id,))
