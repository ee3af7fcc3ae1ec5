"""Places of the cluster on a machine with other accounts: closed before use, or refused with the chmod to run."""

import os
import stat
from dataclasses import fields, is_dataclass
from pathlib import Path

import pytest

from actors.scheduler.scheduler import SchedulerConfig
from actors.workers.configs import VisionConfig, WriterConfig
from cluster.cli.doctor_host import private_files
from cluster.contracts.database_url import DatabaseUrl, DatabaseUrls, without_password
from cluster.contracts.errors import ConfigurationError
from cluster.contracts.search import EngineAddress
from cluster.files.storage_root import StorageRoot
from cluster.reembed.worker import Work
from cluster.runtime import launch
from cluster.runtime.launch import ClusterState
from cluster.runtime.ray_node import NodeOptions, RayNode, prepare_ray
from cluster.runtime.ray_token import ensure_token
from cluster.security.data_folder import prepare_data_folder
from cluster.security.private_files import check_private_folder, make_once, make_private_folder
from cluster.settings import load_settings
from serve_app.app import ReplicaConfig
from serve_app.auth import AuthRules

NOBODY = 65534
CONFIGS = [
    AuthRules, ClusterState, DatabaseUrl, DatabaseUrls, EngineAddress, NodeOptions, RayNode, ReplicaConfig,
    SchedulerConfig, StorageRoot, VisionConfig, Work, WriterConfig,
]  # fmt: skip
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root may give files to another account")


def mode_of(path: Path) -> int:
    return stat.S_IMODE(path.lstat().st_mode)


def test_private_folder_under_a_lax_umask_is_closed(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        make_private_folder(tmp_path / "a" / "b", "HEIMDEX_SCRATCH_DIR")
    finally:
        os.umask(before)
    assert (mode_of(tmp_path / "a"), mode_of(tmp_path / "a" / "b")) == (0o700, 0o700)


@pytest.mark.parametrize("mode", [0o755, 0o750, 0o710, 0o777, 0o1777])
def test_private_folder_that_is_open_is_refused(tmp_path: Path, mode: int) -> None:
    folder = tmp_path / "scratch"
    folder.mkdir()
    folder.chmod(mode)
    with pytest.raises(ConfigurationError, match=f"HEIMDEX_SCRATCH_DIR: .*mode {mode:04o}.*: chmod 700 {folder}"):
        make_private_folder(folder, "HEIMDEX_SCRATCH_DIR")
    assert mode_of(folder) == mode


def test_private_folder_below_a_replaceable_one_is_refused(tmp_path: Path) -> None:
    (tmp_path / "open").mkdir()
    (tmp_path / "open").chmod(0o777)
    with pytest.raises(ConfigurationError, match=f"chmod go-w {tmp_path / 'open'}"):
        make_private_folder(tmp_path / "open" / "scratch", "HEIMDEX_SCRATCH_DIR")


@as_root
def test_private_folder_of_another_account_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / "scratch"
    folder.mkdir(mode=0o700)
    os.chown(folder, NOBODY, NOBODY)
    with pytest.raises(ConfigurationError, match="belongs to the account"):
        make_private_folder(folder, "HEIMDEX_SCRATCH_DIR")


@as_root
def test_private_folder_behind_a_planted_link_is_refused(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir(mode=0o700)
    (tmp_path / "planted").symlink_to(tmp_path / "mine")
    os.chown(tmp_path / "planted", NOBODY, NOBODY, follow_symlinks=False)
    with pytest.raises(ConfigurationError, match="belongs to the account"):
        check_private_folder(tmp_path / "planted", "HEIMDEX_SCRATCH_DIR")


def test_up_with_a_lax_scratch_folder_starts_nothing(tmp_path: Path) -> None:
    (tmp_path / "scratch").mkdir(mode=0o755)
    (tmp_path / "scratch").chmod(0o755)
    settings = load_settings(data_dir=tmp_path / "data", scratch_dir=tmp_path / "scratch")
    with pytest.raises(ConfigurationError, match=r"HEIMDEX_SCRATCH_DIR: .*chmod 700"):
        launch.up(settings, lambda _: None)
    assert not (tmp_path / "data" / "postgres").exists()


def test_data_folder_of_an_earlier_version_is_closed(tmp_path: Path) -> None:
    data = tmp_path / "data"
    (data / "postgres").mkdir(parents=True)
    (data / "owner_id").touch()
    data.chmod(0o755)
    prepare_data_folder(data)
    assert mode_of(data) == 0o700


def test_data_folder_with_other_things_is_left_and_refused(tmp_path: Path) -> None:
    data = tmp_path / "data"
    data.mkdir()
    (data / "owner_id").touch()
    (data / "holiday.mp4").touch()
    data.chmod(0o755)
    with pytest.raises(ConfigurationError, match=f"HEIMDEX_DATA_DIR: .*chmod 700 {data}"):
        prepare_data_folder(data)
    assert mode_of(data) == 0o755


def test_data_folder_that_is_a_home_keeps_its_mode(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home = tmp_path / "home"
    home.mkdir()
    home.chmod(0o755)
    monkeypatch.setenv("HOME", str(home))
    with pytest.raises(ConfigurationError, match="HEIMDEX_DATA_DIR"):
        prepare_data_folder(home)
    assert mode_of(home) == 0o755


def test_record_that_others_may_read_is_refused(tmp_path: Path) -> None:
    (tmp_path / "cluster.json").write_text("{}")
    (tmp_path / "cluster.json").chmod(0o644)
    settings = load_settings(data_dir=tmp_path)
    with pytest.raises(ConfigurationError, match=f"chmod 600 {tmp_path / 'cluster.json'}"):
        launch.find(settings)
    assert [each.part for each in private_files(settings) if not each.ok] == ["other accounts: cluster.json"]


def test_record_holds_no_password(tmp_path: Path) -> None:
    url = "postgresql://heimdex:s3cret@host:5432/db?sslmode=require&password=s3cret"
    state = ClusterState("0", url, "127.0.0.1:1", None, "http://127.0.0.1:2", node=None)
    launch._record(load_settings(data_dir=tmp_path), state)
    text = (tmp_path / "cluster.json").read_text()
    assert "s3cret" not in text
    assert "postgresql://heimdex@host:5432/db?sslmode=require" in text
    assert mode_of(tmp_path / "cluster.json") == 0o600


@pytest.mark.parametrize(("url", "bare"), [
    ("postgresql://u:p@h/d", "postgresql://u@h/d"),
    ("postgresql://u:p?#x@h/d", "postgresql://u@h/d"),
    ("postgres://h/d?password=p", "postgres://h/d"),
    ("postgres://h/d?p%61ssword=p&user=u", "postgres://h/d?user=u"),
    ("postgresql://u@h1,h2/d", "postgresql://u@h1,h2/d"),
    (str(DatabaseUrl("postgresql://u:p@h/d", True, "postgresql://u:q@i/d")),
     str(DatabaseUrl("postgresql://u@h/d", True, "postgresql://u@i/d"))),
])  # fmt: skip
def test_without_password_keeps_all_else(url: str, bare: str) -> None:
    assert without_password(url) == bare


# Ray's token


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("RAY_AUTH_TOKEN_PATH", raising=False)
    monkeypatch.delenv("RAY_AUTH_TOKEN", raising=False)
    return tmp_path


def test_token_made_under_a_lax_umask_is_private(home: Path) -> None:
    home.chmod(0o755)
    before = os.umask(0)
    try:
        ensure_token()
    finally:
        os.umask(before)
    token = home / ".ray" / "auth_token"
    assert (mode_of(token), mode_of(token.parent), mode_of(home)) == (0o600, 0o700, 0o755)
    text = token.read_text()
    ensure_token()
    assert (len(text.strip()), token.read_text()) == (64, text)


@pytest.mark.parametrize("mode", [0o644, 0o640, 0o604, 0o620])
def test_token_that_others_may_read_is_refused(home: Path, mode: int) -> None:
    ensure_token()
    (home / ".ray" / "auth_token").chmod(mode)
    with pytest.raises(ConfigurationError, match=f"chmod 600 {home}/.ray/auth_token"):
        prepare_ray(loopback=True)


def test_token_that_is_named_and_lax_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "token").write_text("0" * 64)
    (tmp_path / "token").chmod(0o644)
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", str(tmp_path / "token"))
    with pytest.raises(ConfigurationError, match=f"chmod 600 {tmp_path / 'token'}"):
        prepare_ray(loopback=True)


def test_make_once_where_a_lax_file_is_refuses_it(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("known")
    (tmp_path / "secret").chmod(0o644)
    with pytest.raises(ConfigurationError, match="chmod 600"):
        make_once(tmp_path / "secret", "the secret", lambda: "new")


# What is printed


@pytest.mark.parametrize("config", CONFIGS, ids=lambda config: config.__name__)
def test_config_shows_no_url_and_no_secret(config: type) -> None:
    assert is_dataclass(config)
    words = ("url", "secret", "password", "key", "environment")
    shown = [f.name for f in fields(config) if f.repr and f.name.split("_")[-1] in words]
    assert [name for name in shown if not name.startswith("key_frame")] == []


def test_settings_show_no_secret() -> None:
    settings = load_settings(database_url="postgresql://u:s3cret@h/d", jwt_secret="s3cret" * 8)
    assert "s3cret" not in repr(settings) + str(settings)
