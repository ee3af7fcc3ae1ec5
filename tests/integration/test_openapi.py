"""The OpenAPI document: whole, and true to what the routes answer."""

import re
from typing import Any

import jsonschema
import pytest
from starlette.testclient import TestClient

from cluster.contracts.uri_prefixes import UriPrefix
from serve_app.route_table import ADMIN_ROUTES, OPEN_ROUTES, USER_ROUTES
from serve_app.routes.admin import RANGE_PATTERN
from tests.support.api_client import ALICE, ApiMaker

ERRORS_OF = {
    "/v1/videos": {"409", "415", "429"},
    "/v1/videos/{video_id}": {"409"},
    "/v1/videos/{video_id}/cancel": {"409"},
    "/v1/videos/{video_id}/retry": {"409", "429"},
    "/v1/search/image": {"404"},
    "/v1/admin/failures/retry": {"409", "415"},
    "/v1/admin/videos/cancel": {"409", "415"},
    "/v1/admin/reprocess-embeddings": {"409"},
    "/v1/videos/{video_id}/reprocess": {"409", "415", "429"},
}
"""Statuses that only some routes answer with."""
EVERYWHERE = {"413", "414", "429", "431", "504"}
"""Statuses that the limits around the application answer with, on every route."""


@pytest.fixture
def document(api: TestClient) -> dict[str, Any]:
    answer: dict[str, Any] = api.get("/openapi.json").json()
    return answer


def operations(document: dict[str, Any]) -> dict[tuple[str, str], dict[str, Any]]:
    return {(m.upper(), path): op for path, verbs in document["paths"].items() for m, op in verbs.items()}


def test_every_route_is_described_and_nothing_else(document: dict[str, Any]) -> None:
    table = {(route.method, route.path) for route in ADMIN_ROUTES + USER_ROUTES + OPEN_ROUTES}
    assert set(operations(document)) == table
    for operation in operations(document).values():
        assert operation["description"], operation["operationId"]


def test_guarded_routes_name_the_bearer_scheme_and_their_errors(document: dict[str, Any]) -> None:
    assert document["components"]["securitySchemes"]["HTTPBearer"]["scheme"] == "bearer"
    always = EVERYWHERE | {"400", "401", "503"}
    for routes, codes in ((ADMIN_ROUTES, always | {"403"}), (USER_ROUTES, always)):
        for method, path, status in [(route.method, route.path, route.status) for route in routes]:
            operation = operations(document)[method, path]
            assert operation["security"] == [{"HTTPBearer": []}]
            wanted = codes | ERRORS_OF.get(path if method != "GET" else "", set())
            wanted |= {"404"} if "{" in path or path == "/v1/search" else set()
            assert set(operation["responses"]) == wanted | {str(status)}, (path, "422 never happens: it is a 400")
            for code in wanted:
                schema = operation["responses"][code]["content"]["application/json"]["schema"]
                assert schema == {"$ref": "#/components/schemas/Problem"}
    for method, path in [(route.method, route.path) for route in OPEN_ROUTES]:
        operation = operations(document)[method, path]
        assert "security" not in operation
        assert set(operation["responses"]) == EVERYWHERE | {"200"} | ({"503"} if "ready" in path else set())


def test_readiness_is_described_in_both_states(document: dict[str, Any]) -> None:
    for path in ("/readyz", "/health/ready"):
        for code in ("200", "503"):
            schema = operations(document)["GET", path]["responses"][code]["content"]["application/json"]["schema"]
            assert schema == {"$ref": "#/components/schemas/Readiness"}


def test_what_may_be_left_out_is_never_null(document: dict[str, Any]) -> None:
    parameters = [p for operation in operations(document).values() for p in operation.get("parameters", ())]
    assert len(parameters) > 20
    assert [p["name"] for p in parameters if "null" in str(p["schema"])] == []


def test_picture_is_described_as_one(document: dict[str, Any]) -> None:
    body = operations(document)["POST", "/v1/search/image"]["requestBody"]
    assert (body["required"], set(body["content"])) == (True, {"image/jpeg", "image/png", "image/webp"})


def test_uri_is_described_by_the_schemes_that_are_allowed(make_api: ApiMaker) -> None:
    def pattern(*schemes: str) -> str | None:
        described: dict[str, Any] = make_api(allowed_schemes=frozenset(schemes)).get("/openapi.json").json()
        uri = described["components"]["schemas"]["Submission"]["properties"]["uri"]
        return uri.get("pattern")

    web, both, any_path = pattern("https"), pattern("https", "s3"), pattern("https", "file")
    assert web is not None
    assert both is not None
    assert [bool(re.search(one, "s3://bucket/a.mp4")) for one in (web, both)] == [False, True]
    assert [bool(re.search(one, "https://example.org/a.mp4")) for one in (web, both)] == [True, True]
    assert any_path is None


def test_uri_is_described_by_the_prefixes_too(make_api: ApiMaker) -> None:
    rules = {"allowed_schemes": frozenset({"https"}), "uri_prefixes": (UriPrefix.read("s3://uploads/{owner}/"),)}
    described: dict[str, Any] = make_api(**rules).get("/openapi.json").json()
    pattern = described["components"]["schemas"]["Submission"]["properties"]["uri"]["pattern"]
    tried = ["https://example.org/a.mp4", f"s3://uploads/{ALICE}/a.mp4", "s3://uploads/a.mp4", "s3://other/a.mp4"]
    assert [bool(re.search(pattern, uri)) for uri in tried] == [True, True, False, False]


def test_headers_of_errors_are_described(document: dict[str, Any]) -> None:
    described = operations(document)["GET", "/v1/videos"]["responses"]
    assert described["401"]["headers"].keys() == {"WWW-Authenticate"}
    assert described["503"]["headers"].keys() == {"Retry-After"}


def test_examples_fit_their_own_schemas(document: dict[str, Any]) -> None:
    shown = 0
    for name, schema in document["components"]["schemas"].items():
        for example in schema.get("examples", []):
            jsonschema.validate(example, {**schema, "components": document["components"]})
            shown += 1
            assert name
    assert shown >= 9


def test_the_parameters_that_are_allowed_are_described(document: dict[str, Any]) -> None:
    parameters = {p["name"]: p for p in operations(document)["GET", "/v1/admin/users"]["parameters"]}
    assert parameters["range"]["schema"]["pattern"] == RANGE_PATTERN
    assert parameters["range"]["schema"]["default"] == "7d"
    assert parameters["page_size"]["schema"]["maximum"] == 100
    assert "range_" not in parameters
    submitted = {p["name"]: p for p in operations(document)["POST", "/v1/videos"]["parameters"]}
    assert submitted["Idempotency-Key"]["in"] == "header"
    assert document["components"]["schemas"]["Submission"]["properties"]["priority"]["minimum"] == -10
