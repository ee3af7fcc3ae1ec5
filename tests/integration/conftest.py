"""The HTTP application on a real database, without Ray."""

from collections.abc import Iterator

import pytest
from api_client import ADMIN, SECRET, ApiMaker, WordMeanings, WordVectors
from starlette.testclient import TestClient

from cluster.search import SearchService
from cluster.store.database import Pool
from cluster.store.search_index import PostgresSearchIndex
from serve_app.auth import AuthRules, TokenVerifier
from serve_app.parts import ApiParts


@pytest.fixture
def make_api(pool: Pool) -> Iterator[ApiMaker]:
    """Makes a client of the application; keyword arguments replace the application's parts."""
    from serve_app.app import build_api  # brings Ray Serve along: seconds that only the tests of the API wait for

    opened: list[TestClient] = []

    def make(**replaced: object) -> TestClient:
        used_pool = replaced.get("pool", pool)
        assert isinstance(used_pool, Pool)
        parts = {
            "pool": used_pool,
            "verifier": TokenVerifier(AuthRules(SECRET, None, frozenset({ADMIN}))),
            "search": SearchService(PostgresSearchIndex(used_pool), WordVectors(), WordMeanings(), used_pool),
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
