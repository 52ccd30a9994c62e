"""Assembly: the main file, what it includes and the environment -> one tree of data, and where each part came from."""

from collections.abc import Mapping
from difflib import get_close_matches
from typing import Any, Literal, NamedTuple, Union, get_args, get_origin

from ostiary.core.configuration.binding import Where, path_text
from ostiary.core.configuration.keys import KEYS, Declared
from ostiary.core.configuration.source import Document
from ostiary.core.refusal import Mistake

PREFIX = "OSTIARY_"
TRUTH = {"true": True, "1": True, "yes": True, "on": True, "false": False, "0": False, "no": False, "off": False}


class Place(NamedTuple):
    """Where a part of the settings was written. `file` is empty for the environment, then `name` says the variable."""

    file: str
    line: int
    path: str
    name: str = ""


class _Run(NamedTuple):
    """Items of a list that came from one file: the first one's index here and there."""

    start: int
    document: Document
    file: str
    first: int


class Assembly:
    """Puts documents together. Mappings are united, lists joined; one value said twice is a mistake."""

    def __init__(self) -> None:
        self.data: dict[str, Any] = {}
        self.mistakes: list[Mistake] = []
        self._owners: dict[Where, tuple[Document, str]] = {}
        self._runs: dict[Where, list[_Run]] = {}
        self._variables: dict[Where, str] = {}

    def add(self, document: Document, file: str) -> None:
        """One more document; its own mistakes come along."""
        self.mistakes += document.mistakes
        self._unite(self.data, document.data, (), document, file)

    def _unite(self, into: dict[str, Any], data: dict[str, Any], where: Where, document: Document, file: str) -> None:
        for name, value in data.items():
            here = (*where, name)
            if value is None:
                continue
            if name not in into:
                self._take(into, name, value, here, document, file)
            elif isinstance(into[name], dict) and isinstance(value, dict):
                self._unite(into[name], value, here, document, file)
            elif isinstance(into[name], list) and isinstance(value, list):
                self._runs[here].append(_Run(len(into[name]), document, file, 0))
                into[name] = into[name] + value
            else:
                first = self.place(here)
                text = f"stands in {first.file}:{first.line} too"
                self.mistakes.append(Mistake(path_text(here), text, file, document.line(here)))

    def _take(self, into: dict[str, Any], name: str, value: object, here: Where, document: Document, file: str) -> None:
        self._owners[here] = document, file
        if isinstance(value, dict) and len(here) < 3:
            into[name] = {}
            self._unite(into[name], value, here, document, file)
        else:
            into[name] = value
            if isinstance(value, list):
                self._runs[here] = [_Run(0, document, file, 0)]

    def override(self, environ: Mapping[str, str]) -> None:
        """Let the environment have its say: `OSTIARY_` and a key, not empty."""
        for key, each in KEYS.items():
            text = environ.get(PREFIX + key)
            if text and self._set(each.path, from_text(each, text)):
                self._variables[each.path] = PREFIX + key

    def _set(self, path: tuple[str, ...], value: object) -> bool:
        node = self.data
        for name in path[:-1]:
            if not isinstance(node.setdefault(name, {}), dict):
                return False
            node = node[name]
        node[path[-1]] = value
        return True

    def place(self, where: Where) -> Place:
        """Where the part was written; of something that is nowhere, the nearest thing around it."""
        for length in range(len(where), 0, -1):
            if name := self._variables.get(where[:length]):
                return Place("", 0, path_text(where), name)
        for length in range(len(where), 0, -1):
            runs = self._runs.get(where[:length])
            index = where[length] if length < len(where) else 0
            if runs and isinstance(index, int):
                run = next(run for run in reversed(runs) if run.start <= index)
                there: Where = (*where[:length], index - run.start + run.first, *where[length + 1 :])
                there = there if length < len(where) else where
                return Place(run.file, run.document.line(there), path_text(there))
            if owner := self._owners.get(where[:length]):
                return Place(owner[1], owner[0].line(where), path_text(where))
        return Place("", 0, path_text(where))

    def given(self, where: Where) -> bool:
        """Whether something was said of this part at all."""
        node: Any = self.data
        for step in where:
            if not isinstance(node, dict) or step not in node:
                return False
            node = node[step]
        return True

    def mistake(self, where: Where, message: str, code: str = "") -> Mistake:
        """The mistake in that part, with its place."""
        place = self.place(where)
        if place.name:
            message = f"{place.name} in the environment: {message}"
        return Mistake(place.path, message, place.file, place.line, code)


def from_text(declared: Declared, text: str) -> object:
    """A value of the environment in the form that a file would have it; what does not fit stays text."""
    return _typed(declared.type, text)


def _typed(kind: Any, text: str) -> object:
    if get_origin(kind) is list:
        return [_typed(get_args(kind)[0], item.strip()) for item in text.split(",") if item.strip()]
    if kind is bool:
        return TRUTH.get(text.lower(), text)
    numbers = kind is int or (get_origin(kind) is Union and get_origin(kind) is not Literal and int in get_args(kind))
    if numbers and text.isascii() and text.isdigit() and len(text) < 20:
        return int(text)
    return text


def unused(environ: Mapping[str, str]) -> list[str]:
    """Variables of the environment that look like a mistyped key: a sentence each."""
    known = [PREFIX + key for key in KEYS]
    strange = sorted(name for name in environ if name.startswith(PREFIX) and name not in known)
    near = {name: get_close_matches(name, known, 1, 0.85) for name in strange}
    return [
        f"{name} in the environment is no setting; did you mean {found[0]}?" for name, found in near.items() if found
    ]
