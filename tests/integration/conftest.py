"""The commands and the HTTP application on a real database, without Ray."""

import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
from starlette.testclient import TestClient

from cluster.contracts.database_url import DatabaseRole
from cluster.search.service import SearchService
from cluster.store.postgres.connections import Pool, open_pool
from cluster.store.search.engines import index_opener
from serve_app.auth import AuthRules, TokenVerifier
from serve_app.parts import ApiParts
from tests.support.api_client import ADMIN, SECRET, ApiMaker, Heimdex, query_models
from tests.support.database_roles import as_role
from tests.support.json_output import check_json
from tests.support.queued_videos import OWNER


@pytest.fixture
def heimdex(database_url: str, tmp_path: Path) -> Heimdex:
    """Runs ``heimdex`` in ``tmp_path``, for ``OWNER``, in a locale that knows no letters beyond ASCII."""
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith("HEIMDEX_")},
        "HEIMDEX_DATABASE_URL": database_url,
        **{f"HEIMDEX_{role.name}_DATABASE_URL": as_role(database_url, role) for role in DatabaseRole},
        "HEIMDEX_DATA_DIR": str(tmp_path / "data"),
        "HEIMDEX_OWNER_ID": str(OWNER),
        "PYTHONIOENCODING": "ascii",
    }

    def run(
        *arguments: str, typed: bytes = b"", settings: Mapping[str, str] | None = None
    ) -> "subprocess.CompletedProcess[bytes]":
        command = [sys.executable, "-m", "cluster.cli.main", *arguments]
        done = subprocess.run(
            command,
            env={**environment, **(settings or {})},
            cwd=tmp_path,
            input=typed,
            capture_output=True,
            check=False,
        )
        assert b"Traceback" not in done.stderr, done.stderr
        check_json(arguments, done.stdout)
        return done

    return run


@pytest.fixture
def api_pool(database_url: str) -> Iterator[Pool]:
    """The test's database as the HTTP endpoints enter it."""
    with open_pool(as_role(database_url, DatabaseRole.API), max_size=8, name="tests") as opened:
        yield opened


@pytest.fixture
def make_api(api_pool: Pool) -> Iterator[ApiMaker]:
    """Makes a client of the application; keyword arguments replace the application's parts."""
    from serve_app.app import build_api  # brings Ray Serve along: seconds that only the tests of the API wait for

    opened: list[TestClient] = []

    def make(**replaced: object) -> TestClient:
        used_pool = replaced.get("pool", api_pool)
        assert isinstance(used_pool, Pool)
        parts = {
            "pool": used_pool,
            "verifier": TokenVerifier(AuthRules(SECRET, None, frozenset({ADMIN}))),
            "search": SearchService(index_opener(used_pool), query_models(used_pool), used_pool),
            "allowed_schemes": frozenset({"http", "https", "s3"}),
            **replaced,
        }
        client = TestClient(build_api(ApiParts(**parts)), follow_redirects=False)  # type: ignore[arg-type]
        opened.append(client.__enter__())
        return client

    yield make
    for client in opened:
        client.__exit__(None, None, None)


@pytest.fixture
def api(make_api: ApiMaker) -> TestClient:
    """A client of the application as it is deployed by default."""
    return make_api()
