"""Triggers and constraints of an existing database that refuse changes of ``videos``: no other row waits."""

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from cluster.cli.adopt import take_over_left
from cluster.contracts.errors import LeaseLost
from cluster.contracts.events import Event
from cluster.contracts.results import StageFailure
from cluster.contracts.stages import Blame, RetryRule, Stage
from cluster.contracts.videos import ClaimedVideo, Submission
from cluster.settings import load_settings
from cluster.store.postgres.connections import Pool, open_pool
from cluster.store.postgres.migrations import apply_migrations
from cluster.store.postgres.refusals import FIRST_DELAY_S, LONGEST_DELAY_S, RefusedRows
from cluster.store.queue.submissions import cancel, submit
from cluster.store.queue.video_queue import VideoQueue
from tests.support.existing_database import ANNA, BEN, CARA, DORA, EMIL, clip
from tests.support.played_scheduler import scheduling, until_ready
from tests.support.queued_videos import begin, expire, finish, only, recovery, row, runs

ERROR = StageFailure("OSError", "no route to host", Blame.ERROR)
REFUSALS = {
    "exception": "RAISE EXCEPTION 'the account is closed'",
    "check": "RAISE EXCEPTION 'the account is closed' USING ERRCODE = 'check_violation'",
    "lock": "RAISE EXCEPTION 'the account is closed' USING ERRCODE = 'lock_not_available'",
    "recursion": "UPDATE videos SET filename = filename WHERE id = NEW.id; RETURN NEW",
    "overflow": "PERFORM 1 / 0; RETURN NEW",
    "skip": "RETURN NULL",
    "undo": "NEW.status := OLD.status; RETURN NEW",
}
"""The actions of the trigger."""
WAIT = "PERFORM pg_sleep(100); RETURN NEW"


@pytest.fixture
def strict(existing_url: str) -> Iterator[Pool]:
    apply_migrations(existing_url)
    with open_pool(existing_url, max_size=4, name="tests") as pool:
        yield pool


@pytest.fixture
def queue(strict: Pool) -> VideoQueue:
    return VideoQueue(strict, "first", 60.0)


def send(pool: Pool, owner: UUID, count: int = 1) -> list[UUID]:
    return submit(pool, owner, [Submission(uri=f"s3://videos/{n}.mp4") for n in range(count)])


def refuse(pool: Pool, refusal: str, *ids: UUID) -> None:
    """Put a trigger on the rows of these videos."""
    chosen = ", ".join(f"'{video_id}'" for video_id in ids)
    with pool.connection() as connection:
        connection.execute(
            f"""
            CREATE OR REPLACE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS
                $$ BEGIN {REFUSALS.get(refusal, WAIT)}; END $$;
            CREATE TRIGGER refuse BEFORE UPDATE ON videos FOR EACH ROW WHEN (OLD.id IN ({chosen}))
                EXECUTE FUNCTION refuse();
            """.encode()
        )


def allow(pool: Pool) -> None:
    """Drop the trigger, and let the time pass that refused videos and leases wait."""
    with pool.connection() as connection:
        connection.execute("DROP TRIGGER refuse ON videos")
        connection.execute("UPDATE video_processing SET available_at = now() WHERE available_at IS NOT NULL")
        connection.execute("UPDATE video_leases SET expires_at = now() - interval '1 ms'")


def lease_of(pool: Pool, video_id: UUID) -> dict[str, Any]:
    return only(
        pool,
        "SELECT count(*) AS n, max(extract(epoch FROM expires_at - clock_timestamp()))::float8 AS left_s "
        "FROM video_leases WHERE video_id = %s",
        video_id,
    )


@pytest.mark.parametrize("refusal", REFUSALS)
def test_a_refused_video_is_set_aside_and_claimed_once_allowed(
    strict: Pool, queue: VideoQueue, refusal: str, caplog: pytest.LogCaptureFixture
) -> None:
    (refused,) = send(strict, ANNA)
    others = [*send(strict, ANNA), *send(strict, BEN, 2)]
    refuse(strict, refusal, refused)
    assert {video.id for video in queue.claim(10)} == set(others)
    stored = row(strict, refused)
    assert (stored["status"], stored["error_type"], stored["attempt"]) == ("PENDING", "RefusedByDatabase", 0)
    waits = only(strict, "SELECT available_at > now() AS later FROM video_processing WHERE video_id = %s", refused)
    assert waits["later"]
    assert queue.claim(10) == []
    assert caplog.text.count(f"video_id={refused}") == 1
    assert "Traceback" not in caplog.text
    assert queue.trouble is not None
    allow(strict)
    (video,) = queue.claim(10)
    assert (video.id, video.attempt, queue.trouble) == (refused, 1, None)
    finish(queue, video)
    assert row(strict, refused)["status"] == "READY"


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Statements that a trigger of one row may hold up take 0.3 s at most."""
    for name in (
        "video_queue.WITHIN_TURN",
        "video_queue.BRIEFLY",
        "lease_recovery.WITHIN_TURN",
        "lease_recovery.BRIEFLY",
        "stage_runs.WITHIN_TURN",
    ):
        monkeypatch.setattr(f"cluster.store.queue.{name}", "SET LOCAL statement_timeout = 300; ")


@pytest.mark.usefixtures("impatient")
def test_a_trigger_that_waits_holds_up_no_other(strict: Pool, queue: VideoQueue) -> None:
    sent = send(strict, ANNA, 2)
    refuse(strict, "wait", sent[0])
    (video,) = queue.claim(10)
    assert (video.id, queue.claim(10)) == (sent[1], [])
    allow(strict)
    (waited,) = queue.claim(10)
    refuse(strict, "wait", sent[0])
    expire(strict, video, waited)
    assert recovery(strict, "second").reap() == [video.id]
    allow(strict)
    assert recovery(strict, "second").reap() == [waited.id]


@pytest.mark.usefixtures("impatient")
def test_claim_beside_waiting_triggers_ends_before_its_leases(strict: Pool) -> None:
    """What is claimed has no heartbeat before the claim returns."""
    (honest,) = send(strict, DORA)
    refuse(strict, "wait", *(send(strict, owner)[0] for owner in (ANNA, BEN, CARA, EMIL)))
    queue = VideoQueue(strict, "first", 2.0)
    assert [video.id for video in queue.claim(2)] == [honest]
    assert lease_of(strict, honest)["left_s"] > 1.0


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize("way", ["begin", "end"])
def test_a_write_that_waits_holds_up_no_other(existing_url: str, strict: Pool, way: str) -> None:
    slow, *others = send(strict, ANNA, 6)
    status = "PROCESSING" if way == "begin" else "READY"
    begun = "OLD.processing_started_at IS NULL AND NEW.processing_started_at IS NOT NULL" if way == "begin" else "true"
    with strict.connection() as connection:
        connection.execute(
            f"""
            CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN {WAIT}; END $$;
            CREATE TRIGGER refuse BEFORE UPDATE ON videos FOR EACH ROW
                WHEN (OLD.id = '{slow}' AND NEW.status = '{status}' AND {begun}) EXECUTE FUNCTION refuse();
            """.encode()
        )
    with scheduling(existing_url):
        until_ready(strict, others)
        assert row(strict, slow)["status"] == "PROCESSING"
        with strict.connection() as connection:
            connection.execute("DROP TRIGGER refuse ON videos")
        until_ready(strict, [slow])
    assert row(strict, slow)["interruptions"] == 0


@pytest.mark.parametrize("refusal", ["exception", "skip"])
@pytest.mark.parametrize("urgent", [0, 1])
def test_claim_of_one_skips_an_owner_with_refused_videos(
    strict: Pool, queue: VideoQueue, refusal: str, urgent: int
) -> None:
    refused = send(strict, ANNA, 30)
    (other,) = send(strict, BEN)
    refuse(strict, refusal, *refused)
    assert [video.id for video in queue.claim(1, urgent)] == [other]


@pytest.mark.parametrize("refusal", ["exception", "skip"])
def test_a_claim_with_refused_videos_keeps_to_its_limits(strict: Pool, refusal: str) -> None:
    queue = VideoQueue(strict, "first", 60.0, owner_cap=3)
    refuse(strict, refusal, *send(strict, ANNA))
    for owner in (ANNA, BEN, CARA):
        send(strict, owner, 5)
    claimed = queue.claim(7, caps={BEN: 1})
    counted = [sum(video.owner_id == owner for video in claimed) for owner in (ANNA, BEN, CARA)]
    assert counted[1:] == [1, 3]
    assert counted[0] <= 3


def test_a_claim_refused_by_its_own_tables_raises(strict: Pool, queue: VideoQueue) -> None:
    send(strict, ANNA)
    with strict.connection() as connection:
        connection.execute("ALTER TABLE video_processing ADD CHECK (available_at IS NOT NULL AND error_type IS NULL)")
    with pytest.raises(Exception, match="violates check constraint"):
        queue.claim(10)


def test_a_scheduler_finishes_all_but_the_refused_videos(existing_url: str, strict: Pool) -> None:
    sent = {owner: send(strict, owner, 4) for owner in (ANNA, BEN, CARA, DORA, EMIL)}
    refused = [sent[ANNA][0], sent[BEN][1], sent[CARA][3]]
    others = [video_id for ids in sent.values() for video_id in ids if video_id not in refused]
    refuse(strict, "exception", *refused)
    with scheduling(existing_url):
        until_ready(strict, others)
        assert {row(strict, video_id)["status"] for video_id in refused} == {"PENDING"}
        allow(strict)
        until_ready(strict, refused)
    assert only(strict, "SELECT count(*) AS n FROM video_leases")["n"] == 0


@pytest.mark.long
def test_a_claim_that_fails_as_a_whole_is_logged_once(
    existing_url: str, strict: Pool, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("actors.scheduler.scheduler.POLL_S", 0.02)
    claim, claims = VideoQueue.claim, list[None]()

    def counted(self: VideoQueue, *arguments: Any) -> list[ClaimedVideo]:
        claims.append(None)
        return claim(self, *arguments)

    monkeypatch.setattr(VideoQueue, "claim", counted)
    ids = send(strict, ANNA)
    with strict.connection() as connection:
        connection.execute("ALTER TABLE video_processing ADD CONSTRAINT no CHECK (available_at IS NOT NULL) NOT VALID")
        connection.execute("ALTER TABLE video_processing ADD CONSTRAINT nor CHECK (error_type IS NULL) NOT VALID")
    with scheduling(existing_url):
        while len(claims) < 5:
            threading.Event().wait(0.02)
        with strict.connection() as connection:
            connection.execute("ALTER TABLE video_processing DROP CONSTRAINT no, DROP CONSTRAINT nor")
        until_ready(strict, ids)
    failed = [record for record in caplog.records if record.message.startswith("claim failed")]
    assert len(failed) == 1
    assert failed[0].exc_info is None


def test_adoption_takes_over_all_but_the_refused_videos(
    existing_url: str, strict: Pool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HEIMDEX_STORAGE_ROOT", str(tmp_path))
    for number in (4, 8, 12):
        stored = tmp_path / str(ANNA) / f"clip-{number}.mp4"
        stored.parent.mkdir(exist_ok=True)
        stored.write_bytes(b"a video")
    refuse(strict, "exception", clip(4))
    taken = take_over_left(load_settings(), existing_url, failed=False, dry=False, say=lambda _: None)
    assert (taken.queued, taken.refused["the database refuses it"]) == (2, 1)
    assert any("the account is closed" in example for example in taken.examples)
    with strict.connection() as connection:
        connection.execute("DROP TRIGGER refuse ON videos")
    assert take_over_left(load_settings(), existing_url, failed=False, dry=False, say=lambda _: None).queued == 1


# The other ends


@pytest.fixture
def video(strict: Pool, queue: VideoQueue) -> ClaimedVideo:
    send(strict, ANNA)
    (video,) = queue.claim(1)
    begin(strict, video, Stage.DOWNLOADING)
    return video


def _fail(queue: VideoQueue, video: ClaimedVideo) -> None:
    queue.fail(video, "downloading", ERROR)


def _retry(queue: VideoQueue, video: ClaimedVideo) -> None:
    queue.retry(video, ERROR, 0.0)


def _cancel(queue: VideoQueue, video: ClaimedVideo) -> None:
    if not cancel(queue._pool, [video.id]):
        raise LeaseLost("not cancelled")


@pytest.mark.parametrize("refusal", ["exception", "skip", "undo"])
@pytest.mark.parametrize("end", [finish, _fail, _retry, _cancel])
def test_a_video_whose_end_is_refused_keeps_its_lease(
    strict: Pool, queue: VideoQueue, video: ClaimedVideo, end: Any, refusal: str
) -> None:
    refuse(strict, refusal, video.id)
    with pytest.raises(Exception, match=r"account is closed|lease of|not cancelled|0\.mp4"):
        end(queue, video)
    assert (row(strict, video.id)["status"], lease_of(strict, video.id)["n"]) == ("PROCESSING", 1)
    assert runs(strict, video.id)["downloading"]["outcome"] == "running"
    allow(strict)
    assert recovery(strict, "second").reap() == [video.id]
    (again,) = queue.claim(1)
    finish(queue, again)
    assert row(strict, video.id)["status"] == "READY"


@pytest.mark.parametrize("refusal", REFUSALS)
@pytest.mark.parametrize("spent", [False, True])
def test_a_refused_lease_is_kept_and_taken_back_once_allowed(
    strict: Pool,
    queue: VideoQueue,
    video: ClaimedVideo,
    refusal: str,
    spent: bool,
    caplog: pytest.LogCaptureFixture,
) -> None:
    send(strict, BEN)
    (other,) = queue.claim(1)
    refuse(strict, refusal, video.id)
    expire(strict, video, other)
    reaper = recovery(strict, "second", RetryRule(max_interruptions=1 if spent else 9))
    assert reaper.reap() == [other.id]
    assert runs(strict, video.id)["downloading"]["outcome"] == "running"
    assert 0 < lease_of(strict, video.id)["left_s"] <= FIRST_DELAY_S
    assert reaper.reap() == []
    assert caplog.text.count(f"lease={video.lease_token}") == 1
    assert reaper.trouble is not None
    expire(strict, video)
    assert reaper.reap() == []
    assert FIRST_DELAY_S < lease_of(strict, video.id)["left_s"] <= 2 * FIRST_DELAY_S
    assert caplog.text.count(f"lease={video.lease_token}") == 1
    allow(strict)
    assert reaper.reap() == [video.id]
    assert row(strict, video.id)["status"] == ("FAILED" if spent else "PENDING")
    assert row(strict, video.id)["interruptions"] == 1
    assert runs(strict, video.id)["downloading"]["outcome"] == "lost"
    assert reaper.trouble is None


def test_more_refused_leases_than_a_look_takes_hold_up_no_other(strict: Pool, queue: VideoQueue) -> None:
    send(strict, ANNA, 6)
    *refused, other = queue.claim(6)
    refuse(strict, "exception", *(each.id for each in refused))
    expire(strict, *refused, other)
    reaper = recovery(strict, "second")
    assert [reaper.reap(3), reaper.reap(3)] == [[], [other.id]]


def test_refused_row_intervals_double_and_are_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    now_s = [0.0]
    refused: RefusedRows[int] = RefusedRows(Event.VIDEO_NOT_CLAIMED, "video_id", lambda: now_s[0])
    delays = []
    for _ in range(12):
        (delay_s,) = refused.note({7: "closed"})
        delays.append(delay_s)
        now_s[0] += delay_s
    assert delays[:3] == [FIRST_DELAY_S, 2 * FIRST_DELAY_S, 4 * FIRST_DELAY_S]
    assert delays[-1] == LONGEST_DELAY_S
    assert len(caplog.records) == 1
    refused.note({7: "another reason"})
    assert len(caplog.records) == 2
    assert refused.trouble == "video cannot be claimed, 1 at the moment: another reason"
    now_s[0] += 2 * LONGEST_DELAY_S + 1
    assert refused.trouble is None
    refused.note({8: "closed"})
    assert list(refused._refusals) == [8]
