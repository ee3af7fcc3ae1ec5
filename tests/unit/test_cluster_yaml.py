"""cluster.yaml: valid for Ray's launcher, safe by default, and about settings and files that exist."""

import re
import subprocess
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from ray.autoscaler._private.util import prepare_config, validate_config

from cluster.settings import PREFIX, Settings

ROOT = Path(__file__).parents[2]
LAUNCHER_FILE = ROOT / "cluster.yaml"


@pytest.fixture
def config() -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load(LAUNCHER_FILE.read_text())
    return loaded


@pytest.fixture
def prepared(config: dict[str, Any]) -> dict[str, Any]:
    """The file as `ray up` completes it before it asks the provider for machines."""
    filled: dict[str, Any] = prepare_config(config)
    return filled


def test_rays_own_launcher_accepts_the_file(prepared: dict[str, Any]) -> None:
    validate_config(prepared)


def test_rays_schema_would_notice_a_misspelt_key(config: dict[str, Any]) -> None:
    config["idle_timeout_minute"] = config.pop("idle_timeout_minutes")
    with pytest.raises(jsonschema.ValidationError, match="idle_timeout_minute"):
        validate_config(prepare_config(config))


def test_head_runs_no_workers_and_models_get_one_gpu(
    config: dict[str, Any],
) -> None:
    kinds = config["available_node_types"]
    assert config["head_node_type"] == "head"
    assert kinds["head"]["resources"] == {"CPU": 0}
    assert kinds["media"]["resources"]["CPU"] > 0
    assert "GPU" not in kinds["media"]["resources"]
    assert kinds["gpu"]["resources"]["GPU"] >= 1


def test_worker_kinds_have_a_machine_from_the_start_and_grow(
    prepared: dict[str, Any],
) -> None:
    kinds = prepared["available_node_types"]
    assert kinds["head"]["max_workers"] == 0
    for name in ("media", "gpu"):
        assert 1 <= kinds[name]["min_workers"] <= kinds[name]["max_workers"]
    assert sum(kind["max_workers"] for kind in kinds.values()) <= prepared["max_workers"]
    assert prepared["idle_timeout_minutes"] > 0


def test_node_starts_ray_with_token_authentication(config: dict[str, Any]) -> None:
    commands = config["head_start_ray_commands"] + config["worker_start_ray_commands"]
    starts = [command for command in commands if "ray start" in command]
    assert len(starts) == 2
    assert all("RAY_AUTH_MODE=token ray start" in start for start in starts)
    assert config["file_mounts"]["~/.ray/auth_token"] == "~/.ray/auth_token"


def test_job_server_listens_on_loopback_only(config: dict[str, Any]) -> None:
    (head,) = [command for command in config["head_start_ray_commands"] if "ray start" in command]
    assert "--dashboard-host=127.0.0.1" in head
    assert "0.0.0.0" not in LAUNCHER_FILE.read_text()


def test_no_secret_is_written_into_the_file(config: dict[str, Any]) -> None:
    values = yaml.safe_dump(config)  # without comments
    assert "HEIMDEX_JWT_SECRET" not in values
    assert "HEIMDEX_DATABASE_URL" not in values


def test_every_setting_that_the_file_names_exists() -> None:
    named = set(re.findall(rf"{PREFIX}[A-Z_]+", LAUNCHER_FILE.read_text()))
    assert named
    assert named <= {PREFIX + field.upper() for field in Settings.model_fields}


def test_what_the_setup_installs_is_what_gets_copied(config: dict[str, Any]) -> None:
    commands = " ".join(config["setup_commands"])
    installed = re.findall(r"~/heimdex-install/\S+", commands)
    mounts = config["file_mounts"]
    assert sorted(installed) == ["~/heimdex-install/dist/*.whl", "~/heimdex-install/requirements.lock"]
    assert mounts["~/heimdex-install/dist"] == "./dist"
    assert (ROOT / mounts["~/heimdex-install/requirements.lock"]).exists()
    assert "--require-hashes" in commands


def test_pinned_requirements_hold_the_autoscalers_imports() -> None:
    pinned = (ROOT / "requirements.lock").read_text()
    for package in ("boto3", "ray"):
        assert re.search(rf"^{package}(\[.*\])?==", pinned, re.MULTILINE)


def test_node_shell_gets_the_settings_once_after_many_setups(config: dict[str, Any], tmp_path: Path) -> None:
    settings_file = tmp_path / ".heimdex" / "cluster.env"
    settings_file.parent.mkdir()
    settings_file.write_text("HEIMDEX_SCENES_URL=s3://bucket/scenes\n")
    bashrc = tmp_path / ".bashrc"
    bashrc.touch()
    (write_bashrc,) = [command for command in config["setup_commands"] if ".bashrc" in command]
    for _ in range(2):
        _shell(tmp_path, write_bashrc)
    assert len(bashrc.read_text().splitlines()) == 4
    seen = _shell(tmp_path, "source ~/.bashrc; env").splitlines()
    assert "RAY_AUTH_MODE=token" in seen
    assert "RAY_USE_TLS=1" in seen
    assert f"RAY_TLS_SERVER_KEY={tmp_path}/.heimdex/tls/node.key" in seen
    assert "HEIMDEX_RAY_ADDRESS=auto" in seen
    assert "HEIMDEX_SCENES_URL=s3://bucket/scenes" in seen
    assert f"PATH={tmp_path}/heimdex/bin:/usr/bin:/bin" in seen


@pytest.mark.parametrize("section", ["setup_commands", "head_start_ray_commands", "worker_start_ray_commands"])
def test_every_command_is_valid_shell(config: dict[str, Any], section: str) -> None:
    for command in config[section]:
        subprocess.run(["bash", "-n", "-c", command], check=True)


def _shell(home: Path, command: str) -> str:
    environment = {"HOME": str(home), "PATH": "/usr/bin:/bin"}
    done = subprocess.run(["bash", "-c", command], env=environment, check=True, capture_output=True, text=True)
    return done.stdout
