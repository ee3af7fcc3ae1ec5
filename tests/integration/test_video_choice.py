"""Commands find a video by its id, the beginning of one, its URI or its file name; a name of several is refused."""

import subprocess
from collections.abc import Callable
from pathlib import Path
from uuid import UUID, uuid4

import pytest
import typer

from cluster.cli.video_choice import choose
from cluster.contracts.videos import Submission
from cluster.store.postgres.connections import Pool
from cluster.store.queue.submissions import submit
from cluster.store.videos.named_videos import NamedBy, find_batch, find_named, id_range, whole_id
from tests.support.queued_videos import OWNER, row

Command = Callable[..., "subprocess.CompletedProcess[bytes]"]
OTHER = UUID(int=8)
FIRST = UUID("0197c5a2-6f4e-4a3a-9d0e-0f4f6f1f8c11")
SECOND = UUID("0197c5a2-6f4e-4a3a-9d0e-0f4f6f1f8c12")


def add(pool: Pool, uri: str, video_id: UUID | None = None, owner: UUID = OWNER, batch: str | None = None) -> UUID:
    (added,) = submit(pool, owner, [Submission(uri=uri)], [video_id or uuid4()], batch=batch)
    return added


def found(pool: Pool, name: str, *uris: str, owner: UUID | None = None) -> tuple[NamedBy | None, set[UUID]]:
    kind, videos = find_named(pool, name, uris, owner)
    return kind, {video.id for video in videos}


@pytest.mark.parametrize(
    ("text", "ends"),
    [
        ("0197c5a2", ("0197c5a2-0000-0000-0000-000000000000", "0197c5a2-ffff-ffff-ffff-ffffffffffff")),
        ("0197C5A2-6", ("0197c5a2-6000-0000-0000-000000000000", "0197c5a2-6fff-ffff-ffff-ffffffffffff")),
        ("0197c5a26", ("0197c5a2-6000-0000-0000-000000000000", "0197c5a2-6fff-ffff-ffff-ffffffffffff")),
        (str(FIRST), (str(FIRST), str(FIRST))),
        (FIRST.hex, (str(FIRST), str(FIRST))),
    ],
)
def test_id_range_of_a_beginning_has_all_ids_that_begin_so(text: str, ends: tuple[str, str]) -> None:
    assert id_range(text) == tuple(map(UUID, ends))


@pytest.mark.parametrize("text", ["0197c5a", "0197-c5a2", "0197c5a2.mp4", "talk.mp4", "", "0197c5a2-6f4e-", "g197c5a2"])
def test_id_range_of_other_text_is_none(text: str) -> None:
    assert (id_range(text) is None) == (text != "0197c5a2-6f4e-")
    assert whole_id(text) is None


def test_find_named_goes_from_id_to_uri_to_file_name(pool: Pool) -> None:
    add(pool, "s3://bucket/talks/a.mp4", FIRST)
    add(pool, "s3://bucket/talks/b.mp4", SECOND)
    signed = add(pool, "https://example.org/c.mp4?signature=secret")
    assert found(pool, str(FIRST)) == (NamedBy.ID, {FIRST})
    assert found(pool, "0197c5a2") == (NamedBy.BEGINNING, {FIRST, SECOND})
    assert found(pool, str(SECOND)[:36]) == (NamedBy.ID, {SECOND})
    assert found(pool, "x", "s3://bucket/talks/a.mp4") == (NamedBy.URI, {FIRST})
    assert found(pool, "x", "https://example.org/c.mp4") == (NamedBy.SHOWN_URI, {signed})
    assert found(pool, "a.mp4", "/work/a.mp4") == (NamedBy.FILE_NAME, {FIRST})
    assert found(pool, "a") == found(pool, ".mp4") == (None, set())


def test_find_named_of_an_owner_leaves_out_others(pool: Pool) -> None:
    mine, theirs = add(pool, "s3://bucket/a.mp4"), add(pool, "s3://bucket/a.mp4", owner=OTHER)
    assert found(pool, "a.mp4") == (NamedBy.FILE_NAME, {mine, theirs})
    assert found(pool, "a.mp4", owner=OTHER) == (NamedBy.FILE_NAME, {theirs})
    assert found(pool, str(mine), owner=OTHER) == (None, set())


def test_find_named_reads_a_missing_name_out_of_the_path(pool: Pool) -> None:
    video_id = add(pool, "s3://bucket/talks/a.mp4")
    with pool.connection() as connection:
        connection.execute("UPDATE videos SET filename = NULL")
    assert found(pool, "a.mp4") == (NamedBy.FILE_NAME, {video_id})
    assert found(pool, "mp4") == found(pool, "talks") == (None, set())


def test_find_named_leaves_out_what_is_forgotten(pool: Pool) -> None:
    video_id = add(pool, "s3://bucket/a.mp4", batch="monday")
    assert find_batch(pool, "monday") == [video_id]
    with pool.connection() as connection:
        connection.execute("UPDATE video_processing SET forgotten_at = clock_timestamp()")
    assert found(pool, "a.mp4") == found(pool, str(video_id)) == (None, set())
    assert find_batch(pool, "monday") == []


@pytest.mark.parametrize("name", ["0197c5a2-6", "s3://bucket/talks/a.mp4", "a.mp4"])
def test_cancel_takes_any_name_of_a_video(heimdex: Command, pool: Pool, name: str) -> None:
    video_id = add(pool, "s3://bucket/talks/a.mp4", FIRST)
    add(pool, "s3://bucket/talks/b.mp4")
    done = heimdex("cancel", name)
    assert (done.returncode, done.stdout) == (0, b"cancelled 1 video\n")
    assert row(pool, video_id)["status"] == "CANCELLED"


def test_cancel_takes_a_path_relative_to_the_working_directory(heimdex: Command, pool: Pool, tmp_path: Path) -> None:
    near = add(pool, str(tmp_path / "a.mp4"))
    far = add(pool, "/elsewhere/a.mp4")
    assert heimdex("cancel", "a.mp4").returncode == 0
    assert (row(pool, near)["status"], row(pool, far)["status"]) == ("CANCELLED", "PENDING")


def test_cancel_of_an_ambiguous_name_lists_the_videos(heimdex: Command, pool: Pool) -> None:
    videos = [add(pool, "s3://one/a.mp4"), add(pool, "s3://two/a.mp4")]
    single = add(pool, "s3://one/b.mp4")
    done = heimdex("cancel", "a.mp4", "b.mp4")
    said = done.stderr.decode()
    assert (done.returncode, done.stdout) == (1, b"")
    assert said.startswith("error: a.mp4 is the file name of 2 videos: name one by its id\n")
    for video_id, uri in zip(videos, ("s3://one/a.mp4", "s3://two/a.mp4"), strict=True):
        assert any(str(video_id) in line and line.endswith(uri) for line in said.splitlines())
    assert {row(pool, video_id)["status"] for video_id in (*videos, single)} == {"PENDING"}


def test_name_of_several_videos_chooses_none(pool: Pool) -> None:
    for uri in ("s3://one/a.mp4", "s3://two/a.mp4", "s3://one/b.mp4"):
        add(pool, uri)
    for names in (["a.mp4"], ["b.mp4", "a.mp4"]):
        with pytest.raises(typer.Exit) as refused:
            choose(pool, names)
        assert refused.value.exit_code == 1
    assert len(choose(pool, ["b.mp4"])) == 1


def test_unknown_name_is_refused_and_nothing_is_done(heimdex: Command, pool: Pool) -> None:
    video_id = add(pool, "s3://one/a.mp4")
    for command in ("cancel", "retry", "reprocess", "watch", "show"):
        names = ["nowhere.mp4"] if command == "show" else ["a.mp4", "nowhere.mp4"]
        done = heimdex(command, *names)
        assert (done.returncode, done.stdout) == (1, b""), command
        assert done.stderr == b"error: there is no such video: nowhere.mp4\n", command
    assert row(pool, video_id)["status"] == "PENDING"


def test_folder_is_the_videos_in_it_that_were_submitted(heimdex: Command, pool: Pool, tmp_path: Path) -> None:
    (tmp_path / "talks").mkdir()
    for name in ("a.mp4", "b.mp4", "c.mp4"):
        (tmp_path / "talks" / name).touch()
    inside = [add(pool, str(tmp_path / "talks" / name)) for name in ("a.mp4", "b.mp4")]
    outside = add(pool, "/elsewhere/c.mp4")
    done = heimdex("cancel", "talks")
    assert (done.returncode, done.stdout) == (0, b"cancelled 2 videos\n")
    assert [row(pool, video_id)["status"] for video_id in (*inside, outside)] == ["CANCELLED", "CANCELLED", "PENDING"]


def test_transcript_and_forget_find_own_videos_by_file_name(heimdex: Command, pool: Pool) -> None:
    theirs = add(pool, "s3://bucket/a.mp4", owner=OTHER)
    assert heimdex("transcript", "a.mp4").stderr == b"error: there is no such video: a.mp4\n"
    add(pool, "s3://bucket/a.mp4")
    assert heimdex("transcript", "a.mp4").stderr == b"error: a.mp4 is PENDING: it has no transcript yet\n"
    done = heimdex("forget", "a.mp4", "--yes")
    assert done.returncode == 0, done.stderr
    assert row(pool, theirs)["forgotten_at"] is None
    assert heimdex("show", "a.mp4").returncode == 0
