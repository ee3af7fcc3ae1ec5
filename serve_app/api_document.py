"""The OpenAPI document: what FastAPI says of the routes, made true to what this server answers."""

from typing import Any

from fastapi import FastAPI


def install(api: FastAPI, uri_pattern: str | None) -> None:
    """Have the application publish the corrected document. ``uri_pattern``: what a submitted URI looks like."""
    made = api.openapi

    def openapi() -> dict[str, Any]:
        document = made()
        for operations in document["paths"].values():
            for operation in operations.values():
                operation["responses"].pop("422", None)  # FastAPI's own answer to a wrong request; here it is a 400
                for parameter in operation.get("parameters", ()):
                    parameter["schema"] = _without_null(parameter["schema"])
        schemas = document["components"]["schemas"]
        for name in ("HTTPValidationError", "ValidationError"):
            schemas.pop(name, None)
        if uri_pattern is not None:
            schemas["Submission"]["properties"]["uri"]["pattern"] = uri_pattern
        return document

    api.openapi = openapi  # type: ignore[method-assign]


def _without_null(schema: dict[str, Any]) -> dict[str, Any]:
    """A parameter's schema where it may be left out but never be null: an address has no null."""
    alternatives = [one for one in schema.get("anyOf", ()) if one.get("type") != "null"]
    if len(alternatives) == len(schema.get("anyOf", ())):
        return schema
    shared = {name: value for name, value in schema.items() if name != "anyOf"}
    return {**shared, **alternatives[0]} if len(alternatives) == 1 else {**shared, "anyOf": alternatives}
