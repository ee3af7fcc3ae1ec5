"""Each model's vectors are in a table of their own width; those from before stay where they are."""

from concurrent.futures import ThreadPoolExecutor
from uuid import UUID

import numpy as np
import pytest
from numpy.typing import NDArray

from cluster.contracts.errors import ConfigurationError, MalformedResult
from cluster.contracts.search import QueryVector, Retriever, Scope
from cluster.store.index.embeddings import EVERY_ID, SceneVector, SceneVectors
from cluster.store.index.model_registry import IndexedModel, SearchModels, State
from cluster.store.index.vector_tables import find_tables, make_table
from cluster.store.opensearch.verify import Kind
from cluster.store.postgres.connections import Pool, connect, open_pool
from cluster.store.postgres.migrations import all_migrations, apply_migrations
from cluster.store.queue.video_queue import VideoQueue
from cluster.store.search.postgres_check import PostgresCheck
from cluster.store.search.postgres_index import PostgresSearchIndex, vector_of
from cluster.store.videos.scenes import SceneStore
from tests.support.existing_database import WEB_ROLES
from tests.support.queued_videos import (
    OWNER,
    claim_one,
    everything,
    only,
    scenes,
    transcript,
    unit,
    until_a_session_waits,
)
from tests.support.searchable import VISION, Scene, add_video, seen
from tests.support.stored_vectors import stored_vectors

OLD = IndexedModel(VISION.key, "ViT-B-32", "laion2b_s34b_b79k", 512)
WIDE = IndexedModel("siglip 100%@1", "ViT-B-16-SigLIP2-256", "webli", 768)
HALF = IndexedModel("long@1", "/models/long", None, 2560)
HUGE = IndexedModel("huge@1", "/models/huge", None, 4096)
SCENES = [Scene("the tide", "red circle"), Scene("the moon", "blue square")]


def relation_of(pool: Pool, by: Retriever, key: str) -> str | None:
    with pool.connection() as connection:
        table = find_tables(connection, {by: key}).get(by)
    return None if table is None else table.relation


def exists(pool: Pool, relation: str) -> bool:
    return bool(only(pool, "SELECT to_regclass(%s) IS NOT NULL AS there", relation)["there"])


def embed(pool: Pool, model: IndexedModel) -> int:
    """Pictures of all scenes by the model: all point the same way."""
    vectors = SceneVectors(pool, {Retriever.PICTURE: model.key})
    lacking = vectors.lacking(EVERY_ID, 100)
    return vectors.write(
        Retriever.PICTURE, [SceneVector(scene.scene_id, scene.made, unit(1, model.dimensions)) for scene in lacking]
    )


def change(pool: Pool, model: IndexedModel) -> None:
    models = SearchModels(pool)
    models.begin(Retriever.PICTURE, model)
    embed(pool, model)
    assert models.switch({Retriever.PICTURE: model.key}) == 0


@pytest.fixture
def models(pool: Pool) -> SearchModels:
    opened = SearchModels(pool)
    opened.adopt(Retriever.PICTURE, OLD)
    add_video(pool, OWNER, SCENES)
    return opened


# Tables


@pytest.mark.parametrize("model", [WIDE, HALF, HUGE], ids=["768", "2560", "4096"])
def test_there_and_back_between_lengths_and_the_old_dropped(
    pool: Pool, models: SearchModels, model: IndexedModel
) -> None:
    index = PostgresSearchIndex(pool)
    asked = {VISION.key: seen("red circle"), model.key: QueryVector(model.key, unit(1, model.dimensions))}
    before = index.nearest(Retriever.PICTURE, asked[VISION.key], Scope(OWNER), 2)
    change(pool, model)
    new = relation_of(pool, Retriever.PICTURE, model.key)
    assert new is not None
    assert [hit.score for hit in index.nearest(Retriever.PICTURE, asked[model.key], Scope(OWNER), 2)] == pytest.approx(
        [1.0, 1.0]
    )
    assert models.active() == {Retriever.PICTURE: model}
    assert models.rollback() == {Retriever.PICTURE: OLD}
    assert index.nearest(Retriever.PICTURE, asked[VISION.key], Scope(OWNER), 2) == before
    models.rollback()
    assert models.drop_old() == 2
    assert stored_vectors(pool, Retriever.PICTURE, OLD.key) == {}
    assert index.nearest(Retriever.PICTURE, asked[VISION.key], Scope(OWNER), 2) == []
    # Back once more, when the first ones are gone: what was made for the long model goes with its table.
    change(pool, OLD)
    assert models.drop_old() == 2
    assert not exists(pool, new)
    assert len(stored_vectors(pool, Retriever.PICTURE, OLD.key)) == 2
    assert models.by_state() == {State.ACTIVE: {Retriever.PICTURE: OLD}, State.FILLING: {}, State.PREVIOUS: {}}


def test_vectors_go_with_their_scenes_in_every_table(pool: Pool, models: SearchModels) -> None:
    change(pool, WIDE)
    with pool.connection() as connection:
        connection.execute("DELETE FROM video_scenes WHERE index = 0")
    assert [len(stored_vectors(pool, Retriever.PICTURE, model.key)) for model in (OLD, WIDE)] == [1, 1]


def test_a_stored_vector_is_read_as_it_was_written(pool: Pool, models: SearchModels) -> None:
    change(pool, HALF)
    (scene_id, *_) = stored_vectors(pool, Retriever.PICTURE, HALF.key)
    vector = vector_of(pool, scene_id, OWNER, Retriever.PICTURE, HALF.key)
    assert vector is not None
    np.testing.assert_array_equal(vector.embedding, unit(1, HALF.dimensions))
    assert vector_of(pool, scene_id, UUID(int=8), Retriever.PICTURE, HALF.key) is None
    assert vector_of(pool, scene_id, OWNER, Retriever.PICTURE, "unknown@1") is None


def test_many_that_need_a_table_at_once_make_one(pool: Pool) -> None:
    def make(_: int) -> str:
        with pool.connection() as connection:
            return make_table(connection, Retriever.PICTURE, WIDE.key, WIDE.dimensions).relation

    with ThreadPoolExecutor(6) as threads:
        assert len(set(threads.map(make, range(12)))) == 1


def test_no_other_role_may_read_a_models_vectors(existing_url: str) -> None:
    """In an existing database: an owner who is no superuser, extensions in a schema of their own, open defaults."""
    apply_migrations(existing_url)
    with open_pool(existing_url, max_size=2, name="tests") as pool:
        for model in (WIDE, HALF, HUGE):
            with pool.connection() as connection:
                relation = make_table(connection, Retriever.PICTURE, model.key, model.dimensions).relation
                may = {
                    role: connection.execute(
                        "SELECT has_table_privilege(%s, %s, 'SELECT') AS may", (role, relation)
                    ).fetchall()[0]["may"]
                    for role in WEB_ROLES
                }
            assert (may["anon"], may["authenticated"]) == (False, False)
        with pool.connection() as connection:
            open_tables = connection.execute(
                "SELECT has_table_privilege('anon', 'scene_vector_tables', 'SELECT') AS may"
            ).fetchall()
        assert open_tables == [{"may": False}]


def test_drop_old_with_readers_waits_for_a_gap(pool: Pool, models: SearchModels) -> None:
    change(pool, WIDE)
    change(pool, HALF)
    index, asked = PostgresSearchIndex(pool), QueryVector(HALF.key, unit(1, HALF.dimensions))
    with ThreadPoolExecutor(1) as threads, pool.connection() as reader:
        reader.execute("SELECT FROM video_scenes")
        dropping = threads.submit(models.drop_old)
        until_a_session_waits(pool)
        assert (
            len(index.nearest(Retriever.PICTURE, asked, Scope(OWNER), 2)) == 2
        )  # others are not kept waiting for long
        assert not dropping.done()
        reader.commit()
        assert dropping.result(timeout=30) == 4
    assert models.active() == {Retriever.PICTURE: HALF}


# What is refused


@pytest.mark.parametrize("begin", [True, False])
def test_model_with_stored_vectors_of_another_length_is_refused(pool: Pool, models: SearchModels, begin: bool) -> None:
    wider = IndexedModel(OLD.key, OLD.name, OLD.pretrained, 768)
    with pytest.raises(ConfigurationError) as raised:
        models.begin(Retriever.PICTURE, wider) if begin else models.adopt(Retriever.PICTURE, wider)
    assert str(raised.value) == (
        "the picture model word-vectors@1 cannot be used: the vectors of word-vectors@1 have 512 numbers, not 768; "
        "choose another model, or bring back the files that it had"
    )
    assert models.active() == {Retriever.PICTURE: OLD}


@pytest.mark.parametrize("length", [0, 16001])
def test_a_length_that_cannot_be_stored_is_refused_in_a_sentence(models: SearchModels, length: int) -> None:
    with pytest.raises(ConfigurationError, match=rf"the picture model x@1 gives {length} numbers, .* 1 to 16000"):
        models.begin(Retriever.PICTURE, IndexedModel("x@1", "x", None, length))
    assert models.by_state()[State.FILLING] == {}


@pytest.mark.parametrize(
    ("flawed", "sentence"),
    [
        (unit(0, 511), "made a vector of 511 numbers instead of 512 of scene 1"),
        (np.full(512, np.nan, np.float32), "made a vector with numbers that are not finite of scene 1"),
        (np.full(512, np.inf, np.float32), "made a vector with numbers that are not finite of scene 1"),
        (np.zeros(512, np.float32), "made a vector of zeros, which points nowhere of scene 1"),
    ],
    ids=["short", "nan", "infinite", "zeros"],
)
def test_flawed_vector_is_refused_and_nothing_is_written(
    pool: Pool, flawed: NDArray[np.float32], sentence: str
) -> None:
    video = claim_one(pool, VideoQueue(pool, "first", 60.0))
    written = scenes(video.id, "tide", "moon")
    object.__setattr__(written[1].description, "embedding", flawed)
    before = everything(pool)
    with pytest.raises(MalformedResult, match=sentence):
        SceneStore(pool).replace(video.id, video.lease_token, transcript("tide"), written, 2.0)
    assert everything(pool) == before


def test_vectors_dropped_meanwhile_are_not_written(pool: Pool, models: SearchModels) -> None:
    models.begin(Retriever.PICTURE, WIDE)
    models.drop_old()
    with pytest.raises(ConfigurationError, match="were dropped meanwhile: start `heimdex reembed` again"):
        embed(pool, WIDE)


# Databases from before


def _at_version(url: str, last: int) -> None:
    with connect(url, autocommit=True) as connection:
        for migration in all_migrations():
            if migration.number <= last:
                connection.execute(migration.text.encode())


_FROM_BEFORE = """
INSERT INTO videos (id, owner_id, storage_path, filename, status)
VALUES ('00000000-0000-0000-0000-000000000001', %(owner)s, 's3://b/a.mp4', 'a.mp4', 'READY');
INSERT INTO video_scenes (id, video_id, index, start_s, end_s, combined_text, key_frame_url)
SELECT gen_random_uuid(), '00000000-0000-0000-0000-000000000001', n, n, n + 1, 'tide', 'file:///a.jpg'
FROM generate_series(0, 2) AS n;
"""


def _fill_as_before(url: str) -> None:
    """Three scenes, their pictures by two models in one table, their meanings by one, and what was searched by."""
    with connect(url) as connection:
        for statement in _FROM_BEFORE.split(";\n"):
            if statement.strip():
                connection.execute(statement.encode(), {"owner": OWNER})
        for number, key in enumerate(("old@1", "new@2")):
            connection.execute(
                "INSERT INTO scene_embeddings (scene_id, model, embedding) "
                "SELECT id, %s, %s::float4[] FROM video_scenes",
                (key, unit(number).tolist()),
            )
        connection.execute(
            "INSERT INTO scene_meanings (scene_id, model, embedding) "
            "SELECT id, 'texts@1', %s::float4[] FROM video_scenes",
            (unit(0, 384).tolist(),),
        )
        connection.execute(
            "INSERT INTO search_models (space, model, name, state) VALUES ('picture', 'new@2', 'new', 'active'), "
            "('picture', 'old@1', 'old', 'previous'), ('meaning', 'texts@1', 'texts', 'active')"
        )


def test_vectors_from_before_stay_in_place_and_are_searched(bare_database_url: str) -> None:
    _at_version(bare_database_url, 32)
    _fill_as_before(bare_database_url)
    apply_migrations(bare_database_url)
    with open_pool(bare_database_url, max_size=2, name="tests") as pool:
        models = SearchModels(pool)
        assert models.by_state() == {
            State.ACTIVE: {
                Retriever.PICTURE: IndexedModel("new@2", "new", None, 512),
                Retriever.MEANING: IndexedModel("texts@1", "texts", None, 384),
            },
            State.FILLING: {},
            State.PREVIOUS: {Retriever.PICTURE: IndexedModel("old@1", "old", None, 512)},
        }
        index = PostgresSearchIndex(pool)
        for number, key in enumerate(("old@1", "new@2")):
            hits = index.nearest(Retriever.PICTURE, QueryVector(key, unit(number)), Scope(OWNER), 10)
            assert [hit.score for hit in hits] == pytest.approx([1.0] * 3)
        assert len(index.nearest(Retriever.MEANING, QueryVector("texts@1", unit(0, 384)), Scope(OWNER), 10)) == 3
        assert list(models.rollback()) == [Retriever.PICTURE]
        models.rollback()
        # The two share the table: the old one's are deleted from it, and the next model has one of its own.
        assert models.drop_old() == 3
        assert len(stored_vectors(pool, Retriever.PICTURE, "new@2")) == 3
        change(pool, WIDE)
        assert relation_of(pool, Retriever.PICTURE, WIDE.key) != "scene_embeddings"
        assert models.drop_old() == 3
        assert only(pool, "SELECT count(*) AS n FROM scene_embeddings")["n"] == 0


def test_models_from_before_without_a_vector_keep_their_length(bare_database_url: str) -> None:
    _at_version(bare_database_url, 32)
    with connect(bare_database_url) as connection:
        connection.execute(
            "INSERT INTO search_models (space, model, name, state) VALUES ('picture', 'p@1', 'p', 'active'), "
            "('meaning', 'm@1', 'm', 'active')"
        )
    apply_migrations(bare_database_url)
    with open_pool(bare_database_url, max_size=2, name="tests") as pool:
        active = SearchModels(pool).active()
        assert {by: model.dimensions for by, model in active.items()} == {
            Retriever.PICTURE: 512,
            Retriever.MEANING: 384,
        }
        SearchModels(pool).adopt(Retriever.PICTURE, active[Retriever.PICTURE])
        assert add_video(pool, OWNER, [Scene("tide")], vision="p@1", text="m@1")


# Checks


def test_a_scene_without_a_vector_in_its_table_is_noticed(pool: Pool, database_url: str, models: SearchModels) -> None:
    change(pool, WIDE)
    check = PostgresCheck(pool, database_url)
    assert check.verify().differences == 0
    relation = relation_of(pool, Retriever.PICTURE, WIDE.key)
    with pool.connection() as connection:
        connection.execute(f"DELETE FROM {relation} WHERE scene_id = (SELECT scene_id FROM {relation} LIMIT 1)")  # type: ignore[call-overload]
    assert {kind: count for kind, count in check.verify().by_kind().items() if count} == {Kind.STALE_MODEL: 1}


def test_a_rebuild_builds_the_vector_indexes_of_all_models(pool: Pool, database_url: str, models: SearchModels) -> None:
    def files() -> dict[str, int]:
        with pool.connection() as connection:
            rows = connection.execute(
                "SELECT c.relname AS name, pg_relation_filenode(c.oid) AS file FROM pg_class AS c "
                "JOIN pg_am AS a ON a.oid = c.relam WHERE a.amname = 'hnsw'"
            ).fetchall()
        return {row["name"]: row["file"] for row in rows}

    change(pool, WIDE)
    change(pool, HUGE)  # has no index
    before = files()
    used = {f"idx_{relation_of(pool, Retriever.PICTURE, model.key)}_cosine" for model in (OLD, WIDE)}
    PostgresCheck(pool, database_url).rebuild()
    after = files()
    assert before.keys() == after.keys() >= used
    assert all(before[name] != after[name] for name in used)
