"""Label files: groups parted by empty lines, and errors that name the setting."""

from pathlib import Path

import numpy as np
import pytest

from cluster.contracts.errors import ConfigurationError
from cluster.models.labels import CLIP_SCALE, SigmoidScale, load_labels, parse_labels


@pytest.mark.parametrize(
    ("text", "groups"),
    [
        ("", []),
        ("\n\n# nothing\n\n", []),
        ("a cat\n", [("a cat",)]),
        ("a cat\na dog\n\na car", [("a cat", "a dog"), ("a car",)]),
        ("\n\n a cat \r\n\r\n\r\n\ta dog\r\n", [("a cat",), ("a dog",)]),
        ("a cat\n# a comment parts no group\na dog\n", [("a cat", "a dog")]),
        ("  # indented\na cat # not a comment\n", [("a cat # not a comment",)]),
    ],
)
def test_empty_lines_part_groups_and_comments_are_left_out(text: str, groups: list[tuple[str, ...]]) -> None:
    assert parse_labels(text) == groups


def test_a_file_replaces_the_default_list(tmp_path: Path) -> None:
    path = tmp_path / "labels.txt"
    path.write_text("\ufeff# mine\nrouge\nété\n", encoding="utf-8")
    assert load_labels(path, "bundled") == load_labels(path, "ViT-B-32") == [("rouge", "été")]


@pytest.mark.parametrize("model", ["bundled", "ViT-B-32", "/models/mine"])
def test_model_has_default_label_groups_without_doubles(model: str) -> None:
    groups = load_labels(None, model)
    assert len(groups) > 1
    for group in groups:
        assert len(group) == len(set(group)) >= 2


def test_the_bundled_model_has_a_list_of_its_own() -> None:
    assert load_labels(None, "bundled") != load_labels(None, "ViT-B-32")


@pytest.mark.parametrize("content", [b"", b"# only a comment\n", b"\xff\xfe\x00", None])
def test_file_without_labels_is_refused_naming_the_setting(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "labels.txt"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ConfigurationError, match=r"HEIMDEX_LABELS_FILE: .*labels\.txt"):
        load_labels(path, "bundled")


# How sure a model must be


def test_a_softmax_shares_one_among_a_groups_labels() -> None:
    cosines = np.array([[0.30, 0.20, 0.10], [0.25, 0.25, 0.25]], np.float32)
    shares = CLIP_SCALE.shares(cosines)
    np.testing.assert_allclose(shares.sum(axis=1), 1.0, rtol=1e-5)
    assert shares[0, 0] > CLIP_SCALE.threshold
    np.testing.assert_allclose(shares[1], 1 / 3, rtol=1e-5)


def test_a_sigmoid_judges_each_label_alone() -> None:
    siglip = SigmoidScale(scale=112.0, bias=-16.5)
    several, none = np.array([[0.16, 0.15, 0.02]], np.float32), np.array([[0.05, 0.04, 0.03]], np.float32)
    shares = siglip.shares(several)
    np.testing.assert_allclose(shares[0], [1 / (1 + np.exp(16.5 - 112.0 * c)) for c in (0.16, 0.15, 0.02)], rtol=1e-3)
    assert (shares >= siglip.threshold).tolist() == [[True, True, False]]
    # A softmax would find a best label here too, although none fits.
    assert CLIP_SCALE.shares(none).max() >= CLIP_SCALE.threshold
    assert siglip.shares(none).max() < siglip.threshold
    assert np.isfinite(siglip.shares(np.array([[1.0, -1.0]], np.float32))).all()
