"""What a scheduler on a real Postgres logs: failures, lost leases, refused rows. Workers are played."""

import logging
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any
from uuid import UUID

import pytest
from psycopg import sql

from actors.workers.worker import StageReply
from cluster.contracts.events import Event
from cluster.contracts.results import StageFailure
from cluster.contracts.stages import Blame
from cluster.contracts.videos import Submission
from cluster.store.postgres.connections import EmbeddedPostgres, Pool, connect
from cluster.store.queue.submissions import cancel, submit
from cluster.store.queue.video_queue import VideoQueue
from tests.support import played_scheduler
from tests.support.played_scheduler import PATIENCE_S, SOURCE_ANSWERS, scheduling, until_ready
from tests.support.queued_videos import expire

ANNA = UUID(int=1)
FAILURE = StageFailure("OSError", "https://a.example/v.mp4?sig=hidden-7: no route to host", Blame.ERROR)
Lines = Callable[..., list[logging.LogRecord]]


@pytest.fixture
def lines(caplog: pytest.LogCaptureFixture) -> Lines:
    """The lines of an event, once there are so many."""
    caplog.set_level(logging.INFO)

    def of(event: Event, count: int = 1) -> list[logging.LogRecord]:
        end_s = time.monotonic() + PATIENCE_S
        while time.monotonic() < end_s:
            found = [record for record in list(caplog.records) if getattr(record, "event", None) == event]
            if len(found) >= count:
                return found
            time.sleep(0.01)
        pytest.fail(f"no line: {event}")

    return of


def fields(record: logging.LogRecord) -> dict[str, Any]:
    found: dict[str, Any] = record.__dict__["event_fields"]
    return found


def send(pool: Pool, uri: str = "/videos/a.mp4") -> UUID:
    (video_id,) = submit(pool, ANNA, [Submission(uri=uri)])
    return video_id


@pytest.fixture
def failing_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first probe fails."""
    answer, failed = played_scheduler._Worker._run, list[None]()

    async def run(self: Any, call: str, batch: Any, about: Any = ()) -> list[StageReply]:
        replies = await answer(self, call, batch, about)
        if call != "probe" or failed:
            return replies
        failed.append(None)
        return [replace(reply, report=replace(reply.report, failure=FAILURE), value=None) for reply in replies]

    monkeypatch.setattr(played_scheduler._Worker, "_run", run)


@pytest.mark.usefixtures("failing_once")
def test_stage_failure_and_retry_are_logged_with_their_video(database_url: str, pool: Pool, lines: Lines) -> None:
    with scheduling(database_url):
        video_id = send(pool)
        until_ready(pool, [video_id])
        (failed,), (retried,) = lines(Event.STAGE_FAILED), lines(Event.RETRY_SCHEDULED)
        claimed, (ready,) = lines(Event.VIDEO_CLAIMED, 2), lines(Event.VIDEO_READY)
    assert failed.levelno == logging.WARNING
    assert fields(failed).pop("worker") in ("media-1", "media-2")
    assert fields(failed) == {
        "video_id": str(video_id),
        "attempt": 1,
        "stage": "metadata",
        "node": "127.0.0.1",
        "blame": "error",
        "error_type": "OSError",
        "error": "https://a.example/v.mp4: no route to host",
    }
    assert fields(retried).pop("delay_s") > 0
    assert {name: fields(retried)[name] for name in ("video_id", "attempt", "stage", "blame")} == {
        "video_id": str(video_id), "attempt": 1, "stage": "metadata", "blame": "error",
    }  # fmt: skip
    assert [fields(line)["attempt"] for line in claimed] == [1, 2]
    assert (fields(ready)["video_id"], fields(ready)["attempt"]) == (str(video_id), 2)


@pytest.fixture
def silent_source() -> Iterator[None]:
    SOURCE_ANSWERS.clear()
    yield
    SOURCE_ANSWERS.set()


@pytest.mark.usefixtures("silent_source")
def test_cancelled_video_is_logged_as_a_lost_lease(database_url: str, pool: Pool, lines: Lines) -> None:
    with scheduling(database_url):
        video_id = send(pool, "https://a.example/a.mp4")
        (claimed,) = lines(Event.VIDEO_CLAIMED)
        cancel(pool, [video_id])
        (lost,) = lines(Event.LEASE_LOST)
        SOURCE_ANSWERS.set()
    assert fields(lost) == {
        "video_id": str(video_id), "attempt": 1, "lease": fields(claimed)["lease"], "found_by": "notification",
    }  # fmt: skip


def test_expired_lease_is_logged_when_it_is_taken_back(database_url: str, pool: Pool, lines: Lines) -> None:
    video_id = send(pool)
    (video,) = VideoQueue(pool, "another", 60.0).claim(1)
    expire(pool, video)
    with scheduling(database_url):
        (taken,) = lines(Event.LEASE_TAKEN_BACK)
        until_ready(pool, [video_id])
    assert fields(taken) == {"video_id": str(video_id)}


def test_refused_row_is_logged_with_its_video_and_blocks_work(database_url: str, pool: Pool, lines: Lines) -> None:
    with pool.connection() as connection:
        connection.execute("ALTER TABLE videos ADD CONSTRAINT closed CHECK (status <> 'PROCESSING') NOT VALID")
    with scheduling(database_url):
        video_id = send(pool)
        (refused,), (blocked,) = lines(Event.VIDEO_NOT_CLAIMED), lines(Event.WORK_BLOCKED)
        with pool.connection() as connection:
            connection.execute("ALTER TABLE videos DROP CONSTRAINT closed")
            connection.execute("UPDATE video_processing SET available_at = now()")
        until_ready(pool, [video_id])
        lines(Event.WORK_UNBLOCKED)
    assert (refused.levelno, refused.exc_info) == (logging.ERROR, None)
    assert fields(refused)["video_id"] == str(video_id)
    assert 'violates check constraint "closed"' in fields(refused)["error"]
    assert fields(blocked)["reason"].startswith("video cannot be claimed, 1 at the moment: ")


@pytest.mark.long
def test_database_that_is_away_is_one_line_until_it_is_back(
    postgres_server: EmbeddedPostgres, database_url: str, pool: Pool, lines: Lines
) -> None:
    name = database_url.rpartition("/")[2].partition("?")[0]
    with scheduling(database_url):
        video_id = send(pool)
        until_ready(pool, [video_id])
        allow_connections(postgres_server.url, name, False)
        (failed,) = lines(Event.CLAIM_FAILED)
        allow_connections(postgres_server.url, name, True)
        again = send(pool)
        until_ready(pool, [again])
        recovered = lines(Event.RECOVERED)
    assert (failed.levelno, failed.exc_info) == (logging.WARNING, None)
    assert (fields(failed)["error_type"], fields(failed)["retry_s"]) == ("DatabaseUnavailable", 1.0)
    assert [fields(line)["after"] for line in recovered].count(Event.CLAIM_FAILED) == 1


def allow_connections(server_url: str, database: str, allowed: bool) -> None:
    """Let the database be entered, or end all sessions on it."""
    statement = "ALTER DATABASE {} ALLOW_CONNECTIONS true" if allowed else "ALTER DATABASE {} ALLOW_CONNECTIONS false"
    with connect(server_url, autocommit=True) as connection:
        connection.execute(sql.SQL(statement).format(sql.Identifier(database)))
        if not allowed:
            connection.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", [database])
