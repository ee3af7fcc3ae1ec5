"""``heimdex forget --owner``: nothing is left of a person, of others everything, also in an existing database."""

import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from starlette.testclient import TestClient

from cluster.cli import erasure
from cluster.contracts.errors import TransientFailure
from cluster.contracts.quotas import SubmissionLimits
from cluster.contracts.videos import Submission
from cluster.files.scene_pictures import ScenePictures
from cluster.settings import Settings
from cluster.store.postgres.audit_log import read_audit_log
from cluster.store.postgres.connections import Pool, connect, open_pool
from cluster.store.postgres.migrations import apply_migrations
from cluster.store.queue.submissions import submit
from cluster.store.queue.video_queue import VideoQueue
from cluster.store.videos.deletion import forget
from cluster.store.videos.erasing import next_videos
from tests.support.api_client import ALICE, BOB, headers
from tests.support.existing_database import ANNA, BEN, TABLES, take_snapshot
from tests.support.queued_videos import enqueue, only
from tests.support.searchable import Scene, add_video

Command = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def erase(heimdex: Callable[..., "subprocess.CompletedProcess[bytes]"]) -> Command:
    """Runs ``heimdex forget --owner`` with ``answer`` typed on standard input."""

    def run(owner_id: UUID, *options: str, answer: str = "", **more: Any) -> "subprocess.CompletedProcess[str]":
        done = heimdex("forget", "--owner", str(owner_id), *options, typed=answer.encode(), **more)
        return subprocess.CompletedProcess(done.args, done.returncode, done.stdout.decode(), done.stderr.decode())

    return run


def rows_with(pool: Pool, needle: str) -> dict[str, int]:
    """In how many rows of which tables a text occurs; the audit log is left out."""
    found = {}
    with pool.connection() as connection:
        tables = connection.execute(
            "SELECT c.oid::regclass::text AS name FROM pg_class AS c WHERE relkind = 'r' "
            "AND relnamespace = 'public'::regnamespace AND relname NOT IN ('audit_log', 'heimdex_migrations')"
        ).fetchall()
        for table in tables:
            counted = connection.execute(
                f"SELECT count(*) AS n FROM {table['name']} AS t WHERE position(%s IN t::text) > 0", (needle,)
            ).fetchone()
            assert counted is not None
            if counted["n"]:
                found[table["name"]] = counted["n"]
    return found


def live_like(pool: Pool, api: TestClient, owner_id: UUID, said: str) -> list[UUID]:
    """READY videos, searches, a FAILED and a forgotten video, one in work and one that waits."""
    videos = []
    for _ in range(2):
        (scene,) = add_video(pool, owner_id, [Scene(said, said)])
        videos.append(only(pool, "SELECT video_id FROM video_scenes WHERE id = %s", scene)["video_id"])
    assert forget(pool, videos[:1]) == videos[:1]
    limits = SubmissionLimits(100)
    videos += submit(pool, owner_id, [Submission(uri=f"s3://bucket/{said}.mp4")] * 2, limits=limits)
    assert len(VideoQueue(pool, "other", 60.0).claim(1)) == 1
    assert api.get(f"/v1/search?q={said}", headers=headers(owner_id)).status_code == 200
    return videos


def test_nothing_of_an_erased_owner_is_left(erase: Command, pool: Pool, api: TestClient, tmp_path: Path) -> None:
    videos, others = live_like(pool, api, ALICE, "confession"), live_like(pool, api, BOB, "lighthouse")
    pictures = [tmp_path / "data" / "scenes" / str(video_id) for video_id in [*videos, *others]]
    for folder in pictures:
        folder.mkdir(parents=True)
        (folder / "00000.jpg").touch()
    of_bob = rows_with(pool, str(BOB))
    done = erase(ALICE, "--yes")
    assert (done.returncode, done.stdout) == (0, f"erased of owner {ALICE}: 4 videos, 1 search\n")
    assert "erased 4 videos" in done.stderr
    assert [folder.exists() for folder in pictures] == [False] * 4 + [True] * 4
    for needle in (str(ALICE), "confession"):
        assert rows_with(pool, needle) == {}
    assert {table for video_id in videos for table in rows_with(pool, str(video_id))} <= {"forgotten_pictures"}
    assert rows_with(pool, str(BOB)) == of_bob
    (latest,) = read_audit_log(pool, 1)
    assert (latest.action, latest.object, latest.details) == ("erase", str(ALICE), {"videos": 4, "searches": 1})


def test_erasing_asks_first_and_a_no_changes_nothing(erase: Command, pool: Pool) -> None:
    submit(pool, ALICE, [Submission(uri="s3://bucket/a.mp4")] * 2)
    refused = erase(ALICE, answer="n\n")
    assert refused.returncode == 1
    assert f"Erase all of owner {ALICE}, 2 videos, 0 searches? It cannot be undone. [y/N]" in refused.stderr
    assert only(pool, "SELECT count(*) AS n FROM videos")["n"] == 2
    assert erase(ALICE, answer="y\n").returncode == 0
    assert only(pool, "SELECT count(*) AS n FROM videos")["n"] == 0


def test_erasing_takes_an_owner_or_videos_not_both(erase: Command, heimdex: Any, pool: Pool) -> None:
    for arguments in ([str(ALICE), "s3://bucket/a.mp4"], None):
        done = heimdex("forget", *(["--owner", *arguments] if arguments else []), "--yes")
        assert done.returncode == 2
        assert b"or --owner" in done.stderr


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(data_dir=tmp_path)


class CutOff(Exception):
    """In place of a killed process."""


@pytest.mark.parametrize("step", ["forget", "_remove_pictures", "erase_videos", "erase_rest"])
@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
def test_erasing_goes_on_where_it_was_cut_off(
    pool: Pool, settings: Settings, monkeypatch: pytest.MonkeyPatch, step: str, after: bool
) -> None:
    monkeypatch.setattr(erasure, "VIDEOS_AT_ONCE", 2)
    submit(pool, ALICE, [Submission(uri="s3://bucket/confession.mp4")] * 5)
    real, calls = getattr(erasure, step), []

    def cut(*arguments: Any, **named: Any) -> Any:
        calls.append(step)
        is_last = len(calls) == (1 if step == "erase_rest" else 2)
        if is_last and not after:
            raise CutOff
        done = real(*arguments, **named)
        if is_last:
            raise CutOff
        return done

    with monkeypatch.context() as broken:
        broken.setattr(erasure, step, cut)
        with pytest.raises(CutOff):
            erasure.erase(pool, settings, ALICE, lambda _: None, with_file=False)
    erased = erasure.erase(pool, settings, ALICE, lambda _: None, with_file=False)
    assert erased.troubles == []
    assert rows_with(pool, str(ALICE)) == rows_with(pool, "confession") == {}
    assert erasure.erase(pool, settings, ALICE, lambda _: None, with_file=False) == erasure.Erased()


def test_erased_videos_pictures_stay_due_until_removed(
    pool: Pool, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    ids = submit(pool, ALICE, [Submission(uri="s3://bucket/a.mp4")])

    def refuse(*_: object) -> None:
        raise TransientFailure("the pictures cannot be removed")

    monkeypatch.setattr(ScenePictures, "remove", refuse)
    erased = erasure.erase(pool, settings, ALICE, lambda _: None, with_file=False)
    assert erased.troubles == ["the pictures cannot be removed; the cluster that is up tries again"]
    assert only(pool, "SELECT video_id FROM forgotten_pictures")["video_id"] == ids[0]
    assert only(pool, "SELECT count(*) AS n FROM videos")["n"] == 0


def test_erasing_with_files_keeps_what_others_share(erase: Command, pool: Pool, tmp_path: Path) -> None:
    own, shared = tmp_path / "own.mp4", tmp_path / "shared.mp4"
    for file in (own, shared):
        file.touch()
    submit(pool, ALICE, [Submission(uri=str(own)), Submission(uri=str(shared)), Submission(uri="https://host/a.mp4")])
    submit(pool, BOB, [Submission(uri=str(shared))])
    done = erase(ALICE, "--with-file", "--yes")
    assert done.returncode == 1
    assert "stays: https://host/a.mp4 is on the web" in done.stderr
    assert (own.exists(), shared.exists()) == (False, True)
    assert only(pool, "SELECT count(*) AS n FROM videos WHERE owner_id = %s", ALICE)["n"] == 0
    assert erase(ALICE, "--yes").returncode == 0


def test_erasing_keeps_a_video_whose_file_is_busy(erase: Command, pool: Pool, tmp_path: Path) -> None:
    folder = tmp_path / "folder.mp4"  # no file can be removed that is a folder
    folder.mkdir()
    (video,) = submit(pool, ALICE, [Submission(uri=str(folder))])
    done = erase(ALICE, "--with-file", "--yes")
    assert done.returncode == 1
    assert f"error: video {video} stays" in done.stderr
    folder.rmdir()
    assert erase(ALICE, "--with-file", "--yes").returncode == 0
    assert only(pool, "SELECT count(*) AS n FROM videos")["n"] == 0


def test_videos_of_another_system_are_left_to_it(erase: Command, pool: Pool) -> None:
    enqueue(pool, 1)
    (waiting,) = submit(pool, ALICE, [Submission(uri="s3://bucket/a.mp4")])
    with pool.connection() as connection:
        connection.execute("DELETE FROM video_processing WHERE video_id = %s", (waiting,))
    done = erase(ALICE, "--yes")
    assert done.returncode == 1
    assert "1 video stays, since another system has them in work" in done.stderr


def test_erasing_leaves_the_files_of_another_systems_work(erase: Command, pool: Pool, tmp_path: Path) -> None:
    file = tmp_path / "a.mp4"
    file.touch()
    (waiting,) = submit(pool, ALICE, [Submission(uri=str(file))])
    with pool.connection() as connection:
        connection.execute("DELETE FROM video_processing WHERE video_id = %s", (waiting,))
    assert erase(ALICE, "--with-file", "--yes").returncode == 1
    assert file.exists()
    assert next_videos(pool, ALICE, UUID(int=0), 10, with_file=True) == []  # its pictures are not removed either


def test_erasing_in_an_existing_database_touches_no_others_rows(existing_url: str, settings: Settings) -> None:
    apply_migrations(existing_url)
    with connect(existing_url) as connection:
        connection.execute("UPDATE videos SET status = 'FAILED' WHERE owner_id = %s AND status <> 'READY'", (ANNA,))
    before = take_snapshot(existing_url)
    of_anna = {key for key, video in before.rows["videos"].items() if video["owner_id"] == str(ANNA)}
    assert of_anna
    with open_pool(existing_url, max_size=2, name="tests") as pool:
        erased = erasure.erase(pool, settings, ANNA, lambda _: None, with_file=False)
    assert (erased.videos, erased.troubles) == (len(of_anna), [])
    after = take_snapshot(existing_url)
    for table in TABLES:
        for key, row in before.rows[table].items():
            names = {"user_id", "owner_id", "id"} if table == "user_profiles" else {"user_id", "owner_id"}
            is_hers = str(ANNA) in {row.get(name) for name in names} or row.get("video_id") in of_anna
            if table in ("videos", "search_queries") and is_hers and table != "auth.users":
                assert key not in after.rows[table] or table == "search_queries"
            elif not is_hers and not _of_her_scenes(before, row, of_anna):
                assert after.rows[table][key] == row, f"{table} {key}"
    for table in ("auth.users", "user_profiles", "persons", "highlight_export_jobs"):
        assert after.rows[table] == before.rows[table]
    assert str(BEN) in repr(after.rows["videos"])


def _of_her_scenes(before: Any, row: dict[str, str | None], of_anna: set[str]) -> bool:
    """Whether a row refers to one of her videos or scenes, and goes with it by its foreign key."""
    scene = before.rows["video_scenes"].get(row.get("scene_id") or "")
    return scene is not None and scene["video_id"] in of_anna


def test_a_row_that_forbids_it_is_named_and_the_others_go(existing_url: str, settings: Settings) -> None:
    apply_migrations(existing_url)
    with connect(existing_url) as connection:
        connection.execute("UPDATE videos SET status = 'FAILED' WHERE owner_id = %s AND status <> 'READY'", (ANNA,))
        kept = connection.execute("SELECT id FROM videos WHERE owner_id = %s ORDER BY id LIMIT 1", (ANNA,)).fetchone()
        assert kept is not None
        connection.execute("CREATE TABLE invoices (video uuid REFERENCES videos (id))")
        connection.execute("INSERT INTO invoices VALUES (%s)", (kept["id"],))
    with open_pool(existing_url, max_size=2, name="tests") as pool:
        erased = erasure.erase(pool, settings, ANNA, lambda _: None, with_file=False)
        assert only(pool, "SELECT array_agg(id) AS ids FROM videos WHERE owner_id = %s", ANNA)["ids"] == [kept["id"]]
    assert len(erased.troubles) == 1
    assert "invoices" in erased.troubles[0]


def test_forgetting_in_an_existing_database_clears_searches(existing_url: str) -> None:
    apply_migrations(existing_url)
    with connect(existing_url) as connection:
        video = connection.execute("SELECT id FROM videos WHERE status = 'READY' ORDER BY id LIMIT 1").fetchone()
        assert video is not None
        connection.execute(
            "INSERT INTO search_queries (user_id, video_id, query_text, search_metadata)"
            " VALUES (%s, %s, 'a confession', '{\"query\": \"a confession\"}')",
            (ANNA, video["id"]),
        )
    with open_pool(existing_url, max_size=2, name="tests") as pool:
        assert forget(pool, [video["id"]]) == [video["id"]]
        assert rows_with(pool, "a confession") == {}
        assert only(pool, "SELECT count(*) AS n FROM search_queries WHERE query_text = 'forgotten'")["n"] >= 1
