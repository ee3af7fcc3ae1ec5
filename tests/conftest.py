"""Real servers for the tests, one of each per session: Postgres, with a database per test, cloned from a template, and
OpenSearch, for the tests that ask for it.
"""

import atexit
import itertools
import logging
import os
import re
import shutil
import signal
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import pytest
from psycopg import sql
from xdist.scheduler import LoadScopeScheduling

from cluster.runtime.ray_node import prepare_ray
from cluster.security import log_output
from cluster.security.event_log import set_fields_of_process
from cluster.security.log_output import OWN_PACKAGES
from cluster.store.postgres.connections import EmbeddedPostgres, Pool, connect, open_pool
from cluster.store.postgres.embedded_roles import SUPERUSER
from cluster.store.postgres.migrations import apply_migrations
from tests.support.database_roles import as_role
from tests.support.existing_database import existing_database, make_template
from tests.support.missing_part import skip_but_on_ci
from tests.support.opensearch_program import NotInstalled
from tests.support.own_server import running
from tests.support.real_opensearch import QUICK_START, RealOpenSearch

# Some servers of the tests run as another account and read what the tests write.
UMASK = 0o022
os.umask(UMASK)

# Started in the background by a script, this process ignores Ctrl-C, and all that tests start and interrupt would too.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

UNSAFE_BUT_FAST = {
    "fsync": "off",
    "synchronous_commit": "off",
    "full_page_writes": "off",
    "max_connections": "200",
}

ROOT = Path(__file__).parents[1]
EXIT_STATUS = pytest.StashKey[int]()
_numbers = itertools.count(1)

# Ray reads how it authenticates and where it listens when it is first imported, whichever test module that is.
RAY_FOLDER = Path(tempfile.mkdtemp(prefix="heimdex-test-ray-"))
(RAY_FOLDER / "token").touch(mode=0o600)
(RAY_FOLDER / "token").write_text("0123456789abcdef" * 4)
os.environ["RAY_AUTH_TOKEN_PATH"] = str(RAY_FOLDER / "token")
prepare_ray(loopback=True)


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> LoadScopeScheduling:
    """Several processes: a module's tests stay together, and so do all that one machine has room for once."""
    config.option.loadscopereorder = False
    return GroupedModules(config, log)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """In several processes, the groups that take longest begin first."""
    if hasattr(config, "workerinput"):
        items.sort(key=lambda item: _GROUPS.index(_group_of(item.nodeid.partition("::")[0])))


class GroupedModules(LoadScopeScheduling):  # type: ignore[misc]  # without types
    """Hands out whole modules; those of a group all to one process."""

    def _split_scope(self, nodeid: str) -> str:
        module = nodeid.partition("::")[0]
        return _group_of(module) or module


_SHARED_CLUSTER, _OWN_RAY, _OPENSEARCH = "the tests' cluster", "a Ray of their own", "OpenSearch"
_GROUPS = (_SHARED_CLUSTER, _OWN_RAY, _OPENSEARCH, None)


@cache
def _group_of(module: str) -> str | None:
    """What a module's tests share, of which one machine has room for one at a time."""
    text = (ROOT / module).read_text()
    if module.startswith("tests/cluster/"):
        return (
            _SHARED_CLUSTER
            if re.search(r"\b(heimdex|http|cluster_pool|cluster_state|demo_results): ", text)
            else _OWN_RAY
        )
    return _OPENSEARCH if re.search(r"\bopensearch(_url\b|: )", text) else None


@pytest.fixture(autouse=True)
def logging_as_before() -> Iterator[None]:
    """What a test sets up to log ends with it."""
    root, levels = list(logging.getLogger().handlers), {name: logging.getLogger(name).level for name in OWN_PACKAGES}
    yield
    for handler in [handler for handler in logging.getLogger().handlers if handler not in root]:
        if handler.__class__.__module__ == log_output.__name__:
            logging.getLogger().removeHandler(handler)
            handler.close()
    for name, level in levels.items():
        logging.getLogger(name).setLevel(level)
    set_fields_of_process()


def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    session.config.stash[EXIT_STATUS] = int(exitstatus)


@pytest.hookimpl(trylast=True)
def pytest_unconfigure(config: pytest.Config) -> None:
    """All is said and cleared away by now. The threads of Ray, torch and ONNX outlive the tests: while the process took
    its libraries down, one of them once ran into what was gone, and a suite of which all had passed was a crash.
    """
    shutil.rmtree(RAY_FOLDER)
    status = config.stash.get(EXIT_STATUS, None)
    reporter = config.pluginmanager.get_plugin("terminalreporter")
    if status is None or reporter is None:
        return
    atexit._run_exitfuncs()
    reporter._tw.flush()
    os._exit(status)


@pytest.fixture(autouse=True)
def ordinary_scheduling() -> Iterator[None]:
    """Fails a test that leaves another scheduling policy behind.

    Every process that is started later inherits it, and under a real-time one Ray, torch and Postgres wait for each
    other on two cores.
    """
    before = os.sched_getscheduler(0)
    yield
    after = os.sched_getscheduler(0)
    os.sched_setscheduler(0, before, os.sched_param(0))
    assert after == before


@pytest.fixture(autouse=True)
def umask_of_the_tests() -> Iterator[None]:
    """Restores the umask, which entry points of the product set for their whole process."""
    yield
    os.umask(UMASK)


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[EmbeddedPostgres]:
    with running(lambda folder: EmbeddedPostgres(folder / "postgres", UNSAFE_BUT_FAST)) as server:
        yield server


@pytest.fixture(scope="session")
def migrated_template(postgres_server: EmbeddedPostgres) -> str:
    """The name of a database with all migrations applied, for CREATE DATABASE ... TEMPLATE."""
    name = "migrated_template"
    _execute(postgres_server.url, sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
    apply_migrations(database_on(postgres_server.url, name))
    return name


@pytest.fixture
def database_url(postgres_server: EmbeddedPostgres, migrated_template: str) -> Iterator[str]:
    """A database of the test's own with all migrations applied."""
    with new_database(postgres_server.url, migrated_template) as url:
        yield url


@pytest.fixture
def bare_database_url(postgres_server: EmbeddedPostgres) -> Iterator[str]:
    """A database of the test's own with nothing in it."""
    with new_database(postgres_server.url, "template0") as url:
        yield url


@pytest.fixture(scope="session")
def existing_server() -> Iterator[EmbeddedPostgres]:
    """A server with the roles and the database of ``existing_database``; started when a test asks for it."""
    with running(lambda folder: EmbeddedPostgres(folder / "postgres", UNSAFE_BUT_FAST)) as server:
        make_template(server.url)
        yield server


@pytest.fixture
def existing_url(existing_server: EmbeddedPostgres) -> Iterator[str]:
    """A database of an existing deployment, of the test's own, entered as the owner of its tables."""
    with existing_database(existing_server.url) as url:
        yield url


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--pool-role",
        default=SUPERUSER,
        help="Role of the tests' pool, heimdex_worker say; tests that prepare what it may not do fail.",
    )


@pytest.fixture
def pool(database_url: str, pytestconfig: pytest.Config) -> Iterator[Pool]:
    url = as_role(database_url, pytestconfig.getoption("--pool-role"))
    with open_pool(url, min_size=1, max_size=8, name="tests") as opened:
        yield opened


@pytest.fixture(scope="session")
def opensearch() -> Iterator[RealOpenSearch]:
    """Not started before a test asks for it. A test that kills it starts it again."""
    with ExitStack() as stack:
        try:
            server = stack.enter_context(
                running(lambda folder: RealOpenSearch(folder / "opensearch", java_options=QUICK_START))
            )
        except NotInstalled as missing:
            skip_but_on_ci(str(missing))
        yield server


@pytest.fixture(scope="session")
def opensearch_url(opensearch: RealOpenSearch) -> str:
    return opensearch.url


def database_on(url: str, name: str) -> str:
    """The URL of another database on the same server."""
    return urlunsplit(urlsplit(url)._replace(path=f"/{name}"))


@contextmanager
def new_database(server_url: str, template: str) -> Iterator[str]:
    name = f"test_{next(_numbers)}"
    database = sql.Identifier(name)
    _execute(server_url, sql.SQL("CREATE DATABASE {} TEMPLATE {}").format(database, sql.Identifier(template)))
    try:
        yield database_on(server_url, name)
    finally:
        _execute(server_url, sql.SQL("DROP DATABASE {} WITH (FORCE)").format(database))


def _execute(url: str, statement: sql.Composed) -> None:
    with connect(url, autocommit=True) as connection:
        connection.execute(statement)
