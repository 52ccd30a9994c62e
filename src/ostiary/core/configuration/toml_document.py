"""TOML documents, read whole by the standard library; a walk over their words knows where each place stands."""

import re
import tomllib
from bisect import bisect_left

from ostiary.core.configuration.binding import Where
from ostiary.core.configuration.source import Document, nothing, nul_line, whole

_TOKEN = re.compile(
    r'"""(?:[^\\]|\\.)*?"{3,5}|\'\'\'.*?\'{3,5}|"(?:[^"\\\n]|\\.)*"|\'[^\'\n]*\'|#[^\n]*|[A-Za-z0-9_+:-]+|\n|[^\s]',
    re.S,
)


def read_toml(text: str, file: str) -> Document:
    """The TOML document in `text`."""
    try:
        data = tomllib.loads(text)
    except tomllib.TOMLDecodeError as problem:
        found = re.search(r"at line (\d+)", str(problem))
        broken = int(found[1]) if found else text.count("\n") + 1
        return nothing(file, broken, f"not TOML: {re.sub(r' [(]at .*', '', str(problem))}")
    except (RecursionError, ValueError):
        return nothing(file, 0, "not TOML: nested too deep, or a number too long")
    lines: list[dict[Where, int]] = []

    def line(where: Where) -> int:
        if not lines:
            lines.append(_toml_lines(text))
        return next((lines[0][where[:n]] for n in range(len(where), 0, -1) if where[:n] in lines[0]), 0)

    return whole(data, [], line, file, nul_line(text))


def _toml_lines(text: str) -> dict[Where, int]:
    """Where each key and item of a valid TOML document stands."""
    walk = _Toml(text)
    walk.run()
    return walk.lines


class _Toml:
    def __init__(self, text: str) -> None:
        self._tokens = [(found[0], found.start()) for found in _TOKEN.finditer(text) if found[0][0] != "#"]
        self._newlines = [at for at, character in enumerate(text) if character == "\n"]
        self._at = 0
        self._last: dict[Where, int] = {}
        """Arrays of tables -> index of the last table."""
        self.lines: dict[Where, int] = {}

    def run(self) -> None:
        table: Where = ()
        while word := self._peek():
            if word == "\n":
                self._at += 1
            elif word == "[":
                table = self._header()
            else:
                self._pair(table)

    def _peek(self) -> str:
        return self._tokens[self._at][0] if self._at < len(self._tokens) else ""

    def _mark(self, where: Where) -> None:
        line = bisect_left(self._newlines, self._tokens[self._at][1]) + 1
        for n in range(1, len(where) + 1):
            self.lines.setdefault(where[:n], line)

    def _header(self) -> Where:
        start = self._at
        self._at += 1
        many = self._peek() == "["
        self._at += many
        where: Where = ()
        for name in self._names("]"):
            where = (*where, self._last[where], name) if where in self._last else (*where, name)
        self._at += 1 + many
        if many:
            self._last[where] = self._last.get(where, -1) + 1
        if where in self._last:
            where = (*where, self._last[where])
        end, self._at = self._at, start
        self._mark(where)
        self._at = end
        return where

    def _names(self, end: str) -> list[str]:
        names = []
        while self._peek() != end:
            word = self._peek()
            if word != ".":
                names.append(str(tomllib.loads(f"x={word}")["x"]) if word[0] in "\"'" else word)
            self._at += 1
        return names

    def _pair(self, table: Where) -> None:
        start = self._at
        where = (*table, *self._names("="))
        end, self._at = self._at, start
        self._mark(where)
        self._at = end + 1
        self._value(where)

    def _value(self, where: Where) -> None:
        if self._peek() == "[":
            self._items(where)
        elif self._peek() == "{":
            self._inline(where)
        else:
            while self._peek() not in ("", "\n", ",", "]", "}"):
                self._at += 1

    def _items(self, where: Where) -> None:
        self._at += 1
        index = 0
        while (word := self._peek()) != "]":
            if word in ("\n", ","):
                self._at += 1
                continue
            self._mark((*where, index))
            self._value((*where, index))
            index += 1
        self._at += 1

    def _inline(self, where: Where) -> None:
        self._at += 1
        while (word := self._peek()) != "}":
            if word in ("\n", ","):
                self._at += 1
            else:
                self._pair(where)
        self._at += 1
