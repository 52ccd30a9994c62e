"""The OpenAPI 3.1 document: the registry, in the words of API tools."""

from importlib.metadata import version
from typing import Any

import msgspec
from msgspec import Struct

from ostiary.control.registry import Operation, Registry
from ostiary.core.refusal import Mistake

REF = "#/components/schemas/{name}"
REFUSALS = ("400", "401", "403", "404", "409", "413", "415", "429", "503")


class Problem(Struct):
    """A refusal: a stable code, a sentence for a person, and each mistake where there are any."""

    error: str
    message: str
    mistakes: list[Mistake] | msgspec.UnsetType = msgspec.UNSET


def document(registry: Registry) -> dict[str, Any]:
    """The whole document."""
    operations = list(registry.operations.values())
    types = [Problem, *(each.params for each in operations), *(each.result for each in operations)]
    schemas, components = msgspec.json.schema_components(types, schema_hook=_anything, ref_template=REF)
    params, results = schemas[1 : 1 + len(operations)], schemas[1 + len(operations) :]
    refusal = {"description": "A refusal", "content": {"application/json": {"schema": schemas[0]}}}
    paths = {
        f"/operations/{each.name}": _path(each, params[at], results[at], components)
        for at, each in enumerate(operations)
    }
    for at, each in enumerate(operations):
        if each.follow is not None:
            paths[f"/operations/{each.name}/follow"] = _following(each, params[at], components)
    return {
        "openapi": "3.1.0",
        "info": {"title": "Ostiary operations", "version": version("ostiary"), "license": {"name": "Apache-2.0"}},
        "paths": paths,
        "security": [{"basic": []}],
        "components": {
            "schemas": components,
            "responses": {"Refusal": refusal},
            "securitySchemes": {"basic": {"type": "http", "scheme": "basic"}},
        },
    }


def _anything(kind: type) -> dict[str, Any]:
    if kind is object:
        return {"description": "any JSON"}
    raise NotImplementedError


def _path(operation: Operation, params: Any, result: Any, components: dict[str, Any]) -> dict[str, Any]:
    common: dict[str, Any] = {
        "summary": operation.summary,
        "tags": [operation.name.partition(".")[0]],
        "x-permission": operation.permission,
        "responses": {
            "200": {"description": "Done", "content": {"application/json": {"schema": result}}},
            **{status: {"$ref": "#/components/responses/Refusal"} for status in REFUSALS},
        },
    }
    if not operation.permission:
        common["security"] = [{}, {"basic": []}]
    body = {"required": bool(_schema(params, components).get("required")),
            "content": {"application/json": {"schema": params}}}  # fmt: skip
    path: dict[str, Any] = {"post": {**common, "operationId": operation.name, "requestBody": body}}
    if operation.reads:
        query = _query(_schema(params, components))
        path["get"] = {**common, "operationId": f"{operation.name}.get", "parameters": query}
    return path


def _following(operation: Operation, params: Any, components: dict[str, Any]) -> dict[str, Any]:
    return {
        "get": {
            "operationId": f"{operation.name}.follow",
            "summary": f"{operation.summary.rstrip('.')}, and what comes to it.",
            "tags": [operation.name.partition(".")[0]],
            "x-permission": operation.permission,
            "parameters": _query(_schema(params, components)),
            "responses": {
                "200": {"description": "Lines", "content": {"text/plain": {"schema": {"type": "string"}}}},
                **{status: {"$ref": "#/components/responses/Refusal"} for status in REFUSALS},
            },
        }
    }


def _schema(params: Any, components: dict[str, Any]) -> dict[str, Any]:
    name = params["$ref"].rpartition("/")[2]
    schema: dict[str, Any] = components[name]
    return schema


def _query(schema: dict[str, Any]) -> list[dict[str, Any]]:
    required = schema.get("required", [])
    return [
        {"name": name, "in": "query", "required": name in required, "schema": each}
        for name, each in schema["properties"].items()
    ]
