"""Extensions: every operation of the registry as a command under its own name (doveadm.md 3)."""

from collections.abc import Iterable, Iterator, Mapping
from types import MappingProxyType
from typing import Any

import msgspec

from ostiary.control.registry import Operation
from ostiary.dialects.doveadm import rows
from ostiary.dialects.doveadm.commands import Asked, Command, Parameter
from ostiary.dialects.doveadm.values import Kind
from ostiary.dialects.doveadm.words import OWN

LOG_INS = "login."
PEOPLE = ("users.create", "users.register")
OTHER_NAMES: Mapping[str, Mapping[str, str]] = MappingProxyType({
    **{name: MappingProxyType({"name": "user"}) for name in PEOPLE},
    "penalties.clear": MappingProxyType({"network": "netmask"}),
    "penalties.list": MappingProxyType({"network": "netmask"}),
})  # fmt: skip
"""Parameters that are called otherwise here: a person is always `user`, a network `netmask`."""


def extensions(operations: Iterable[Operation]) -> list[Command]:
    """A command an operation, by name; log-ins give credentials, and are for surfaces that take none yet."""
    kept = [each for each in operations if not each.name.startswith(LOG_INS)]
    schemas, components = msgspec.json.schema_components([each.params for each in kept], schema_hook=_anything)
    return [_command(each, schema, components) for each, schema in zip(kept, schemas, strict=True)]


def _command(operation: Operation, schema: dict[str, Any], components: dict[str, Any]) -> Command:
    others = OTHER_NAMES.get(operation.name, {})
    parameters = sorted(_parameters(_resolved(schema, components), components, others), key=lambda each: each.name)
    own = {others.get(name, name): name for name in operation.params.__struct_fields__}

    def ask(asked: Asked) -> dict[str, object]:
        return {own[name]: value for name, value in asked.values.items()}

    return Command(operation.name, operation.name, tuple(parameters), ask, lambda result, _: rows.own(result), OWN)


def _parameters(schema: dict[str, Any], components: dict[str, Any], others: Mapping[str, str]) -> Iterator[Parameter]:
    required = schema.get("required", [])
    for name, each in schema["properties"].items():
        kind, loose = _kind(each, components)
        yield Parameter(others.get(name, name), kind, name in required, loose=loose)


def _kind(schema: dict[str, Any], components: dict[str, Any]) -> tuple[Kind, bool]:
    """The type of a parameter, and whether it is an array of more than strings."""
    if "anyOf" in schema:
        return _kind(next(each for each in schema["anyOf"] if each.get("type") != "null"), components)
    schema = _resolved(schema, components)
    kind: Kind = schema.get("type", "string")
    return kind, kind == "array" and _resolved(schema.get("items", {}), components).get("type") != "string"


def _resolved(schema: dict[str, Any], components: dict[str, Any]) -> dict[str, Any]:
    reference = schema.get("$ref")
    found: dict[str, Any] = components[reference.rpartition("/")[2]] if reference else schema
    return found


def _anything(kind: type) -> dict[str, Any]:
    """A parameter that may be any JSON is an object here."""
    return {"type": "object"}
