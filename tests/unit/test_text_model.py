"""The text model: what means the same is near, and what cannot be loaded says why."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from cluster.contracts.errors import ConfigurationError
from cluster.contracts.results import MEANING_DIM
from cluster.models.text import TextModel, load_text_model, model_directory


@pytest.fixture(scope="module")
def model() -> TextModel:
    return load_text_model("bundled", "cpu", threads=1)


def test_paraphrases_are_nearer_than_what_shares_words(model: TextModel) -> None:
    asked, paraphrase, other = model.encode(
        ["A boat sails across the ocean", "The vessel crosses the sea", "A boat load of money across the bank"]
    )
    assert asked @ paraphrase > asked @ other


def test_embeddings_are_of_length_one_whatever_stands_beside_them(model: TextModel) -> None:
    texts = ["short", "a much longer sentence that has to be padded against " * 8, "", "💥\x00"]
    together = model.encode(texts)
    assert (together.shape, together.dtype) == ((4, MEANING_DIM), np.float32)
    np.testing.assert_allclose(np.linalg.norm(together, axis=1), 1.0, atol=1e-5)
    for text, row in zip(texts, together, strict=True):
        assert float(model.encode([text])[0] @ row) == pytest.approx(1.0, abs=1e-4)
    assert model.encode([]).shape == (0, MEANING_DIM)


def test_a_directory_is_the_same_model_by_another_name(model: TextModel, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(model_directory("bundled"), copy)
    named = load_text_model(str(copy), "cpu")
    assert named.key == f"{copy}@{model.key.rpartition('@')[2]}"
    np.testing.assert_array_equal(named.encode(["hello"]), model.encode(["hello"]))


def test_what_cannot_be_loaded_says_how_to_mend_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigurationError, match=r"HEIMDEX_TEXT_MODEL=\./nowhere: no such directory"):
        load_text_model("./nowhere", "cpu")
    with pytest.raises(ConfigurationError, match=r"not a sentence-transformers model \(no modules.json\)"):
        load_text_model(str(tmp_path), "cpu")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(
        ConfigurationError, match="text model all-MiniLM-L12-v2: the model hub could not be reached; set"
    ):
        load_text_model("all-MiniLM-L12-v2", "cpu")
    broken = tmp_path / "broken"
    shutil.copytree(model_directory("bundled"), broken)
    (broken / "model.safetensors").write_bytes(b"x" * 100)
    with pytest.raises(ConfigurationError, match=r"cannot be loaded: .*; set HEIMDEX_TEXT_MODEL to a directory"):
        load_text_model(str(broken), "cpu")


def test_a_model_of_another_width_is_refused(tmp_path: Path) -> None:
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import Dense

    whole = SentenceTransformer(str(model_directory("bundled")), device="cpu", local_files_only=True)
    whole.append(Dense(MEANING_DIM, 100))
    whole.save(str(tmp_path))
    assert len(json.loads((tmp_path / "modules.json").read_text())) > 3
    with pytest.raises(ConfigurationError, match="gives 100 numbers per sentence, the database holds 384"):
        load_text_model(str(tmp_path), "cpu")
