"""``heimdex doctor`` on a real database, whose scenes were embedded by one model or another."""

from pathlib import Path

import pytest

from cluster.contracts.search import By
from cluster.doctor import Finding, examine
from cluster.models.text import load_text_model
from cluster.settings import Settings, load_settings
from cluster.store.database import Pool
from cluster.store.search_models import IndexedModel, SearchModels
from tests.cluster.stored_scenes import other_text_model


@pytest.fixture
def settings(database_url: str, tmp_path: Path) -> Settings:
    return load_settings(
        database_url=database_url, data_dir=tmp_path, clip_model="bundled", text_model="bundled", key_frame_px=224
    )


def found(settings: Settings) -> dict[str, Finding]:
    return {finding.part: finding for finding in examine(settings)}


def test_doctor_looks_at_the_model_whose_vectors_are_searched(settings: Settings, pool: Pool, tmp_path: Path) -> None:
    models = SearchModels(pool)
    bundled = load_text_model("bundled", "cpu").key
    models.adopt(By.MEANING, IndexedModel(bundled, "bundled", None, 384))
    other = str(other_text_model(tmp_path / "other"))
    key = load_text_model(other, "cpu").key
    assert key != bundled
    models.begin(By.MEANING, IndexedModel(key, other, None, 384))
    assert found(settings)["text model"].seen == bundled
    models.switch({By.MEANING: key})
    findings = found(settings)
    assert findings["text model"].seen == key
    assert not any(part.startswith("vectors by") for part in findings)


def test_doctor_finds_settings_that_name_a_model_of_which_there_is_no_vector(settings: Settings, pool: Pool) -> None:
    SearchModels(pool).adopt(By.PICTURE, IndexedModel("ViT-B-32/openai@1", "ViT-B-32", "openai", 512))
    findings = found(settings)
    wrong = findings["vectors by picture"]
    assert not wrong.ok
    assert "all are ViT-B-32/openai@1's, the settings name bundled" in wrong.seen
    assert "set HEIMDEX_CLIP_MODEL and HEIMDEX_CLIP_PRETRAINED to ViT-B-32" in wrong.mend


def test_doctor_looks_at_the_models_without_a_database_too(settings: Settings) -> None:
    nowhere = settings.model_copy(update={"database_url": "postgresql://nobody@127.0.0.1:1/none"})
    findings = found(nowhere)
    assert not findings["database"].ok
    assert findings["text model"].seen == load_text_model("bundled", "cpu").key
    assert findings["vision model"].ok
