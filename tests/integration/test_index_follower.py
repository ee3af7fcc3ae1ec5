"""OpenSearch holds what Postgres says, whatever comes late, twice, or in the way."""

import time
from collections.abc import Iterator
from pathlib import Path
from uuid import UUID

import psycopg
import pytest
from opensearchpy import OpenSearch

from cluster.cli import erasure
from cluster.contracts.errors import ConfigurationError, DocumentRefused, EngineTimeout, SearchUnavailable
from cluster.contracts.search import EngineAddress, Retriever, Scope, parse_words
from cluster.settings import Settings
from cluster.store.index.outbox import SearchChanges, enqueue_index_update
from cluster.store.opensearch.client import open_client
from cluster.store.opensearch.documents import Document, read_documents
from cluster.store.opensearch.index import OpenSearchIndex
from cluster.store.opensearch.sync import FollowedIndex, IndexFollower, send
from cluster.store.opensearch.verify import IndexCheck
from cluster.store.postgres.connections import Pool
from cluster.store.videos.adoption import Adoption
from cluster.store.videos.deletion import forget
from tests.support.api_client import ALICE, BOB
from tests.support.followed_opensearch import MODELS, FollowedOpenSearch, followed_opensearch
from tests.support.real_opensearch import RealOpenSearch
from tests.support.searchable import Scene, add_video, found, seen

TIDES = [Scene("low tide", "the sea"), Scene("high tide", "the sea")]


@pytest.fixture
def engine(pool: Pool, database_url: str, opensearch_url: str) -> Iterator[FollowedOpenSearch]:
    with followed_opensearch(pool, database_url, opensearch_url) as followed:
        yield followed


def videos(pool: Pool) -> list[UUID]:
    with pool.connection() as connection:
        return [row["video_id"] for row in connection.execute("SELECT video_id FROM search_changes ORDER BY version")]


def tides(engine: FollowedOpenSearch) -> list[UUID]:
    """The videos found by words, and by pictures, which must be the same."""
    index = engine.searched()
    by_words = found(index.words(parse_words("tide"), Scope(ALICE), 10))
    assert set(by_words) == set(found(index.nearest(Retriever.PICTURE, seen("the sea"), Scope(ALICE), 10)))
    return by_words


def live(engine: FollowedOpenSearch) -> FollowedIndex:
    (row,) = [row for row in engine.indexes.rows() if row["state"] == "live"]
    return FollowedIndex(row["name"], MODELS)


def check(pool: Pool, engine: FollowedOpenSearch) -> IndexCheck:
    return IndexCheck(pool, engine.client, live(engine))


def test_followed_video_is_found_and_a_repeat_changes_nothing(pool: Pool, engine: FollowedOpenSearch) -> None:
    scenes = add_video(pool, ALICE, TIDES)
    (video,) = videos(pool)
    assert tides(engine) == []
    for _ in range(2):
        engine.follower.follow(video)
        assert set(tides(engine)) == set(scenes)
        assert engine.changes.backlog().pending == 0


def test_scenes_that_are_no_more_are_found_no_more(pool: Pool, engine: FollowedOpenSearch) -> None:
    first, _ = add_video(pool, ALICE, TIDES)
    (video,) = videos(pool)
    engine.follower.follow(video)
    with pool.connection() as connection:
        connection.execute("DELETE FROM video_scenes WHERE video_id = %s AND index = 1", (video,))
        enqueue_index_update(connection, video, 1)
    engine.follower.follow(video)
    assert tides(engine) == [first]


def test_late_write_does_not_restore_forgotten_scenes(pool: Pool, engine: FollowedOpenSearch) -> None:
    add_video(pool, ALICE, TIDES)
    (video,) = videos(pool)
    index = live(engine)
    with pool.connection() as connection:
        (documents,) = read_documents(connection, [video], MODELS)
    engine.follower.follow(video)
    assert forget(pool, [video], ALICE) == [video]
    assert engine.changes.due(10) == [video]  # no attempt follows it
    engine.follower.follow_all(engine.changes.due(10))
    assert tides(engine) == []
    assert send(engine.client, [(index, document) for document in documents]) == {}
    assert tides(engine) == []


@pytest.fixture
def any_index(pool: Pool) -> None:
    """Scenes may have any index and none, as in another system's table."""
    with pool.connection() as connection:
        connection.execute(
            "ALTER TABLE video_scenes ALTER COLUMN index DROP NOT NULL, DROP CONSTRAINT video_scenes_index_check, "
            "DROP CONSTRAINT video_scenes_video_id_index_key"
        )


def add_scene(pool: Pool, video: UUID, index: int | None) -> None:
    """As another system does, which says nothing to the outbox."""
    with pool.connection() as connection:
        connection.execute(
            "INSERT INTO video_scenes (video_id, index, start_s, end_s, combined_text) VALUES (%s, %s, 0, 1, 'tide')",
            (video, index),
        )


@pytest.mark.usefixtures("any_index")
def test_scenes_of_any_index_make_bounded_documents(pool: Pool, engine: FollowedOpenSearch) -> None:
    scenes = add_video(pool, ALICE, TIDES)
    (video,) = videos(pool)
    for index in (-2_147_483_648, -1, 0, 1, 1, 100_000, 150_000, 2_147_483_647, None):
        add_scene(pool, video, index)
    engine.changes.touch_or_add({video: 150_001})
    with pool.connection() as connection:
        (documents,) = read_documents(connection, [video], MODELS)
    assert len(documents) <= 100_000
    assert engine.follower.follow_all([video]) == {}
    of_words = found(engine.searched().words(parse_words("tide"), Scope(ALICE), 99))
    assert len(of_words) == len(scenes)
    assert check(pool, engine).verify().differences == 0


@pytest.mark.usefixtures("any_index")
@pytest.mark.parametrize("index", [-1, 100_000, 2_147_483_647, None])
def test_outbox_of_an_existing_database_takes_any_index(pool: Pool, index: int | None) -> None:
    add_video(pool, ALICE, TIDES)
    (video,) = videos(pool)
    with pool.connection() as connection:
        connection.execute("DELETE FROM search_changes")
        connection.execute("DELETE FROM video_scenes")
    add_scene(pool, video, index)
    assert Adoption(pool).add_to_outbox() == 1
    with pool.connection() as connection:
        (row,) = connection.execute("SELECT most_scenes FROM search_changes").fetchall()
    assert row["most_scenes"] == 0


def test_outbox_refuses_more_documents_than_a_video_may_have(pool: Pool) -> None:
    add_video(pool, ALICE, TIDES)
    with pool.connection() as connection, pytest.raises(psycopg.errors.CheckViolation):
        connection.execute("UPDATE search_changes SET most_scenes = 2000000000")


@pytest.mark.parametrize("rebuilt", [False, True], ids=["followed", "rebuilt"])
def test_other_systems_scene_is_forgotten_with_its_video(pool: Pool, engine: FollowedOpenSearch, rebuilt: bool) -> None:
    add_video(pool, ALICE, TIDES)
    (video,) = videos(pool)
    add_scene(pool, video, 7)
    engine.changes.touch([video])
    if rebuilt:
        engine.indexes.rebuild(MODELS)
    engine.follower.follow(video)
    assert len(found(engine.searched().words(parse_words("tide"), Scope(ALICE), 99))) == 3
    forget(pool, [video], ALICE)
    engine.follower.follow(video)
    assert found(engine.searched().words(parse_words("tide"), Scope(ALICE), 99)) == []


def test_many_scenes_are_followed_video_by_video(
    pool: Pool, engine: FollowedOpenSearch, monkeypatch: pytest.MonkeyPatch
) -> None:
    for _ in range(3):
        add_video(pool, ALICE, TIDES)
    monkeypatch.setattr("cluster.store.index.outbox.DOCUMENTS_AT_ONCE", 3)
    most = 0

    def counted(client: OpenSearch, documents: list[tuple[FollowedIndex, Document]]) -> dict[UUID, str]:
        nonlocal most
        most = max(most, len(documents))
        return send(client, documents)

    monkeypatch.setattr("cluster.store.opensearch.sync.send", counted)
    assert engine.follower.follow_all([*videos(pool), UUID(int=1)]) == {}
    assert (most, engine.changes.backlog().pending) == (2, 0)


def test_a_write_that_comes_late_does_not_bring_an_index_back(pool: Pool, engine: FollowedOpenSearch) -> None:
    add_video(pool, ALICE, TIDES)
    (video,) = videos(pool)
    old = live(engine)
    with pool.connection() as connection:
        (documents,) = read_documents(connection, [video], MODELS)
    engine.indexes.rebuild(MODELS)
    assert not engine.client.indices.exists(index=old.name)
    assert send(engine.client, [(old, document) for document in documents]) == {}
    assert list(engine.client.indices.get(index=f"{engine.address.prefix}-*")) == [live(engine).name]


def test_what_changes_while_it_is_followed_is_followed_too(
    pool: Pool, engine: FollowedOpenSearch, monkeypatch: pytest.MonkeyPatch
) -> None:
    scenes = add_video(pool, ALICE, TIDES)
    (video,) = videos(pool)
    changes: list[None] = []

    def changed_meanwhile(*arguments: object) -> dict[UUID, str]:
        if not changes:
            changes.append(None)
            with pool.connection() as connection:
                connection.execute("UPDATE video_scenes SET combined_text = 'nothing' WHERE index = 1")
                enqueue_index_update(connection, video, 2)
        return send(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr("cluster.store.opensearch.sync.send", changed_meanwhile)
    engine.follower.follow(video)
    assert found(engine.searched().words(parse_words("tide"), Scope(ALICE), 10)) == scenes[:1]
    assert engine.changes.backlog().pending == 0


def test_a_document_that_is_refused_fails_its_own_video_only(pool: Pool, engine: FollowedOpenSearch) -> None:
    add_video(pool, ALICE, [Scene("tide", tags=("x" * 40_000,))])
    scenes = add_video(pool, ALICE, TIDES)
    poisoned, healthy = videos(pool)
    refused = engine.follower.follow_all([poisoned, healthy])
    assert list(refused) == [poisoned]
    assert refused[poisoned].startswith("the search engine refuses scene 0: ")
    assert set(found(engine.searched().words(parse_words("tide"), Scope(ALICE), 10))) == set(scenes)
    backlog = engine.changes.backlog()
    assert (backlog.pending, backlog.refused) == (0, 1)
    engine.changes.touch([poisoned])
    with pytest.raises(DocumentRefused, match="refuses scene 0"):
        engine.follower.follow(poisoned)
    assert engine.changes.due(10) == []  # until the video changes


def test_without_an_index_and_without_an_engine_it_is_said(pool: Pool, opensearch_url: str) -> None:
    add_video(pool, ALICE, TIDES)
    (video,) = videos(pool)
    with pytest.raises(SearchUnavailable, match="has no index of the scenes yet"):
        IndexFollower(pool, open_client(EngineAddress(opensearch_url))).follow(video)
    with pool.connection() as connection:
        connection.execute(
            "INSERT INTO search_indexes (name, alias, vision_model, text_model, state) "
            "VALUES ('i', 'a', 'v', 't', 'live')"
        )
    with pytest.raises(SearchUnavailable, match=r"OpenSearch cannot be used: 127\.0\.0\.1:9: .*refused"):
        IndexFollower(pool, open_client(EngineAddress("http://127.0.0.1:9"))).follow(video)
    assert SearchChanges(pool).backlog().pending == 1


def test_a_live_index_that_is_gone_is_waited_for(pool: Pool, engine: FollowedOpenSearch) -> None:
    scenes = add_video(pool, ALICE, TIDES)
    (video,) = videos(pool)
    lost = live(engine).name
    engine.client.indices.delete(index=lost)
    with pytest.raises(SearchUnavailable, match=f"has lost the index {lost}: run `heimdex index rebuild`"):
        engine.follower.follow(video)
    assert engine.changes.backlog().pending == 1
    engine.indexes.rebuild(MODELS)
    engine.follower.follow(video)
    assert set(tides(engine)) == set(scenes)


def test_emptied_documents_are_purged_after_the_latest_write(
    pool: Pool, engine: FollowedOpenSearch, monkeypatch: pytest.MonkeyPatch
) -> None:
    scenes = add_video(pool, ALICE, TIDES)
    add_video(pool, ALICE, TIDES)
    gone, kept = videos(pool)
    engine.follower.follow_all([gone, kept])
    forget(pool, [gone], ALICE)
    engine.follower.follow(gone)
    name = live(engine).name

    def documents() -> int:
        engine.client.indices.refresh(index=name)
        return int(engine.client.count(index=name)["count"])

    engine.follower.purge()
    assert documents() == 2 * len(scenes)
    monkeypatch.setattr("cluster.store.opensearch.sync.LATEST_WRITE", "0s")
    engine.follower.purge()
    assert documents() == len(scenes)


def test_another_clusters_index_is_not_taken(engine: FollowedOpenSearch, pool: Pool) -> None:
    with pool.connection() as connection:
        connection.execute("TRUNCATE search_indexes")
    with pytest.raises(ConfigurationError, match="of another cluster: set HEIMDEX_OPENSEARCH_PREFIX"):
        engine.indexes.rebuild(MODELS)


def test_nothing_of_an_erased_owner_is_left_in_the_index(
    pool: Pool, engine: FollowedOpenSearch, tmp_path: Path
) -> None:
    for owner, said in ((ALICE, "confession"), (BOB, "lighthouse")):
        add_video(pool, owner, [Scene(said, said)])
    assert len(engine.words(parse_words("confession"), Scope(ALICE), 10)) == 1
    assert erasure.erase(pool, Settings(data_dir=tmp_path), ALICE, lambda _: None, with_file=False).videos == 1
    assert len(engine.words(parse_words("lighthouse"), Scope(BOB), 10)) == 1
    documents = engine.client.search(index=engine.alias, body={"query": {"match_all": {}}, "size": 100})
    assert "lighthouse" in str(documents)
    assert str(ALICE) not in str(documents)
    assert "confession" not in str(documents)
    assert engine.changes.backlog().pending == 0


def test_search_of_a_server_that_hangs_is_given_up_in_time(
    pool: Pool, engine: FollowedOpenSearch, opensearch: RealOpenSearch
) -> None:
    add_video(pool, ALICE, TIDES)
    assert engine.words(parse_words("tide"), Scope(ALICE), 10)
    index = OpenSearchIndex(engine.client, engine.alias, timeout_s=0.5)
    index.words(parse_words("tide"), Scope(ALICE), 10)  # the languages are known
    with opensearch.suspended():
        began_s = time.monotonic()
        with pytest.raises(EngineTimeout):
            index.words(parse_words("tide"), Scope(ALICE), 10)
        with pytest.raises(EngineTimeout):
            index.nearest(Retriever.PICTURE, seen("the sea"), Scope(ALICE), 10)
        assert time.monotonic() - began_s < 5
    assert index.words(parse_words("tide"), Scope(ALICE), 10)
