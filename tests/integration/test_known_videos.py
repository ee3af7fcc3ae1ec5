"""An unchanged file is the same video when it is submitted again; what a manifest says is kept."""

import json
import os
from collections.abc import Sequence
from pathlib import Path
from uuid import UUID

import pytest

from cluster.contracts.videos import DetailedSubmission, Origin, Submission
from cluster.store.postgres.connections import Pool
from cluster.store.queue.known_videos import Submitted, submit_unknown
from cluster.store.queue.submissions import cancel, submit
from cluster.store.videos.deletion import forget
from cluster.store.videos.progress import read_results
from tests.support.api_client import Heimdex
from tests.support.queued_videos import OWNER

OTHER = UUID(int=0x0123)


def video(name: str = "/a.mp4", mark: str | None = "1-1", language: str | None = None) -> DetailedSubmission:
    return DetailedSubmission(uri=name, content_mark=mark, language=language)


def again(pool: Pool, *submissions: Submission, owner: UUID = OWNER) -> Submitted:
    return submit_unknown(pool, owner, submissions)


def statuses(pool: Pool, ids: Sequence[UUID], status: str) -> None:
    with pool.connection() as connection:
        connection.execute("UPDATE videos SET status = %s WHERE id = ANY (%s)", (status, list(ids)))


def test_submit_unknown_same_file_is_the_same_video(pool: Pool) -> None:
    first = again(pool, video(), video("/b.mp4"))
    assert first.known == 0
    second = again(pool, video("/b.mp4"), video("/c.mp4"), video())
    assert (second.known, second.ids[0], second.ids[2]) == (2, first.ids[1], first.ids[0])
    assert second.ids[1] not in first.ids


@pytest.mark.parametrize(
    "other", [video(mark="1-2"), video("/other.mp4"), video(mark=None), video(language="de"), Submission(uri="/a.mp4")]
)
def test_submit_unknown_another_file_is_another_video(pool: Pool, other: Submission) -> None:
    first = again(pool, video())
    assert again(pool, other).ids != first.ids


def test_submit_unknown_same_language_is_the_same_video(pool: Pool) -> None:
    first = again(pool, video(language="de"))
    assert again(pool, video(language="de"), video()).ids == [first.ids[0]] * 2


def test_submit_unknown_of_another_owner_is_another_video(pool: Pool) -> None:
    first = again(pool, video())
    assert again(pool, video(), owner=OTHER).ids != first.ids


def test_submit_unknown_twice_in_one_call_is_one_video(pool: Pool) -> None:
    found = again(pool, video(), video("/b.mp4"), video())
    assert (found.known, found.ids[0], len(set(found.ids))) == (1, found.ids[2], 2)


@pytest.mark.parametrize(("status", "same"), [("READY", True), ("PROCESSING", True), ("FAILED", False)])
def test_submit_unknown_failed_video_is_none(pool: Pool, status: str, same: bool) -> None:
    first = again(pool, video())
    statuses(pool, first.ids, status)
    assert (again(pool, video()).ids == first.ids) is same


def test_submit_unknown_cancelled_or_forgotten_video_is_none(pool: Pool) -> None:
    first = again(pool, video())
    cancel(pool, first.ids)
    second = again(pool, video())
    assert second.ids != first.ids
    statuses(pool, second.ids, "READY")
    assert forget(pool, second.ids) == second.ids
    assert again(pool, video()).known == 0


def test_submit_unknown_trusts_no_mark_of_users(pool: Pool) -> None:
    theirs = submit(pool, OWNER, [video("https://host/a.mp4")], origin=Origin.HTTP)
    assert again(pool, video("https://host/a.mp4")).ids != theirs


def test_metadata_is_stored_shown_and_forgotten(pool: Pool) -> None:
    said = {"title": "A talk", "year": 2024, "from": "https://host/x?signature=abc"}
    (video_id,) = submit(pool, OWNER, [DetailedSubmission(uri="/a.mp4", metadata=said)])
    (result,) = read_results(pool, [video_id])
    assert (result["metadata"]["title"], result["metadata"]["year"]) == ("A talk", 2024)
    assert "abc" not in json.dumps(result["metadata"])
    statuses(pool, [video_id], "READY")
    assert forget(pool, [video_id]) == [video_id]
    with pool.connection() as connection:
        row = connection.execute("SELECT metadata, content_mark FROM video_processing").fetchone()
    assert row == {"metadata": None, "content_mark": None}


@pytest.mark.parametrize("said", [{"a": float("nan")}, {"a": "x" * 17_000}, {"a": "\0"}, {"\0": "a"}])
def test_metadata_that_cannot_be_stored_is_refused(said: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="metadata"):
        DetailedSubmission(uri="/a.mp4", metadata=said)


def test_submit_command_says_what_was_submitted_before(heimdex: Heimdex, tmp_path: Path) -> None:
    file = tmp_path / "a.mp4"
    file.write_bytes(b"video")
    (first,) = json.loads(heimdex("submit", "--json", "a.mp4").stdout)
    second = heimdex("submit", "a.mp4")
    assert second.stdout.startswith(b"submitted 0 videos")
    assert second.stderr.decode().splitlines() == [
        "1 file was submitted before and did not change since: the same videos; --again processes them again"
    ]
    (third,) = json.loads(heimdex("submit", "--json", "--again", "a.mp4").stdout)
    assert third["id"] != first["id"]
    os.utime(file, (1, 1))
    assert heimdex("submit", "a.mp4").stdout.startswith(b"submitted 1 video")


def test_submit_manifest_keeps_other_columns(heimdex: Heimdex, tmp_path: Path) -> None:
    (tmp_path / "a.mp4").write_bytes(b"video")
    (tmp_path / "m.csv").write_text("uri,title,speaker\na.mp4,A talk,\n")
    done = heimdex("submit", "--manifest", "m.csv", "--json")
    assert (done.returncode, done.stderr) == (0, b"")
    (row,) = json.loads(done.stdout)
    assert row["metadata"] == {"title": "A talk"}
