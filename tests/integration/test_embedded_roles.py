"""The embedded Postgres with a password for each role: who gets in, as whom, and what becomes of older directories."""

import shutil
import stat
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from cluster.contracts.database_url import DatabaseRole
from cluster.contracts.errors import ConfigurationError, DatabaseUnavailable
from cluster.runtime import launch
from cluster.settings import Settings, load_settings
from cluster.store.postgres.connections import EmbeddedPostgres, connect, running_url, running_urls
from cluster.store.postgres.embedded import binary
from cluster.store.postgres.embedded_roles import SUPERUSER, are_guarded, password_file
from cluster.store.postgres.migrations import all_migrations, apply_migrations
from tests.support.own_server import quick_folder

FAST = {"fsync": "off"}


@pytest.fixture(scope="module")
def made() -> Iterator[Path]:
    """A data directory from before there were roles, stopped: migrated by the superuser, who owns all."""
    folder = quick_folder("heimdex-test-")
    server = EmbeddedPostgres(folder / "postgres", FAST)
    try:
        url = server.start()
        with connect(url, autocommit=True) as connection:
            connection.execute("CREATE EXTENSION vector")
            for migration in all_migrations():
                if migration.number < 45:
                    connection.execute(migration.text.encode())
            connection.execute("INSERT INTO video_owners VALUES (gen_random_uuid())")
    finally:
        server.stop()
    yield folder
    shutil.rmtree(folder)


@pytest.fixture
def settings(made: Path) -> Iterator[Settings]:
    folder = quick_folder("heimdex-test-")
    subprocess.run(["cp", "-a", str(made / "postgres"), str(folder / "postgres")], check=True)
    yield load_settings(data_dir=folder)
    EmbeddedPostgres(folder / "postgres").stop()
    shutil.rmtree(folder)


@contextmanager
def started(settings: Settings) -> Iterator[EmbeddedPostgres]:
    server = EmbeddedPostgres(settings.postgres_dir, FAST, roles=True)
    server.start()
    yield server
    server.stop()


def whoami(url: str) -> tuple[str, bool]:
    with connect(url) as connection:
        query = "SELECT current_user AS name, rolsuper AS mighty FROM pg_roles WHERE rolname = current_user"
        row = connection.execute(query).fetchall()[0]
    return row["name"], row["mighty"]


def test_each_role_enters_by_its_own_password_and_no_other_way(settings: Settings) -> None:
    with started(settings) as server:
        for role in DatabaseRole:
            url = server.urls.of(role)
            assert whoami(url) == (role, False)
            with pytest.raises(DatabaseUnavailable, match="password"):
                connect(url.partition("&passfile")[0])
            with pytest.raises(DatabaseUnavailable, match="password"):
                connect(url.replace(f"://{role}@", f"://{SUPERUSER}@"))
        assert whoami(server.url) == (SUPERUSER, True)


def test_no_password_is_in_a_url_a_log_or_an_open_file(settings: Settings) -> None:
    with started(settings) as server:
        log = (server.data_dir / "server.log").read_text(errors="replace")
        for role in (SUPERUSER, *DatabaseRole):
            file = password_file(server.data_dir, role)
            assert stat.S_IMODE(file.stat().st_mode) == 0o600
            password = file.read_text().strip().rpartition(":")[2]
            assert len(password) > 30
            assert not any(password in text for text in (log, server.url, *vars(server.urls).values()))
        assert stat.S_IMODE(file.parent.stat().st_mode) == 0o700


def test_older_directory_is_handed_over_with_its_rows(settings: Settings) -> None:
    with launch.open_database(settings) as url:
        assert whoami(url) == (DatabaseRole.WORKER, False)
        with connect(url) as connection:
            assert len(connection.execute("SELECT * FROM video_owners").fetchall()) == 1
            others = connection.execute(
                "SELECT relname FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'S') "
                "AND relowner <> 'heimdex_migrate'::regrole"
            ).fetchall()
        assert others == []
    assert running_url(settings.postgres_dir) is None


def test_server_that_runs_without_passwords_gets_them(settings: Settings) -> None:
    plain = EmbeddedPostgres(settings.postgres_dir, FAST)
    plain.start()
    assert running_urls(settings.postgres_dir) is None
    with started(settings) as server:
        assert whoami(server.urls.api) == (DatabaseRole.API, False)


def test_lost_passwords_are_made_again_at_the_next_start(settings: Settings) -> None:
    with started(settings) as server:
        shutil.rmtree(password_file(server.data_dir, SUPERUSER).parent)
        assert not are_guarded(server.data_dir)
        with pytest.raises(ConfigurationError, match=r"passwords of the embedded .* are lost"):
            server.start()
    with started(settings) as server:
        apply_migrations(server.urls.migrate)
        assert whoami(server.urls.worker) == (DatabaseRole.WORKER, False)


def test_wrong_passwords_are_one_sentence(settings: Settings) -> None:
    with started(settings) as server:
        file = password_file(server.data_dir, SUPERUSER)
        file.write_text(f"*:*:*:{SUPERUSER}:another one\n")
        with pytest.raises(ConfigurationError, match=r"cannot be entered .* remove the files beside"):
            server.start()


@pytest.mark.parametrize(("name", "mode"), [("", 0o755), ("heimdex_api.pgpass", 0o644)])
def test_passwords_that_others_may_read_are_refused(settings: Settings, name: str, mode: int) -> None:
    with started(settings) as server:
        (password_file(server.data_dir, SUPERUSER).parent / name).chmod(mode)
    with pytest.raises(ConfigurationError, match="chmod"):
        EmbeddedPostgres(settings.postgres_dir, FAST, roles=True).start()


def test_psql_enters_by_the_url_of_each_role(settings: Settings) -> None:
    with started(settings) as server:
        for role in DatabaseRole:
            command = [str(binary("psql")), server.urls.of(role), "-AtXc", "SELECT current_user"]
            assert subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip() == role
