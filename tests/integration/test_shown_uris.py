"""URIs and error texts as people read them: everywhere without query, user and password; the worker has them whole."""

import json
import logging
from typing import Any
from uuid import UUID

import pytest
from starlette.testclient import TestClient

from cluster.contracts.results import StageFailure
from cluster.contracts.search import parse_words
from cluster.contracts.stages import Blame
from cluster.contracts.videos import ClaimedVideo, Origin, Submission
from cluster.store.postgres.connections import Pool
from cluster.store.queue.stage_runs import latest_runs
from cluster.store.queue.submissions import quarantine, submit
from cluster.store.queue.video_queue import VideoQueue
from cluster.store.search.hits import read_scenes
from cluster.store.videos.progress import read_results, read_standings
from cluster.store.videos.videos import read_video
from tests.support.api_client import ADMIN, ALICE, BOB, Heimdex, headers
from tests.support.played_workers import Workers, attempt
from tests.support.queued_videos import OWNER, only

QUERY = "?X-Amz-Credential=AKIASECRET&X-Amz-Signature=topsecret"
URI = f"https://example.org/talk.mp4{QUERY}"
SEEN = "https://example.org/talk.mp4"
SAID = f"cannot fetch {URI} into /srv/heimdex/scratch: reset"
"""As a driver might put it."""
SECRETS = ("topsecret", "AKIASECRET", "X-Amz", "password")


def claim(pool: Pool, uri: str = URI, owner: UUID = ALICE, origin: Origin = Origin.HTTP) -> ClaimedVideo:
    submit(pool, owner, [Submission(uri=uri)], origin=origin)
    (video,) = VideoQueue(pool, "first", 60.0).claim(1)
    return video


def fail(pool: Pool, origin: Origin = Origin.HTTP, owner: UUID = ALICE) -> ClaimedVideo:
    """Process a video whose download fails, to its end."""
    video = claim(pool, owner=owner, origin=origin)
    workers = Workers(fetch=StageFailure("InvalidVideo", SAID, Blame.VIDEO))
    attempt(pool, VideoQueue(pool, "first", 60.0), video, workers)
    return video


def assert_clean(shown: Any) -> None:
    text = shown if isinstance(shown, str) else json.dumps(shown, default=str)
    assert not [secret for secret in SECRETS if secret in text], text


def test_worker_is_given_the_whole_uri(pool: Pool) -> None:
    assert claim(pool).uri == URI


def test_http_answers_show_no_query(api: TestClient, pool: Pool) -> None:
    answer = api.post("/v1/videos", json={"uri": URI}, headers=headers(ALICE))
    (video_id,) = answer.json()["ids"]
    place = f"/v1/videos/{video_id}"
    answers = [api.get("/v1/videos", headers=headers(ALICE)), api.get(place, headers=headers(ALICE))]
    answers += [
        api.post(f"{place}/{each}", headers=headers(ALICE)) for each in ("cancel", "retry", "cancel", "reprocess")
    ]
    answers.append(api.get("/v1/admin/failures/quarantine", headers=headers(ADMIN)))
    for each in answers:
        assert each.status_code == 200, each.text
        assert_clean(each.text)
    assert answers[1].json()["uri"] == SEEN
    refused = api.post("/v1/videos", json={"uri": f"s4://me:password@host/a{QUERY}"}, headers=headers(ALICE))
    assert refused.status_code == 400
    assert_clean(refused.text)


@pytest.mark.parametrize("origin", [Origin.HTTP, Origin.COMMAND])
def test_failure_is_written_down_without_secrets(
    api: TestClient, pool: Pool, caplog: pytest.LogCaptureFixture, origin: Origin
) -> None:
    with caplog.at_level(logging.DEBUG):
        video = fail(pool, origin)
    folder = "..." if origin is Origin.HTTP else "/srv/heimdex/scratch"
    expected = f"cannot fetch {SEEN} into {folder}: reset"
    row = only(pool, "SELECT error_message FROM videos WHERE id = %s", video.id)
    run = only(pool, "SELECT error_message FROM video_stage_runs WHERE video_id = %s", video.id)
    assert (row["error_message"], run["error_message"]) == (expected, expected)
    assert_clean(caplog.text)
    for path, user in ((f"/v1/videos/{video.id}", ALICE), (f"/v1/admin/users/{ALICE}", ADMIN)):
        assert_clean(api.get(path, headers=headers(user)).text)


def test_what_others_wrote_is_shown_without_secrets(api: TestClient, pool: Pool) -> None:
    video = fail(pool)
    with pool.connection() as connection:
        connection.execute("UPDATE videos SET error_message = %s", (f"timed out: https://me:password@host/a{QUERY}",))
    answers = [
        api.get("/v1/videos", headers=headers(ALICE)),
        api.get(f"/v1/admin/users/{ALICE}", headers=headers(ADMIN)),
        api.get("/v1/admin/failures/quarantine", headers=headers(ADMIN)),
    ]
    for answer in answers:
        assert "https://host/a" in answer.text
        assert_clean(answer.text)
    shown = [read_results(pool, [video.id]), read_standings(pool, [video.id]), quarantine(pool, 9)[0]]
    assert_clean(repr(shown))


def test_commands_show_no_query(heimdex: Heimdex, pool: Pool) -> None:
    fail(pool, owner=OWNER)
    claim(pool, owner=OWNER)
    for arguments in (
        ("submit", "--json", URI, f"s3://key:password@bucket/a.mp4{QUERY}"),
        ("status",),
        ("status", "--json"),
        ("quarantine",),
        ("quarantine", "--json"),
        ("transcript", URI),
        ("forget", URI, "--yes", "--with-file"),
    ):
        done = heimdex(*arguments, settings={"PYTHONIOENCODING": "utf-8"})
        assert_clean((done.stdout + done.stderr).decode())
    assert only(pool, "SELECT count(*) AS n FROM video_processing WHERE uri = %s", URI)["n"] == 3


def test_video_is_found_by_the_whole_uri(heimdex: Heimdex, pool: Pool) -> None:
    submit(pool, OWNER, [Submission(uri=URI)])
    done = heimdex("forget", URI, "--yes")
    assert (done.returncode, done.stdout[:20]) == (0, b"1 video is forgotten")


def test_trouble_of_a_disk_names_it_to_operators_alone(pool: Pool) -> None:
    video = claim(pool)
    full = StageFailure("NoSpace", "the disk is full: /srv/scratch", Blame.INTERRUPTION)
    troubles = attempt(pool, VideoQueue(pool, "first", 60.0), video, Workers(fetch=full))
    assert troubles == ["the disk is full: /srv/scratch"]
    row = only(pool, "SELECT error_message FROM videos WHERE id = %s", video.id)
    assert row["error_message"] == "the disk is full: ..."


# Reads for a user ask for the user's rows in SQL


def test_reads_of_another_owner_find_nothing(pool: Pool) -> None:
    from tests.support.searchable import Scene, add_video

    (scene,) = add_video(pool, BOB, [Scene("the harbour", "red", ("sea",))])
    video = only(pool, "SELECT video_id FROM video_scenes WHERE id = %s", scene)["video_id"]
    with pool.connection() as connection:
        connection.execute(
            "INSERT INTO video_stage_runs (video_id, attempt, stage, ready_at) VALUES (%s, 1, 'downloading', now()) "
            "ON CONFLICT DO NOTHING",
            (video,),
        )
    words = parse_words("harbour")
    assert list(read_scenes(pool, BOB, [scene], words)) == [scene]
    assert read_scenes(pool, ALICE, [scene], words) == {}
    assert latest_runs(pool, [video], BOB)[video]
    assert latest_runs(pool, [video], ALICE) == {video: []}
    assert read_video(pool, BOB, video) is not None
    assert read_video(pool, ALICE, video) is None


def test_search_shows_nothing_that_an_engine_wrongly_finds(api: TestClient, pool: Pool) -> None:
    """An index beside Postgres may hold an owner of long ago."""
    from tests.support.searchable import Scene, add_video

    (scene,) = add_video(pool, BOB, [Scene("the harbour", "red", ("sea",))])
    service = api.app.state.parts.search  # type: ignore[attr-defined]
    found = service._open_index

    class Confused:
        def __init__(self, index: Any) -> None:
            self._index = index

        def words(self, query: Any, scope: Any, limit: int) -> Any:
            return self._index.words(query, type(scope)(BOB), limit)

        def nearest(self, by: Any, vector: Any, scope: Any, limit: int) -> Any:
            return self._index.nearest(by, vector, type(scope)(BOB), limit)

    service._open_index = lambda keys: Confused(found(keys))
    answers = [api.get("/v1/search?q=harbour", headers=headers(user)).json()["items"] for user in (BOB, ALICE)]
    assert [[UUID(item["scene_id"]) for item in items] for items in answers] == [[scene], []]
