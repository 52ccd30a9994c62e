"""Values of parameters: what clients send, and what it is taken for (doveadm.md 2.2)."""

import re
from collections.abc import Callable, Mapping
from typing import Any, Literal

from ostiary.dialects.doveadm.grammar import Number, Value

Kind = Literal["string", "integer", "boolean", "array", "number", "object"]
_INTEGER = re.compile(r"([+-]?)0*([0-9]+)", re.ASCII)
_BEYOND = 10**18
"""More than any integer that means something: what is larger is taken for it."""
_YES = frozenset({"true", "yes", "y", "t", "1"})
_NO = frozenset({"false", "no", "n", "f", "0", ""})


class BadValue(Exception):
    """A parameter that is not known, or whose value is of another type."""

    def __init__(self, parameter: str, message: str) -> None:
        super().__init__(message)
        self.parameter = parameter


def taken(kind: Kind, value: Value, parameter: str) -> Any:
    """What a value is taken for. Raises BadValue."""
    try:
        return _TAKEN[kind](value)
    except ValueError:
        raise BadValue(parameter, f"The value is no {kind}") from None


def _string(value: Value) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(_text(value))


def _integer(value: Value) -> int:
    found = _INTEGER.fullmatch(_text(value))
    if found is None:
        raise ValueError
    size = int(found[2]) if len(found[2]) <= 18 else _BEYOND
    return -size if found[1] == "-" else size


def _boolean(value: Value) -> bool:
    if isinstance(value, bool):
        return value
    text = _text(value).lower()
    if text not in _YES | _NO or (isinstance(value, Number) and text not in "01"):
        raise ValueError
    return text in _YES


def _number(value: Value) -> int | float:
    return Number(_text(value)).value()


def _array(value: Value) -> object:
    if not isinstance(value, list):
        raise ValueError
    return plain(value)


def _object(value: Value) -> object:
    if not isinstance(value, dict):
        raise ValueError
    return plain(value)


def _text(value: Value) -> str:
    if not isinstance(value, str):
        raise ValueError
    return value


def plain(value: Value) -> object:
    """A value with its numbers as numbers. Raises ValueError where one is beyond all bounds."""
    if isinstance(value, Number):
        return value.value()
    if isinstance(value, list):
        return [plain(each) for each in value]
    return {key: plain(each) for key, each in value.items()} if isinstance(value, dict) else value


_TAKEN: Mapping[Kind, Callable[[Value], object]] = {
    "string": _string, "integer": _integer, "boolean": _boolean, "number": _number, "array": _array, "object": _object,
}  # fmt: skip
