"""Plug-ins: what an author of actions and filters sees, and how they are found, checked and built.

A plug-in is a name, arguments parsed once (a msgspec Struct), and one function on the request (action) or the
response (filter), plain or async. Only names that the configuration declares are ever imported.
"""

import importlib.metadata
import importlib.util
import inspect
from collections.abc import Awaitable, Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, Literal, NamedTuple

import msgspec

from ostiary.core.admission import Admission
from ostiary.core.snapshot import Plugin


class Headers:
    """Header fields in order, repeated ones too; names are compared without letter case."""

    __slots__ = ("_fields",)

    def __init__(self, fields: Iterable[tuple[str, str]] = ()) -> None:
        self._fields = [(name.lower(), value) for name, value in fields]

    def get(self, name: str) -> str | None:
        """The first value of `name`, or None."""
        name = name.lower()
        return next((value for field, value in self._fields if field == name), None)

    def get_all(self, name: str) -> list[str]:
        """All values of `name`, in order."""
        name = name.lower()
        return [value for field, value in self._fields if field == name]

    def set(self, name: str, value: str) -> None:
        """Make `value` the only one of `name`. ValueError for what cannot stand in a header."""
        self.remove(name)
        self.add(name, value)

    def add(self, name: str, value: str) -> None:
        """Add one more `name`. ValueError for what cannot stand in a header."""
        self._fields.append((checked_name(name).lower(), checked_value(value)))

    def remove(self, name: str) -> None:
        """Remove all of `name`."""
        name = name.lower()
        self._fields = [(field, value) for field, value in self._fields if field != name]

    def items(self) -> list[tuple[str, str]]:
        """All fields, names in lower case."""
        return list(self._fields)


_NAME = frozenset("!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ")


def checked_name(name: str) -> str:
    """`name` if it is a field name (RFC 9110 section 5.1), else ValueError."""
    if not name or not _NAME.issuperset(name):
        raise ValueError("not a header name")
    return name


def checked_value(value: str) -> str:
    """`value` if it can stand in a field line (RFC 9110 section 5.5), else ValueError."""
    if any((ord(c) < 32 and c != "\t") or ord(c) in (127,) or ord(c) > 255 for c in value):
        raise ValueError("not a header value")
    return value


class Request:
    """The request as it will go to the backend; an action may change every part of it.

    `path` is the backend path with its query; `{name}` in it is what nothing has filled in yet. `body` is b"" unless
    the plug-in declared that it needs the body.
    """

    __slots__ = ("address", "admission", "body", "headers", "method", "path", "properties")

    def __init__(
        self,
        method: str,
        path: str,
        headers: Headers,
        body: bytes,
        admission: Admission | None,
        address: str,
        properties: Mapping[str, str],
    ) -> None:
        self.method = method
        self.path = path
        self.headers = headers
        self.body = body
        self.admission = admission
        self.address = address
        self.properties = properties


class Response:
    """The backend's response; a filter may change every part of it. `body` as for Request."""

    __slots__ = ("body", "headers", "status")

    def __init__(self, status: int, headers: Headers, body: bytes) -> None:
        self.status = status
        self.headers = headers
        self.body = body


class Refuse(Exception):
    """Raised by an action: answer with this instead of asking the backend."""

    def __init__(self, status: int, body: bytes = b"", headers: Iterable[tuple[str, str]] = ()) -> None:
        super().__init__(status)
        self.status = status
        self.body = body
        self.headers = Headers(headers)


ActionFunction = Callable[[Request], Awaitable[None] | None]
FilterFunction = Callable[[Response], Awaitable[None] | None]


class NoArguments(msgspec.Struct, forbid_unknown_fields=True):
    """For plug-ins without arguments."""


class Declaration(NamedTuple):
    """A plug-in as declared: `build` makes its function from parsed `arguments`; `body`: it needs the whole body."""

    kind: Literal["action", "filter"]
    name: str
    arguments: type[msgspec.Struct]
    body: bool
    build: Callable[[Any], Callable[[Any], Awaitable[None] | None]]


def action(
    name: str, arguments: type[Any] = NoArguments, *, body: bool = False
) -> Callable[[Callable[[Any], ActionFunction]], Declaration]:
    """Declare an action: the decorated function makes, from its arguments, the function run on each request."""
    return lambda build: Declaration("action", name, arguments, body, build)


def filter(
    name: str, arguments: type[Any] = NoArguments, *, body: bool = False
) -> Callable[[Callable[[Any], FilterFunction]], Declaration]:
    """Declare a filter: the decorated function makes, from its arguments, the function run on each response."""
    return lambda build: Declaration("filter", name, arguments, body, build)


class Built(NamedTuple):
    """A plug-in ready to run."""

    name: str
    function: Callable[[Any], Awaitable[None] | None]
    body: bool
    is_async: bool


class Plugins:
    """All plug-ins that a configuration may use: the bundled ones, and those that it declares."""

    def __init__(self, bundled: Iterable[Declaration]) -> None:
        self._known = {(each.kind, each.name): each for each in bundled}

    def declare(self, name: str, source: str, directory: str) -> str:
        """Import the plug-in `name` from `source`, `entry-point` or `FILE.py:ATTRIBUTE` below `directory`.

        Gives "" or why it cannot be had. An entry point is looked up in `ostiary.actions` and `ostiary.filters`.
        """
        try:
            found = _from_entry_points(name) if source == "entry-point" else [_from_file(source, directory)]
        except (Exception, SystemExit) as problem:
            return f"plug-in {name} cannot be loaded: {type(problem).__name__}: {problem}"
        if not found:
            return f"no installed package offers the plug-in {name}"
        for each in found:
            if not isinstance(each, Declaration):
                return f"plug-in {name}: {source} is not declared with @action or @filter"
            self._known[each.kind, name] = each
        return ""

    def check(self, kind: Literal["action", "filter"], plugin: Plugin) -> str:
        """ "" if `plugin` exists and its arguments fit, else the reason."""
        declared = self._known.get((kind, plugin.name))
        if declared is None:
            names = ", ".join(sorted(name for k, name in self._known if k == kind))
            return f"no {kind} is named {plugin.name}; there are {names}"
        try:
            declared.build(msgspec.convert(plugin.arguments, declared.arguments))
        except (msgspec.ValidationError, ValueError) as problem:
            return f"{kind} {plugin.name}: {problem}"
        except (Exception, SystemExit) as problem:
            return f"{kind} {plugin.name} cannot be made: {type(problem).__name__}: {problem}"
        return ""

    def build(self, kind: Literal["action", "filter"], plugin: Plugin) -> Built:
        """The function of a checked plug-in; ValueError when it does not exist or its arguments do not fit."""
        if problem := self.check(kind, plugin):
            raise ValueError(problem)
        declared = self._known[kind, plugin.name]
        function = declared.build(msgspec.convert(plugin.arguments, declared.arguments))
        return Built(plugin.name, function, declared.body, inspect.iscoroutinefunction(function))


def _from_entry_points(name: str) -> list[object]:
    groups = ("ostiary.actions", "ostiary.filters")
    return [point.load() for group in groups for point in importlib.metadata.entry_points(group=group, name=name)]


def _from_file(source: str, directory: str) -> object:
    file, _, attribute = source.partition(":")
    root = Path(directory).resolve()
    path = (root / file).resolve()
    if not directory or not path.is_relative_to(root):
        raise ValueError(f"{file} is not in the plug-in directory")
    spec = importlib.util.spec_from_file_location(f"ostiary_plugin_{path.stem}", path)
    if spec is None or spec.loader is None or not attribute:
        raise ValueError("a plug-in is given as FILE.py:ATTRIBUTE")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return getattr(module, attribute)
