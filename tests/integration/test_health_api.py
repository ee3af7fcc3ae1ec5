"""Whether the process is alive and whether the cluster behind it can work, as monitoring asks for it."""

from functools import partial

from starlette.testclient import TestClient

from cluster.contracts.search import EngineAddress
from cluster.store.opensearch.client import check_engine, open_client
from cluster.store.postgres.connections import Pool
from tests.support.api_client import ApiMaker


def test_ready_means_that_every_kind_of_worker_was_seen(make_api: ApiMaker, pool: Pool) -> None:
    api = make_api(worker_silence_s=30.0)
    empty = api.get("/readyz")
    assert (api.get("/health/ready").status_code, api.get("/health/ready").json()) == (503, empty.json())
    assert (empty.status_code, empty.json()["ready"]) == (503, False)
    assert empty.json()["parts"]["database"] == {"ready": True, "detail": "answers"}

    with pool.connection() as connection:
        for worker, state in (
            ("scheduler", "busy"),
            ("fetcher", "idle"),
            ("media", "idle"),
            ("transcriber", "busy"),
            ("embedder", "idle"),
            ("writer", "starting"),
        ):
            connection.execute(
                "INSERT INTO cluster_workers (worker, scheduler, kind, node, device, state) "
                "VALUES (%s, 's', %s, 'n', 'cpu', %s)",
                (f"{worker}-1", worker, state),
            )
    loading = api.get("/readyz").json()["parts"]
    assert [name for name, part in loading.items() if not part["ready"]] == ["writer"]
    assert loading["writer"]["detail"] == "0 seen in the last 30 s, 1 starting"

    with pool.connection() as connection:
        connection.execute("UPDATE cluster_workers SET state = 'idle'")
    whole = api.get("/readyz")
    assert (whole.status_code, whole.json()["ready"]) == (200, True)

    with pool.connection() as connection:
        connection.execute("UPDATE cluster_workers SET seen_at = seen_at - interval '31 s' WHERE kind = 'media'")
    silent = api.get("/readyz")
    assert (silent.status_code, silent.json()["parts"]["media"]["ready"]) == (503, False)


def test_a_search_engine_that_is_away_is_told(make_api: ApiMaker, opensearch_url: str) -> None:
    def parts(url: str) -> dict[str, dict[str, object]]:
        client = open_client(EngineAddress(url))
        found: dict[str, dict[str, object]] = (
            make_api(check_engine=partial(check_engine, client)).get("/readyz").json()["parts"]
        )
        return found

    assert parts(opensearch_url)["search engine"] == {"ready": True, "detail": "answers"}
    away = parts("http://127.0.0.1:9")["search engine"]
    assert away["ready"] is False
    assert str(away["detail"]).startswith("OpenSearch cannot be used: 127.0.0.1:9: ")


def test_what_stands_in_the_schedulers_way_is_shown(api: TestClient, pool: Pool) -> None:
    sentence = "the disk under /srv/scratch is full"
    with pool.connection() as connection:
        for worker, trouble in (("scheduler-1", sentence), ("scheduler-2", None), ("scheduler-3", sentence)):
            connection.execute(
                "INSERT INTO cluster_workers (worker, scheduler, kind, node, device, state, trouble) "
                "VALUES (%s, %s, 'scheduler', 'n', 'cpu', 'busy', %s)",
                (worker, worker, trouble),
            )
    scheduler = api.get("/readyz").json()["parts"]["scheduler"]
    assert scheduler == {"ready": True, "detail": f"3 seen in the last 10 s; {sentence}"}


def test_health_says_alive_and_where_the_documentation_is(api: TestClient) -> None:
    assert api.get("/healthz").json() == api.get("/health").json() == {"status": "alive"}
    assert api.get("/").headers["location"] == "docs"
    assert api.get("/docs").status_code == 200
