"""The text model: what means the same is near, and what cannot be loaded says why."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from safetensors.torch import load_file, save_file

from cluster.contracts.errors import ConfigurationError
from cluster.models.text import E5_PROMPTS, Prompts, TextModel, load_text_model, prompts_of
from cluster.models.text_files import model_directory
from tests.support.made_models import set_prompts, text_model_of
from tests.support.vector_lengths import MEANING_DIM


@pytest.fixture(scope="module")
def model() -> TextModel:
    return load_text_model("bundled", "cpu", threads=1)


def test_paraphrases_are_nearer_than_what_shares_words(model: TextModel) -> None:
    asked, paraphrase, other = model.encode(
        ["A boat sails across the ocean", "The vessel crosses the sea", "A boat load of money across the bank"]
    )
    assert asked @ paraphrase > asked @ other


def test_embedding_has_length_one_whatever_its_neighbours(model: TextModel) -> None:
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


@pytest.mark.parametrize("length", [100, 768, 1024])
def test_a_model_of_another_width_loads_with_its_own(tmp_path: Path, length: int) -> None:
    model = load_text_model(str(text_model_of(tmp_path / "model", length)), "cpu")
    assert model.dimensions == length
    for rows in (model.encode(["hello"]), model.encode_queries(["hello"])):
        assert rows.shape == (1, length)
        assert np.linalg.norm(rows[0]) == pytest.approx(1.0, abs=1e-5)
    assert model.encode([]).shape == (0, length)


def test_key_of_a_model_tells_the_weights_of_every_module(tmp_path: Path) -> None:
    directory = text_model_of(tmp_path / "model", 768)
    (dense,) = directory.glob("*_Dense/*.safetensors")
    first = load_text_model(str(directory), "cpu")
    save_file({name: -weights for name, weights in load_file(dense).items()}, dense)
    second = load_text_model(str(directory), "cpu")
    assert float(first.encode(["hello"])[0] @ second.encode(["hello"])[0]) < 0.9
    assert first.key != second.key


def test_a_model_with_prompts_puts_them_before_texts_and_queries(tmp_path: Path) -> None:
    directory = text_model_of(tmp_path / "model", 768)
    plain = load_text_model(str(directory), "cpu")
    set_prompts(directory, {"query": "query: ", "passage": "passage: "})
    prompted = load_text_model(str(directory), "cpu")
    np.testing.assert_allclose(prompted.encode(["a boat"]), plain.encode(["passage: a boat"]), atol=1e-6)
    np.testing.assert_allclose(prompted.encode_queries(["a boat"]), plain.encode(["query: a boat"]), atol=1e-6)
    np.testing.assert_array_equal(plain.encode_queries(["a boat"]), plain.encode(["a boat"]))
    # What was embedded without prompts is compared with nothing that was embedded with them, nor with other prompts.
    set_prompts(directory, {"query": "find: "})
    asked_only = load_text_model(str(directory), "cpu")
    np.testing.assert_array_equal(asked_only.encode(["a boat"]), plain.encode(["a boat"]))
    assert len({plain.key, prompted.key, asked_only.key}) == 3


def test_vectors_from_before_prompts_stay_comparable(tmp_path: Path) -> None:
    directory = text_model_of(tmp_path / "model", 768)
    plain = load_text_model(str(directory), "cpu")
    set_prompts(directory, {"query": "query: ", "passage": "passage: "})
    kept = load_text_model(str(directory), "cpu", key=plain.key)
    assert kept.key == plain.key
    np.testing.assert_array_equal(kept.encode_queries(["a boat"]), plain.encode(["a boat"]))
    changed = load_text_model(str(directory), "cpu")
    assert load_text_model(str(directory), "cpu", key=changed.key).key == changed.key != plain.key


@pytest.mark.parametrize(
    ("name", "prompts"),
    [
        ("intfloat/multilingual-e5-base", E5_PROMPTS),
        ("intfloat/e5-large-v2", E5_PROMPTS),
        ("e5-small", E5_PROMPTS),
        ("intfloat/multilingual-e5-large-instruct", None),
        ("BAAI/bge-base-en-v1.5", None),
        ("all-MiniLM-L6-v2", None),
        ("somebody/fake5-small", None),
    ],
)
def test_e5_gets_its_prompts_although_its_configuration_has_none(name: str, prompts: Prompts | None) -> None:
    assert prompts_of({"query": "", "document": ""}, name) == prompts
    assert prompts_of({"query": "Find: "}, name) == Prompts("Find: ", "")
