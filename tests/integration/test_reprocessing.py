"""Videos that were processed are processed again: by command, by HTTP, and what stays until then."""

from uuid import UUID, uuid4

import pytest
from starlette.testclient import TestClient

from cluster.contracts.search import parse_words
from cluster.contracts.stages import Stage
from cluster.store.postgres.connections import Pool
from cluster.store.queue.reprocessing import reprocess
from cluster.store.queue.submissions import cancel
from cluster.store.queue.video_queue import VideoQueue
from cluster.store.search.postgres_index import PostgresSearchIndex
from cluster.store.videos.deletion import forget
from cluster.store.videos.scenes import SceneStore
from tests.support.api_client import ALICE, BOB, Heimdex, headers
from tests.support.queued_videos import OWNER, enqueue, finish, scenes, transcript
from tests.support.searchable import Scene, Scope, add_video, found


def ready(pool: Pool, owner_id: UUID = OWNER) -> UUID:
    """A READY video in which one finds "tide"."""
    (scene,) = add_video(pool, owner_id, [Scene("tide")])
    with pool.connection() as connection:
        rows = connection.execute("SELECT video_id FROM video_scenes WHERE id = %s", (scene,)).fetchall()
    return UUID(str(rows[0]["video_id"]))


def words_found(pool: Pool, word: str, owner_id: UUID = OWNER) -> int:
    return len(found(PostgresSearchIndex(pool).words(parse_words(word), Scope(owner_id), 9)))


def test_reprocessed_scenes_are_searchable_until_replaced(pool: Pool) -> None:
    video_id = ready(pool)
    assert reprocess(pool, [video_id], language="de") == [video_id]
    queue = VideoQueue(pool, "s", 60.0)
    (video,) = queue.claim(9)
    assert (video.id, video.language, video.attempt, video.stored) == (video_id, "de", 2, frozenset())
    assert words_found(pool, "tide") == 1
    SceneStore(pool).replace(video.id, video.lease_token, transcript("a", "de"), scenes(video.id, "ebbe", "flut"), 2.0)
    assert (words_found(pool, "tide"), words_found(pool, "ebbe")) == (0, 1)
    finish(queue, video)
    assert reprocess(pool, [video_id]) == [video_id]
    assert queue.claim(9)[0].language == "de"


def test_stored_results_are_discarded(pool: Pool) -> None:
    video_id = ready(pool)
    with pool.connection() as connection:
        connection.execute(
            "INSERT INTO video_stage_results (video_id, stage) VALUES (%s, 'indexing') "
            "ON CONFLICT DO NOTHING", (video_id,)
        )  # fmt: skip
    reprocess(pool, [video_id])
    assert Stage.INDEXING not in VideoQueue(pool, "s", 60.0).claim(1)[0].stored


def test_cancelled_video_is_processed_again(pool: Pool) -> None:
    (video_id,) = enqueue(pool)
    assert reprocess(pool, [video_id]) == []
    cancel(pool, [video_id])
    assert reprocess(pool, [video_id]) == [video_id]
    assert [video.id for video in VideoQueue(pool, "s", 60.0).claim(9)] == [video_id]
    assert reprocess(pool, [video_id]) == []


def test_forgotten_video_is_not_processed_again(pool: Pool) -> None:
    video_id = ready(pool)
    assert forget(pool, [video_id]) == [video_id]
    assert reprocess(pool, [video_id]) == []


def test_reprocess_by_http_is_for_the_owner(api: TestClient, pool: Pool) -> None:
    video_id = ready(pool, ALICE)
    path = f"/v1/videos/{video_id}/reprocess"
    assert api.post(path, headers=headers(BOB)).status_code == 404
    assert api.post(path, json={"language": "german"}, headers=headers(ALICE)).status_code == 400
    assert api.post(path, json={"speed": 2}, headers=headers(ALICE)).status_code == 400
    answer = api.post(path, json={"language": "ko"}, headers=headers(ALICE))
    assert (answer.status_code, answer.json()["status"]) == (200, "PENDING")
    assert api.get(f"/v1/videos/{video_id}", headers=headers(ALICE)).json()["language"] == "ko"
    assert api.post(path, headers=headers(ALICE)).status_code == 409
    assert VideoQueue(pool, "s", 60.0).claim(1) != []
    assert api.post(path, headers=headers(ALICE)).status_code == 409


@pytest.mark.parametrize("body", [None, {}, {"language": None}])
def test_reprocess_by_http_needs_no_body(api: TestClient, pool: Pool, body: dict[str, None] | None) -> None:
    path = f"/v1/videos/{ready(pool, ALICE)}/reprocess"
    assert api.post(path, json=body, headers=headers(ALICE)).status_code == 200


def test_forgotten_video_by_http_is_not_found(api: TestClient, pool: Pool) -> None:
    video_id = ready(pool, ALICE)
    forget(pool, [video_id])
    assert api.post(f"/v1/videos/{video_id}/reprocess", headers=headers(ALICE)).status_code == 404


def test_reprocess_command_names_what_it_leaves(heimdex: Heimdex, pool: Pool) -> None:
    video_id, other = ready(pool), uuid4()
    done = heimdex("reprocess", str(video_id), str(other), "--language", "de")
    assert done.returncode == 1
    assert done.stdout.decode().splitlines()[0] == "1 video waits to be processed again"
    assert str(other) in done.stdout.decode()
    assert heimdex("reprocess", str(video_id), "--language", "deutsch").returncode == 2
