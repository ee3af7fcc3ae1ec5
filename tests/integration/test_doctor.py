"""``heimdex doctor`` on a real database, whose scenes were embedded by one model or another."""

from pathlib import Path

import pytest

from cluster.cli.doctor import _storage_root, examine
from cluster.cli.finding import Finding
from cluster.contracts.search import Retriever
from cluster.models.text import load_text_model
from cluster.settings import Settings, load_settings
from cluster.store.index.model_registry import IndexedModel, SearchModels
from cluster.store.postgres.connections import Pool
from cluster.store.postgres.migrations import apply_migrations
from tests.support.existing_database import ANNA
from tests.support.storage_service import KEY, storage_service
from tests.support.stored_scenes import other_text_model


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
    models.adopt(Retriever.MEANING, IndexedModel(bundled, "bundled", None, 384))
    other = str(other_text_model(tmp_path / "other"))
    key = load_text_model(other, "cpu").key
    assert key != bundled
    models.begin(Retriever.MEANING, IndexedModel(key, other, None, 384))
    assert found(settings)["text model"].seen == bundled
    models.switch({Retriever.MEANING: key})
    findings = found(settings)
    assert findings["text model"].seen == key
    assert not any(part.startswith("vectors by") for part in findings)


def test_doctor_finds_settings_of_a_model_without_vectors(settings: Settings, pool: Pool) -> None:
    SearchModels(pool).adopt(Retriever.PICTURE, IndexedModel("ViT-B-32/openai@1", "ViT-B-32", "openai", 512))
    findings = found(settings)
    wrong = findings["vectors by picture"]
    assert not wrong.ok
    assert "all are ViT-B-32/openai@1's, the settings name bundled" in wrong.seen
    assert "set HEIMDEX_CLIP_MODEL and HEIMDEX_CLIP_PRETRAINED to ViT-B-32" in wrong.fix


def test_doctor_looks_at_the_models_without_a_database_too(settings: Settings) -> None:
    nowhere = settings.model_copy(update={"database_url": "postgresql://nobody@127.0.0.1:1/none"})
    findings = found(nowhere)
    assert not findings["database"].ok
    assert findings["text model"].seen == load_text_model("bundled", "cpu").key
    assert findings["vision model"].ok


@pytest.mark.parametrize(("stored", "ok", "seen"), [
    ("clip-4.mp4", True, "clip-4.mp4 can be read"),
    ("clip-96.mp4", False, "none of 3 stored files can be read; no such file: "),
])  # fmt: skip
def test_doctor_reads_a_stored_file(existing_url: str, tmp_path: Path, stored: str, ok: bool, seen: str) -> None:
    apply_migrations(existing_url)
    file = tmp_path / "videos" / str(ANNA) / stored
    file.parent.mkdir(parents=True)
    file.write_bytes(b"a video")
    finding = storage_root(existing_url, tmp_path, str(tmp_path / "videos"))
    assert (finding.ok, seen in finding.seen) == (ok, True), finding


def test_doctor_finds_a_storage_key_that_is_refused(existing_url: str, tmp_path: Path) -> None:
    apply_migrations(existing_url)
    file = tmp_path / "videos" / str(ANNA) / "clip-4.mp4"
    file.parent.mkdir(parents=True)
    file.write_bytes(b"a video")
    with storage_service(tmp_path / "videos", {}) as service:
        assert storage_root(existing_url, tmp_path, service.root, KEY).ok
        refused = storage_root(existing_url, tmp_path, service.root, "another key")
    assert (refused.ok, "the storage refuses HEIMDEX_STORAGE_KEY" in refused.seen) == (False, True), refused


@pytest.mark.parametrize("there", [True, False])
def test_doctor_checks_a_storage_root_without_known_files(database_url: str, tmp_path: Path, there: bool) -> None:
    root = tmp_path / "videos"
    if there:
        root.mkdir()
    finding = storage_root(database_url, tmp_path, str(root))
    assert (finding.ok, "no such directory" in finding.seen) == (there, not there)


def test_doctor_says_nothing_of_a_storage_root_that_is_not_set(settings: Settings) -> None:
    assert "storage root" not in found(settings)


def storage_root(url: str, folder: Path, root: str, key: str | None = None) -> Finding:
    settings = load_settings(database_url=url, data_dir=folder / "data", storage_root=root, storage_key=key)
    (finding,) = _storage_root(settings)
    return finding
