"""The OpenAPI document: whole, and true to what the routes answer."""

from typing import Any

import jsonschema
import pytest
from starlette.testclient import TestClient

from serve_app.app import ADMIN_ROUTES, OPEN_ROUTES, USER_ROUTES

ERRORS_OF = {
    "/v1/videos": {"409", "413", "415", "429"},
    "/v1/videos/{video_id}": {"409"},
    "/v1/videos/{video_id}/cancel": {"409"},
    "/v1/videos/{video_id}/retry": {"409"},
    "/v1/search/image": {"413"},
    "/v1/admin/failures/retry": {"409", "413", "415"},
    "/v1/admin/videos/cancel": {"409", "413", "415"},
    "/v1/admin/reprocess-embeddings": {"409"},
    "/v1/videos/{video_id}/reprocess": {"409", "413", "415"},
}
"""What only some routes answer with."""


@pytest.fixture
def document(api: TestClient) -> dict[str, Any]:
    answer: dict[str, Any] = api.get("/openapi.json").json()
    return answer


def operations(document: dict[str, Any]) -> dict[tuple[str, str], dict[str, Any]]:
    return {(m.upper(), path): op for path, verbs in document["paths"].items() for m, op in verbs.items()}


def test_every_route_is_described_and_nothing_else(document: dict[str, Any]) -> None:
    table = {(method, path) for method, path, _, _ in ADMIN_ROUTES + USER_ROUTES + OPEN_ROUTES}
    assert set(operations(document)) == table
    for operation in operations(document).values():
        assert operation["description"], operation["operationId"]


def test_guarded_routes_name_the_bearer_scheme_and_their_errors(document: dict[str, Any]) -> None:
    assert document["components"]["securitySchemes"]["HTTPBearer"]["scheme"] == "bearer"
    always = {"400", "401", "503", "504"}
    for routes, codes in ((ADMIN_ROUTES, always | {"403"}), (USER_ROUTES, always)):
        for method, path, _, status in routes:
            operation = operations(document)[method, path]
            assert operation["security"] == [{"HTTPBearer": []}]
            wanted = codes | ERRORS_OF.get(path if method != "GET" else "", set()) | ({"404"} if "{" in path else set())
            assert set(operation["responses"]) == wanted | {str(status)}, (path, "422 never happens: it is a 400")
            for code in wanted:
                schema = operation["responses"][code]["content"]["application/json"]["schema"]
                assert schema == {"$ref": "#/components/schemas/Problem"}
    for method, path, _, _ in OPEN_ROUTES:
        assert "security" not in operations(document)[method, path]


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
    assert parameters["range"]["schema"]["pattern"] == "^[1-9][0-9]{0,2}d$"
    assert parameters["range"]["schema"]["default"] == "7d"
    assert parameters["page_size"]["schema"]["maximum"] == 100
    assert "range_" not in parameters
    submitted = {p["name"]: p for p in operations(document)["POST", "/v1/videos"]["parameters"]}
    assert submitted["Idempotency-Key"]["in"] == "header"
    assert document["components"]["schemas"]["Submission"]["properties"]["priority"]["minimum"] == -10
