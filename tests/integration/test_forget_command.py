"""``heimdex forget`` as a person types it, on a real database."""

import subprocess
from collections.abc import Callable
from pathlib import Path
from uuid import UUID

import pytest
from queued_videos import OWNER, only

from cluster.contracts.videos import Submission
from cluster.store.database import Pool
from cluster.store.submissions import submit

Command = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def forget(heimdex: Callable[..., "subprocess.CompletedProcess[bytes]"]) -> Command:
    """Runs ``heimdex forget`` with ``answer`` typed on standard input."""

    def run(*arguments: str, answer: str = "") -> "subprocess.CompletedProcess[str]":
        done = heimdex("forget", *arguments, typed=answer.encode())
        return subprocess.CompletedProcess(done.args, done.returncode, done.stdout.decode(), done.stderr.decode())

    return run


def forgotten(pool: Pool) -> int:
    return int(only(pool, "SELECT count(*) AS n FROM video_processing WHERE forgotten_at IS NOT NULL")["n"])


def test_it_asks_first_and_a_no_changes_nothing(forget: Command, pool: Pool) -> None:
    submit(pool, OWNER, [Submission(uri="s3://bucket/a.mp4")] * 2)
    refused = forget("s3://bucket/a.mp4", answer="n\n")
    assert refused.returncode == 1
    assert "Forget 2 videos, with all that was found in them? [y/N]" in refused.stderr
    assert forgotten(pool) == 0
    agreed = forget("s3://bucket/a.mp4", answer="y\n")
    assert (agreed.returncode, agreed.stdout.lstrip()) == (0, "2 videos are forgotten\n")
    assert forgotten(pool) == 2


def test_videos_are_named_by_id_or_by_a_path_that_may_be_gone_and_their_pictures_go_too(
    forget: Command, pool: Pool, tmp_path: Path
) -> None:
    gone = tmp_path / "gone.mp4"
    first, second = submit(pool, OWNER, [Submission(uri=str(gone)), Submission(uri="s3://bucket/b.mp4")])
    pictures = [tmp_path / "data" / "scenes" / str(video_id) for video_id in (first, second)]
    for folder in pictures:
        folder.mkdir(parents=True)
        (folder / "00000.jpg").touch()
    done = forget(str(gone), str(second), "--yes")
    assert (done.returncode, done.stdout, done.stderr) == (0, "2 videos are forgotten\n", "")
    assert not any(folder.exists() for folder in pictures)


def test_what_is_not_there_and_what_is_anothers_cannot_be_forgotten(forget: Command, pool: Pool) -> None:
    (other,) = submit(pool, UUID(int=99), [Submission(uri="s3://bucket/a.mp4")])
    missing = forget("s3://bucket/a.mp4", "--yes")
    assert (missing.returncode, missing.stderr) == (1, "error: there is no such video\n")
    of_another = forget(str(other), "--yes")
    assert (of_another.returncode, of_another.stderr) == (1, "error: there is no such video\n")
    assert forgotten(pool) == 0
