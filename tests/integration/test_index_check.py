"""``verify`` notices every difference between index and scenes, and a repair fixes that and nothing else."""

import threading
from collections.abc import Iterator
from uuid import UUID, uuid4

import pytest

from cluster.contracts.errors import ConfigurationError
from cluster.contracts.search import Scope, parse_words
from cluster.store.opensearch.documents import document_id
from cluster.store.opensearch.sync import FollowedIndex
from cluster.store.opensearch.verify import IndexCheck, Kind, Verdict
from cluster.store.postgres.connections import Pool
from cluster.store.search.postgres_check import PostgresCheck
from cluster.store.videos.deletion import forget
from tests.support.api_client import ALICE, BOB
from tests.support.followed_opensearch import MODELS, FollowedOpenSearch, followed_opensearch
from tests.support.searchable import Scene, add_video

SCENES = [Scene("low tide", tags=("sea",)), Scene("high tide", tags=("sea", "sky")), Scene("", tags=("moon",))]


@pytest.fixture
def engine(pool: Pool, database_url: str, opensearch_url: str) -> Iterator[FollowedOpenSearch]:
    """With three videos that are in line."""
    with followed_opensearch(pool, database_url, opensearch_url) as followed:
        for owner_id in (ALICE, BOB, ALICE):
            add_video(pool, owner_id, SCENES)
        followed.follower.follow_all(videos(pool))
        yield followed


def videos(pool: Pool) -> list[UUID]:
    with pool.connection() as connection:
        return [row["video_id"] for row in connection.execute("SELECT video_id FROM search_changes ORDER BY video_id")]


def check(pool: Pool, engine: FollowedOpenSearch) -> IndexCheck:
    (row,) = engine.indexes.rows()
    return IndexCheck(pool, engine.client, FollowedIndex(row["name"], MODELS))


def counts(verdict: Verdict) -> dict[Kind, int]:
    return {kind: count for kind, count in verdict.by_kind().items() if count}


def spoil(pool: Pool, engine: FollowedOpenSearch) -> None:
    """One document of each kind of difference, each of another scene."""
    (name,) = (row["name"] for row in engine.indexes.rows())
    first, second, third = videos(pool)
    engine.client.delete(index=name, id=document_id(first, 0))
    engine.client.update(index=name, id=document_id(second, 1), body={"doc": {"text": "spring tide"}})
    engine.client.update(index=name, id=document_id(second, 2), body={"doc": {"vectors": "others"}})
    engine.client.update(index=name, id=document_id(third, 0), body={"doc": {"picture_model": "another@1"}})
    for extra in (document_id(third, 7), document_id(uuid4(), 0)):
        video, _, index = extra.partition(".")
        engine.client.index(index=name, id=extra, body={"video_id": video, "index": int(index), "owner_id": str(ALICE)})


def test_nothing_differs_at_first(pool: Pool, engine: FollowedOpenSearch) -> None:
    verdict = check(pool, engine).verify()
    assert (verdict.compared, verdict.differences, verdict.pending) == (9, 0, 0)


def test_each_kind_of_difference_is_noticed_and_repaired(pool: Pool, engine: FollowedOpenSearch) -> None:
    spoil(pool, engine)
    checking = check(pool, engine)
    verdict = checking.verify()
    assert counts(verdict) == {
        Kind.MISSING: 1, Kind.EXTRA: 2, Kind.STALE_MODEL: 1, Kind.STALE_CONTENT: 2,
    }  # fmt: skip
    assert len(verdict.examples) == 5
    assert f"missing: scene 0 of video {videos(pool)[0]}" in verdict.examples
    assert checking.repair(verdict, engine.follower) == {}
    assert counts(checking.verify()) == {}


def test_a_repair_leaves_alone_what_is_in_line(pool: Pool, engine: FollowedOpenSearch) -> None:
    (name,) = (row["name"] for row in engine.indexes.rows())
    first, second, _ = videos(pool)
    engine.client.delete(index=name, id=document_id(first, 0))
    before = engine.client.get(index=name, id=document_id(second, 0))["_version"]
    checking = check(pool, engine)
    checking.repair(checking.verify(), engine.follower)
    assert engine.client.get(index=name, id=document_id(second, 0))["_version"] == before
    assert engine.client.get(index=name, id=document_id(first, 0))["_version"] > before


def test_what_is_still_to_be_followed_is_no_difference(pool: Pool, engine: FollowedOpenSearch) -> None:
    add_video(pool, BOB, SCENES)
    verdict = check(pool, engine).verify()
    assert (verdict.differences, verdict.pending) == (0, 1)


def test_scenes_that_the_outbox_does_not_know_are_missing(pool: Pool, engine: FollowedOpenSearch) -> None:
    add_video(pool, BOB, SCENES)
    with pool.connection() as connection:
        connection.execute("DELETE FROM search_changes WHERE version <> indexed_version")
    checking = check(pool, engine)
    verdict = checking.verify()
    assert counts(verdict) == {Kind.MISSING: len(SCENES)}
    checking.repair(verdict, engine.follower)
    assert counts(checking.verify()) == {}


@pytest.mark.parametrize("index", [-1, 100_000, 2_147_483_647])
def test_documents_of_no_scene_that_can_have_one_are_removed(
    pool: Pool, engine: FollowedOpenSearch, index: int
) -> None:
    (name,) = (row["name"] for row in engine.indexes.rows())
    video = videos(pool)[0]
    body = {"video_id": str(video), "index": index, "owner_id": str(ALICE)}
    engine.client.index(index=name, id=document_id(video, index), body=body)
    checking = check(pool, engine)
    verdict = checking.verify()
    assert counts(verdict) == {Kind.EXTRA: 1}
    assert checking.repair(verdict, engine.follower) == {}
    assert (counts(checking.verify()), checking.verify().compared) == ({}, 9)


def test_searches_are_answered_while_the_index_is_built_anew(pool: Pool, engine: FollowedOpenSearch) -> None:
    for number in range(20):
        add_video(pool, ALICE, [Scene(f"tide {number}")] * 20)
    engine.follower.follow_all(videos(pool))
    done, failed, answered = threading.Event(), list[object](), list[int]()
    index = engine.searched()

    def search() -> None:
        while not done.is_set():
            try:
                answered.append(len(index.words(parse_words("tide"), Scope(ALICE), 500)))
            except Exception as error:
                failed.append(error)

    searching = threading.Thread(target=search)
    searching.start()
    try:
        forgotten = videos(pool)[0]
        for number in range(2):
            engine.indexes.rebuild(MODELS, lambda *_: None)
            if number == 0:
                forget(pool, [forgotten])
                engine.follower.follow(forgotten)
    finally:
        done.set()
        searching.join()
    assert failed == []
    assert answered
    assert min(answered) >= 380
    assert counts(check(pool, engine).verify()) == {}


def test_interrupted_builds_remains_are_removed_by_the_next(pool: Pool, engine: FollowedOpenSearch) -> None:
    class Killed(BaseException):
        pass

    def die(*_: int) -> None:
        raise Killed

    with pytest.raises(Killed):
        engine.indexes.rebuild(MODELS, die)
    assert [row["state"] for row in engine.indexes.rows()] == ["live", "building"]
    add_video(pool, ALICE, SCENES)  # goes into both
    engine.follower.follow_all(videos(pool))
    engine.indexes.rebuild(MODELS)
    assert [row["state"] for row in engine.indexes.rows()] == ["live"]
    assert len(engine.client.indices.get(index=f"{engine.address.prefix}-*")) == 1
    verdict = check(pool, engine).verify()
    assert (verdict.compared, verdict.differences) == (12, 0)


def test_one_builds_at_a_time(engine: FollowedOpenSearch) -> None:
    refused: list[str] = []

    def build_too(*_: int) -> None:
        with pytest.raises(ConfigurationError) as raised:
            engine.indexes.rebuild(MODELS)
        refused.append(str(raised.value))

    engine.indexes.rebuild(MODELS, build_too)
    assert refused == ["another process is building an index just now: wait until it is done"]


def test_postgres_is_compared_with_itself_and_mended(pool: Pool, database_url: str) -> None:
    add_video(pool, ALICE, SCENES)
    add_video(pool, BOB, [Scene("die Häuser brennen")], language="de")
    checking = PostgresCheck(pool, database_url)
    assert (checking.verify().compared, counts(checking.verify())) == (4, {})
    with pool.connection() as connection:
        connection.execute("UPDATE video_scenes SET text_index = NULL WHERE combined_text LIKE '%low%'")
        connection.execute("UPDATE video_scenes SET combined_text = 'der Zug' WHERE combined_text LIKE '%Häuser%'")
        connection.execute("DELETE FROM search_vocabulary WHERE word = 'tide'")
    verdict = checking.verify()
    # Without an index; with another text's; Alice's tide, Bob's Zug and der; Bob's three words from before.
    assert counts(verdict) == {Kind.MISSING: 1 + 1 + 2, Kind.STALE_CONTENT: 1, Kind.EXTRA: 3}
    checking.repair()
    assert counts(checking.verify()) == {}
    checking.rebuild()
    assert counts(checking.verify()) == {}


def test_scenes_without_a_vector_of_the_model_in_use_are_noticed(pool: Pool, database_url: str) -> None:
    add_video(pool, ALICE, SCENES)
    with pool.connection() as connection:
        connection.execute(
            "INSERT INTO search_models (space, model, name, state) "
            "SELECT 'picture', min(model), 'm', 'active' FROM scene_embeddings"
        )
        connection.execute(
            "DELETE FROM scene_embeddings WHERE scene_id = (SELECT id FROM video_scenes WHERE index = 1)"
        )
    assert counts(PostgresCheck(pool, database_url).verify()) == {Kind.STALE_MODEL: 1}
