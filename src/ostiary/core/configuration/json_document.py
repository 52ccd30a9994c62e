"""JSON documents, read whole by the standard library; where something stands is looked up when somebody asks."""

import json
import re
from bisect import bisect_left
from collections.abc import Iterator
from typing import Any

from ostiary.core.configuration.binding import Where
from ostiary.core.configuration.source import Document, nothing, nul_line, whole
from ostiary.core.refusal import Mistake


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
        return nothing(file, _Json(text).line_at(lone.start()), "a lone surrogate is no text")
    places = _Json(text)
    twice = places.doubled() if doubled else ()
    mistakes = [Mistake("", f"{name[:64]!r} stands twice here", file, line) for name, line in twice]
    return whole(data, mistakes, places.line, file, nul_line(text))


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


class _Json:
    """Where everything stands in a valid JSON text; each object and array is looked into once, when it is asked for."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._newlines: list[int] = []
        self._found: dict[int, dict[str | int, tuple[int, int]]] = {}

    def line(self, where: Where) -> int:
        """The line of a place, or of the nearest one around it."""
        at, found = self._skip(0), 0
        for step in where:
            here = self._members(at) if self._text[at] in "{[" else {}
            if step not in here:
                break
            found, at = here[step]
        return self.line_at(found)

    def line_at(self, at: int) -> int:
        """The line of a position."""
        if not self._newlines:
            self._newlines = [found.start() for found in re.finditer("\n", self._text)] or [len(self._text)]
        return bisect_left(self._newlines, at) + 1

    def doubled(self) -> Iterator[tuple[str, int]]:
        """Each key that stands again in its object, and its line."""
        waiting = [self._skip(0)]
        while waiting:
            seen: set[str | int] = set()
            for name, key_at, value_at in self._walk(waiting.pop()):
                if name in seen:
                    yield str(name), self.line_at(key_at)
                seen.add(name)
                if self._text[value_at] in "{[":
                    waiting.append(value_at)

    def _members(self, at: int) -> dict[str | int, tuple[int, int]]:
        if at not in self._found:
            self._found[at] = {name: (key_at, value_at) for name, key_at, value_at in self._walk(at)}
        return self._found[at]

    def _walk(self, at: int) -> Iterator[tuple[str | int, int, int]]:
        """Key (or index), where it stands and where its value stands, of the object or array at `at`."""
        text = self._text
        closing = "}" if text[at] == "{" else "]"
        index = 0
        at = self._skip(at + 1)
        while text[at] != closing:
            name: str | int = index
            key_at = at
            if closing == "}":
                name, at = _decode(text, at)
                at = self._skip(self._skip(at) + 1)
            yield name, key_at, at
            at = self._skip(_decode(text, at)[1])
            if text[at] == ",":
                at = self._skip(at + 1)
            index += 1

    def _skip(self, at: int) -> int:
        match = _blank.match(self._text, at)
        return match.end() if match else at
