"""The limits of one caller on any route, and that other callers do not notice one who asks for more."""

import asyncio
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from typing import Any
from uuid import uuid4

import pytest
from starlette.testclient import TestClient

from cluster.contracts.search import ModelKeys, QueryVector, RankedScene, Retriever, Scope, WordsQuery
from cluster.search.service import SearchService
from cluster.store.postgres.connections import Pool, connect, open_pool
from cluster.store.search.engines import index_opener
from serve_app import callers
from serve_app.error_responses import RateLimited
from serve_app.limits import ApiLimits
from serve_app.pools import open_api_pool, open_health_pool, open_search_pool
from serve_app.route_table import ADMIN_ROUTES, OPEN_ROUTES, USER_ROUTES
from tests.support.api_client import ADMIN, ALICE, BOB, ApiMaker, headers, make_picture, query_models

LIMITS = ApiLimits(
    max_body_bytes=8 * 1024**2,
    request_timeout_s=30.0,
    submissions_per_minute=6000,
    requests_per_minute=6,
    requests_at_once=2,
    searches_per_minute=6,
    searches_at_once=1,
    anonymous_per_minute=6,
)
PLENTY = ApiLimits(8 * 1024**2, 30.0, 6000, searches_at_once=1)


@pytest.fixture(autouse=True)
def quick_refusals(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(callers, "REFUSAL_S", 0.0)


def refused(answer: Any) -> bool:
    """Whether it is the answer to a caller who asked for too much."""
    if answer.status_code != 429:
        return False
    assert list(answer.json()) == ["detail"]
    assert "ask again in" in answer.json()["detail"]
    assert int(answer.headers["retry-after"]) >= 1
    return True


def test_route_has_the_rate_of_its_owner(make_api: ApiMaker) -> None:
    for method, path in [(route.method, route.path) for route in ADMIN_ROUTES + USER_ROUTES]:
        api = make_api(limits=LIMITS)
        place = path.format(user_id=ALICE, job_id=ALICE, video_id=ALICE, scene_id=ALICE)
        assert not refused(api.request(method, place, headers=headers(ADMIN)))
        assert refused(api.request(method, place, headers=headers(ADMIN))), path
        assert refused(api.get("/v1/videos", headers=headers(ADMIN))), path
        assert not refused(api.request(method, place, headers=headers(BOB)))
        assert not refused(api.request(method, place))


@pytest.mark.parametrize("token", [None, "Bearer x.y.z", "Basic abc"])
def test_route_has_a_rate_for_callers_without_token(make_api: ApiMaker, token: str | None) -> None:
    sent = {} if token is None else {"Authorization": token}
    for path in ("/v1/videos", "/v1/nothing", "/docs", "/openapi.json", "/", "/nothing"):
        api = make_api(limits=LIMITS)
        assert not refused(api.get(path, headers=sent))
        assert refused(api.get(path, headers=sent)), path
        assert api.get("/v1/videos", headers=headers(ALICE)).status_code == 200
        assert api.get("/healthz").status_code == 200


def test_health_has_a_rate_of_its_own(make_api: ApiMaker) -> None:
    for path in [route.path for route in OPEN_ROUTES]:
        api = make_api(limits=LIMITS)
        assert not refused(api.get(path))
        assert refused(api.get(path)), path
        assert api.get("/docs").status_code == 200


def test_refusal_is_held_back(make_api: ApiMaker, monkeypatch: pytest.MonkeyPatch) -> None:
    api = make_api(limits=LIMITS)
    monkeypatch.setattr(callers, "REFUSAL_S", 0.7)
    assert not refused(api.get("/v1/videos", headers=headers(ALICE)))
    began_s = time.monotonic()
    with ThreadPoolExecutor(8) as threads:
        assert all(map(refused, threads.map(lambda _: api.get("/v1/videos", headers=headers(ALICE)), range(8))))
        assert api.get("/v1/videos", headers=headers(BOB)).status_code == 200
    assert time.monotonic() - began_s >= 0.7


def test_addresses_of_one_network_are_one_caller() -> None:
    def network(host: str) -> str:
        return callers._network({"client": (host, 1)})

    assert network("2001:db8::1") == network("2001:db8::ffff:1") != network("2001:db8:0:1::1")
    assert network("192.0.2.1") != network("192.0.2.2")
    assert callers._network({"client": None}) == callers._network({}) == "?"


class HeldIndex:
    """Finds nothing, once it is let: a search that takes as long as the test wants."""

    def __init__(self) -> None:
        self.let = threading.Event()
        self.running = 0

    def words(self, query: WordsQuery, scope: Scope, limit: int) -> list[RankedScene]:
        if scope.owner_id == ALICE:
            self.running += 1
            assert self.let.wait(30)
            self.running -= 1
        return []

    def nearest(self, by: Retriever, vector: QueryVector, scope: Scope, limit: int) -> list[RankedScene]:
        return []


@contextmanager
def searches_held(api: TestClient, index: HeldIndex, count: int) -> Iterator[list[Any]]:
    """So many searches of Alice at once; the answers are there once the block ends."""
    answers: list[Any] = []
    with ThreadPoolExecutor(count) as threads:
        sent = [
            threads.submit(api.get, "/v1/search", params={"q": f"tide {number}"}, headers=headers(ALICE))
            for number in range(count)
        ]
        end_s = time.monotonic() + 20
        while index.running == 0:
            assert time.monotonic() < end_s
            time.sleep(0.01)
        try:
            yield answers
        finally:
            index.let.set()
        answers += [one.result() for one in sent]


@pytest.fixture
def held(make_api: ApiMaker, pool: Pool) -> tuple[TestClient, HeldIndex]:
    """The application with searches that are held."""
    index = HeldIndex()

    def opened(models: ModelKeys) -> HeldIndex:
        return index

    return make_api(limits=PLENTY, search=SearchService(opened, query_models(pool), pool)), index


def test_searches_of_one_owner_leave_the_others_theirs(
    held: tuple[TestClient, HeldIndex], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(callers, "SEARCHES_WAITING", 3)
    api, index = held
    with searches_held(api, index, 8) as answers:
        assert index.running == 1
        assert api.get("/v1/search", params={"q": "moon"}, headers=headers(BOB)).status_code == 200
        assert api.get("/v1/videos", headers=headers(ALICE)).status_code == 200
        assert api.get("/healthz").status_code == 200
        picture = api.post(
            "/v1/search/image", content=make_picture(), headers=headers(ALICE) | {"Content-Type": "image/png"}
        )
        assert refused(picture)
        assert refused(api.get(f"/v1/scenes/{uuid4()}/similar", headers=headers(ALICE)))
    assert {answer.status_code for answer in answers} == {200, 429}


def test_owner_whose_searches_take_long_pauses_between_them(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (("SEARCH_BURST_S", 0.0), ("SEARCH_SHARE", 1e-4), ("WAIT_S", 0.3)):
        monkeypatch.setattr(callers, name, value)

    async def ask() -> None:
        turns = callers.SearchTurns(PLENTY)
        await turns.run(ALICE, lambda: time.sleep(0.05))
        with pytest.raises(RateLimited):
            await turns.run(ALICE, lambda: None)
        await turns.run(BOB, lambda: None)

    asyncio.run(ask())


def test_search_given_up_before_it_begins_leaves_its_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(callers, "SEARCH_THREADS", 1)
    let = threading.Event()

    async def ask() -> None:
        turns = callers.SearchTurns(PLENTY)
        first = asyncio.create_task(turns.run(ALICE, lambda: let.wait(30)))
        second = asyncio.create_task(turns.run(BOB, lambda: None))
        await asyncio.sleep(0.1)
        second.cancel()
        third = asyncio.create_task(turns.run(BOB, lambda: "found"))
        await asyncio.sleep(0)
        let.set()
        assert await asyncio.wait_for(third, 10) == "found"
        await first

    asyncio.run(ask())


def test_search_that_was_given_up_keeps_its_turn(held: tuple[TestClient, HeldIndex], make_api: ApiMaker) -> None:
    _, index = held
    service = SearchService(lambda _: index, query_models(pool_of(held)), pool_of(held))
    hurried = make_api(limits=ApiLimits(8 * 1024**2, 0.3, 6000, searches_at_once=1), search=service)
    assert hurried.get("/v1/search", params={"q": "tide"}, headers=headers(ALICE)).status_code == 504
    assert index.running == 1
    assert hurried.get("/v1/search", params={"q": "moon"}, headers=headers(ALICE)).status_code == 504
    assert index.running == 1
    index.let.set()


def pool_of(held: tuple[TestClient, HeldIndex]) -> Pool:
    """The pool of the application."""
    found: Pool = held[0].app.state.parts.pool  # type: ignore[attr-defined]
    return found


def test_search_whose_statement_runs_too_long_says_so(make_api: ApiMaker, database_url: str, pool: Pool) -> None:
    with open_search_pool(database_url) as searching, connect(database_url) as other:
        assert limit_of(searching) == "3s"
        with searching.connection() as connection:  # the test need not wait for three seconds
            connection.execute("SET statement_timeout = 200")
        service = SearchService(index_opener(searching), query_models(pool, searching=searching), searching)
        api = make_api(search=service)
        other.execute("LOCK TABLE video_scenes")
        for path, method in (("/v1/search?q=tide", "GET"), (f"/v1/scenes/{ALICE}/similar", "GET")):
            answer = api.request(method, path, headers=headers(ALICE))
            assert answer.status_code == 504, answer.text
            assert answer.json() == {
                "detail": "The search took too long and was stopped: ask for fewer words, or rarer ones."
            }
        assert api.get("/v1/videos", headers=headers(ALICE)).status_code == 200


def limit_of(pool: Pool) -> object:
    with pool.connection() as connection:
        row = connection.execute("SELECT current_setting('statement_timeout') AS t").fetchone()
    return row and row["t"]


def test_health_answers_while_every_pool_is_full(make_api: ApiMaker, database_url: str) -> None:
    with open_api_pool(database_url) as pool, open_health_pool(database_url) as watching, ExitStack() as borrowed:
        pool.timeout = 0.2
        api = make_api(pool=pool, health_pool=watching)
        for _ in range(pool.max_size):
            borrowed.enter_context(pool.connection(timeout=30))
        assert api.get("/v1/videos", headers=headers(ALICE)).status_code == 503
        for path in ("/readyz", "/health/ready"):
            assert api.get(path).json()["parts"]["database"] == {"ready": True, "detail": "answers"}
        for path in ("/healthz", "/health"):
            assert api.get(path).status_code == 200


def test_health_asks_once_for_all_who_wait(make_api: ApiMaker, database_url: str) -> None:
    with open_health_pool(database_url) as watching, connect(database_url) as other:
        api = make_api(health_pool=watching)
        other.execute("LOCK TABLE cluster_workers")
        with ThreadPoolExecutor(12) as threads:
            answers = list(threads.map(lambda _: api.get("/readyz"), range(12)))
        assert {answer.json()["parts"]["database"]["detail"] for answer in answers} == {"does not answer"}
        other.rollback()
        while api.get("/readyz").json()["parts"]["database"]["detail"] == "does not answer":
            pass  # what else was asked comes first
        assert watching.get_stats()["requests_num"] <= 4


@pytest.mark.parametrize(
    ("query", "words"),
    [
        (" or ".join(f"a{letter}*" for letter in "abcdefghijklmnopqrstuvwxyz"), "at least 3 letters"),
        ("aa* " + " ".join(f"-ab{letter}*" for letter in "abcdefghijklmnopqrstuvwxyz"), "at least 3 letters"),
        (" or ".join(f"aa{a}{b}*" for a in "abcdef" for b in "abcdef"), "of 32 that one may have"),
        (" ".join("abcdefghijklmnopqrstuvwxyzabcdefg"), "of 32 that one may have"),
    ],
)
def test_search_of_too_much_is_refused_at_once(api: TestClient, query: str, words: str) -> None:
    answer = api.get("/v1/search", params={"q": query}, headers=headers(ALICE))
    assert (answer.status_code, words in answer.json()["detail"]) == (400, True), answer.text


def test_search_of_too_many_beginnings_is_refused(api: TestClient, database_url: str, pool: Pool) -> None:
    with open_pool(database_url, max_size=1, name="test") as writing, writing.connection() as connection:
        connection.execute(
            """
            INSERT INTO search_vocabulary (owner_id, word, trigrams)
            SELECT owner, word, ARRAY['  l', ' li', 'lig'] FROM unnest(%s::uuid[]) AS o (owner)
            CROSS JOIN (
                SELECT 'lig' || translate(n::text, '0123456789', 'abcdefghij') FROM generate_series(1, 1001) AS n
            ) AS w (word)
            """,
            ([ALICE],),
        )
    answer = api.get("/v1/search", params={"q": "moon or LIG*"}, headers=headers(ALICE))
    assert (answer.status_code, "lig*: more than 1000 words" in answer.json()["detail"]) == (400, True)
    assert api.get("/v1/search", params={"q": "liga*"}, headers=headers(ALICE)).status_code == 200
    assert api.get("/v1/search", params={"q": "lig*"}, headers=headers(BOB)).status_code == 200
