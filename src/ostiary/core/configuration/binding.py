"""Binding: data of a configuration file -> settings, with every mistake in it.

msgspec says one mistake at a time. So a part that it takes is taken whole, at its speed; a part that it refuses is
taken apart, and each piece is tried by itself, down to the values that are wrong.
"""

import re
from collections.abc import Callable, Iterable
from difflib import get_close_matches
from functools import lru_cache
from types import UnionType
from typing import Any, Literal, NamedTuple, Union, get_args, get_origin

import msgspec

from ostiary.core.configuration.declared import Field, fields, is_section, plain
from ostiary.core.configuration.measure import MEASURES, Secret, Url
from ostiary.core.configuration.settings import Settings
from ostiary.core.configuration.settings.section import Section

Where = tuple[str | int, ...]
Resolve = Callable[[str, str], str]
"""What a secret refers to: (`env` or `file`, name) -> its text. Raises ValueError with the reason."""


class Fault(NamedTuple):
    """A mistake by its place in the settings; whoever knows the files makes a Mistake of it."""

    where: Where
    message: str
    code: str = ""


def path_text(where: Iterable[str | int]) -> str:
    """`routes[3].upstream`."""
    text = ""
    for step in where:
        text += f"[{step}]" if isinstance(step, int) else f".{step}" if text else step
    return text


class Binder:
    """Makes values of data and collects what is wrong. One for each load."""

    def __init__(self, resolve: Resolve) -> None:
        self.faults: list[Fault] = []
        self._resolve = resolve

    def settings(self, data: dict[str, Any]) -> Settings:
        """The settings in `data`; where there are mistakes, as much of them as could be made out."""
        settings: Settings = self.bind(Settings, data, ())
        return settings

    def bind(self, kind: Any, data: Any, where: Where) -> Any:
        """A value of type `kind`, or a stand-in after a mistake."""
        try:
            return msgspec.convert(data, kind, dec_hook=self._hook, str_keys=True)
        except (msgspec.ValidationError, RecursionError) as problem:
            return self._apart(kind, data, where, str(problem))

    def _apart(self, hint: Any, data: Any, where: Where, problem: str) -> Any:
        kind = _chosen(plain(hint), data)
        if isinstance(data, dict) and is_section(kind):
            return self._section(kind, data, where)
        if isinstance(data, list) and get_origin(kind) is list:
            return self._list(kind, data, where, problem)
        if isinstance(data, dict) and get_origin(kind) is dict:
            return self._mapping(kind, data, where)
        self.faults.append(Fault(where, complaint(kind, data, problem)))
        return stand_in(kind)

    def _list(self, kind: Any, data: list[Any], where: Where, problem: str) -> list[Any]:
        before = len(self.faults)
        values = [self.bind(get_args(kind)[0], item, (*where, i)) for i, item in enumerate(data)]
        if len(self.faults) == before:
            self.faults.append(Fault(where, complaint(kind, data, problem)))
        return values

    def _mapping(self, kind: Any, data: dict[str, Any], where: Where) -> dict[Any, Any]:
        keys, values = get_args(kind)
        bound = {}
        for name, item in data.items():
            try:
                key = msgspec.convert(name, keys, strict=False)
            except msgspec.ValidationError as problem:
                self.faults.append(Fault((*where, name), f"the name: {complaint(plain(keys), name, str(problem))}"))
                continue
            bound[key] = self.bind(values, item, (*where, name))
        return bound

    def _section(self, section: type[Section], data: dict[str, Any], where: Where) -> Section:
        known = {each.name: each for each in fields(section)}
        for name in data:
            if name not in known:
                self.faults.append(Fault((*where, name), unknown(name, tuple(known))))
        return section(**{name: self._field(each, data, where) for name, each in known.items()})

    def _field(self, each: Field, data: dict[str, Any], where: Where) -> Any:
        if data.get(each.name) is not None:
            return self.bind(each.hint, data[each.name], (*where, each.name))
        if each.required:
            self.faults.append(Fault(where, f"{each.name} is missing: {each.description}"))
            return stand_in(each.type)
        return each.default

    def _hook(self, kind: type, value: object) -> object:
        if kind is Secret:
            return Secret(self._secret(value))
        if kind is Url and isinstance(value, dict):
            value = self._secret(value)
        return MEASURES[kind].parse(value)

    def _secret(self, value: object) -> str:
        if isinstance(value, str):
            return value
        if isinstance(value, dict) and len(value) == 1:
            source, name = next(iter(value.items()))
            if source in ("env", "file") and isinstance(name, str) and name and "\0" not in name:
                return self._resolve(source, name)
        raise ValueError("expected a secret: text in quotes, {env: NAME} or {file: PATH}")


@lru_cache(1024)
def unknown(name: str, known: tuple[str, ...]) -> str:
    """What to say of a name that is none of `known`."""
    near = get_close_matches(name, known, 1, 0.6)
    hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(sorted(known))}"
    return f"unknown setting; {hint}"


def stand_in(kind: Any) -> Any:
    """Some value of a type, for a place where the real one could not be made out."""
    if is_section(kind):
        return kind(**{each.name: stand_in(each.type) for each in fields(kind) if each.required})
    if get_origin(kind) is Literal:
        return get_args(kind)[0]
    if get_origin(kind) in (Union, UnionType):
        return stand_in(get_args(kind)[0])
    if kind is Secret:
        return Secret("")
    return (get_origin(kind) or kind)()


NAMES = {
    str: "text",
    int: "a whole number",
    bool: "true or false",
    float: "a number",
    list: "a list",
    dict: "a mapping",
}
GIVEN = {**NAMES, bool: "true or false", type(None): "nothing", float: "a number with a fraction"}


def complaint(kind: Any, data: object, problem: str) -> str:
    """What is wrong with `data` where `kind` is expected; never shows `data` where a secret may stand."""
    bounds = re.match(r"Expected `(?:int|float)` (>=|<=) (-?\d+)", problem)
    if bounds:
        return f"expected a whole number of {'at least' if bounds[1] == '>=' else 'at most'} {bounds[2]}"
    if "matching regex" in problem:
        return "expected a name: letters, digits, _ . - and at most 64 of them, the first a letter or digit"
    if kind is Secret or kind in MEASURES:
        return problem.partition(" - at `")[0]
    if "recursion" in problem:
        return "nested too deep"
    given = GIVEN.get(type(data), f"a {type(data).__name__}")
    return f"expected {expected(kind)}, got {given}{_hint(kind, data)}"


def _hint(kind: Any, data: object) -> str:
    choices = [plain(each) for each in get_args(kind)] if get_origin(kind) in (Union, UnionType) else [kind]
    if str in choices and isinstance(data, int | float):
        return "; put it in quotes"
    words = [str(word) for each in choices if get_origin(each) is Literal for word in get_args(each)]
    near = get_close_matches(data, words, 1, 0.5) if isinstance(data, str) else []
    return f"; did you mean {near[0]}?" if near else ""


def expected(kind: Any) -> str:
    """A type in words."""
    if get_origin(kind) is Literal:
        return "one of " + ", ".join(str(each) for each in get_args(kind))
    if get_origin(kind) in (Union, UnionType):
        return " or ".join(expected(plain(each)) for each in get_args(kind))
    if kind is Secret or kind in MEASURES:
        return str(kind.__name__).lower()
    return NAMES.get(get_origin(kind) or kind, "a mapping" if is_section(kind) else "a value")


def _chosen(kind: Any, data: object) -> Any:
    """Of a union the one choice that has the form of `data`; else `kind` itself."""
    if get_origin(kind) not in (Union, UnionType):
        return kind
    choices = [plain(each) for each in get_args(kind)]
    if isinstance(data, dict):
        return next((each for each in choices if is_section(each) or get_origin(each) is dict), kind)
    return next((each for each in choices if get_origin(each) is list), kind) if isinstance(data, list) else kind
