"""The OpenAPI 3.1 document: the registry, in the words of API tools."""

from importlib.metadata import version
from typing import Any

import msgspec
from msgspec import Struct

from ostiary.control.registry import Operation, Registry
from ostiary.core.refusal import Mistake
from ostiary.dialects.native import examples

REF = "#/components/schemas/{name}"
ABOUT = """\
Every operation by its name: `POST` with its parameters as a JSON object, those that only read also `GET` with the
parameters in the query. Moments are Unix microseconds in UTC, durations seconds, sizes bytes, unless a description
says otherwise. A change is answered when it is in force in every worker, and `X-Ostiary-Applied` says so. Long
listings come in pages: `limit`, and `after`, `before` or `offset`.

Credentials: `Basic` with name and password, `Bearer` with a session token, a personal token, a token of a log-in by
code or a service key, or the cookie `access_token_cookie` of Doorman's log-in.
"""
SECURITY: list[dict[str, list[str]]] = [{"basic": []}, {"bearer": []}]
SCHEMES = {"basic": {"type": "http", "scheme": "basic"}, "bearer": {"type": "http", "scheme": "bearer"}}
RETRY = {"Retry-After": {"description": "seconds to wait", "schema": {"type": "string"}}}
CHALLENGE = {"WWW-Authenticate": {"description": "how to ask", "schema": {"type": "string"}}}
HEADERS: dict[str, dict[str, Any]] = {"401": CHALLENGE, "429": RETRY, "503": RETRY}
APPLIED = {
    "X-Ostiary-Applied": {
        "description": "where the change is in force: epoch; workers; nodes; time",
        "schema": {"type": "string"},
        "example": "epoch 8812; workers 4/4; nodes 1/1; 3 ms",
    }
}


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
    info = {"title": "Ostiary operations", "version": version("ostiary"), "license": {"name": "Apache-2.0"}}
    subjects = dict.fromkeys(each.name.partition(".")[0] for each in operations)
    paths = {
        f"/operations/{each.name}": _path(each, params[at], results[at], components)
        for at, each in enumerate(operations)
    }
    for at, each in enumerate(operations):
        if each.follow is not None:
            paths[f"/operations/{each.name}/follow"] = _following(each, params[at], components)
    return {
        "openapi": "3.1.0",
        "info": {**info, "description": ABOUT},
        "tags": [{"name": subject, "description": f"Operations {subject}.*"} for subject in subjects],
        "paths": paths,
        "security": SECURITY,
        "components": {
            "schemas": components,
            "responses": {f"Refusal{status}": _refusal(status, schemas[0]) for status in examples.REFUSALS},
            "securitySchemes": SCHEMES,
        },
    }


def _anything(kind: type) -> dict[str, Any]:
    if kind is object:
        return {"description": "any JSON"}
    raise NotImplementedError


def _refusal(status: str, schema: Any) -> dict[str, Any]:
    description, code, message = examples.REFUSALS[status]
    content = {"schema": schema, "example": {"error": code, "message": message}}
    headers = {"headers": HEADERS[status]} if status in HEADERS else {}
    return {"description": description, **headers, "content": {"application/json": content}}


def _refusals() -> dict[str, Any]:
    return {status: {"$ref": f"#/components/responses/Refusal{status}"} for status in examples.REFUSALS}


def _needs(operation: Operation) -> str:
    """What an operation asks of who runs it, as a sentence."""
    if not operation.permission:
        return "Needs no permission: who may is seen from what is shown, or it is about oneself."
    asked = " or ".join(f"`{each}`" for each in (operation.permission, *operation.also))
    return f"Needs the permission {asked}{'; none about oneself' if operation.own else ''}."


def _path(operation: Operation, params: Any, result: Any, components: dict[str, Any]) -> dict[str, Any]:
    common: dict[str, Any] = {
        "summary": operation.summary,
        "description": _needs(operation),
        "tags": [operation.name.partition(".")[0]],
        "x-permission": operation.permission,
        "responses": {
            "200": {
                "description": "What was asked" if operation.reads else "Done, and in force",
                **({} if operation.reads else {"headers": APPLIED}),
                "content": {"application/json": {"schema": result}},
            },
            **_refusals(),
        },
    }
    if not operation.permission:
        common["security"] = [{}, *SECURITY]
    required = _schema(params, components).get("required", [])
    example = {"example": examples.parameters(operation.name, required)} if required else {}
    body = {"required": bool(required), "content": {"application/json": {"schema": params, **example}}}
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
            "description": _needs(operation),
            "tags": [operation.name.partition(".")[0]],
            "x-permission": operation.permission,
            "parameters": _query(_schema(params, components)),
            "responses": {
                "200": {"description": "Lines", "content": {"text/plain": {"schema": {"type": "string"}}}},
                **_refusals(),
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
        {
            "name": name,
            "in": "query",
            "description": each.get("description", ""),
            "required": name in required,
            "schema": each,
        }
        for name, each in schema["properties"].items()
    ]
