"""The vision model's promises: one loading code, honest embeddings, errors that say how to fix them."""

import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cluster.contracts.errors import ConfigurationError
from cluster.demo import clips, truth
from cluster.models import vision
from cluster.models.bundled import bundled_vision_directory, labels_file
from cluster.models.labels import CLIP_SCALE, SigmoidScale, parse_labels
from cluster.models.vision import VisionModel, load_vision_model
from cluster.settings import GPU_CLIP_MODEL, load_settings
from tests.demo_maker.evaluate_vision_model import (
    after_h264,
    demo_retrieval,
    fresh_scenes,
    label_accuracy,
    middle_frames,
)
from tests.demo_maker.vocabulary import Scene, label_groups
from tests.support.made_models import siglip_model_of, vision_model_of


@pytest.fixture(scope="module")
def model() -> VisionModel:
    return load_vision_model("bundled", None, "cpu", threads=1)


def test_demo_visual_query_finds_its_scene_first(model: VisionModel) -> None:
    figures = demo_retrieval(model)
    assert figures.queries >= 24
    assert figures.top_1 >= 0.95, figures.missed


def test_labels_name_what_a_fresh_scene_shows_even_after_h264(model: VisionModel) -> None:
    scenes = fresh_scenes(60, seed=91)
    accuracy = label_accuracy(model, [after_h264(scene) for scene in scenes], scenes)
    assert accuracy["shape"] >= 0.92
    assert accuracy["colour"] >= 0.95
    assert accuracy["place"] >= 0.95


def test_labels_name_what_the_demos_scenes_show(model: VisionModel) -> None:
    pictures = [picture for clip in clips() for picture in middle_frames(clip)]
    shown = [Scene(scene.shape, scene.colour, scene.place, 0) for clip in clips() for scene in truth(clip).scenes]
    assert len(shown) == len(pictures) > 30
    accuracy = label_accuracy(model, pictures, shown)
    assert min(accuracy.values()) >= 0.98, accuracy


def test_label_file_holds_the_labels_of_the_training() -> None:
    assert parse_labels(labels_file().read_text()) == label_groups()


def test_embedding_has_512_numbers_for_pictures_of_any_size(model: VisionModel) -> None:
    rng = np.random.default_rng(3)
    sizes = [(360, 640), (96, 96), (1080, 1920), (17, 9), (640, 360)]
    pictures = [rng.integers(0, 256, (*size, 3), dtype=np.uint8) for size in sizes]
    for rows in (
        model.encode_images(pictures),
        model.encode_texts(["a red star over the sea", "", "unheard-of words"]),
    ):
        assert rows.dtype == np.float32
        assert rows.shape[1] == model.dimensions == 512
        np.testing.assert_allclose(np.linalg.norm(rows, axis=1), 1.0, atol=1e-5)


def test_picture_has_the_same_embedding_alone_or_in_a_batch(model: VisionModel) -> None:
    pictures = middle_frames(clips()[0])
    together = model.encode_images([*pictures * 20, pictures[0]])
    np.testing.assert_array_equal(model.encode_images([pictures[0]]), model.encode_images([pictures[0]]))
    np.testing.assert_allclose(together[-1], model.encode_images([pictures[0]])[0], atol=1e-5)
    assert len(together) == 20 * len(truth(clips()[0]).scenes) + 1


def test_nothing_in_gives_nothing_out(model: VisionModel) -> None:
    assert model.encode_images([]).shape == (0, 512)
    assert model.encode_texts([]).shape == (0, 512)


def test_bundled_and_its_directory_are_the_same_model(model: VisionModel) -> None:
    by_directory = load_vision_model(str(bundled_vision_directory()), None, "cpu")
    assert (model.name, by_directory.name) == ("bundled", bundled_vision_directory().name)
    assert by_directory.version == model.version
    assert by_directory.image_size_px == model.image_size_px
    np.testing.assert_array_equal(by_directory.encode_texts(["a ring"]), model.encode_texts(["a ring"]))


def test_the_bundled_model_stays_within_ten_megabytes() -> None:
    assert sum(path.stat().st_size for path in bundled_vision_directory().iterdir()) <= 10_000_000


def test_an_unknown_name_is_refused_with_what_it_could_be() -> None:
    with pytest.raises(ConfigurationError, match="neither a directory, nor bundled, nor an architecture"):
        load_vision_model("ViT-Nonesuch", "x", "cpu")


def test_an_unknown_tag_is_refused_with_the_tags_there_are() -> None:
    with pytest.raises(ConfigurationError, match=r"HEIMDEX_CLIP_PRETRAINED=nonesuch.*laion2b_s34b_b79k"):
        load_vision_model("ViT-B-32", "nonesuch", "cpu")


def test_a_hub_out_of_reach_is_said_at_once_with_the_way_out(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:9")
    began = time.monotonic()
    with pytest.raises(ConfigurationError, match=r"hub could not be reached.*HEIMDEX_CLIP_MODEL.*bundled"):
        load_vision_model("ViT-B-32", "laion2b_s34b_b79k", "cpu")
    assert time.monotonic() - began < 30
    assert "Retrying" not in "".join(capfd.readouterr())


def test_a_directory_that_is_no_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="not an open_clip model"):
        load_vision_model(str(tmp_path), None, "cpu")


@pytest.mark.parametrize("weights", ["open_clip_model.safetensors", "open_clip_pytorch_model.bin"])
def test_damaged_weights_are_refused_by_name(tmp_path: Path, weights: str) -> None:
    config = (bundled_vision_directory() / "open_clip_config.json").read_bytes()
    (tmp_path / "open_clip_config.json").write_bytes(config)
    (tmp_path / weights).write_bytes(b"\x08\0\0\0\0\0\0\0nonsense")
    with pytest.raises(ConfigurationError, match="cannot be loaded"):
        load_vision_model(str(tmp_path), None, "cpu")


@pytest.mark.parametrize("length", [256, 768, 1152])
def test_a_model_of_another_width_loads_with_its_own(tmp_path: Path, length: int) -> None:
    loaded = load_vision_model(str(vision_model_of(tmp_path / "model", length)), None, "cpu")
    assert loaded.dimensions == length
    picture = np.zeros((96, 96, 3), np.uint8)
    for rows in (loaded.encode_images([picture]), loaded.encode_texts(["a red star"])):
        assert rows.shape == (1, length)
    assert loaded.encode_images([]).shape == loaded.encode_texts([]).shape == (0, length)
    assert loaded.label_scale is CLIP_SCALE


@pytest.fixture(scope="module")
def siglip_directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """SigLIP 2 B/16-256 with random weights, as open_clip knows the architecture; its text tower has one layer."""
    return siglip_model_of(tmp_path_factory.mktemp("models") / "siglip2", GPU_CLIP_MODEL, layers=1)


def test_siglip_2_loads_from_a_directory_with_its_tokenizer(siglip_directory: Path) -> None:
    siglip = load_vision_model(str(siglip_directory), None, "cpu")
    assert (siglip.dimensions, siglip.image_size_px) == (768, 256)
    wide = np.random.default_rng(3).integers(0, 256, (288, 512, 3), dtype=np.uint8)
    pictures = siglip.encode_images([wide, np.zeros((64, 64, 3), np.uint8)])
    texts = siglip.encode_texts(["a red star", "a blue square"])
    assert pictures.shape == texts.shape == (2, 768)
    for rows in (pictures, texts):
        np.testing.assert_allclose(np.linalg.norm(rows, axis=1), 1.0, atol=1e-5)
    # Pictures are squashed and brought to [-1, 1], as its weights want them, and not cut.
    (prepared,) = siglip._prepared([np.full((288, 512, 3), (255, 0, 0), np.uint8)])
    assert prepared.shape == (3, 256, 256)
    np.testing.assert_allclose(prepared.mean(dim=(1, 2)).numpy(), [1.0, -1.0, -1.0], atol=1e-5)
    # Each label is judged alone, by the scale and the bias of the model.
    model = siglip._model
    cosines = pictures @ texts.T
    expected = 1 / (1 + np.exp(-(model.logit_scale.exp().item() * cosines + model.logit_bias.item())))
    np.testing.assert_allclose(siglip.label_scale.shares(cosines), expected, rtol=1e-4)
    assert isinstance(siglip.label_scale, SigmoidScale)


def test_siglip_without_its_tokenizer_says_which_files_it_lacks(siglip_directory: Path, tmp_path: Path) -> None:
    for file in siglip_directory.iterdir():
        if not file.name.startswith("tokenizer"):
            (tmp_path / file.name).symlink_to(file)
    with pytest.raises(
        ConfigurationError, match=r"no tokenizer.json and no tokenizer_config.json.*timm/ViT-B-16-SigLIP2-256"
    ):
        load_vision_model(str(tmp_path), None, "cpu")


def test_a_damaged_tokenizer_is_refused_by_name(siglip_directory: Path, tmp_path: Path) -> None:
    for file in siglip_directory.iterdir():
        (tmp_path / file.name).symlink_to(file)
    (tmp_path / "tokenizer.json").unlink()
    (tmp_path / "tokenizer.json").write_text("{")
    with pytest.raises(ConfigurationError, match=r"the tokenizer of vision model .* cannot be loaded"):
        load_vision_model(str(tmp_path), None, "cpu")


@pytest.mark.parametrize("asked_for", ["weights", "tokenizer"])
def test_the_gpu_default_out_of_the_hubs_reach_says_the_way_out(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, siglip_directory: Path, asked_for: str
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:9")
    name, pretrained = load_settings().clip_on("cuda")
    weights = {"weights": pretrained, "tokenizer": str(siglip_directory / "open_clip_model.safetensors")}[asked_for]
    began = time.monotonic()
    with pytest.raises(ConfigurationError, match=r"hub.* could not be reached.*HEIMDEX_CLIP_MODEL to a dir.*bundled"):
        load_vision_model(name, weights, "cpu")
    assert time.monotonic() - began < 30


def test_a_weights_file_of_siglip_is_given_squashed_pictures(siglip_directory: Path) -> None:
    created = vision._architecture_source(GPU_CLIP_MODEL, str(siglip_directory / "open_clip_model.safetensors"))
    preprocess = created.overrides["force_preprocess_cfg"]
    assert (preprocess["mean"], preprocess["resize_mode"]) == ((0.5, 0.5, 0.5), "squash")


def test_pictures_prepared_together_equal_those_prepared_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    model = load_vision_model("bundled", None, "cpu")
    rng = np.random.default_rng(3)
    sizes = [(288, 512), (512, 288), (90, 700), (30, 40), (288, 2000), (288, 512), (299, 301)]
    small = [rng.integers(0, 256, (9, 16, 3), dtype=np.uint8) for _ in sizes]
    pictures = [
        np.asarray(Image.fromarray(one).resize((width, height), Image.Resampling.BICUBIC))
        for one, (height, width) in zip(small, sizes, strict=True)
    ]
    one_by_one = model.encode_images(pictures)
    loader = vision._DeviceLoader(model._preprocess, model.image_size_px, "cpu")
    monkeypatch.setattr(model, "_loader", loader)
    together = model.encode_images(pictures)
    assert (one_by_one * together).sum(axis=1).min() >= 0.999
