"""``heimdex transcript`` as a person types it, on a real database."""

import json
import subprocess
from collections.abc import Callable
from functools import partial
from pathlib import Path
from uuid import UUID, uuid4

import pytest

from cluster.contracts.videos import Submission
from cluster.store.postgres.connections import Pool
from cluster.store.queue.submissions import submit
from cluster.store.queue.video_queue import VideoQueue
from cluster.store.videos.scenes import SceneStore
from tests.support.queued_videos import OWNER, finish, transcript

Command = Callable[..., "subprocess.CompletedProcess[bytes]"]


@pytest.fixture
def transcript_of(heimdex: Command) -> Command:
    return partial(heimdex, "transcript")


def ready(pool: Pool, uri: str, text: str, owner_id: UUID = OWNER) -> UUID:
    """A video in which ``text`` was said, from its submission to READY."""
    (video_id,) = submit(pool, owner_id, [Submission(uri=uri)])
    queue = VideoQueue(pool, "scheduler", 60.0)
    (video,) = queue.claim(1)
    SceneStore(pool).replace(video.id, video.lease_token, transcript(text), [], 3.0)
    finish(queue, video)
    return video_id


def test_it_prints_text_to_read_in_utf_8(transcript_of: Command, pool: Pool) -> None:
    video_id = ready(pool, "s3://clips/sea.mp4", "Über die Brücke.")
    done = transcript_of(str(video_id))
    assert (done.returncode, done.stdout.decode(), done.stderr) == (0, "Über die Brücke.\n", b"")


def test_it_writes_every_format_into_files(transcript_of: Command, pool: Pool, tmp_path: Path) -> None:
    video_id = ready(pool, "s3://clips/sea.mp4", "Über die Brücke.")
    done = transcript_of(str(video_id), "--format", "vtt", "--output", "captions")
    assert (done.returncode, done.stdout) == (0, b"")
    written = (tmp_path / "captions").read_text(encoding="utf-8")
    assert written == "WEBVTT\n\n00:00:00.000 --> 00:00:02.500\nÜber die Brücke.\n"
    assert transcript_of("s3://clips/sea.mp4", "--output", "sea.SRT").returncode == 0
    assert (tmp_path / "sea.SRT").read_text(encoding="utf-8").startswith("1\n00:00:00,000 --> ")
    document = json.loads(transcript_of(str(video_id), "--format", "json").stdout)
    assert (document["language"], document["duration_s"]) == ("en", 3.0)
    assert [word["text"] for word in document["segments"][0]["words"]] == [" Über", " die", " Brücke."]


def test_transcript_of_a_shared_uri_is_the_latest_ready_one(transcript_of: Command, pool: Pool, tmp_path: Path) -> None:
    uri = str(tmp_path / "sea.mp4")
    ready(pool, uri, "the first")
    ready(pool, uri, "the second")
    submit(pool, OWNER, [Submission(uri=uri)])
    for named in ("sea.mp4", uri, f"file://{uri}"):
        assert transcript_of(named).stdout == b"the second\n"


def test_what_has_no_transcript_is_said_in_a_line(transcript_of: Command, pool: Pool, tmp_path: Path) -> None:
    (waiting,) = submit(pool, OWNER, [Submission(uri="s3://clips/waits.mp4")])
    for named in (str(waiting), "s3://clips/waits.mp4"):
        done = transcript_of(named)
        assert (done.returncode, done.stdout) == (1, b"")
        assert done.stderr == b"error: waits.mp4 is PENDING: it has no transcript yet\n"


def test_what_is_no_video_of_ones_own_is_said_in_a_line(transcript_of: Command, pool: Pool, tmp_path: Path) -> None:
    others = ready(pool, "s3://clips/others.mp4", "a secret", UUID(int=8))
    unknown = str(uuid4())
    for named in (str(others), "s3://clips/others.mp4", unknown, "https://me:secret@example.org/a.mp4?key=1"):
        done = transcript_of(named, "--output", "captions.vtt")
        assert (done.returncode, done.stdout) == (1, b"")
        assert done.stderr.startswith(b"error: there is no such video: ")
        assert done.stderr.count(b"\n") == 1
        assert b"secret" not in done.stderr
    assert not (tmp_path / "captions.vtt").exists()


def test_transcript_of_a_folder_or_unwritable_file_is_refused(
    transcript_of: Command, pool: Pool, tmp_path: Path
) -> None:
    for name in ("one.mp4", "two.mp4"):
        (tmp_path / name).touch()
    assert transcript_of(".").stderr == b"error: . is 2 videos: name one of them\n"
    video_id = ready(pool, "s3://clips/sea.mp4", "the tide")
    done = transcript_of(str(video_id), "--output", "nowhere/captions.vtt")
    assert (done.returncode, done.stderr) == (
        1,
        b"error: cannot write nowhere/captions.vtt: No such file or directory\n",
    )
    assert transcript_of(str(video_id), "--format", "ass").returncode == 2
