"""A caller's view when the database breaks a session or goes away: nothing, or 503 until it is back."""

from psycopg import sql
from psycopg.conninfo import conninfo_to_dict
from starlette.testclient import TestClient

from cluster.store.postgres.connections import EmbeddedPostgres, Pool, connect
from serve_app.pools import open_api_pool
from tests.support.api_client import ADMIN, ALICE, ApiMaker, headers


def answers(api: TestClient) -> None:
    response = api.get("/v1/admin/overview", headers=headers(ADMIN))
    assert response.status_code == 200, response.text


def test_a_broken_session_is_replaced_unseen(api: TestClient, database_url: str) -> None:
    answers(api)
    with connect(database_url) as connection:
        connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
            "WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )
    answers(api)


def test_a_database_that_is_away_is_503_and_recovers(
    make_api: ApiMaker, database_url: str, postgres_server: EmbeddedPostgres
) -> None:
    with open_api_pool(database_url) as pool:
        pool.timeout = pool.reconnect_timeout = 0.5
        api = make_api(pool=pool)
        answers(api)
        allow_connections(postgres_server.url, pool, False)
        for path in ("/v1/admin/overview", f"/v1/admin/users/{ALICE}", "/v1/videos"):
            response = api.get(path, headers=headers(ADMIN))
            assert (response.status_code, response.headers["retry-after"]) == (503, "5")
            assert response.json() == {"detail": "The database is away; try again."}
        ready = api.get("/readyz")
        assert (ready.status_code, ready.json()["parts"]["database"]["ready"]) == (503, False)
        assert api.get("/healthz").status_code == 200
        allow_connections(postgres_server.url, pool, True)
        statuses = [api.get("/v1/admin/overview", headers=headers(ADMIN)).status_code for _ in range(5)]
        assert statuses[-1] == 200, statuses


def allow_connections(server_url: str, pool: Pool, allowed: bool) -> None:
    """Close a database to all connections and end its sessions, or open it again."""
    assert isinstance(pool.conninfo, str)
    name = conninfo_to_dict(pool.conninfo)["dbname"]
    assert isinstance(name, str)
    with connect(server_url, autocommit=True) as connection:
        connection.execute(
            sql.SQL("ALTER DATABASE {} ALLOW_CONNECTIONS {}").format(sql.Identifier(name), sql.Literal(allowed))
        )
        if not allowed:
            connection.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", (name,))
