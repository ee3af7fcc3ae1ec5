"""A video whose source is not ready waits, visibly, for a bounded time. It costs no attempt."""

import asyncio
import json
from ipaddress import ip_network
from pathlib import Path

import pytest

from actors.workers.worker import failure_of
from cluster.cli.watch import watch_lines
from cluster.contracts.errors import SourceChanging, TransientFailure
from cluster.contracts.results import StageFailure
from cluster.contracts.stages import Blame, RetryRule, Setbacks
from cluster.contracts.videos import ClaimedVideo
from cluster.files.storage import FetchLimits, fetch
from cluster.store.postgres.connections import Pool
from cluster.store.queue.reprocessing import retry
from cluster.store.queue.stage_results import StageResults
from cluster.store.queue.video_queue import VideoQueue
from tests.chaos.watched_network import SERVER
from tests.support.api_client import Heimdex
from tests.support.played_workers import Workers, attempt
from tests.support.queued_videos import claim_one, enqueue, only, row, runs, transcript
from tests.support.scripted_web import Web, answer, serving

BUSY = StageFailure("SourceBusy", "the server asks to come back in 20 s", Blame.POSTPONEMENT, 20.0)
LIMITS = FetchLimits(10**6, 10.0, private_networks=(ip_network(f"{SERVER}/32"),))


@pytest.fixture
def queue(pool: Pool) -> VideoQueue:
    return VideoQueue(pool, "first", 60.0)


@pytest.fixture
def video(pool: Pool, queue: VideoQueue) -> ClaimedVideo:
    return claim_one(pool, queue)


def waits_s(pool: Pool, video: ClaimedVideo) -> float:
    found = only(
        pool,
        "SELECT extract(epoch FROM available_at - clock_timestamp())::float8 AS s FROM video_processing "
        "WHERE video_id = %s",
        video.id,
    )
    waiting_s: float = found["s"]
    return waiting_s


def claim_now(pool: Pool, queue: VideoQueue) -> ClaimedVideo:
    """The video, as if its waiting were over."""
    with pool.connection() as connection:
        connection.execute("UPDATE video_processing SET available_at = clock_timestamp()")
    (video,) = queue.claim(1)
    return video


def test_a_busy_source_costs_its_video_no_attempt(pool: Pool, queue: VideoQueue, video: ClaimedVideo) -> None:
    attempt(pool, queue, video, Workers(locate=BUSY))
    stored = row(pool, video.id)
    assert (stored["status"], stored["processing_stage"]) == ("PENDING", "queued")
    assert (stored["error_type"], stored["error_message"]) == ("SourceBusy", BUSY.message)
    assert (stored["failures"], stored["crashes"], stored["interruptions"]) == (0, 0, 0)
    assert 20.0 <= stored["postponed_s"] <= 22.0
    assert 15.0 <= waits_s(pool, video) <= 22.0
    assert queue.claim(1) == []
    assert only(pool, "SELECT count(*) AS n FROM video_leases")["n"] == 0
    assert runs(pool, video.id)["downloading"]["error_message"] == BUSY.message
    again = claim_now(pool, queue)
    assert again.setbacks == Setbacks(postponed_s=stored["postponed_s"])
    attempt(pool, queue, again, Workers())
    assert row(pool, video.id)["status"] == "READY"


def test_a_source_that_stays_busy_is_asked_many_times(pool: Pool, queue: VideoQueue, video: ClaimedVideo) -> None:
    for _ in range(22):  # more than errors or interruptions may be
        attempt(pool, queue, video, Workers(locate=BUSY))
        assert row(pool, video.id)["status"] == "PENDING"
        video = claim_now(pool, queue)
    attempt(pool, queue, video, Workers())
    assert row(pool, video.id)["status"] == "READY"


def test_a_source_that_is_never_ready_fails_its_video(pool: Pool, queue: VideoQueue, video: ClaimedVideo) -> None:
    attempt(pool, queue, video, Workers(locate=BUSY))
    limit_s = RetryRule().max_postponed_s
    with pool.connection() as connection:
        connection.execute("UPDATE video_processing SET postponed_s = %s", (limit_s,))
    attempt(pool, queue, claim_now(pool, queue), Workers(locate=BUSY))
    stored = row(pool, video.id)
    assert (stored["status"], stored["processing_stage"]) == ("FAILED", "downloading")
    assert stored["error_message"] == f"{BUSY.message}; given up after 6.0 h of waiting"
    assert retry(pool, [video.id]) == [video.id]
    assert row(pool, video.id)["postponed_s"] == 0


@pytest.mark.parametrize(("failure", "kept"), [(BUSY, 1), (failure_of(SourceChanging("still written", 5.0)), 0)])
def test_what_was_made_of_another_file_is_dropped(
    pool: Pool, queue: VideoQueue, video: ClaimedVideo, failure: StageFailure, kept: int
) -> None:
    StageResults(pool).keep_transcript(video.id, video.lease_token, transcript("the tide comes in"))
    queue.retry(video, failure, 0.0)
    assert only(pool, "SELECT count(*) AS n FROM video_stage_results")["n"] == kept


def test_a_real_busy_server_is_waited_for(pool: Pool, queue: VideoQueue, video: ClaimedVideo, tmp_path: Path) -> None:
    turns = iter(["HTTP/1.1 429 Busy\nRetry-After: 20", "HTTP/1.1 503 Busy\nRetry-After: 3600", "HTTP/1.1 200 OK"])

    async def download(web: Web) -> StageFailure | None:
        try:
            await asyncio.to_thread(fetch, f"{web.url}/a.mp4?signature=secret", tmp_path, LIMITS)
        except TransientFailure as error:
            return failure_of(error)
        return None

    with serving(lambda *of: answer(f"{next(turns)}\nContent-Length: 4", b"film")(*of)) as web:
        for status, least_s in ((429, 20), (503, 3600)):
            attempt(pool, queue, video, Workers(locate=lambda: download(web)))
            stored = row(pool, video.id)
            later = f"HTTP {status}, the server asks to come back in {least_s:,} s"
            assert stored["error_message"] == f"cannot fetch {web.url}/a.mp4: {later}"
            assert least_s - 5 <= waits_s(pool, video) <= 1.1 * least_s
            assert (stored["status"], stored["failures"]) == ("PENDING", 0)
            video = claim_now(pool, queue)
        attempt(pool, queue, video, Workers(locate=lambda: download(web)))
    assert row(pool, video.id)["status"] == "READY"


def test_why_a_video_waits_is_shown(pool: Pool, queue: VideoQueue, video: ClaimedVideo, heimdex: Heimdex) -> None:
    (other,) = enqueue(pool)
    queue.retry(video, BUSY, 600.0)
    status = json.loads(heimdex("status", "--json").stdout)
    assert [(each["filename"], each["error_message"]) for each in status["waiting"]] == [("00000.mp4", BUSY.message)]
    shown = heimdex("status").stdout.decode()
    assert "Waiting for another attempt" in shown
    assert BUSY.message in shown
    said: list[str] = []

    def meanwhile() -> None:
        if said:  # it was read once
            with pool.connection() as connection:
                connection.execute("UPDATE videos SET status = 'READY'")

    watch_lines(pool, [video.id, other], said.append, meanwhile)
    assert said[0] == f"[0/2] WAITS   /videos/00000.mp4: {BUSY.message}"
    assert len([line for line in said if "WAITS" in line]) == 1
