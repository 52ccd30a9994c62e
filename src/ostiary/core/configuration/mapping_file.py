"""ApiFest's XML files, mappings and global errors -> values, with everything that is wrong in them.

A table says what each element may hold; the walk over it makes the mistakes, so that nothing of the form is checked
twice. DTDs and entities are refused by the parser before they can do anything.
"""

import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import Final, NamedTuple
from xml.etree.ElementTree import ParseError

from defusedxml.common import DefusedXmlException
from defusedxml.ElementTree import DefusedXMLParser
from msgspec import Struct

from ostiary.core.configuration import mapping
from ostiary.core.configuration.mapping import Endpoint, GlobalErrors, PluginName
from ostiary.core.configuration.measure import Backend
from ostiary.core.refusal import Mistake
from ostiary.core.routing.template import METHOD

LARGEST: Final = 16 << 20
"""Bytes of a file."""
DEEPEST: Final = 32


class Element(Struct):
    """An XML element and where it begins."""

    name: str
    attributes: dict[str, str]
    line: int
    path: str
    """`endpoints.endpoint[2]`."""
    kind: str
    """Its key in SHAPES."""
    children: list["Element"] = []
    counts: dict[str, int] = {}
    """Child name -> how many of it, less one."""
    text: list[str] = []

    def first(self, name: str) -> "Element | None":
        """The first child of that name."""
        return next((child for child in self.children if child.name == name), None)

    def all(self, name: str) -> "list[Element]":
        """The children of that name."""
        return [child for child in self.children if child.name == name]

    def content(self, name: str) -> str:
        """The text of the first child of that name, without blanks around it."""
        child = self.first(name)
        return "".join(child.text).strip() if child else ""


class Shape(NamedTuple):
    """What an element may hold: attributes, and children by name with how many of each (`?`, `1`, `*` or `+`)."""

    required: tuple[str, ...] = ()
    optional: tuple[str, ...] = ()
    children: Mapping[str, str] = MappingProxyType({})
    text: bool = False


NAMED = Shape((), ("name", "class"))
CLASSED = Shape(("class",), ("name",))
SHAPES: Final[dict[str, Shape]] = {
    "mappings": Shape(
        ("version",), (), {"actions": "?", "filters": "?", "backend": "1", "endpoints": "1", "errors": "?"}
    ),
    "mappings.actions": Shape((), (), {"action": "*"}),
    "mappings.actions.action": CLASSED,
    "mappings.filters": Shape((), (), {"filter": "*"}),
    "mappings.filters.filter": CLASSED,
    "mappings.backend": Shape(("host", "port")),
    "mappings.endpoints": Shape((), (), {"endpoint": "+"}),
    "mappings.endpoints.endpoint": Shape(
        ("external", "internal", "method"),
        ("scope", "authType", "varName", "varExpression", "backendHost", "backendPort"),
        {"action": "*", "filter": "*", "customProperties": "?"},
    ),
    "mappings.endpoints.endpoint.action": NAMED,
    "mappings.endpoints.endpoint.filter": NAMED,
    "mappings.endpoints.endpoint.customProperties": Shape((), (), {"entry": "+"}),
    "mappings.endpoints.endpoint.customProperties.entry": Shape((), (), {"key": "1", "value": "1"}),
    "mappings.endpoints.endpoint.customProperties.entry.key": Shape(text=True),
    "mappings.endpoints.endpoint.customProperties.entry.value": Shape(text=True),
    "mappings.errors": Shape((), (), {"error": "+"}),
    "mappings.errors.error": Shape(("status", "message")),
    "global-errors": Shape((), (), {"error": "+"}),
    "global-errors.error": Shape(("status", "message")),
}  # fmt: skip
SCHEMA = {"mappings": "mapping.schema", "global-errors": "errors.schema"}


class _Target:
    """What the XML parser tells; makes Elements with their lines."""

    def __init__(self) -> None:
        self.parser: DefusedXMLParser | None = None
        self.root: Element | None = None
        self._open: list[Element] = []

    def start(self, name: str, attributes: dict[str, str]) -> None:
        parent = self._open[-1] if self._open else None
        if len(self._open) >= DEEPEST:
            raise _TooDeep
        line = self.parser.parser.CurrentLineNumber if self.parser else 0
        kind = f"{parent.kind}.{name}" if parent else name
        element = Element(name, dict(attributes), line, _path(parent, name), kind)
        if parent is None:
            self.root = element
        else:
            parent.children.append(element)
        self._open.append(element)

    def end(self, name: str) -> None:
        self._open.pop()

    def data(self, text: str) -> None:
        self._open[-1].text.append(text)


class _TooDeep(Exception):
    pass


def _path(parent: Element | None, name: str) -> str:
    if parent is None:
        return ""
    number = parent.counts[name] = parent.counts.get(name, -1) + 1
    many = SHAPES.get(parent.kind, Shape()).children.get(name, "*") in "*+"
    path = f"{parent.path}.{name}" if parent.path else name
    return f"{path}[{number}]" if many else path


def parse(text: bytes) -> Element | None:
    """The root element of an XML document. ParseError, DefusedXmlException or ValueError for what is not accepted."""
    target = _Target()
    target.parser = DefusedXMLParser(target=target, forbid_dtd=True)
    target.parser.feed(text)
    target.parser.close()
    return target.root


class _Reading:
    """One file while it is read."""

    def __init__(self, file: str, root: str) -> None:
        self.file = file
        self.mistakes: list[Mistake] = []
        self._root = root

    def fault(self, line: int, path: str, message: str) -> None:
        self.mistakes.append(Mistake(path, message, self.file, line, SCHEMA[self._root]))

    def tree(self, text: bytes) -> Element | None:
        """The document, if its form is right; all that is wrong with it otherwise."""
        if len(text) > LARGEST:
            self.fault(0, "", f"the file is larger than {LARGEST >> 20} MiB")
            return None
        try:
            root = parse(text)
        except ParseError as problem:
            self.fault(problem.position[0], "", f"not well-formed: {str(problem).partition(': line')[0]}")
        except DefusedXmlException as problem:
            self.fault(1, "", f"DTDs and entities are not accepted ({type(problem).__name__})")
        except _TooDeep:
            self.fault(1, "", f"nested deeper than {DEEPEST} levels")
        except (ValueError, LookupError):
            self.fault(1, "", "not well-formed: its encoding cannot be read")
        else:
            return self._rooted(root)
        return None

    def _rooted(self, root: Element | None) -> Element | None:
        if root is None or root.name != self._root:
            self.fault(1, "", f"expected <{self._root}>, got <{root.name[:64] if root else ''}>")
            return None
        self._walk(root)
        return root

    def _walk(self, element: Element) -> None:
        shape = SHAPES[element.kind]
        for name in element.attributes.keys() - {*shape.required, *shape.optional}:
            self.fault(element.line, element.path, f"<{element.name}> has no attribute {name[:64]}")
        for name in shape.required:
            if not element.attributes.get(name, "").strip():
                self.fault(element.line, element.path, f"<{element.name}> needs the attribute {name}")
        if not shape.text and "".join(element.text).strip():
            self.fault(element.line, element.path, f"<{element.name}> holds no text")
        self._children(element, shape)

    def _children(self, element: Element, shape: Shape) -> None:
        for name, often in shape.children.items():
            number = element.counts.get(name, -1) + 1
            if number == 0 and often in "1+":
                self.fault(element.line, element.path, f"<{element.name}> needs a <{name}>")
            elif number > 1 and often in "1?":
                self.fault(element.line, element.path, f"<{element.name}> takes one <{name}> only")
        for child in element.children:
            if child.name in shape.children:
                self._walk(child)
            else:
                self.fault(child.line, child.path, f"<{element.name}> takes no <{child.name[:64]}>")

    def number(self, element: Element, name: str, low: int, high: int) -> int:
        """A whole number of an attribute, within bounds; `low` after a mistake."""
        text = element.attributes.get(name, "").strip()
        if re.fullmatch(r"[0-9]{1,6}", text) and low <= int(text) <= high:
            return int(text)
        if text:
            self.fault(element.line, f"{element.path}.{name}", f"{name} is not a whole number from {low} to {high}")
        return low

    def host(self, element: Element, name: str) -> str:
        """A host of an attribute, IPv6 without brackets."""
        text = element.attributes.get(name, "").strip()
        bare = text.removeprefix("[").removesuffix("]")
        try:
            Backend.parse(f"[{bare}]:1" if ":" in bare else f"{bare}:1")
        except ValueError:
            if text:
                self.fault(element.line, f"{element.path}.{name}", f"{name} is no host name or address")
        return bare

    def errors(self, parent: Element | None, low: int) -> tuple[tuple[int, str, int], ...]:
        return tuple(
            (self.number(each, "status", low, 599), each.attributes.get("message", ""), each.line)
            for each in (parent.all("error") if parent else ())
        )

    def plugins(self, parent: Element | None, name: str) -> tuple[PluginName, ...]:
        return tuple(self._plugin(each) for each in (parent.all(name) if parent else ()))

    def _plugin(self, element: Element) -> PluginName:
        name, kind = element.attributes.get("name", ""), element.attributes.get("class", "")
        if not name and not kind:
            self.fault(element.line, element.path, f"<{element.name}> needs a name or a class")
        return PluginName(name, kind, element.line, element.path)

    def endpoint(self, element: Element, host: str, port: int, legacy: bool) -> Endpoint:
        given = element.attributes
        if ("backendHost" in given) != ("backendPort" in given):
            self.fault(element.line, element.path, "backendHost and backendPort stand together or not at all")
        elif "backendHost" in given:
            host, port = self.host(element, "backendHost"), self.number(element, "backendPort", 1, 65_535)
        method = given.get("method", "")
        if method and not METHOD.fullmatch(method):
            self.fault(element.line, f"{element.path}.method", "method is not an upper-case token such as GET")
        return Endpoint(
            external=given.get("external", ""),
            internal=given.get("internal", ""),
            method=method,
            file=self.file,
            line=element.line,
            path=element.path,
            scope=given.get("scope"),
            auth_type=given.get("authType"),
            var_name=given.get("varName"),
            var_expression=given.get("varExpression"),
            host=host,
            port=port,
            actions=self.plugins(element, "action"),
            filters=self.plugins(element, "filter"),
            properties=self._properties(element),
            legacy=legacy,
        )

    def _properties(self, element: Element) -> dict[str, str] | None:
        parent = element.first("customProperties")
        if parent is None:
            return None
        properties: dict[str, str] = {}
        for entry in parent.all("entry"):
            key, value = entry.content("key"), entry.content("value")
            if key in properties:
                self.fault(entry.line, entry.path, f"the key {key[:64]!r} stands twice")
            properties[key] = value
        return properties


def read_mapping(text: bytes, file: str, legacy: bool = False) -> tuple[mapping.Mapping | None, list[Mistake]]:
    """The mapping file in `text`; None where its form is wrong. Lines and paths are those of `file`."""
    reading = _Reading(file, "mappings")
    root = reading.tree(text)
    if root is None:
        return None, reading.mistakes
    backend, endpoints = root.first("backend"), root.first("endpoints")
    actions, filters = root.first("actions"), root.first("filters")
    host = reading.host(backend, "host") if backend else ""
    port = reading.number(backend, "port", 1, 65_535) if backend else 0
    found = mapping.Mapping(
        file,
        root.attributes.get("version", ""),
        reading.plugins(actions, "action") if actions else None,
        reading.plugins(filters, "filter") if filters else None,
        tuple(reading.endpoint(each, host, port, legacy) for each in (endpoints.all("endpoint") if endpoints else ())),
        reading.errors(root.first("errors"), 300),
    )
    return (None if reading.mistakes else found), reading.mistakes


def read_global_errors(text: bytes, file: str) -> tuple[GlobalErrors | None, list[Mistake]]:
    """The global errors file in `text`; None where its form is wrong."""
    reading = _Reading(file, "global-errors")
    root = reading.tree(text)
    if root is None:
        return None, reading.mistakes
    errors = GlobalErrors(file, reading.errors(root, 400))
    return (None if reading.mistakes else errors), reading.mistakes
