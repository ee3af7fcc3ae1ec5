"""``heimdex retry`` chooses among the videos that FAILED, and leaves what can never succeed unless it is asked for."""

import subprocess
from collections.abc import Callable
from uuid import UUID

import pytest

from cluster.contracts.counts import counted
from cluster.contracts.errors import DocumentRefused, InvalidVideo
from cluster.contracts.results import StageFailure
from cluster.contracts.stages import Blame, Stage
from cluster.contracts.videos import Submission
from cluster.store.postgres.connections import Pool
from cluster.store.queue.failures import FailureFilter, find_retried, never_retried
from cluster.store.queue.submissions import cancel, submit
from cluster.store.queue.video_queue import VideoQueue
from tests.support.queued_videos import OWNER, row

Command = Callable[..., "subprocess.CompletedProcess[bytes]"]
UNREADABLE = StageFailure("InvalidVideo", "no pictures", Blame.VIDEO)
LOST = StageFailure("TransientFailure", "the network is away", Blame.ERROR)
FAILURES = {
    "unreadable": (Stage.METADATA, UNREADABLE),
    "lost": (Stage.DOWNLOADING, LOST),
    "late": (Stage.TRANSCRIPTION, LOST),
}


@pytest.fixture
def failed(pool: Pool) -> dict[str, UUID]:
    """Three FAILED videos by what happened to them; ``late`` failed an hour ago and is of the batch "monday"."""
    queue = VideoQueue(pool, "first", 60.0)
    ids = {}
    for name, (stage, failure) in FAILURES.items():
        batch = "monday" if name == "late" else None
        (ids[name],) = submit(pool, OWNER, [Submission(uri=f"/videos/{name}.mp4")], batch=batch)
        (video,) = queue.claim(1)
        queue.fail(video, stage, failure)
    with pool.connection() as connection:
        connection.execute(
            "UPDATE videos SET processing_finished_at = '2026-01-01T12:00:00Z' WHERE id = %s", (ids["late"],)
        )
    return ids


def waiting(pool: Pool, failed: dict[str, UUID]) -> set[str]:
    return {name for name, video_id in failed.items() if row(pool, video_id)["status"] == "PENDING"}


def said(done: "subprocess.CompletedProcess[bytes]") -> list[str]:
    return done.stdout.decode().splitlines()


@pytest.mark.parametrize(
    ("arguments", "names", "hopeless"),
    [
        (["--failed"], {"lost", "late"}, 1),
        (["--stage", "metadata"], set(), 1),
        (["--stage", "downloading"], {"lost"}, 0),
        (["--error-type", "TransientFailure"], {"lost", "late"}, 0),
        (["--error-type", "InvalidVideo"], {"unreadable"}, 0),
        (["--since", "2026-01-02"], {"lost"}, 1),
        (["--since", "2026-01-01T11:59:59"], {"lost", "late"}, 1),
        (["--since", "2026-01-01T12:00:01", "--stage", "transcription"], set(), 0),
        (["--batch", "monday"], {"late"}, 0),
    ],
)
def test_retry_filters(
    heimdex: Command, pool: Pool, failed: dict[str, UUID], arguments: list[str], names: set[str], hopeless: int
) -> None:
    tried = heimdex("retry", *arguments, "--dry-run")
    assert tried.returncode == 0, tried.stderr
    listed = [line for line in said(tried) if line.split()[0] in map(str, failed.values())]
    assert {line.split()[0] for line in listed} == {str(failed[name]) for name in names}
    assert f"{counted(len(names), 'video')} would be tried again" in said(tried)
    assert waiting(pool, failed) == set()
    done = heimdex("retry", *arguments)
    assert (done.returncode, said(done)[0]) == (0, f"{counted(len(names), 'video waits', 'videos wait')} again")
    assert waiting(pool, failed) == names
    left = "1 more can never succeed (InvalidVideo): retry them by id once their files are others"
    assert (left in said(done)) == (left in said(tried)) == bool(hopeless)


def test_retry_by_id_takes_what_can_never_succeed(heimdex: Command, pool: Pool, failed: dict[str, UUID]) -> None:
    tried = heimdex("retry", "unreadable.mp4", "--dry-run")
    assert said(tried)[0] == f"{failed['unreadable']}  unreadable.mp4: metadata: no pictures"
    assert waiting(pool, failed) == set()
    done = heimdex("retry", str(failed["unreadable"]))
    assert (done.returncode, said(done)) == (0, ["1 video waits again"])
    assert waiting(pool, failed) == {"unreadable"}


def test_retry_without_a_choice_is_refused(heimdex: Command, pool: Pool, failed: dict[str, UUID]) -> None:
    for arguments in ([], ["--dry-run"], [str(failed["lost"]), "--failed"], [str(failed["lost"]), "--batch", "monday"]):
        done = heimdex("retry", *arguments)
        assert (done.returncode, done.stdout) == (2, b"")
        assert b"give either videos, or --failed, --stage, --error-type, --since or --batch" in done.stderr
    assert waiting(pool, failed) == set()


def test_dry_run_leaves_out_what_a_retry_would(pool: Pool, failed: dict[str, UUID]) -> None:
    (cancelled,) = submit(pool, OWNER, [Submission(uri="/videos/a.mp4")])
    cancel(pool, [cancelled])
    assert set(find_retried(pool, None, FailureFilter())) == {failed["lost"], failed["late"]}
    assert find_retried(pool, [cancelled, failed["lost"]], FailureFilter()) == sorted([cancelled, failed["lost"]])
    with pool.connection() as connection:
        connection.execute("UPDATE video_processing SET forgotten_at = clock_timestamp()")
    assert find_retried(pool, None, FailureFilter()) == find_retried(pool, [cancelled], FailureFilter()) == []


def test_never_retried_are_invalid_videos_of_every_kind() -> None:
    assert set(never_retried()) >= {InvalidVideo.__name__, DocumentRefused.__name__}
    assert "TransientFailure" not in never_retried()


def test_quarantine_prints_whole_ids_at_any_width(heimdex: Command, failed: dict[str, UUID]) -> None:
    for columns in ("80", "200"):
        printed = heimdex("quarantine", settings={"COLUMNS": columns}).stdout.decode()
        assert all(str(video_id) in printed for video_id in failed.values()), columns
