"""The server that the cluster brings along: started, found, stopped, and started again after accidents."""

import os
import shutil
import signal
import stat
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

from cluster.contracts.errors import ConfigurationError
from cluster.store.postgres.connections import EmbeddedPostgres, connect, running_url
from cluster.store.postgres.embedded import binary
from tests.support.own_server import quick_folder

START = "import sys; from pathlib import Path; from cluster.store.postgres.connections import EmbeddedPostgres as E; "
START += "print(E(Path(sys.argv[1]), {'fsync': 'off'}).start())"
REPOSITORY = Path(__file__).parents[2]


@pytest.fixture
def folder() -> Iterator[Path]:
    made = quick_folder("heimdex-test-")
    yield made
    shutil.rmtree(made)


@pytest.fixture(scope="module")
def stopped_data_dir() -> Iterator[Path]:
    """Initialised once, since that takes longer than all the rest."""
    made = quick_folder("heimdex-test-")
    with started(made / "pg") as server:
        pass
    yield server.data_dir
    shutil.rmtree(made)


@pytest.fixture
def data_dir(stopped_data_dir: Path, folder: Path) -> Path:
    return copied(stopped_data_dir, folder)


def copied(data_dir: Path, folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    subprocess.run(["cp", "-a", str(data_dir), str(folder / "pg")], check=True)
    return folder / "pg"


@contextmanager
def started(data_dir: Path) -> Iterator[EmbeddedPostgres]:
    server = EmbeddedPostgres(data_dir, {"fsync": "off"})
    try:
        server.start()
        yield server
    finally:
        server.stop()


def start_in_another_process(data_dir: Path) -> "subprocess.Popen[str]":
    command = [sys.executable, "-c", START, str(data_dir)]
    return subprocess.Popen(command, cwd=REPOSITORY, stdout=subprocess.PIPE, text=True)


def postmaster_pid(data_dir: Path) -> int:
    return int((data_dir / "postmaster.pid").read_text().splitlines()[0])


def answer_of_psql(url: str) -> str:
    command = [str(binary("psql")), url, "-AtXc", "SELECT current_database()"]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def test_what_was_written_is_there_after_a_restart(data_dir: Path) -> None:
    with started(data_dir) as server:
        assert server.start() == server.url
        with connect(server.url) as connection:
            connection.execute("CREATE TABLE kept AS SELECT 7 AS n")
    assert not server.is_running()
    server.stop()
    with started(data_dir) as server, connect(server.url) as connection:
        assert connection.execute("SELECT n FROM kept").fetchall() == [{"n": 7}]


def test_looking_for_a_server_starts_none(folder: Path) -> None:
    assert running_url(folder / "pg") is None
    assert not (folder / "pg").exists()
    with started(folder / "pg") as server:
        assert running_url(folder / "pg") == server.url
    assert running_url(folder / "pg") is None
    with pytest.raises(ConfigurationError, match="does not run"):
        _ = server.url


def test_server_outlives_its_starter_and_can_be_stopped_by_any(data_dir: Path) -> None:
    process = start_in_another_process(data_dir)
    printed, _ = process.communicate(timeout=60)
    try:
        assert process.returncode == 0
        assert running_url(data_dir) == printed.strip()
        assert answer_of_psql(printed.strip()) == "heimdex"
    finally:
        EmbeddedPostgres(data_dir).stop()
    assert running_url(data_dir) is None


def test_two_processes_that_start_it_at_once_get_one_server(folder: Path) -> None:
    processes = [start_in_another_process(folder / "pg") for _ in range(3)]
    try:
        urls = {process.communicate(timeout=60)[0].strip() for process in processes}
        assert [process.returncode for process in processes] == [0, 0, 0]
        assert urls == {running_url(folder / "pg")}
    finally:
        EmbeddedPostgres(folder / "pg").stop()


def test_it_starts_again_after_its_server_was_killed(data_dir: Path) -> None:
    with started(data_dir) as server:
        with connect(server.url) as connection:
            connection.execute("CREATE TABLE kept AS SELECT 7 AS n")
        children = psutil.Process(postmaster_pid(data_dir)).children()
        os.kill(postmaster_pid(data_dir), signal.SIGKILL)
        psutil.wait_procs(children, timeout=20)
        assert not server.is_running()
        server.start()
        with connect(server.url) as connection:
            assert connection.execute("SELECT n FROM kept").fetchall() == [{"n": 7}]


def test_reused_process_id_is_not_taken_for_a_server(data_dir: Path) -> None:
    with started(data_dir):
        file = (data_dir / "postmaster.pid").read_text().splitlines()
    stale = "\n".join([str(os.getpid()), *file[1:]]) + "\n"
    (data_dir / "postmaster.pid").write_text(stale)
    EmbeddedPostgres(data_dir).stop()  # must not signal this very process
    assert running_url(data_dir) is None
    with started(data_dir) as server:
        assert server.is_running()
        assert postmaster_pid(data_dir) != os.getpid()


def test_blanks_quotes_commas_and_accents_in_the_path_do_no_harm(stopped_data_dir: Path, folder: Path) -> None:
    data_dir = copied(stopped_data_dir, folder / "o'clock, ünï + 100% & more")
    with started(data_dir) as server:
        assert answer_of_psql(server.url) == "heimdex"
        assert server.url == running_url(data_dir)


@pytest.mark.parametrize("name", ["a$HOME", 'a"b', "a`b", "a\\b"])
def test_a_path_that_a_shell_would_read_otherwise_is_refused(folder: Path, name: str) -> None:
    with pytest.raises(ConfigurationError, match="HEIMDEX_DATA_DIR"):
        EmbeddedPostgres(folder / name / "pg").start()
    assert not (folder / name / "pg").exists()


def test_a_path_too_long_for_a_socket_has_it_in_a_private_folder(stopped_data_dir: Path, folder: Path) -> None:
    with started(copied(stopped_data_dir, folder / ("d" * 60) / ("e" * 60))) as server:
        assert answer_of_psql(server.url) == "heimdex"
        socket_dir = Path((server.data_dir / "postmaster.pid").read_text().splitlines()[4])
        assert stat.S_IMODE(socket_dir.stat().st_mode) == 0o700
    assert not socket_dir.exists()


def test_only_its_owner_can_reach_the_socket(data_dir: Path) -> None:
    with started(data_dir) as server:
        assert stat.S_IMODE(server.data_dir.stat().st_mode) == 0o700
        with connect(server.url) as connection:
            row = connection.execute("SELECT current_setting('listen_addresses') AS tcp").fetchone()
            assert row == {"tcp": ""}


def test_the_data_of_another_postgres_version_is_refused(folder: Path) -> None:
    (folder / "pg").mkdir()
    (folder / "pg" / "PG_VERSION").write_text("16\n")
    with pytest.raises(ConfigurationError, match=r"PostgreSQL 16, this one is 18: .*HEIMDEX_DATA_DIR"):
        EmbeddedPostgres(folder / "pg").start()


def test_scratch_folder_with_other_content_is_left_alone(folder: Path) -> None:
    (folder / "pg").mkdir()
    (folder / "pg" / "holiday.mp4").write_text("mine")
    with pytest.raises(ConfigurationError, match="neither empty nor a Postgres data directory"):
        EmbeddedPostgres(folder / "pg").start()
    assert [file.name for file in (folder / "pg").iterdir()] == ["holiday.mp4"]


def test_a_server_that_does_not_start_says_why(data_dir: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"does not start: .*no_such_setting"):
        EmbeddedPostgres(data_dir, {"no_such_setting": "1"}).start()
