"""The promises of all routes together: admins' are closed to users, a search has an end, a name is one line.

Who passes a route is ``test_route_guards``', what a request may cost ``test_request_limits``'.
"""

from typing import Any

from starlette.testclient import TestClient

from serve_app.pools import open_api_pool
from serve_app.route_table import ADMIN_ROUTES
from tests.support.api_client import ADMIN, ALICE, headers


def test_every_admin_route_is_closed_to_users(api: TestClient) -> None:
    for method, path in [(route.method, route.path) for route in ADMIN_ROUTES]:
        place = path.format(user_id=ALICE, job_id=ALICE)
        answer = api.request(method, place, headers=headers(ALICE))
        assert (answer.status_code, list(answer.json())) == (403, ["detail"]), path
        assert api.request(method, place, headers=headers(ADMIN)).status_code not in (401, 403), path


def test_api_session_statement_is_bounded_by_the_request(database_url: str) -> None:
    with open_api_pool(database_url, 2.5) as pool, pool.connection() as connection:
        assert connection.execute("SELECT current_setting('statement_timeout') AS t").fetchall() == [{"t": "2500ms"}]
        assert pool.timeout == 2.5


def test_pages_have_a_size_and_a_last_one(api: TestClient) -> None:
    def status(path: str, **asked: int) -> int:
        return api.get(path, params=asked, headers=headers(ADMIN)).status_code

    for path in ("/v1/videos", "/v1/admin/users", "/v1/admin/failures/quarantine"):
        assert [status(path, page=1_000_000), status(path, page_size=100)] == [200, 200]
        assert [status(path, page=1_000_001), status(path, page_size=101), status(path, page=0)] == [400] * 3


def test_a_search_has_an_end(api: TestClient) -> None:
    def status(**asked: Any) -> int:
        return api.get("/v1/search", params={"q": "tide", **asked}, headers=headers(ALICE)).status_code

    assert (status(q="a" * 1000), status(limit=100)) == (200, 200)
    assert [status(q="a" * 1001), status(q=""), status(limit=101), status(limit=0)] == [400] * 4


def test_a_name_that_no_database_can_hold_is_written_out(api: TestClient) -> None:
    sent = api.post("/v1/videos", json={"uri": "https://example.org/a%00%1b[2J.mp4"}, headers=headers(ALICE))
    assert sent.status_code == 202
    video = api.get(f"/v1/videos/{sent.json()['ids'][0]}", headers=headers(ALICE)).json()
    assert video["filename"] == "a\\x00\\x1b[2J.mp4"
