"""YAML documents, read from the parser's events with a stack of our own.

Nesting is bounded (the parser's own composer recurses in C and dies on `- - - - …`), aliases are counted before they
multiply, keys are text and stand once, tags are refused, and plain scalars mean what YAML 1.2 says (`no`, `on` and
`0777` are not booleans or octal).
"""

import re
from collections.abc import Callable
from typing import Any, Final

import yaml

from ostiary.core.configuration.binding import Where
from ostiary.core.configuration.source import DEEPEST, Document, nul_line, whole
from ostiary.core.refusal import Mistake

MOST_REPEATED: Final = 1_000_000
"""Nodes that aliases may add."""

CONSTANTS: dict[str, bool | None] = {
    "": None, "~": None, "null": None, "Null": None, "NULL": None,
    "true": True, "True": True, "TRUE": True, "false": False, "False": False, "FALSE": False,
}  # fmt: skip
INTEGER = re.compile(r"[-+]?[0-9]{1,40}|0x[0-9a-fA-F]{1,32}|0o[0-7]{1,40}")
FRACTION = re.compile(r"[-+]?(?:\.[0-9]{1,40}|[0-9]{1,40}(?:\.[0-9]{0,40})?)(?:[eE][-+]?[0-9]{1,4})?")


class _Open:
    """A mapping or list that is being read."""

    __slots__ = ("anchor", "before", "keys", "lines", "name", "value")

    def __init__(self, value: dict[str, Any] | list[Any], anchor: str | None, before: int) -> None:
        self.value = value
        self.anchor = anchor
        self.before = before
        """Nodes counted when it began."""
        self.name: str | None = None
        """The key whose value comes next."""
        self.lines: list[int] = []
        self.keys: dict[str, int] = {}


class _Yaml:
    def __init__(self, file: str) -> None:
        self.file = file
        self.mistakes: list[Mistake] = []
        self.lines: dict[int, dict[str, int] | list[int]] = {}
        """id of a mapping or list -> lines of its keys or items; the data lives as long as this does."""
        self.root: object = None
        self._stack: list[_Open] = []
        self._anchors: dict[str, tuple[object, int] | None] = {}
        self._nodes = 0
        self._repeated = 0

    def fault(self, line: int, message: str) -> None:
        self.mistakes.append(Mistake("", message, self.file, line + 1))

    def run(self, parser: yaml.CSafeLoader) -> None:
        """Take all events of the first document; yaml.YAMLError for what is no YAML, _Stop for what goes too far."""
        documents = 0
        event = parser.get_event()
        while not isinstance(event, yaml.StreamEndEvent):
            take = self._takes.get(type(event))
            if take is not None:
                take(self, event)
            elif isinstance(event, yaml.DocumentStartEvent):
                documents += 1
                if documents > 1:
                    raise _Stop(_line(event), "a second document (`---`) begins here; a file holds one")
            event = parser.get_event()

    def _scalar(self, event: yaml.ScalarEvent) -> None:
        if event.tag is not None:
            self._tagged(event, event.tag)
        value = _resolve(event.value) if event.implicit[0] and event.tag is None else event.value
        if event.anchor is not None:
            self._anchors[event.anchor] = (value, 1)
        self._put(value, event)

    def _alias(self, event: yaml.AliasEvent) -> None:
        line = _line(event)
        found = self._anchors.get(event.anchor or "")
        if found is None:
            raise _Stop(line, f"alias *{event.anchor} stands inside itself or names nothing")
        value, nodes = found
        self._repeated += nodes
        if self._repeated > MOST_REPEATED:
            raise _Stop(line, f"aliases repeat more than {MOST_REPEATED} values; write less with them")
        self._nodes += nodes
        self._put(value, event)

    def _begin_mapping(self, event: yaml.MappingStartEvent) -> None:
        self._begin({}, event)

    def _begin_list(self, event: yaml.SequenceStartEvent) -> None:
        self._begin([], event)

    def _begin(self, value: dict[str, Any] | list[Any], event: yaml.CollectionStartEvent) -> None:
        if event.tag is not None:
            self._tagged(event, event.tag)
        if len(self._stack) >= DEEPEST:
            raise _Stop(_line(event), f"nested deeper than {DEEPEST} levels")
        if self._stack and isinstance(self._stack[-1].value, dict) and self._stack[-1].name is None:
            raise _Stop(_line(event), "a name must be text, not a list or mapping")
        if event.anchor is not None:
            self._anchors[event.anchor] = None
        before = self._nodes
        self._put(value, event)
        self._stack.append(_Open(value, event.anchor, before))

    def _end(self, event: yaml.CollectionEndEvent) -> None:
        done = self._stack.pop()
        if isinstance(done.value, dict):
            self.lines[id(done.value)] = done.keys
            if "<<" in done.value:
                self._merge(done.value, done.keys["<<"])
        else:
            self.lines[id(done.value)] = done.lines
        if done.anchor is not None:
            self._anchors[done.anchor] = (done.value, self._nodes - done.before)

    def _merge(self, mapping: dict[str, Any], line: int) -> None:
        """The merge key: what it names is there too, unless the mapping says it itself."""
        source = mapping.pop("<<")
        for each in source if isinstance(source, list) else [source]:
            if not isinstance(each, dict):
                return self.fault(line, "`<<` takes a mapping, or a list of mappings")
            for name, value in each.items():
                mapping.setdefault(name, value)
        return None

    def _put(self, value: object, event: yaml.NodeEvent) -> None:
        self._nodes += 1
        if not self._stack:
            self.root = value
            return
        top = self._stack[-1]
        if isinstance(top.value, list):
            top.value.append(value)
            top.lines.append(_line(event))
        elif top.name is None:
            self._name(top, event)
        else:
            top.value[top.name] = value
            top.name = None

    def _name(self, top: _Open, event: yaml.NodeEvent) -> None:
        line = _line(event)
        if not isinstance(event, yaml.ScalarEvent):
            raise _Stop(line, "a name must be text, not an alias")
        name = event.value
        if name in top.keys:
            self.fault(line, f"{name[:64]!r} stands twice here, first in line {top.keys[name] + 1}")
        else:
            top.keys[name] = line
        top.name = name

    def _tagged(self, event: yaml.NodeEvent, tag: str) -> None:
        self.fault(_line(event), f"the tag {tag[:64]!r} is not accepted; write the plain value")

    _takes: Final[dict[type, Callable[["_Yaml", Any], None]]] = {
        yaml.ScalarEvent: _scalar,
        yaml.AliasEvent: _alias,
        yaml.MappingStartEvent: _begin_mapping,
        yaml.SequenceStartEvent: _begin_list,
        yaml.MappingEndEvent: _end,
        yaml.SequenceEndEvent: _end,
    }

    def line(self, where: Where) -> int:
        """The line (from 1) of the place, or of the nearest one around it; 0 for the file itself."""
        value, line = self.root, 0
        for step in where:
            lines = self.lines.get(id(value))
            if isinstance(lines, dict) and isinstance(value, dict) and step in value:
                line = lines.get(str(step), line - 1) + 1
                value = value[str(step)]
            elif isinstance(lines, list) and isinstance(step, int) and step < len(lines) and isinstance(value, list):
                line = lines[step] + 1
                value = value[step]
            else:
                break
        return line


def _line(event: yaml.Event) -> int:
    return event.start_mark.line if event.start_mark else 0


class _Stop(Exception):
    def __init__(self, line: int, message: str) -> None:
        super().__init__(message)
        self.line = line
        self.message = message


def _resolve(text: str) -> object:
    """What a plain scalar means in YAML 1.2's core schema."""
    if text in CONSTANTS:
        return CONSTANTS[text]
    if text[0] in "0123456789-+.":
        if INTEGER.fullmatch(text):
            return int(text, 10 if text[1:2] not in ("x", "o") else 0)
        if FRACTION.fullmatch(text):
            return float(text)
    return text


def read_yaml(text: str, file: str) -> Document:
    """The YAML document in `text`."""
    reader = _Yaml(file)
    try:
        reader.run(yaml.CSafeLoader(text))
    except _Stop as stop:
        reader.fault(stop.line, stop.message)
        return Document({}, reader.mistakes, reader.line)
    except yaml.YAMLError as problem:
        line = _yaml_line(problem, text)
        reader.fault(
            line, _yaml_problem(problem, text.split("\n", line + 1)[line] if line < text.count("\n") + 1 else "")
        )
        return Document({}, reader.mistakes, reader.line)
    return whole(reader.root, reader.mistakes, reader.line, file, nul_line(text))


def _yaml_line(problem: yaml.YAMLError, text: str) -> int:
    mark = getattr(problem, "problem_mark", None)
    if mark is not None:
        return int(mark.line)
    position = getattr(problem, "position", 0)
    return text.count("\n", 0, position if isinstance(position, int) else 0)


def _yaml_problem(problem: yaml.YAMLError, line: str) -> str:
    if "\t" in line[: len(line) - len(line.lstrip())]:
        return "not YAML: a tab indents this line; use blanks"
    said = getattr(problem, "problem", None) or getattr(problem, "reason", None) or "cannot be read"
    return f"not YAML: {said}"
