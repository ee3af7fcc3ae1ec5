"""Forgetting: nothing shows any more what was said and shown, what was counted stays, and no writer stores it again."""

from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from starlette.testclient import TestClient

from actors.maintenance.picture_sweep import PictureSweep
from cluster.contracts.errors import LeaseLost
from cluster.files.scene_pictures import ScenePictures
from cluster.store.index.vocabulary import Vocabulary
from cluster.store.postgres.connections import Pool
from cluster.store.queue.reprocessing import retry
from cluster.store.queue.stage_results import StageResults
from cluster.store.queue.submissions import quarantine
from cluster.store.queue.video_queue import VideoQueue
from cluster.store.videos.deletion import REMOVALS, ForgottenPictures, find_own, forget
from cluster.store.videos.scenes import SceneStore
from tests.support.api_client import ADMIN, ALICE, BOB, headers
from tests.support.queued_videos import claim_one, enqueue, everything, only, row, scenes, transcript
from tests.support.searchable import Scene, add_video

FIGURES = ("overview", "performance/latency", "performance/rtf", "performance/queue", "failures/by-stage",
           "timeseries/throughput", "timeseries/throughput-v2", "users")  # fmt: skip


@pytest.fixture
def queue(pool: Pool) -> VideoQueue:
    return VideoQueue(pool, "first", 60.0)


def ended_video(pool: Pool, owner_id: UUID, said: str, status: str = "READY") -> UUID:
    """A video that has ended and was measured, whose error and stage runs show where it came from."""
    (scene,) = add_video(pool, owner_id, [Scene(said, said)])
    video_id: UUID = only(pool, "SELECT video_id FROM video_scenes WHERE id = %s", scene)["video_id"]
    with pool.connection() as connection:
        connection.execute(
            "UPDATE videos SET status = %s::video_status, processing_started_at = queued_at, duration_s = 4,"
            " processing_finished_at = queued_at + interval '2 s', processing_duration_ms = 2000,"
            " processing_stage = 'indexing', error_message = 'secret.mp4' WHERE id = %s",
            (status, video_id),
        )
        connection.execute("UPDATE video_processing SET error_type = 'X', attempt = 1 WHERE video_id = %s", (video_id,))
        connection.execute(
            "INSERT INTO video_stage_runs (video_id, attempt, stage, ready_at, started_at, finished_at, wait_ms,"
            " run_ms, outcome, error_type, error_message) SELECT id, 1, 'indexing', queued_at, queued_at,"
            " queued_at, 0, 0, 'failed', 'X', 'secret.mp4' FROM videos WHERE id = %s",
            (video_id,),
        )
    return video_id


def texts(pool: Pool) -> str:
    return repr(everything(pool))


def test_forgotten_video_leaves_no_text_picture_or_place(pool: Pool) -> None:
    video = ended_video(pool, ALICE, "whispered confession")
    assert all(word in texts(pool) for word in ("confession", "secret.mp4", "s3://bucket/a.mp4"))
    assert forget(pool, [video], without_file=[video]) == [video]
    left = texts(pool)
    assert not any(word in left for word in ("confession", "secret.mp4", "s3://bucket/a.mp4"))
    for table in ("video_scenes", "scene_embeddings", "scene_meanings", "video_transcripts", "search_vocabulary"):
        assert only(pool, f"SELECT count(*) AS n FROM {table}")["n"] == 0, table


def test_where_the_file_is_stays_known_as_long_as_it_is_there(pool: Pool) -> None:
    video = ended_video(pool, ALICE, "tide")
    forget(pool, [video])
    assert row(pool, video)["storage_path"] == "s3://bucket/a.mp4"


def test_what_was_counted_stays(pool: Pool, api: TestClient) -> None:
    def figures() -> list[Any]:
        return [api.get(f"/v1/admin/{path}", headers=headers(ADMIN)).json() for path in FIGURES]

    videos = [ended_video(pool, ALICE, "tide"), ended_video(pool, ALICE, "moon", "FAILED")]
    before = figures()
    assert len(forget(pool, videos)) == 2
    assert figures() == before


def test_words_that_other_scenes_have_too_stay_known(pool: Pool) -> None:
    forgotten = ended_video(pool, ALICE, "lighthouse keeper")
    ended_video(pool, ALICE, "the lighthouse")
    ended_video(pool, BOB, "a keeper")
    forget(pool, [forgotten])
    corrections = Vocabulary(pool).corrections(ALICE, ["lighthoose", "keepr"])
    assert corrections == {"lighthoose": "lighthouse"}


def test_work_on_it_stops_and_a_late_write_is_refused(pool: Pool, queue: VideoQueue) -> None:
    video = claim_one(pool, queue)
    StageResults(pool).keep_transcript(video.id, video.lease_token, transcript("confession"))
    assert forget(pool, [video.id]) == [video.id]
    with pytest.raises(LeaseLost):
        SceneStore(pool).replace(
            video.id, video.lease_token, transcript("confession"), scenes(video.id, "confession"), 1.0
        )
    with pytest.raises(LeaseLost):
        StageResults(pool).keep_transcript(video.id, video.lease_token, transcript("confession"))
    stored = row(pool, video.id)
    assert (stored["status"], stored["forgotten_at"] is not None) == ("CANCELLED", True)
    for table in ("video_stage_results", "search_vocabulary"):
        assert only(pool, f"SELECT count(*) AS n FROM {table}")["n"] == 0, table


def test_word_of_other_forms_only_is_forgotten(pool: Pool) -> None:
    """The text index has the stem of "days", which is "day"."""
    gone = ended_video(pool, ALICE, "one day")
    ended_video(pool, ALICE, "many days")
    forget(pool, [gone])
    assert Vocabulary(pool).all_words() == {ALICE: {"many", "days"}}


def test_what_waits_is_never_claimed(pool: Pool, queue: VideoQueue) -> None:
    ids = enqueue(pool, 2)
    assert forget(pool, ids[:1]) == ids[:1]
    assert [video.id for video in queue.claim(5)] == ids[1:]


def test_forgotten_video_is_not_retried_listed_or_forgotten(pool: Pool, api: TestClient) -> None:
    video = ended_video(pool, ALICE, "tide", "FAILED")
    assert quarantine(pool, 10)[1] == 1
    forget(pool, [video])
    assert forget(pool, [video]) == []
    assert retry(pool, [video]) == retry(pool) == []
    assert quarantine(pool, 10) == ([], 0)
    assert api.get("/v1/videos", headers=headers(ALICE)).json()["total_videos"] == 0
    for path in (f"/v1/videos/{video}", f"/v1/videos/{video}/transcript"):
        assert api.get(path, headers=headers(ALICE)).status_code == 404


def test_owners_forget_their_own(pool: Pool, api: TestClient) -> None:
    video, other = ended_video(pool, ALICE, "tide"), ended_video(pool, BOB, "tide")
    assert api.delete(f"/v1/videos/{other}", headers=headers(ALICE)).status_code == 404
    assert only(pool, "SELECT count(*) AS n FROM video_processing WHERE forgotten_at IS NOT NULL")["n"] == 0
    answer = api.delete(f"/v1/videos/{video}", headers=headers(ALICE))
    assert (answer.status_code, answer.content) == (204, b"")
    assert api.delete(f"/v1/videos/{video}", headers=headers(ALICE)).status_code == 404
    assert api.get("/v1/search?q=tide", headers=headers(ALICE)).json()["items"] == []
    assert len(api.get("/v1/search?q=tide", headers=headers(BOB)).json()["items"]) == 1


def test_videos_that_another_system_works_on_are_left_to_it(pool: Pool, api: TestClient) -> None:
    with pool.connection() as connection:
        connection.execute(
            "INSERT INTO videos (id, owner_id, storage_path, filename, status) VALUES (%s, %s, 'x', 'x', 'PENDING')",
            (UUID(int=5), ALICE),
        )
    answer = api.delete(f"/v1/videos/{UUID(int=5)}", headers=headers(ALICE))
    assert (answer.status_code, answer.json()["detail"]) == (
        409, "The video is PENDING in another system: it cannot be forgotten here."
    )  # fmt: skip


def test_an_owners_videos_are_found_by_their_uri(pool: Pool) -> None:
    videos = {ended_video(pool, ALICE, "tide"), ended_video(pool, ALICE, "moon")}
    ended_video(pool, BOB, "tide")
    assert {own.id for own in find_own(pool, ALICE, [], ["s3://bucket/a.mp4", "s3://bucket/b.mp4"])} == videos
    assert {own.id for own in find_own(pool, ALICE, list(videos), [])} == videos
    assert find_own(pool, BOB, list(videos), []) == []
    forget(pool, list(videos))
    assert find_own(pool, ALICE, list(videos), ["s3://bucket/a.mp4", ""]) == []


# Pictures


def test_pictures_are_removed_again_after_a_late_worker(pool: Pool, tmp_path: Path) -> None:
    video, other = ended_video(pool, ALICE, "tide"), ended_video(pool, ALICE, "moon")
    pictures = ScenePictures(str(tmp_path))

    def write(video_id: UUID) -> Path:
        folder = Path(pictures.folder(video_id))
        folder.mkdir(exist_ok=True)
        (folder / "00000.jpg").write_bytes(b"picture")
        return folder

    gone, stays = write(video), write(other)
    forget(pool, [video])
    sweep = PictureSweep(ForgottenPictures(pool), pictures)
    sweep.sweep()
    assert (gone.exists(), stays.exists()) == (False, True)
    write(video)
    sweep.sweep()
    assert gone.exists()  # not yet due again
    with pool.connection() as connection:
        connection.execute("UPDATE forgotten_pictures SET due_at = clock_timestamp()")
    sweep.sweep()
    assert not gone.exists()
    assert REMOVALS == 2
    assert ForgottenPictures(pool).due() == []
    assert only(pool, "SELECT count(*) AS n FROM forgotten_pictures")["n"] == 0


def test_pictures_that_cannot_be_removed_stay_due(pool: Pool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    video = ended_video(pool, ALICE, "tide")
    forget(pool, [video])
    pictures = ScenePictures(str(tmp_path))
    Path(pictures.folder(video)).mkdir()

    def refuse(*_: object, **__: object) -> None:
        raise PermissionError("it is read-only")

    with monkeypatch.context() as broken:
        broken.setattr(pictures.filesystem, "rm", refuse)
        PictureSweep(ForgottenPictures(pool), pictures).sweep()
    assert ForgottenPictures(pool).due() == [video]
    PictureSweep(ForgottenPictures(pool), pictures).sweep()
    assert not Path(pictures.folder(video)).exists()
    assert ForgottenPictures(pool).due() == []


# Searches


def add_search(pool: Pool, user_id: UUID, text: str, video_id: UUID | None = None) -> UUID:
    found: UUID = only(
        pool,
        "INSERT INTO search_queries (user_id, video_id, query_text, results_count, latency_ms)"
        " VALUES (%s, %s, %s, 3, 12) RETURNING id",
        user_id,
        video_id,
        text,
    )["id"]
    return found


def searched(pool: Pool) -> dict[UUID, str]:
    with pool.connection() as connection:
        return {row["id"]: row["query_text"] for row in connection.execute("SELECT id, query_text FROM search_queries")}


def test_searches_that_name_a_forgotten_video_lose_their_text(pool: Pool) -> None:
    video, other = ended_video(pool, ALICE, "tide"), ended_video(pool, ALICE, "moon")
    with pool.connection() as connection:
        connection.execute("UPDATE videos SET filename = 'Summer in Rome.mp4' WHERE id = %s", (video,))
    gone = [
        add_search(pool, ALICE, "what did she confess", video),
        add_search(pool, ALICE, "words in summer in ROME.MP4"),
        add_search(pool, ALICE, " summer in rome "),
        add_search(pool, ALICE, f"video {str(video).upper()}"),
    ]
    kept = [
        add_search(pool, ALICE, "summer in rome with friends"),
        add_search(pool, ALICE, "what did she say", other),
        add_search(pool, BOB, "summer in rome.mp4"),
    ]
    before = searched(pool)
    assert forget(pool, [video]) == [video]
    assert searched(pool) == {**dict.fromkeys(gone, "forgotten"), **{one: before[one] for one in kept}}
    assert only(pool, "SELECT count(*) AS n FROM search_queries WHERE video_id = %s", video)["n"] == 0


@pytest.mark.parametrize("filename", [None, ""])
def test_searches_for_the_shown_name_lose_their_text(pool: Pool, filename: str | None) -> None:
    video = ended_video(pool, ALICE, "tide")
    with pool.connection() as connection:
        connection.execute("UPDATE videos SET filename = %s WHERE id = %s", (filename, video))
        uri = "https://example.org/a/Summer%20in%20Rome.mp4?token=secret"
        connection.execute("UPDATE video_processing SET uri = %s WHERE video_id = %s", (uri, video))
    gone = [add_search(pool, ALICE, "words in summer in ROME.MP4"), add_search(pool, ALICE, "summer in rome")]
    kept = add_search(pool, ALICE, "summer in rome with friends")
    assert forget(pool, [video]) == [video]
    assert searched(pool) == {**dict.fromkeys(gone, "forgotten"), kept: "summer in rome with friends"}


def test_searches_of_a_forgotten_video_stay_counted(pool: Pool, api: TestClient) -> None:
    video = ended_video(pool, ALICE, "tide")
    add_search(pool, ALICE, "what did she confess", video)

    def figures() -> list[Any]:
        paths = ("overview", "timeseries/search", "users")
        return [api.get(f"/v1/admin/{path}", headers=headers(ADMIN)).json() for path in paths]

    before = figures()
    forget(pool, [video])
    assert figures() == before
    detail = api.get(f"/v1/admin/users/{ALICE}", headers=headers(ADMIN)).json()
    assert [search["query_text"] for search in detail["recent_searches"]] == ["forgotten"]


def test_a_short_name_is_no_word_of_other_searches(pool: Pool) -> None:
    video = ended_video(pool, ALICE, "tide")
    with pool.connection() as connection:
        connection.execute("UPDATE videos SET filename = 'a' WHERE id = %s", (video,))
    kept = add_search(pool, ALICE, "a boat")
    forget(pool, [video])
    assert searched(pool) == {kept: "a boat"}


def test_forgetting_nothing_takes_the_table_from_nobody(pool: Pool) -> None:
    """Triggers are disabled under a lock that all writers wait for: not at every request for nothing."""
    video = ended_video(pool, BOB, "tide")
    with pool.connection() as connection:
        connection.execute("CREATE FUNCTION touch() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END'")
        connection.execute("CREATE TRIGGER touch BEFORE UPDATE ON videos FOR EACH ROW EXECUTE FUNCTION touch()")
    with pool.connection() as writing:
        writing.execute("UPDATE videos SET filename = filename")
        assert forget(pool, [video], ALICE) == forget(pool, [UUID(int=5)]) == []
