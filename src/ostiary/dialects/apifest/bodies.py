"""The bodies that ApiFest takes, bound strictly: what it does not know or cannot read is `invalid JSON`.

Integer fields also take decimal text; null stands for an absent field.
"""

import re
from collections.abc import Iterator
from typing import Any, TypeVar

import msgspec
from msgspec import Struct
from msgspec.structs import asdict

from ostiary.dialects.apifest.words import INVALID_JSON, Said, error

B = TypeVar("B", bound=Struct)
Number = int | float | str
_DECIMAL = re.compile(r"[+-]?[0-9]{1,10}", re.ASCII)
_LEAST, _MOST = -(2**31), 2**31 - 1


class ScopeBody(Struct, forbid_unknown_fields=True):
    """A scope, new or changed."""

    scope: str | None = None
    description: str | None = None
    cc_expires_in: Number | None = None
    pass_expires_in: Number | None = None
    refresh_expires_in: Number | None = None


class LimitBody(Struct, forbid_unknown_fields=True):
    """A client application's own rate limit."""

    requests: Number | None = None
    per_seconds: Number | None = None


class ApplicationBody(Struct, forbid_unknown_fields=True):
    """A client application, new or changed."""

    name: str | None = None
    scope: str | None = None
    redirect_uri: str | None = None
    description: str | None = None
    application_details: dict[str, str] | None = None
    details: dict[str, str] | None = None
    """Another name for application_details."""
    client_id: str | None = None
    client_secret: str | None = None
    status: Number | None = None
    registered: Any = None
    grant_types: list[str] | None = None
    rotate_refresh_tokens: bool | None = None
    rate_limit: LimitBody | None = None
    token_endpoint_auth_method: str | None = None


def bind(body: bytes, kind: type[B]) -> B:
    """The body as `kind`, its numbers as integers. Said `invalid JSON`, or `FIELD is not an integer`."""
    try:
        bound = msgspec.json.decode(body, type=kind)
    except (ValueError, RecursionError) as problem:
        raise Said(INVALID_JSON) from problem
    parts: list[Struct] = [bound, *(value for value in asdict(bound).values() if isinstance(value, Struct))]
    _check_texts(bound)
    for part in parts:
        _check_range(part)
    for part in parts:
        _whole(part)
    return bound


def object_in(body: bytes) -> dict[str, Any]:
    """The members of a JSON object, empty for anything else."""
    try:
        found = msgspec.json.decode(body)
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _check_texts(bound: Struct) -> None:
    """No text holds U+0000 (lone surrogates do not decode at all)."""
    if any("\0" in text for text in _texts(msgspec.to_builtins(bound))):
        raise Said(INVALID_JSON)


def _texts(value: Any) -> Iterator[str]:
    waiting = [value]
    while waiting:
        value = waiting.pop()
        if isinstance(value, str):
            yield value
        elif isinstance(value, dict):
            waiting += [*value, *value.values()]
        elif isinstance(value, list):
            waiting += value


def _numbers(part: Struct) -> Iterator[tuple[str, object]]:
    for field in msgspec.structs.fields(part):
        if field.type == Number | None:
            yield field.name, getattr(part, field.name)


def _check_range(part: Struct) -> None:
    for _, value in _numbers(part):
        if isinstance(value, int) and not _LEAST <= value <= _MOST:
            raise Said(INVALID_JSON)


def _whole(part: Struct) -> None:
    for name, value in _numbers(part):
        if isinstance(value, float) or (isinstance(value, str) and not _fits(value)):
            raise Said(error(400, f"{name} is not an integer"))
        if isinstance(value, str):
            setattr(part, name, int(value))


def _fits(text: str) -> bool:
    return _DECIMAL.fullmatch(text) is not None and _LEAST <= int(text) <= _MOST
