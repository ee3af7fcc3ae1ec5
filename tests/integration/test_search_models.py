"""The models that searches use: one per space, changed in one moment, and no process writes by another."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from uuid import UUID

import numpy as np
import pytest

from cluster.contracts.errors import ConfigurationError, ModelChanged
from cluster.contracts.search import Retriever
from cluster.store.index.embeddings import EVERY_ID, SceneVector, SceneVectors
from cluster.store.index.model_registry import IndexedModel, SearchModels, State, changing_alone
from cluster.store.postgres.connections import Pool
from cluster.store.queue.video_queue import VideoQueue
from cluster.store.videos.scenes import SceneStore
from tests.support.queued_videos import OWNER, claim_one, everything, scenes, transcript, unit, until_a_session_waits
from tests.support.searchable import TEXT, VISION, Scene, add_video
from tests.support.stored_vectors import stored_vectors

OLD = IndexedModel(VISION.key, "ViT-B-32", "laion2b_s34b_b79k", 512)
NEW = IndexedModel("new@2", "ViT-L-14", None, 768)
NEWER = IndexedModel("newer@3", "/models/newer", None, 512)
MEANINGS = IndexedModel(TEXT.key, "all-MiniLM-L6-v2", None, 384)
MORE_MEANINGS = IndexedModel("meanings@2", "another", None, 1024)
PICTURES = {Retriever.PICTURE: NEW.key}


@pytest.fixture
def models(pool: Pool) -> SearchModels:
    """With a video of three scenes by the models that are active; the last scene says nothing."""
    opened = SearchModels(pool)
    opened.adopt(Retriever.PICTURE, OLD)
    opened.adopt(Retriever.MEANING, MEANINGS)
    add_video(pool, OWNER, [Scene("the tide"), Scene("the moon"), Scene("")])
    return opened


def fill(pool: Pool, model: IndexedModel = NEW, by: Retriever = Retriever.PICTURE) -> int:
    """Vectors of the model for all scenes that lack one."""
    vectors = SceneVectors(pool, {by: model.key})
    found = [
        SceneVector(scene.scene_id, scene.made, unit(0, model.dimensions)) for scene in vectors.lacking(EVERY_ID, 2)
    ]
    return vectors.write(by, found)


def vectors_of(pool: Pool, model: IndexedModel) -> int:
    return len(stored_vectors(pool, Retriever.PICTURE, model.key))


# Adopting


def test_first_model_of_a_space_becomes_and_stays_active(pool: Pool) -> None:
    models = SearchModels(pool)
    assert models.active() == {}
    models.adopt(Retriever.PICTURE, OLD)
    models.adopt(Retriever.PICTURE, OLD)
    assert models.active() == {Retriever.PICTURE: OLD}
    sentence = (
        "all scenes are indexed by picture with word-vectors@1, not with new@2: set HEIMDEX_CLIP_MODEL and "
        "HEIMDEX_CLIP_PRETRAINED to that model again, or embed them again: `heimdex reembed --vision MODEL`"
    )
    with pytest.raises(ConfigurationError) as raised:
        models.adopt(Retriever.PICTURE, NEW)
    assert str(raised.value) == sentence
    assert models.active() == {Retriever.PICTURE: OLD}


def test_vectors_from_before_decide_which_model_can_be_the_first(pool: Pool) -> None:
    add_video(pool, OWNER, [Scene("the tide")])
    models = SearchModels(pool)
    with pytest.raises(ConfigurationError, match="set HEIMDEX_TEXT_MODEL to that model again"):
        models.adopt(Retriever.MEANING, MORE_MEANINGS)
    assert models.active() == {}
    models.adopt(Retriever.MEANING, MEANINGS)
    assert models.active() == {Retriever.MEANING: MEANINGS}


def test_of_two_that_adopt_at_once_one_is_refused(pool: Pool) -> None:
    def adopt(model: IndexedModel) -> bool:
        try:
            SearchModels(pool).adopt(Retriever.PICTURE, model)
        except ConfigurationError:
            return False
        return True

    with ThreadPoolExecutor(8) as threads:
        adopted = set(zip(["old", "new"] * 4, threads.map(adopt, [OLD, NEW] * 4), strict=True))
    assert sorted(done for _, done in adopted) == [False, True]


# Switching


def test_switch_waits_for_the_last_scene_for_all_spaces_at_once(pool: Pool, models: SearchModels) -> None:
    both = {Retriever.PICTURE: NEW.key, Retriever.MEANING: MORE_MEANINGS.key}
    models.begin(Retriever.PICTURE, NEW)
    models.begin(Retriever.MEANING, MORE_MEANINGS)
    assert fill(pool) == 3
    assert models.switch(both) == 2  # what says nothing means nothing
    assert models.active() == {Retriever.PICTURE: OLD, Retriever.MEANING: MEANINGS}
    assert fill(pool, MORE_MEANINGS, Retriever.MEANING) == 2
    assert models.switch(both) == 0
    assert models.by_state() == {
        State.ACTIVE: {Retriever.PICTURE: NEW, Retriever.MEANING: MORE_MEANINGS},
        State.FILLING: {},
        State.PREVIOUS: {Retriever.PICTURE: OLD, Retriever.MEANING: MEANINGS},
    }


def test_missing_vectors_may_be_allowed(models: SearchModels) -> None:
    models.begin(Retriever.PICTURE, NEW)
    assert models.switch(PICTURES) == 3
    assert models.active()[Retriever.PICTURE] == OLD
    assert models.switch(PICTURES, allow_missing=True) == 3
    assert models.active()[Retriever.PICTURE] == NEW


def test_scenes_wait_for_the_switch_that_embeds_the_last(pool: Pool, models: SearchModels) -> None:
    models.begin(Retriever.PICTURE, NEW)
    with ThreadPoolExecutor(1) as threads:

        def last() -> None:
            writing.append(threads.submit(add_video, pool, OWNER, [Scene("late")]))
            until_a_session_waits(pool)
            fill(pool)

        writing: list[object] = []
        assert models.switch(PICTURES, last) == 0
        (late,) = writing
        with pytest.raises(ModelChanged):
            late.result(timeout=10)  # type: ignore[attr-defined]
    assert vectors_of(pool, NEW) == vectors_of(pool, OLD) == 3


def test_model_not_being_filled_cannot_become_active(models: SearchModels) -> None:
    models.begin(Retriever.PICTURE, NEW)
    models.begin(Retriever.PICTURE, NEWER)
    with pytest.raises(ConfigurationError, match="begin again"):
        models.switch(PICTURES, allow_missing=True)
    assert models.by_state()[State.FILLING] == {Retriever.PICTURE: NEWER}
    assert models.active()[Retriever.PICTURE] == OLD


def test_active_model_stays_active_while_vectors_are_remade(models: SearchModels) -> None:
    models.begin(Retriever.PICTURE, OLD)
    assert models.by_state()[State.FILLING] == {}
    assert models.active()[Retriever.PICTURE] == OLD


def test_only_one_embeds_anew_at_a_time(database_url: str) -> None:
    refused = pytest.raises(ConfigurationError, match="another `heimdex reembed` works")
    with changing_alone(database_url), refused, changing_alone(database_url):
        pass
    with changing_alone(database_url):
        pass


# Going back


def switched(models: SearchModels, by: Retriever, model: IndexedModel) -> None:
    models.begin(by, model)
    models.switch({by: model.key}, allow_missing=True)


def test_second_rollback_undoes_the_first(models: SearchModels) -> None:
    switched(models, Retriever.MEANING, MORE_MEANINGS)
    switched(models, Retriever.PICTURE, NEW)
    assert models.rollback() == {Retriever.PICTURE: OLD}
    assert models.active() == {Retriever.PICTURE: OLD, Retriever.MEANING: MORE_MEANINGS}
    assert models.rollback() == {Retriever.PICTURE: NEW}
    assert models.by_state()[State.PREVIOUS] == {Retriever.PICTURE: OLD, Retriever.MEANING: MEANINGS}


def test_a_rollback_leaves_alone_what_is_being_filled(models: SearchModels) -> None:
    switched(models, Retriever.PICTURE, NEW)
    models.begin(Retriever.PICTURE, NEWER)
    models.rollback()
    assert models.by_state() == {
        State.ACTIVE: {Retriever.PICTURE: OLD, Retriever.MEANING: MEANINGS},
        State.FILLING: {Retriever.PICTURE: NEWER},
        State.PREVIOUS: {Retriever.PICTURE: NEW},
    }


def test_the_model_from_before_can_be_embedded_by_again(pool: Pool, models: SearchModels) -> None:
    switched(models, Retriever.PICTURE, NEW)
    switched(models, Retriever.PICTURE, OLD)
    assert models.by_state()[State.PREVIOUS] == {Retriever.PICTURE: NEW}
    assert fill(pool, OLD) == 0


def test_old_vectors_are_dropped_and_there_is_no_way_back(pool: Pool, models: SearchModels) -> None:
    models.begin(Retriever.PICTURE, NEW)
    fill(pool)
    models.switch(PICTURES)
    models.begin(Retriever.PICTURE, NEWER)
    fill(pool, NEWER)
    assert models.drop_old() == 6
    assert (vectors_of(pool, OLD), vectors_of(pool, NEW), vectors_of(pool, NEWER)) == (0, 3, 0)
    assert models.by_state()[State.PREVIOUS] == models.by_state()[State.FILLING] == {}
    with pytest.raises(ConfigurationError, match="the old vectors were dropped"):
        models.rollback()
    assert len(stored_vectors(pool, Retriever.MEANING, MEANINGS.key)) == 2


def test_nothing_is_dropped_of_a_space_without_an_active_model(pool: Pool) -> None:
    add_video(pool, OWNER, [Scene("the tide")])
    assert SearchModels(pool).drop_old() == 0


# The fence of those who write scenes


def test_scenes_of_a_model_no_longer_active_are_refused_whole(pool: Pool, models: SearchModels) -> None:
    switched(models, Retriever.PICTURE, NEW)
    video = claim_one(pool, VideoQueue(pool, "first", 60.0))
    before = everything(pool)
    with pytest.raises(ModelChanged, match="new@2 has become the picture model, the scenes were embedded by bundled@1"):
        SceneStore(pool).replace(video.id, video.lease_token, transcript("tide"), scenes(video.id, "tide"), 1.0)
    assert everything(pool) == before


def test_a_switch_waits_for_a_writer_and_finds_what_it_wrote(pool: Pool, models: SearchModels) -> None:
    models.begin(Retriever.PICTURE, NEW)
    fill(pool)
    with ThreadPoolExecutor(1) as threads, pool.connection() as writer:
        writer.execute("LOCK TABLE search_models IN ROW SHARE MODE")  # as one does that has begun to write
        switching = threads.submit(models.switch, PICTURES)
        until_a_session_waits(pool)
        writer.execute(
            "INSERT INTO video_scenes (video_id, index, start_s, end_s, key_frame_url) "
            "SELECT id, 9, 0, 1, 'file:///late.jpg' FROM videos LIMIT 1"
        )
        writer.commit()
        assert switching.result(timeout=10) == 1
    assert models.active()[Retriever.PICTURE] == OLD


# Vectors of scenes that are there


def test_scenes_lacking_vectors_come_once_and_say_which(pool: Pool, models: SearchModels) -> None:
    vectors = SceneVectors(pool, {Retriever.PICTURE: NEW.key, Retriever.MEANING: TEXT.key})
    found = [scene for ids in EVERY_ID.split(5) for scene in vectors.lacking(ids, 2)]
    assert [scene.scene_id for scene in found] == sorted(scene.scene_id for scene in found)
    assert [(scene.key_frame_url is None, scene.text) for scene in found] == [(False, None)] * 3
    assert vectors.count_lacking() == 3
    with pool.connection() as connection:
        connection.execute("DELETE FROM scene_meanings")
        connection.execute("UPDATE video_scenes SET key_frame_url = NULL")  # from before key frames were kept
    assert sorted(scene.text or "" for scene in vectors.lacking(EVERY_ID, 1)) == ["the moon", "the tide"]


def test_replaced_scene_gets_no_vector_of_the_former_one(pool: Pool, models: SearchModels) -> None:
    models.begin(Retriever.PICTURE, NEW)
    vectors = SceneVectors(pool, PICTURES)
    gone, replaced, kept = [SceneVector(s.scene_id, s.made, unit(1, 768)) for s in vectors.lacking(EVERY_ID, 10)]
    with pool.connection() as connection:
        connection.execute("DELETE FROM video_scenes WHERE id = %s", (gone.scene_id,))
        connection.execute("UPDATE video_scenes SET created_at = now() WHERE id = %s", (replaced.scene_id,))
    assert vectors.write(Retriever.PICTURE, [gone, replaced, kept]) == 1
    assert vectors.write(Retriever.PICTURE, [gone, replaced, kept]) == 0
    ((scene_id, embedding),) = stored_vectors(pool, Retriever.PICTURE, NEW.key).items()
    assert scene_id == kept.scene_id
    assert np.array_equal(embedding, unit(1, 768))


def test_who_deletes_scenes_is_not_waited_for(pool: Pool, models: SearchModels) -> None:
    models.begin(Retriever.PICTURE, NEW)
    vectors = SceneVectors(pool, PICTURES)
    found: Sequence[SceneVector] = [
        SceneVector(s.scene_id, s.made, unit(1, 768)) for s in vectors.lacking(EVERY_ID, 10)
    ]
    with pool.connection() as deleter:
        deleter.execute("DELETE FROM video_scenes WHERE id = %s", (found[0].scene_id,))
        assert vectors.write(Retriever.PICTURE, found) == 2
        deleter.rollback()
    assert vectors.write(Retriever.PICTURE, found) == 1


def test_ranges_of_ids_leave_none_out() -> None:
    ranges = EVERY_ID.split(7)
    assert (ranges[0].after, ranges[-1].until) == (UUID(int=0), UUID(int=2**128 - 1))
    assert [a.until for a in ranges[:-1]] == [b.after for b in ranges[1:]]
