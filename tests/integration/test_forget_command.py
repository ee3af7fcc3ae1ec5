"""``heimdex forget`` as a person types it, on a real database."""

import subprocess
from collections.abc import Callable
from pathlib import Path
from uuid import UUID

import pytest

from cluster.contracts.videos import Origin, Submission
from cluster.store.postgres.connections import Pool
from cluster.store.queue.submissions import submit
from tests.support.queued_videos import OWNER, only

Command = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def forget(heimdex: Callable[..., "subprocess.CompletedProcess[bytes]"]) -> Command:
    """Runs ``heimdex forget`` with ``answer`` typed on standard input."""

    def run(*arguments: str, answer: str = "") -> "subprocess.CompletedProcess[str]":
        done = heimdex("forget", *arguments, typed=answer.encode())
        return subprocess.CompletedProcess(done.args, done.returncode, done.stdout.decode(), done.stderr.decode())

    return run


STAY = "; their files stay where they are (--with-file removes them)"


def forgotten(pool: Pool) -> int:
    return int(only(pool, "SELECT count(*) AS n FROM video_processing WHERE forgotten_at IS NOT NULL")["n"])


def test_it_asks_first_and_a_no_changes_nothing(forget: Command, pool: Pool) -> None:
    submit(pool, OWNER, [Submission(uri="s3://bucket/a.mp4")] * 2)
    refused = forget("s3://bucket/a.mp4", answer="n\n")
    assert refused.returncode == 1
    assert "Forget 2 videos, with all that was found in them? [y/N]" in refused.stderr
    assert forgotten(pool) == 0
    agreed = forget("s3://bucket/a.mp4", answer="y\n")
    assert (agreed.returncode, agreed.stdout.lstrip()) == (0, f"2 videos are forgotten{STAY}\n")
    assert forgotten(pool) == 2


def test_videos_are_named_by_id_or_path_and_lose_their_pictures(forget: Command, pool: Pool, tmp_path: Path) -> None:
    gone = tmp_path / "gone.mp4"
    first, second = submit(pool, OWNER, [Submission(uri=str(gone)), Submission(uri="s3://bucket/b.mp4")])
    pictures = [tmp_path / "data" / "scenes" / str(video_id) for video_id in (first, second)]
    for folder in pictures:
        folder.mkdir(parents=True)
        (folder / "00000.jpg").touch()
    done = forget(str(gone), str(second), "--yes")
    assert (done.returncode, done.stdout, done.stderr) == (0, f"2 videos are forgotten{STAY}\n", "")
    assert not any(folder.exists() for folder in pictures)


def test_missing_or_other_owners_video_cannot_be_forgotten(forget: Command, pool: Pool) -> None:
    (other,) = submit(pool, UUID(int=99), [Submission(uri="s3://bucket/a.mp4")])
    missing = forget("s3://bucket/a.mp4", "--yes")
    assert (missing.returncode, missing.stderr) == (1, "error: there is no such video: s3://bucket/a.mp4\n")
    of_another = forget(str(other), "--yes")
    assert (of_another.returncode, of_another.stderr) == (1, "error: there is no such video\n")
    assert forgotten(pool) == 0


def test_with_file_removes_the_file_and_what_says_where_it_was(forget: Command, pool: Pool, tmp_path: Path) -> None:
    file = tmp_path / "a.mp4"
    file.touch()
    (video,) = submit(pool, OWNER, [Submission(uri=str(file))])
    done = forget(str(file), "--with-file", "--yes")
    assert (done.returncode, done.stdout, done.stderr) == (0, "1 video is forgotten\n", "")
    assert not file.exists()
    assert only(pool, "SELECT storage_path FROM videos WHERE id = %s", video)["storage_path"] == ""


def test_a_file_of_other_videos_too_stays(forget: Command, pool: Pool, tmp_path: Path) -> None:
    file = tmp_path / "a.mp4"
    file.touch()
    first, _ = submit(pool, OWNER, [Submission(uri=str(file))] * 2)
    done = forget(str(first), "--with-file", "--yes")
    assert done.returncode == 0
    assert f"the file stays, since other videos are of it too: {file}" in done.stderr
    assert file.exists()
    assert only(pool, "SELECT storage_path FROM videos WHERE id = %s", first)["storage_path"] == str(file)


def test_a_file_that_cannot_be_removed_keeps_its_video(forget: Command, pool: Pool) -> None:
    submit(pool, OWNER, [Submission(uri="https://host/a.mp4"), Submission(uri="owner/a.mp4")])
    done = forget("https://host/a.mp4", "owner/a.mp4", "--with-file", "--yes")
    assert (done.returncode, done.stdout) == (1, "")
    assert "https://host/a.mp4 is on the web" in done.stderr
    assert forgotten(pool) == 0


@pytest.mark.parametrize("origin", [Origin.ADOPTED, Origin.HTTP])
def test_with_file_removes_no_file_that_a_row_names(
    forget: Command, pool: Pool, tmp_path: Path, origin: Origin
) -> None:
    file = tmp_path / "a.mp4"
    file.touch()
    (video,) = submit(pool, OWNER, [Submission(uri=str(file))], origin=origin)
    done = forget(str(video), "--with-file", "--yes")
    assert (done.returncode, forgotten(pool)) == (1, 0)
    assert file.exists()


def test_with_file_removes_the_file_that_was_submitted(forget: Command, pool: Pool, tmp_path: Path) -> None:
    submitted, written = tmp_path / "a.mp4", tmp_path / "b.mp4"
    submitted.touch()
    written.touch()
    (video,) = submit(pool, OWNER, [Submission(uri=str(submitted))])
    with pool.connection() as connection:
        connection.execute("UPDATE videos SET storage_path = %s", (str(written),))
    assert forget(str(video), "--with-file", "--yes").returncode == 0
    assert (submitted.exists(), written.exists()) == (False, True)
    assert only(pool, "SELECT uri FROM video_processing WHERE video_id = %s", video)["uri"] == ""


def test_what_another_system_has_in_work_is_named(forget: Command, pool: Pool) -> None:
    _, *others = submit(pool, OWNER, [Submission(uri=f"s3://bucket/{n}.mp4") for n in range(3)])
    with pool.connection() as connection:
        connection.execute("DELETE FROM video_processing WHERE video_id = ANY (%s)", (others,))
        connection.execute("UPDATE videos SET status = 'PROCESSING' WHERE id = %s", (others[0],))
    done = forget("s3://bucket/0.mp4", "s3://bucket/1.mp4", "s3://bucket/2.mp4", "--yes")
    assert (done.returncode, done.stdout) == (1, f"1 video is forgotten{STAY}\n")
    for number, other in enumerate(others, 1):
        assert f"another system has it in work: s3://bucket/{number}.mp4 ({other})" in done.stderr
    assert forgotten(pool) == 1
