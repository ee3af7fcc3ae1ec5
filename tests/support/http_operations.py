"""Every operation of the HTTP API with its parameters, body and answers, as Markdown, from its OpenAPI document."""

from collections.abc import Iterator
from typing import Any, cast

from serve_app.app import build_api
from serve_app.parts import ApiParts

EVERYWHERE = {"413", "414", "429", "431", "504"}
WITH_TOKEN = {"400", "401", "503"}
"""Answers that the page names once for all operations."""

Schema = dict[str, Any]


def openapi_document() -> Schema:
    """The document of an application that has no database, and needs none for it."""
    absent = cast(Any, None)
    schemes = frozenset({"http", "https"})
    parts = ApiParts(pool=absent, verifier=absent, search=absent, allowed_schemes=schemes)
    return build_api(parts).openapi()


def http_operations() -> str:
    document = openapi_document()
    schemas = document["components"]["schemas"]
    sections = [
        _operation(method.upper(), path, operation)
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
    ]
    objects = [_object(name, schema) for name, schema in sorted(schemas.items()) if "properties" in schema]
    values = [
        f"### {name}\n\n{', '.join(f'`{value}`' for value in schema['enum'])}"
        for name, schema in sorted(schemas.items())
        if "enum" in schema
    ]
    return "\n\n".join(["## Operations", *sections, "## Objects", *objects, "## Values", *values])


def _operation(method: str, path: str, operation: Schema) -> str:
    text = [f"### {method} {path}", operation["description"].strip()]
    rows = [_parameter(parameter) for parameter in operation.get("parameters", ())]
    if "requestBody" in operation:
        rows.append(_body(operation["requestBody"]))
    if rows:
        text.append("\n".join(["| parameter | in | value | meaning |", "|---|---|---|---|", *rows]))
    text.append("\n".join(_answers(operation)))
    return "\n\n".join(text)


def _parameter(parameter: Schema) -> str:
    schema = parameter["schema"]
    meaning = parameter.get("description", schema.get("description", ""))
    name = f"`{parameter['name']}`" + (" (required)" if parameter["required"] else "")
    return f"| {name} | {parameter['in']} | {_type(schema)} | {_cell(meaning)} |"


def _body(body: Schema) -> str:
    kinds = ", ".join(f"`{kind}`" for kind in body["content"])
    schema = next(iter(body["content"].values())).get("schema", {})
    name = "body (required)" if body.get("required") else "body"
    return f"| {name} | {kinds} | {_type(schema)} | {_description(schema)} |"


def _answers(operation: Schema) -> Iterator[str]:
    known = EVERYWHERE | (WITH_TOKEN if "security" in operation else set())
    for status, answer in operation["responses"].items():
        if status in known:
            continue
        content = answer.get("content", {})
        kinds = [_type(kind["schema"]) for kind in content.values() if kind.get("schema")]
        shown = f": {', '.join(dict.fromkeys(kinds))}" if kinds and status < "400" else ""
        said = answer["description"] if status >= "400" else ""
        yield f"- **{status}**{shown} {said}".rstrip()


def _object(name: str, schema: Schema) -> str:
    required = set(schema.get("required", ()))
    rows = [
        f"| `{field}`{'' if field in required else ' (optional)'} | {_type(value)} | {_description(value)} |"
        for field, value in schema["properties"].items()
    ]
    text = [f"### {name}"]
    if schema.get("description"):
        text.append(_cell(schema["description"]))
    text.append("\n".join(["| field | value | meaning |", "|---|---|---|", *rows]))
    return "\n\n".join(text)


def _type(schema: Schema) -> str:
    for several in ("anyOf", "oneOf"):
        if several in schema:
            return " or ".join(dict.fromkeys(_type(one) for one in schema[several]))
    if "$ref" in schema:
        name = schema["$ref"].rpartition("/")[2]
        return f"[{name}](#{name.lower()})"
    if schema.get("type") == "array":
        return f"list of {_type(schema.get('items', {}))}"
    if "const" in schema:
        return f"`{schema['const']}`"
    if "enum" in schema:
        return ", ".join(f"`{value}`" for value in schema["enum"])
    return str(schema.get("format", schema.get("type", "any"))) + _bounds(schema)


def _bounds(schema: Schema) -> str:
    low, high = schema.get("minimum"), schema.get("maximum")
    bounds = f", {low:,.0f} to {high:,.0f}" if low is not None and high is not None else ""
    return bounds + (f", default `{schema['default']}`" if schema.get("default") is not None else "")


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


def _description(schema: Schema) -> str:
    return _cell(schema.get("description", ""))
