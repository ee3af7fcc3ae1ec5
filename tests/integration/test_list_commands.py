"""``heimdex list``, ``show`` and ``watch``, and batches, as a person types them, on a real database."""

import json
import subprocess
from collections.abc import Callable
from uuid import UUID

import pytest

from cluster.contracts.batches import MAX_BATCH, check_batch, new_batch
from cluster.contracts.videos import Submission
from cluster.store.postgres.connections import Pool
from cluster.store.queue.submissions import cancel, submit
from cluster.store.queue.video_queue import VideoQueue
from tests.support.queued_videos import OWNER, finish, row

Command = Callable[..., "subprocess.CompletedProcess[bytes]"]
OTHER = UUID(int=8)


def lines(done: "subprocess.CompletedProcess[bytes]") -> list[str]:
    assert done.returncode == 0, done.stderr
    return done.stdout.decode().splitlines()


@pytest.fixture
def videos(pool: Pool) -> dict[str, UUID]:
    """A READY, a cancelled and a waiting video of the owner, and one of another owner, in this order."""
    ids = submit(pool, OWNER, [Submission(uri=f"s3://bucket/{name}.mp4") for name in "abc"], batch="monday")
    (claimed,) = VideoQueue(pool, "first", 60.0).claim(1)
    finish(VideoQueue(pool, "first", 60.0), claimed)
    cancel(pool, [ids[1]])
    return dict(zip("abcd", [*ids, *submit(pool, OTHER, [Submission(uri="s3://bucket/d.mp4")])], strict=True))


def test_list_prints_whole_ids_latest_first(heimdex: Command, videos: dict[str, UUID]) -> None:
    printed = lines(heimdex("list", settings={"COLUMNS": "80"}))
    assert [line.split()[0] for line in printed] == [str(videos[name]) for name in "dcba"]
    assert [line.split()[1] for line in printed] == ["PENDING", "PENDING", "CANCELLED", "READY"]
    assert printed[-1].endswith("a.mp4")
    assert "a.mp4" not in printed[0]


@pytest.mark.parametrize(
    ("arguments", "names"),
    [
        (["--status", "ready"], "a"),
        (["--status", "CANCELLED"], "b"),
        (["--batch", "monday"], "cba"),
        (["--batch", "monday", "--status", "pending"], "c"),
        (["--owner", str(OTHER)], "d"),
        (["--since", "2020-01-01"], "dcba"),
        (["--since", "2999-01-01"], ""),
        (["--limit", "2"], "dc"),
        (["--status", "FAILED"], ""),
    ],
)
def test_list_filters(heimdex: Command, videos: dict[str, UUID], arguments: list[str], names: str) -> None:
    listed = json.loads(heimdex("list", *arguments, "--json").stdout)
    assert [video["id"] for video in listed] == [str(videos[name]) for name in names]


def test_list_says_how_many_are_left_out(heimdex: Command, videos: dict[str, UUID]) -> None:
    assert lines(heimdex("list", "--limit", "3"))[-1] == "4 videos, the latest 3 are shown (--limit)"
    assert lines(heimdex("list", "--batch", "tuesday")) == ["There is no such video."]


def test_show_prints_what_is_known(heimdex: Command, videos: dict[str, UUID]) -> None:
    shown = json.loads(heimdex("show", "a.mp4", "--json").stdout)
    assert (shown["id"], shown["status"], shown["batch"]) == (str(videos["a"]), "READY", "monday")
    assert (shown["owner_id"], shown["attempts"], shown["origin"]) == (str(OWNER), 1, "command")
    assert shown["finished_at"] >= shown["started_at"] >= shown["queued_at"] >= shown["created_at"]
    text = "\n".join(lines(heimdex("show", str(videos["b"])[:13])))
    for part in (str(videos["b"]), "b.mp4", "CANCELLED", "monday", "s3://bucket/b.mp4"):
        assert part in text


def test_submit_prints_whole_ids_and_the_batch(heimdex: Command, pool: Pool) -> None:
    printed = lines(heimdex("submit", "s3://bucket/a.mp4", "s3://bucket/b.mp4", "--batch", "monday talks"))
    ids = [line.split()[0] for line in printed if line.endswith(("a.mp4", "b.mp4"))]
    assert {row(pool, UUID(video_id))["batch"] for video_id in ids} == {"monday talks"}
    assert len(ids) == 2
    assert 'heimdex watch --batch "monday talks"' in printed[-1]
    given = json.loads(heimdex("list", "--batch", "monday talks", "--json").stdout)
    assert [video["id"] for video in given] == ids[::-1]


def test_submit_without_a_name_makes_a_batch_of_its_own(heimdex: Command, pool: Pool) -> None:
    for _ in range(2):
        (video,) = json.loads(heimdex("submit", "s3://bucket/a.mp4", "--json").stdout)
        assert row(pool, UUID(video["id"]))["batch"]
    with pool.connection() as connection:
        assert len(connection.execute("SELECT DISTINCT batch FROM video_processing").fetchall()) == 2


def test_batch_is_cancelled_as_one(heimdex: Command, pool: Pool, videos: dict[str, UUID]) -> None:
    done = heimdex("cancel", "--batch", "monday")
    assert lines(done) == ["cancelled 1 video", "2 videos of the batch were done already"]
    assert row(pool, videos["c"])["status"] == "CANCELLED"
    assert row(pool, videos["d"])["status"] == "PENDING"
    unknown = heimdex("cancel", "--batch", "tuesday")
    assert (unknown.returncode, unknown.stderr) == (1, b"error: there is no such batch: tuesday\n")
    assert heimdex("cancel", str(videos["d"]), "--batch", "monday").returncode == 2
    assert heimdex("cancel").returncode == 2


@pytest.mark.parametrize("name", ["", "  ", "x" * (MAX_BATCH + 1), "a\nb", "\x1b[2J"])
def test_batch_name_that_makes_no_sense_is_refused(heimdex: Command, pool: Pool, name: str) -> None:
    with pytest.raises(ValueError, match="1 to 100 characters"):
        check_batch(name)
    done = heimdex("submit", "s3://bucket/a.mp4", "--batch", name)
    assert done.returncode == 2
    assert b"1 to 100 characters" in done.stderr
    with pool.connection() as connection:
        assert connection.execute("SELECT 1 FROM videos").fetchall() == []


def test_new_batch_is_a_name_and_never_twice_the_same() -> None:
    names = {new_batch() for _ in range(20)}
    assert len(names) > 15
    assert all(check_batch(name) == name for name in names)


def test_watch_ends_with_its_videos(heimdex: Command, pool: Pool, videos: dict[str, UUID]) -> None:
    ready = heimdex("watch", "a.mp4")
    assert ready.returncode == 0
    assert b"1 of 1 video READY" in ready.stdout
    cancel(pool, [videos["c"]])
    batch = heimdex("watch", "--batch", "monday")
    assert batch.returncode == 1
    assert b"1 of 3 videos READY" in batch.stdout


def test_watch_without_a_cluster_does_not_wait(heimdex: Command, videos: dict[str, UUID]) -> None:
    for arguments in (["--batch", "monday"], []):
        done = heimdex("watch", *arguments)
        assert (done.returncode, done.stdout) == (1, b"")
        assert b"have not ended and no cluster is up: run `heimdex up` first" in done.stderr


def test_watch_of_nothing_says_so(heimdex: Command, pool: Pool) -> None:
    assert lines(heimdex("watch")) == ["No video waits or is on its way."]
