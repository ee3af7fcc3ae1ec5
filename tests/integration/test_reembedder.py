"""One process that re-embeds, without Ray: other lengths through the real loaders, and what a model cannot embed."""

from pathlib import Path
from uuid import UUID

import numpy as np
import pytest

from cluster.contracts.search import QueryVector, Retriever, Scope
from cluster.models.text import load_text_model
from cluster.models.vision import load_vision_model
from cluster.reembed.run import identified
from cluster.reembed.worker import Reembedder, Work
from cluster.search.active_models import ModelName
from cluster.settings import load_settings
from cluster.store.index.embeddings import EVERY_ID, SceneVectors
from cluster.store.index.model_registry import Models, SearchModels
from cluster.store.postgres.connections import Pool
from cluster.store.search.postgres_index import PostgresSearchIndex
from tests.support.made_models import set_prompts, text_model_of, vision_model_of
from tests.support.stored_scenes import store_clips
from tests.support.stored_vectors import stored_vectors

OWNER = UUID(int=1)
QUERY = "a red circle in front of the sea"


@pytest.fixture
def models(pool: Pool, tmp_path: Path) -> Models:
    """Of pictures with 1,152 numbers and of texts with 768 and prompts, begun beside the bundled ones'."""
    text = text_model_of(tmp_path / "text", 768)
    set_prompts(text, {"query": "query: ", "passage": "passage: "})
    names = {Retriever.PICTURE: vision_model_of(tmp_path / "vision", 1152), Retriever.MEANING: text}
    settings = load_settings(data_dir=tmp_path / "data")
    store_clips(pool, OWNER, tmp_path / "scenes", most=1)
    models = {by: identified(settings, by, ModelName(str(name))) for by, name in names.items()}
    for by, model in models.items():
        SearchModels(pool).begin(by, model)
    return models


def test_scenes_are_embedded_at_other_lengths_and_found(
    pool: Pool, database_url: str, models: Models, tmp_path: Path
) -> None:
    assert {by: model.dimensions for by, model in models.items()} == {Retriever.PICTURE: 1152, Retriever.MEANING: 768}
    work = Work(database_url, str(tmp_path / "scenes"), models, "cpu", 1)
    lacking = list(SceneVectors(pool, work.keys).lacking(EVERY_ID, 100))
    assert Reembedder(work).embed(lacking) == []
    assert SearchModels(pool).switch(work.keys) == 0
    vision = load_vision_model(models[Retriever.PICTURE].name, None, "cpu", 1)
    text = load_text_model(models[Retriever.MEANING].name, "cpu", 1)
    said = next(scene for scene in lacking if scene.text)
    passage = load_text_model(models[Retriever.MEANING].name, "cpu", 1, text.plain_key).encode(
        [f"passage: {said.text}"]
    )[0]
    np.testing.assert_allclose(stored_vectors(pool, Retriever.MEANING, text.key)[said.scene_id], passage, atol=1e-5)
    index = PostgresSearchIndex(pool)
    for by, asked in (
        (Retriever.PICTURE, vision.encode_texts([QUERY])[0]),
        (Retriever.MEANING, text.encode_queries([QUERY])[0]),
    ):
        vectors = stored_vectors(pool, by, models[by].key)
        best = max(float(vector @ asked) for vector in vectors.values())
        hits = index.nearest(by, QueryVector(models[by].key, asked), Scope(OWNER), 3)
        assert hits[0].score == pytest.approx(best, abs=1e-5)


def test_what_a_model_makes_no_vector_of_is_named(
    pool: Pool, database_url: str, models: Models, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    work = Work(database_url, str(tmp_path / "scenes"), models, "cpu", 1)
    reembedder = Reembedder(work)
    flawed = iter([np.nan, 0.0])
    assert reembedder._text is not None
    encode = reembedder._text.encode
    monkeypatch.setattr(reembedder._text, "encode", lambda texts: encode(texts) * next(flawed))
    lacking = list(SceneVectors(pool, {Retriever.MEANING: work.keys[Retriever.MEANING]}).lacking(EVERY_ID, 100))
    for sentence in ("numbers that are not finite", "a vector of zeros"):
        failures = reembedder.embed(lacking[:1])
        assert [failure.scene_id for failure in failures] == [lacking[0].scene_id]
        assert sentence in failures[0].reason
    assert stored_vectors(pool, Retriever.MEANING, work.keys[Retriever.MEANING]) == {}
