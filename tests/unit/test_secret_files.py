"""Secrets from files, and which of them may travel by which URL."""

import os
import re
from pathlib import Path

import pytest

from cluster.contracts.channels import is_protected
from cluster.contracts.errors import ConfigurationError
from cluster.runtime.launch import _node_options
from cluster.settings import SECRETS_IN_FILES, Settings, as_environment, load_settings

VALUES = {
    "database_url": "postgresql://me:hunter2@host/db",
    "database_direct_url": "postgresql://me:hunter2@direct/db",
    "opensearch_password": "hunter2",
    "storage_key": "hunter2",
    "jwt_secret": "hunter2" * 5,
    "jwt_previous_secret": "hunter3" * 5,
}
COMPANIONS = {
    "HEIMDEX_DATABASE_URL": VALUES["database_url"],
    "HEIMDEX_DATABASE_POOLER": "transaction",
    "HEIMDEX_OPENSEARCH_USER": "me",
    "HEIMDEX_STORAGE_ROOT": "https://storage.example.org",
    "HEIMDEX_JWT_SECRET": VALUES["jwt_secret"],
}
"""Settings that those of the secrets need beside them."""


@pytest.fixture(autouse=True)
def environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in os.environ:
        if name.startswith("HEIMDEX_"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("HEIMDEX_DATA_DIR", str(tmp_path / "data"))


def secret_file(folder: Path, content: str | bytes, mode: int = 0o600) -> Path:
    path = folder / "secret"
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    path.chmod(mode)
    return path


def refused(monkeypatch: pytest.MonkeyPatch, path: Path) -> str:
    monkeypatch.setenv("HEIMDEX_JWT_SECRET_FILE", str(path))
    with pytest.raises(ConfigurationError) as raised:
        load_settings()
    message = str(raised.value)
    assert message.startswith("HEIMDEX_JWT_SECRET_FILE: ")
    assert "\n" not in message
    assert "hunter2" not in message
    return message


def set_beside(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    for variable, value in COMPANIONS.items():
        if variable != f"HEIMDEX_{name.upper()}":
            monkeypatch.setenv(variable, value)


def test_every_secret_has_a_file_setting() -> None:
    assert {name for name in Settings.model_fields if name.endswith("_file")} >= {
        f"{name}_file" for name in SECRETS_IN_FILES
    }
    assert VALUES.keys() <= SECRETS_IN_FILES


def test_setting_that_sounds_like_a_secret_is_one() -> None:
    sounding = re.compile(r"secret$|password$|_key$|database.*_url$|token$")
    assert {name for name in Settings.model_fields if sounding.search(name)} == SECRETS_IN_FILES


@pytest.mark.parametrize("name", sorted(VALUES))
@pytest.mark.parametrize("end", ["", "\n", "\r\n"])
def test_secret_is_read_from_its_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str, end: str) -> None:
    set_beside(monkeypatch, name)
    monkeypatch.setenv(f"HEIMDEX_{name.upper()}_FILE", str(secret_file(tmp_path, VALUES[name] + end)))
    settings = load_settings()
    assert getattr(settings, name) == VALUES[name]
    assert f"{name}_file" not in settings.model_fields_set


@pytest.mark.parametrize("name", sorted(VALUES))
def test_secret_set_in_both_ways_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str) -> None:
    set_beside(monkeypatch, name)
    monkeypatch.setenv(f"HEIMDEX_{name.upper()}", VALUES[name])
    monkeypatch.setenv(f"HEIMDEX_{name.upper()}_FILE", str(secret_file(tmp_path, VALUES[name])))
    with pytest.raises(ConfigurationError, match=f"^HEIMDEX_{name.upper()}_FILE: .* is set too; unset one"):
        load_settings()


def test_empty_variable_leaves_the_file_alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HEIMDEX_JWT_SECRET", "")
    monkeypatch.setenv("HEIMDEX_JWT_SECRET_FILE", str(secret_file(tmp_path, "s" * 40)))
    assert load_settings().jwt_secret == "s" * 40


@pytest.mark.parametrize("mode", [0o604, 0o602, 0o601, 0o644, 0o666, 0o777])
def test_file_open_to_all_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, mode: int) -> None:
    path = secret_file(tmp_path, "s" * 40, mode)
    assert f"chmod o-rwx {path}" in refused(monkeypatch, path)


@pytest.mark.parametrize("mode", [0o400, 0o600, 0o440, 0o660])
def test_file_closed_to_others_is_read(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, mode: int) -> None:
    monkeypatch.setenv("HEIMDEX_JWT_SECRET_FILE", str(secret_file(tmp_path, "s" * 40, mode)))
    assert load_settings().jwt_secret == "s" * 40


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
@pytest.mark.parametrize("group", [0, 65534])
def test_file_of_another_account_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, group: int) -> None:
    path = secret_file(tmp_path, "s" * 40, 0o640)
    os.chown(path, 65534, group)
    assert "belongs to the account nobody" in refused(monkeypatch, path)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
def test_file_that_a_group_may_write_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    path = secret_file(tmp_path, "s" * 40, 0o660)
    os.chown(path, 0, 65534)
    assert f"run: chmod g-w {path}" in refused(monkeypatch, path)
    path.chmod(0o640)
    assert load_settings().jwt_secret == "s" * 40


@pytest.mark.parametrize("mode", [0o707, 0o777])
def test_file_that_others_may_swap_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, mode: int) -> None:
    folder = tmp_path / "open"
    folder.mkdir()
    path = secret_file(folder, "s" * 40)
    folder.chmod(mode)
    assert f"could swap what is in {folder}" in refused(monkeypatch, path)
    folder.chmod(0o1777)  # each keeps what is its own there
    assert load_settings().jwt_secret == "s" * 40


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
def test_link_of_another_account_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    link = tmp_path / "link"
    link.symlink_to(secret_file(tmp_path, "s" * 40))
    os.chown(link, 65534, 65534, follow_symlinks=False)
    assert "which could swap" in refused(monkeypatch, link)


def test_linked_file_is_read_by_its_own_mode(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Kubernetes mounts secrets as links."""
    link = tmp_path / "link"
    link.symlink_to(secret_file(tmp_path, "s" * 40))
    monkeypatch.setenv("HEIMDEX_JWT_SECRET_FILE", str(link))
    assert load_settings().jwt_secret == "s" * 40
    link.resolve().chmod(0o644)
    assert "chmod" in refused(monkeypatch, link)


@pytest.mark.parametrize(
    ("content", "words"),
    [("", "is empty"), ("\n\n", "is empty"), (b"\xff" * 40, "not text in UTF-8"), ("s" * 70_000, "larger than")],
)
def test_file_without_a_secret_is_refused(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, content: str | bytes, words: str
) -> None:
    assert words in refused(monkeypatch, secret_file(tmp_path, content))


def test_what_is_no_file_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe", 0o600)
    assert "no regular file" in refused(monkeypatch, tmp_path / "pipe")
    assert "no regular file" in refused(monkeypatch, tmp_path)
    assert "cannot be read: No such file" in refused(monkeypatch, tmp_path / "nothing")
    assert "cannot be read" in refused(monkeypatch, tmp_path / ("hunter2" * 5))  # the secret where its file should be


def test_secret_in_a_file_obeys_the_setting(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HEIMDEX_JWT_SECRET_FILE", str(secret_file(tmp_path, "hunter2")))
    with pytest.raises(ConfigurationError, match=r"^HEIMDEX_JWT_SECRET: ") as raised:
        load_settings()
    assert "hunter2" not in str(raised.value)


def test_other_processes_get_the_same_settings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Although the variable that names the file is in their environment too."""
    for name in ("database_url", "jwt_secret"):
        folder = tmp_path / name
        folder.mkdir()
        monkeypatch.setenv(f"HEIMDEX_{name.upper()}_FILE", str(secret_file(folder, VALUES[name])))
    settings = load_settings()
    for variable, value in as_environment(settings).items():
        monkeypatch.setenv(variable, value)
    assert load_settings() == settings
    for variable, value in _node_options(settings, VALUES["database_url"]).environment.items():
        monkeypatch.setenv(variable, value)
    assert load_settings().database_url == VALUES["database_url"]


def test_override_replaces_the_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HEIMDEX_DATABASE_URL_FILE", str(secret_file(tmp_path, VALUES["database_url"])))
    assert load_settings(database_url="postgresql://other/db").database_url == "postgresql://other/db"


PROTECTED = [
    "https://issuer.example.org/keys",
    "HTTPS://issuer.example.org/keys",
    "https://10.0.0.1:8443/keys",
    "http://localhost/keys",
    "http://LocalHost:9999/keys",
    "http://127.0.0.1:9200",
    "http://127.8.9.10/keys",
    "http://[::1]:9200/keys",
]
EXPOSED = [
    "http://issuer.example.org/keys",
    "http://10.0.0.1:9200",
    "http://169.254.169.254/keys",
    "http://0.0.0.0/keys",
    "http://[::]/keys",
    "http://[::ffff:10.0.0.1]/keys",
    "http://localhost.example.org/keys",
    "http://localhost.:9200",
    "http://sub.localhost/keys",
    "http://127.0.0.1.example.org/keys",
    "http://127.1/keys",
    "http://2130706433/keys",
    "http://0x7f000001/keys",
    "http://localhost@example.org/keys",
    "http://example.org\\@127.0.0.1/keys",
    "http://127.0.0.1\\@example.org/keys",
    "http://user:localhost@example.org/keys",
    "http://[::1/keys",
    "http://",
    "https://",
    "ftp://localhost/keys",
    "file:///etc/keys.json",
    "file://localhost/etc/keys.json",
    "localhost:9200",
    "",
]


def test_only_loopback_goes_without_encryption() -> None:
    assert [url for url in PROTECTED if not is_protected(url)] == []
    assert [url for url in EXPOSED if is_protected(url)] == []


@pytest.mark.parametrize(
    ("name", "beside"),
    [
        ("jwks_url", {}),
        ("opensearch_url", {"opensearch_user": "me", "opensearch_password": "hunter2"}),
        ("storage_root", {"storage_key": "hunter2"}),
    ],
)
def test_secret_by_an_open_channel_is_refused(name: str, beside: dict[str, str]) -> None:
    for url in ("http://service.example.org/path", "http://10.0.0.1:9200", "http://127.1/path"):
        with pytest.raises(ConfigurationError, match=f"^HEIMDEX_{name.upper()}: .* clear text; use https") as raised:
            load_settings(**{name: url}, **beside)
        assert "hunter2" not in str(raised.value)
    for url in ("https://service.example.org/path", "http://127.0.0.1:9200", "http://localhost/path"):
        assert getattr(load_settings(**{name: url}, **beside), name) == url


def test_service_without_a_secret_may_be_asked_openly() -> None:
    assert load_settings(opensearch_url="http://search.example.org:9200").opensearch_password is None
    assert load_settings(storage_root="http://storage.example.org").storage_key is None


def test_previous_secret_needs_its_successor() -> None:
    old, new = "o" * 32, "n" * 32
    assert load_settings(jwt_secret=new, jwt_previous_secret=old).jwt_previous_secret == old
    for wrong in ({}, {"jwt_secret": old}, {"jwks_url": "https://issuer.example.org/keys"}):
        with pytest.raises(ConfigurationError, match=r"^HEIMDEX_JWT_PREVIOUS_SECRET: set it") as raised:
            load_settings(jwt_previous_secret=old, **wrong)
        assert old not in str(raised.value)
