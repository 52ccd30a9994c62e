"""JSON documents, read whole by the standard library; where something stands is looked up when somebody asks."""

import json
import re
from collections.abc import Iterator
from typing import Any

from ostiary.core.binding import Where
from ostiary.core.refusal import Mistake
from ostiary.core.source import Document, nothing, nul_line, whole


def read_json(text: str, file: str) -> Document:
    """The JSON document in `text`."""
    doubled: list[str] = []

    def mapping(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        members = dict(pairs)
        if len(members) != len(pairs):
            doubled.append("")
        return members

    try:
        data = json.loads(text, object_pairs_hook=mapping, parse_constant=_no_constant)
    except json.JSONDecodeError as problem:
        return nothing(file, problem.lineno, f"not JSON: {problem.msg}")
    except RecursionError:
        return nothing(file, 0, "nested too deep")
    except ValueError as problem:
        digits = "digits" in str(problem)
        return nothing(file, 0, f"not JSON: {'a number has too many digits' if digits else problem}")
    lone = SURROGATE.search(text)
    if lone and not _encodable(data):
        return nothing(file, _line_at(text, lone.start()), "a lone surrogate is no text")
    mistakes = (
        [Mistake("", f"{name[:64]!r} stands twice here", file, _line_at(text, at)) for name, at in _doubled(text)]
        if doubled
        else []
    )
    return whole(data, mistakes, lambda where: _json_line(text, where), file, nul_line(text))


SURROGATE = re.compile(r"\\u[dD][89a-fA-F]")


def _encodable(data: object) -> bool:
    try:
        json.dumps(data, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        return False
    return True


def _no_constant(name: str) -> float:
    raise ValueError(f"{name} is no JSON number")


_decode = json.JSONDecoder().raw_decode
_blank = re.compile(r"[ \t\n\r]*")


def _skip(text: str, at: int) -> int:
    match = _blank.match(text, at)
    return match.end() if match else at


def _members(text: str, at: int) -> Iterator[tuple[str | int, int, int]]:
    """Key (or index), where it stands and where its value stands, of the object or array at `at`."""
    closing = "}" if text[at] == "{" else "]"
    index = 0
    at = _skip(text, at + 1)
    while text[at] != closing:
        name: str | int = index
        key_at = at
        if closing == "}":
            name, at = _decode(text, at)
            at = _skip(text, _skip(text, at) + 1)
        yield name, key_at, at
        at = _skip(text, _decode(text, at)[1])
        if text[at] == ",":
            at = _skip(text, at + 1)
        index += 1


def _json_line(text: str, where: Where) -> int:
    at, found = _skip(text, 0), 0
    for step in where:
        if text[at] not in "{[":
            break
        hit = next((each for each in _members(text, at) if each[0] == step), None)
        if hit is None:
            break
        found, at = hit[1], hit[2]
    return _line_at(text, found)


def _line_at(text: str, at: int) -> int:
    return text.count("\n", 0, at) + 1


def _doubled(text: str) -> Iterator[tuple[str, int]]:
    """Each key that stands again in its object, and where."""
    waiting = [_skip(text, 0)]
    while waiting:
        at = waiting.pop()
        seen: set[str | int] = set()
        for name, key_at, value_at in _members(text, at):
            if name in seen:
                yield str(name), key_at
            seen.add(name)
            if text[value_at] in "{[":
                waiting.append(value_at)
