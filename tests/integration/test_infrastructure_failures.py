"""Infrastructure failures: the attempt waits, or reports the failure and is not counted."""

from concurrent.futures import ThreadPoolExecutor

from cluster.contracts.results import StageFailure
from cluster.contracts.stages import Blame
from cluster.contracts.videos import ClaimedVideo
from cluster.store.postgres.connections import Pool
from cluster.store.queue.video_queue import VideoQueue
from tests.support.played_workers import Workers, attempt
from tests.support.queued_videos import claim_one, only, paused, row, until_a_session_waits


def test_an_attempt_waits_for_a_database_that_is_away(database_url: str, pool: Pool) -> None:
    queue = VideoQueue(pool, "first", 60.0)
    video = claim_one(pool, queue)
    probed = "UPDATE ON {} FOR EACH ROW WHEN (NEW.width IS DISTINCT FROM OLD.width)"
    _process_while_a_session_ends(database_url, pool, queue, video, Workers(), "video_processing", probed)
    stored = row(pool, video.id)
    assert (stored["status"], stored["attempt"], stored["width"]) == ("READY", 1, 640)


def test_a_failure_is_written_down_once_the_database_answers(database_url: str, pool: Pool) -> None:
    queue = VideoQueue(pool, "first", 60.0)
    video = claim_one(pool, queue)
    workers = Workers(probe=StageFailure("InvalidVideo", "no pictures", Blame.VIDEO))
    failed = "UPDATE ON {} FOR EACH ROW WHEN (NEW.status = 'FAILED')"
    _process_while_a_session_ends(database_url, pool, queue, video, workers, "videos", failed)
    stored = row(pool, video.id)
    assert (stored["status"], stored["attempt"], stored["error_type"]) == ("FAILED", 1, "InvalidVideo")


def _process_while_a_session_ends(
    database_url: str, pool: Pool, queue: VideoQueue, video: ClaimedVideo, workers: Workers, table: str, write: str
) -> None:
    """The session of an attempt is ended by the server in the midst of a write to ``table``."""
    with ThreadPoolExecutor(1) as threads:
        with paused(database_url, table, write):
            processed = threads.submit(attempt, pool, queue, video, workers)
            until_a_session_waits(pool)
            ended = only(
                pool,
                "SELECT count(pg_terminate_backend(pid, 5000)) AS n FROM pg_stat_activity "
                "WHERE datname = current_database() AND wait_event_type = 'Lock'",
            )
        assert ended["n"] == 1
        assert processed.result(timeout=30) == []


def test_a_full_disk_is_told_and_costs_no_attempt(pool: Pool) -> None:
    queue = VideoQueue(pool, "first", 60.0)
    video = claim_one(pool, queue)
    full = StageFailure("NoSpace", "the disk is full: /scratch", Blame.INTERRUPTION)
    assert attempt(pool, queue, video, Workers(locate=full)) == ["the disk is full: /scratch"]
    stored = row(pool, video.id)
    assert (stored["status"], stored["failures"], stored["interruptions"]) == ("PENDING", 0, 1)
