"""The real scheduler on a real Postgres: what waits is queued, and what is urgent does not wait. Workers are played."""

import threading
import time
from collections.abc import Iterator
from itertools import pairwise
from typing import Any
from uuid import UUID

import pytest

from actors.scheduler.scheduler import BETWEEN_CLAIMS_S
from cluster.contracts.videos import HIGHEST_PRIORITY, ClaimedVideo, Submission
from cluster.store.postgres.connections import Pool
from cluster.store.queue.notify import Hints, notifications
from cluster.store.queue.submissions import submit
from cluster.store.queue.video_queue import VideoQueue
from tests.support.played_scheduler import PATIENCE_S, RUNS_S, SOURCE_ANSWERS, PlayedScheduler, scheduling, until_ready
from tests.support.queued_videos import only

ANNA, BERT = UUID(int=1), UUID(int=2)


def send(pool: Pool, count: int, owner: UUID = ANNA, priority: int = 0) -> list[UUID]:
    return submit(pool, owner, [Submission(uri=f"/videos/{n}.mp4", priority=priority) for n in range(count)])


def time_of(pool: Pool, video_id: UUID) -> float:
    statement = "SELECT extract(epoch FROM processing_finished_at - queued_at) AS s FROM videos WHERE id = %s"
    return float(only(pool, statement, video_id)["s"])


def test_a_batch_waits_in_the_queue_and_not_between_stages(database_url: str, pool: Pool) -> None:
    with scheduling(database_url):
        ids = send(pool, 24)
        until_ready(pool, ids)
    seen = only(
        pool,
        """
        SELECT avg(v.processing_duration_ms)::float8 AS processing_ms,
               (SELECT queue_time_pct FROM get_admin_queue_analysis(1))::float8 AS figures,
               (100 * sum(extract(epoch FROM r.started_at - v.queued_at))
                    / sum(extract(epoch FROM v.processing_finished_at - v.queued_at)))::float8 AS ledger
        FROM videos AS v JOIN video_stage_runs AS r ON r.video_id = v.id AND r.stage = 'downloading'
        """,
    )
    run_ms = 1000 * (sum(RUNS_S.values()) - RUNS_S["detect"])
    assert seen["processing_ms"] <= 4 * run_ms
    assert seen["figures"] == pytest.approx(seen["ledger"], abs=2.0)
    assert seen["figures"] > 60


@pytest.mark.parametrize("owner", [ANNA, BERT])
def test_an_urgent_video_is_ready_before_those_ahead_of_it(database_url: str, pool: Pool, owner: UUID) -> None:
    with scheduling(database_url):
        (alone,) = send(pool, 1)
        until_ready(pool, [alone])
        ids = send(pool, 20)
        until_ready(pool, ids, 4)
        (urgent,) = send(pool, 1, owner, HIGHEST_PRIORITY)
        until_ready(pool, [urgent])
        assert only(pool, "SELECT count(*) AS n FROM videos WHERE status = 'PENDING'")["n"] > 0
    assert time_of(pool, urgent) <= 4 * time_of(pool, alone)


def test_an_owner_at_the_cap_goes_on_when_a_video_ends(
    database_url: str, pool: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("actors.scheduler.scheduler.POLL_S", 10.0)
    with scheduling(database_url, owner_cap=1):
        ids = send(pool, 4)
        until_ready(pool, ids)
    assert max(time_of(pool, video_id) for video_id in ids) < 10.0


def test_video_submitted_before_listen_is_claimed_at_once(
    database_url: str, pool: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("actors.scheduler.scheduler.POLL_S", PATIENCE_S)
    claim, claimed, ids = VideoQueue.claim, threading.Event(), list[UUID]()

    def noted(self: VideoQueue, *arguments: Any) -> list[ClaimedVideo]:
        videos = claim(self, *arguments)
        claimed.set()
        return videos

    def late(url: str, wait_s: float) -> Iterator[Hints]:
        assert claimed.wait(PATIENCE_S / 2)
        ids.extend(send(pool, 1))
        yield from notifications(url, wait_s)

    monkeypatch.setattr(VideoQueue, "claim", noted)
    monkeypatch.setattr("actors.scheduler.scheduler.notifications", late)
    with scheduling(database_url):
        while not ids:
            threading.Event().wait(0.02)
        until_ready(pool, ids)
    assert time_of(pool, ids[0]) < PATIENCE_S / 2


def test_claims_leave_time_for_several_videos(database_url: str, pool: Pool, monkeypatch: pytest.MonkeyPatch) -> None:
    claim, claims = VideoQueue.claim, list[tuple[float, int]]()

    def watched(self: VideoQueue, *arguments: Any) -> list[ClaimedVideo]:
        began_s = time.monotonic()
        claimed = claim(self, *arguments)
        if claimed:
            claims.append((began_s, len(claimed)))
        return claimed

    monkeypatch.setattr(VideoQueue, "claim", watched)
    for call in RUNS_S:
        monkeypatch.setitem(RUNS_S, call, 0.002)
    with scheduling(database_url):
        ids = send(pool, 200)
        until_ready(pool, ids)
    assert sum(count for _, count in claims) == 200
    assert min(later - earlier for (earlier, _), (later, _) in pairwise(claims)) >= BETWEEN_CLAIMS_S


def test_a_video_submitted_during_a_claim_is_claimed_next(
    database_url: str, pool: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("actors.scheduler.scheduler.POLL_S", PATIENCE_S)
    claim, look, looked, later = VideoQueue.claim, PlayedScheduler._look_now, threading.Event(), list[UUID]()

    def noted(self: PlayedScheduler) -> None:
        look(self)
        looked.set()

    def interrupted(self: VideoQueue, *arguments: Any) -> list[ClaimedVideo]:
        claimed = claim(self, *arguments)
        if claimed and not later:
            looked.clear()
            later.extend(send(pool, 1))
            assert looked.wait(PATIENCE_S / 2)
        return claimed

    monkeypatch.setattr(PlayedScheduler, "_look_now", noted)
    with scheduling(database_url):
        ids = send(pool, 1)
        while not looked.wait(0.1):  # until the scheduler listens
            ids += send(pool, 1)
        until_ready(pool, ids)
        monkeypatch.setattr(VideoQueue, "claim", interrupted)
        until_ready(pool, send(pool, 1))
        until_ready(pool, later)
    assert time_of(pool, later[0]) < PATIENCE_S / 2


def test_a_look_at_workers_that_fails_ends_no_scheduler(
    database_url: str, pool: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    look, failed = PlayedScheduler._look, threading.Event()

    def fails_once(self: PlayedScheduler) -> None:
        if not failed.is_set():
            failed.set()
            raise RuntimeError("Ray is away")
        look(self)

    monkeypatch.setattr(PlayedScheduler, "_look", fails_once)
    with scheduling(database_url):
        until_ready(pool, send(pool, 1))
    assert failed.is_set()


def test_a_slow_download_saves_its_owner_no_turns_up(
    database_url: str, pool: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(RUNS_S, "transcribe", 0.03)
    SOURCE_ANSWERS.clear()
    with scheduling(database_url, work_in_flight_s=0.1):
        slow = submit(pool, ANNA, [Submission(uri="https://example.org/video.mp4")])
        until_ready(pool, send(pool, 20, BERT))
        of_anna, of_bert = send(pool, 20, ANNA), send(pool, 20, BERT)
        SOURCE_ANSWERS.set()
        until_ready(pool, of_anna, 10)
        statement = "SELECT count(*) AS n FROM videos WHERE status = 'READY' AND id = ANY (%s)"
        assert only(pool, statement, of_bert)["n"] >= 5
        until_ready(pool, [*slow, *of_anna, *of_bert])
