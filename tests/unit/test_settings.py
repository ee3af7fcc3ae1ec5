"""Settings: read once, checked at start; every error names its variable, and no secret is ever shown."""

import os
import secrets
import subprocess
import sys
import threading
import uuid
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from cluster.contracts.errors import ConfigurationError
from cluster.settings import SECRETS, Settings, as_environment, load_settings

USERS = [uuid.UUID(int=1), uuid.UUID(int=2)]


@pytest.fixture(autouse=True)
def data_dir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An environment without settings but for a data directory of the test's own."""
    for name in os.environ:
        if name.startswith("HEIMDEX_"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("HEIMDEX_DATA_DIR", str(tmp_path / "data"))
    return tmp_path / "data"


def refused(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> str:
    monkeypatch.setenv(name, value)
    with pytest.raises(ConfigurationError) as raised:
        load_settings()
    return str(raised.value)


def test_the_defaults_are_a_cluster_on_this_machine_alone(data_dir: Path) -> None:
    settings = load_settings()
    assert (settings.database_url, settings.ray_address, settings.http_host) == (None, None, "127.0.0.1")
    assert settings.resolved_scenes_url == str(data_dir / "scenes")
    assert settings.cors_origins == ()
    assert "file" not in settings.http_allowed_schemes


@pytest.mark.parametrize(
    ("name", "value", "allowed"),
    [
        ("HEIMDEX_DEVICE", "gpu", "'auto', 'cpu' or 'cuda'"),
        ("HEIMDEX_BEAM_SIZE", "11", "less than or equal to 10"),
        ("HEIMDEX_BEAM_SIZE", "0", "greater than or equal to 1"),
        ("HEIMDEX_BEAM_SIZE", "many", "valid integer"),
        ("HEIMDEX_HTTP_PORT", "70000", "less than or equal to 65535"),
        ("HEIMDEX_KEY_FRAME_PX", "12", "greater than or equal to 64"),
        ("HEIMDEX_TRANSCRIBER_GPUS", "0", "greater than 0"),
        ("HEIMDEX_EMBEDDER_GPUS", "2", "less than or equal to 1"),
        ("HEIMDEX_MEDIA_WORKERS", "0", "greater than or equal to 1"),
        ("HEIMDEX_LEASE_S", "1", "greater than or equal to 2"),
        ("HEIMDEX_MAX_ATTEMPTS", "21", "less than or equal to 20"),
        ("HEIMDEX_MAX_DURATION_S", "nan", "greater than 0"),
        ("HEIMDEX_OWNER_ID", "me", "UUID"),
        ("HEIMDEX_ADMIN_USER_IDS", f"{USERS[0]},me", "UUID"),
        ("HEIMDEX_JWKS_URL", "ftp://keys", "^https?://"),
        ("HEIMDEX_ALLOWED_SCHEMES", "https,S3 !", "pattern"),
    ],
)
def test_settings_error_names_variable_value_and_allowed_ones(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str, allowed: str
) -> None:
    message = refused(monkeypatch, name, value)
    assert message.startswith(f"{name}: ")
    assert allowed in message
    assert value.split(",")[-1] in message
    assert str(Settings.model_fields[name.removeprefix("HEIMDEX_").lower()].description) in message
    assert "\n" not in message


def test_every_error_is_named_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HEIMDEX_DEVICE", "gpu")
    message = refused(monkeypatch, "HEIMDEX_HTTP_PORT", "x")
    assert "HEIMDEX_DEVICE: " in message
    assert "; HEIMDEX_HTTP_PORT: " in message


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("HEIMDEX_JWT_SECRET", "hunter2"),
        ("HEIMDEX_DATABASE_URL", "mysql://me:hunter2@host/db"),
        ("HEIMDEX_OPENSEARCH_URL", "https://me:hunter2@host"),
    ],
)
def test_a_secret_is_never_shown(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    message = refused(monkeypatch, name, value)
    assert message.startswith(f"{name}: ")
    assert "hunter2" not in message


def test_secrets_are_settings() -> None:
    assert set(Settings.model_fields) >= SECRETS


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("HEIMDEX_WISPER_MODEL", "; did you mean HEIMDEX_WHISPER_MODEL?"),
        ("HEIMDEX_DATABASE_URI", "; did you mean HEIMDEX_DATABASE_URL?"),
        ("HEIMDEX_XYZZY_PLUGH_QUUX", ""),
    ],
)
def test_a_misspelt_variable_is_told_which_one_was_meant(monkeypatch: pytest.MonkeyPatch, name: str, hint: str) -> None:
    assert refused(monkeypatch, name, "x") == f"{name} is not a setting{hint}"


def test_what_contradicts_itself_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HEIMDEX_RAY_ADDRESS", "auto")
    assert refused(monkeypatch, "HEIMDEX_CPUS", "4").startswith("HEIMDEX_CPUS: only for a Ray that `up` starts")


def test_an_empty_variable_is_as_unset(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HEIMDEX_DATABASE_URL", "HEIMDEX_CPUS", "HEIMDEX_CORS_ORIGINS", "HEIMDEX_DEVICE"):
        monkeypatch.setenv(name, "")
    settings = load_settings()
    assert (settings.database_url, settings.cpus, settings.cors_origins, settings.device) == (None, None, (), "auto")


def test_lists_are_comma_separated_and_blanks_do_not_count(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HEIMDEX_ADMIN_USER_IDS", f" {USERS[0]} ,{USERS[1]}, ")
    monkeypatch.setenv("HEIMDEX_CORS_ORIGINS", "https://a.example, https://b.example")
    monkeypatch.setenv("HEIMDEX_HTTP_ALLOWED_SCHEMES", "https,s3")
    settings = load_settings()
    assert settings.admin_user_ids == tuple(USERS)
    assert settings.cors_origins == ("https://a.example", "https://b.example")
    assert settings.http_allowed_schemes == ("https", "s3")


def test_places_are_absolute_wherever_the_process_goes(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HEIMDEX_DATA_DIR", "here")
    monkeypatch.setenv("HEIMDEX_SCRATCH_DIR", "~/scratch")
    settings = load_settings()
    assert settings.data_dir == tmp_path / "here"
    assert settings.scratch_dir == Path.home() / "scratch"


def test_settings_do_not_change() -> None:
    with pytest.raises(ValueError, match="frozen"):
        load_settings().device = "cpu"  # type: ignore[misc]


# What follows from several


def test_default_vision_model_alone_has_default_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    assert load_settings().clip_on("cpu") == ("ViT-B-32", "laion2b_s34b_b79k")
    assert load_settings().clip_on("cuda") == ("ViT-B-16-SigLIP2-256", "webli")
    assert not load_settings().clip_is_chosen
    for device in ("cpu", "cuda"):
        assert load_settings(clip_pretrained="openai").clip_on(device) == ("ViT-B-32", "openai")
        assert load_settings(clip_model="bundled").clip_on(device) == ("bundled", None)
    assert load_settings(clip_pretrained="openai").clip_is_chosen
    assert load_settings(device="cuda").clip_on()[0] == "ViT-B-16-SigLIP2-256"


def test_admin_is_the_owner_only_with_the_directorys_secret(data_dir: Path) -> None:
    local = load_settings()
    assert local.resolved_admin_user_ids == {local.resolved_owner_id}
    assert load_settings(jwt_secret="s" * 32).resolved_admin_user_ids == frozenset()
    assert load_settings(jwks_url="https://keys").resolved_admin_user_ids == frozenset()
    assert load_settings(admin_user_ids=",".join(map(str, USERS))).resolved_admin_user_ids == set(USERS)


def test_a_secret_is_made_only_where_none_is_given(data_dir: Path) -> None:
    assert load_settings(jwt_secret="s" * 32).resolved_jwt_secret == "s" * 32
    assert load_settings(jwks_url="https://keys").resolved_jwt_secret is None
    assert not (data_dir / "jwt_secret").exists()
    made = load_settings().resolved_jwt_secret
    assert made is not None
    assert len(made) >= 48
    assert load_settings().resolved_jwt_secret == made


def test_what_is_made_belongs_to_its_owner_alone(data_dir: Path) -> None:
    settings = load_settings()
    assert settings.resolved_jwt_secret
    assert settings.resolved_owner_id == load_settings().resolved_owner_id
    assert {path.name: path.stat().st_mode & 0o777 for path in data_dir.iterdir()} == {
        "jwt_secret": 0o600,
        "owner_id": 0o600,
    }
    assert load_settings(owner_id=USERS[0]).resolved_owner_id == USERS[0]


def test_all_who_ask_at_once_get_the_same_secret(data_dir: Path) -> None:
    ask = "from cluster.settings import load_settings as s; print(s().resolved_jwt_secret, s().resolved_owner_id)"
    processes = [subprocess.Popen([sys.executable, "-c", ask], stdout=subprocess.PIPE, text=True) for _ in range(3)]
    answers = {process.communicate(timeout=120)[0] for process in processes}
    assert [process.returncode for process in processes] == [0, 0, 0]
    assert answers == {f"{load_settings().resolved_jwt_secret} {load_settings().resolved_owner_id}\n"}
    assert sorted(path.name for path in data_dir.iterdir()) == ["jwt_secret", "owner_id"]


def test_threads_that_ask_at_once_get_the_same_secret(data_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    all_have_found_none = threading.Barrier(8)

    def made(length: int) -> str:
        all_have_found_none.wait(timeout=10)
        return secrets.token_hex(length)

    monkeypatch.setattr("cluster.settings.secrets.token_urlsafe", made)
    for _ in range(20):
        with ThreadPoolExecutor(8) as threads:
            answers = set(threads.map(lambda _: load_settings().resolved_jwt_secret, range(8)))
        assert len(answers) == 1
        (data_dir / "jwt_secret").unlink()


def test_a_data_directory_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ConfigurationError, match=r"HEIMDEX_DATA_DIR: .*file/data/owner_id"):
        load_settings(data_dir=tmp_path / "file" / "data").resolved_owner_id  # noqa: B018


MODELS = ("whisper_model", "clip_model", "text_model")


def models(monkeypatch: pytest.MonkeyPatch, **variables: str) -> list[str | None]:
    for name, value in {"HEIMDEX_MODELS": "bundled", **variables}.items():
        monkeypatch.setenv(name, value)
    settings = load_settings()
    return [getattr(settings, name) for name in MODELS]


def test_models_bundled_sets_all_three(monkeypatch: pytest.MonkeyPatch) -> None:
    assert models(monkeypatch) == ["bundled"] * 3


@pytest.mark.parametrize("position", range(3))
def test_models_bundled_leaves_what_is_set(monkeypatch: pytest.MonkeyPatch, position: int) -> None:
    expected: list[str | None] = ["bundled"] * 3
    expected[position] = "mine"
    assert models(monkeypatch, **{f"HEIMDEX_{MODELS[position].upper()}": "mine"}) == expected


def test_models_bundled_weights_alone_keep_their_model(monkeypatch: pytest.MonkeyPatch) -> None:
    assert models(monkeypatch, HEIMDEX_CLIP_PRETRAINED="openai") == ["bundled", None, "bundled"]


def test_models_bundled_travels_to_other_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HEIMDEX_MODELS", "bundled")
    monkeypatch.setenv("HEIMDEX_TEXT_MODEL", "mine")
    environment = as_environment(load_settings())
    assert [environment[f"HEIMDEX_{name.upper()}"] for name in MODELS] == ["bundled", "bundled", "mine"]


def test_models_other_than_bundled_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    assert "'bundled'" in refused(monkeypatch, "HEIMDEX_MODELS", "small")
