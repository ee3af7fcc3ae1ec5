"""A database that others may be using is migrated by `heimdex migrate` alone; any other command says so."""

import shutil
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from typer.testing import CliRunner

from cluster.cli.main import app
from cluster.contracts.errors import ConfigurationError
from cluster.contracts.search import Retriever
from cluster.runtime import launch
from cluster.runtime.cluster_actors import _models_are_agreed
from cluster.settings import load_settings
from cluster.store.index.model_registry import IndexedModel, SearchModels
from cluster.store.postgres.connections import Pool, connect
from cluster.store.postgres.migrations import all_migrations, apply_migrations, pending_migrations, refuse_unmigrated
from cluster.store.postgres.roles import restore_rights
from tests.support.database_roles import as_role
from tests.support.existing_database import changes_between, take_snapshot
from tests.support.own_server import quick_folder
from tests.support.vector_lengths import EMBEDDING_DIM

COMMANDS = (
    "status",
    "search tide",
    "submit /videos/a.mp4",
    "process /videos/a.mp4",
    "up",
    "list",
    "tags",
    "quarantine",
    "retry --failed",
    "watch",
    "cancel a.mp4",
    "forget a.mp4",
    "backfill",
    "index verify",
    "audit",
    "reembed --vision bundled",
)


@pytest.mark.parametrize("command", COMMANDS)
def test_command_on_what_lacks_migrations_says_what_to_run(command: str, existing_url: str, tmp_path: Path) -> None:
    before = take_snapshot(existing_url)
    environment = {
        "HEIMDEX_DATABASE_URL": existing_url,
        "HEIMDEX_DATA_DIR": str(tmp_path / "data"),
        "HEIMDEX_SCRATCH_DIR": str(tmp_path / "scratch"),
        "HEIMDEX_HTTP_PORT": "0",
        "HEIMDEX_DASHBOARD_PORT": "0",
        "HEIMDEX_MODELS": "bundled",
    }
    result = CliRunner().invoke(app, command.split(), env=environment)
    assert isinstance(result.exception, ConfigurationError), result.output
    sentence = f"the database lacks {len(all_migrations())} migrations: run `heimdex migrate` first"
    assert sentence in str(result.exception)
    assert changes_between(before, take_snapshot(existing_url)) == []


def test_migrate_migrates_a_database_of_others(existing_url: str, tmp_path: Path) -> None:
    environment = {"HEIMDEX_DATABASE_URL": existing_url, "HEIMDEX_DATA_DIR": str(tmp_path / "data")}
    result = CliRunner().invoke(app, ["migrate"], env=environment, catch_exceptions=False)
    assert f"applied {all_migrations()[-1].name}" in result.output
    assert pending_migrations(existing_url) == []


def test_up_only_checks_a_database_of_others(existing_url: str) -> None:
    urls = load_settings(database_url=existing_url).database_urls
    assert urls is not None
    with pytest.raises(ConfigurationError, match="run `heimdex migrate` first"):
        launch._prepare_database(urls, print, ours=False)
    assert len(pending_migrations(existing_url)) == len(all_migrations())


def test_database_of_a_newer_version_is_refused(database_url: str) -> None:
    with connect(database_url) as connection:
        connection.execute("INSERT INTO heimdex_migrations VALUES (987, '987_add_all.sql', 'none')")
    known = all_migrations()[-1].number
    sentence = f"migrated to 987 by a newer version, this one knows {known:03d} at most: install the newer version here"
    for look in (pending_migrations, apply_migrations):
        with pytest.raises(ConfigurationError, match=sentence):
            look(database_url)


def test_command_waits_for_who_migrates(bare_database_url: str) -> None:
    with ThreadPoolExecutor(1) as threads:
        migrating = threads.submit(apply_migrations, bare_database_url)
        while not _has_record(bare_database_url):
            time.sleep(0.001)
        refuse_unmigrated(bare_database_url)
        assert migrating.result() == all_migrations()


def _has_record(url: str) -> bool:
    with connect(url) as connection:
        return bool(
            connection.execute("SELECT to_regclass('heimdex_migrations') IS NOT NULL AS found").fetchall()[0]["found"]
        )


def test_role_without_the_right_to_look_is_one_sentence(database_url: str) -> None:
    with connect(database_url) as connection:
        connection.execute("REVOKE SELECT ON heimdex_migrations FROM heimdex_worker")
    sentence = "the role heimdex_worker may not read heimdex_migrations: `heimdex migrate` gives the rights again"
    with pytest.raises(ConfigurationError, match=sentence):
        refuse_unmigrated(as_role(database_url, "heimdex_worker"))
    restore_rights(database_url)
    refuse_unmigrated(as_role(database_url, "heimdex_worker"))


@pytest.mark.parametrize("chosen", [True, False])
def test_endpoints_wait_for_the_workers_choice_of_a_first_model(database_url: str, pool: Pool, chosen: bool) -> None:
    settings = load_settings(database_url=database_url, clip_model="bundled" if chosen else None)
    assert _models_are_agreed(settings, database_url) is chosen
    SearchModels(pool).adopt(Retriever.PICTURE, IndexedModel("bundled@1", "bundled", None, EMBEDDING_DIM))
    assert _models_are_agreed(settings, database_url)


def test_embedded_server_that_runs_is_only_checked() -> None:
    folder = quick_folder("heimdex-test-")
    settings = load_settings(data_dir=folder / "data")
    try:
        with launch.started_database(settings) as urls:
            with pytest.raises(ConfigurationError, match="run `heimdex migrate` first"), launch.open_database(settings):
                pass
            assert len(pending_migrations(urls.migrate)) == len(all_migrations())
        with launch.open_database(settings):  # started for it alone
            assert pending_migrations(urls.migrate) == []
    finally:
        launch.embedded(settings).stop()
        shutil.rmtree(folder)
