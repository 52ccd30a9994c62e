"""The payload of a request: a JSON reader of its own, because clients know the original's texts (doveadm.md 2.1).

The whole payload is read before anything runs; the first mistake in reading order is told. A token is read whole
before its kind is judged, as the original does; lists and objects are judged where they open. A command whose name is
known is checked element by element, another only for its shape. Time is linear in the payload.
"""

import re
from collections.abc import Callable, Mapping
from typing import Final, TypeGuard

import msgspec
from msgspec import Struct

MOST_COMMANDS = 10_000
DEEPEST = 32
"""Levels of lists and objects in each other, the payload's own list among them."""

REQUEST = "Request must be a JSON array"
COMMAND = "Command must be a JSON array"
NAME = "Command name must be a string"
PARAMETERS = "Parameters must be contained in a JSON object"
ARRAY = "Parameter `%s' must be string or array"
ITEM = "Command parameter array can only containstring values"
DUPLICATE = "Parameter `%s' is duplicated"
TAG = "Command ID must be a string"
LONGER = "Unexpected JSON element at end of command"
TOO_MANY = "Too many commands"

_PARSE = "JSON parse error: "
MISSING = f"{_PARSE}Missing '}}'"
VALUE = f"{_PARSE}Invalid data as value"
KEY = f"{_PARSE}Expected string as object key"
COLON = f"{_PARSE}Expected ':' after key"
AFTER_PAIR = f"{_PARSE}Expected ',' or '}}' after object value"
AFTER_ITEM = f"{_PARSE}Expected ',' or '}}' after array value"
TRAILING = f"{_PARSE}Unexpected data at the end"
ESCAPE = f"{_PARSE}Invalid escape string"
HIGH = f"{_PARSE}High surrogate 0x%04x seen, but not followed by low surrogate"
LONE = f"{_PARSE}Invalid unicode character U+%04x"
NESTING = f"{_PARSE}Nesting too deep"

_BLANKS = re.compile(r"[ \t\r\n]*")
_PLAIN = re.compile(r'[^"\\]*')
_NUMBER = re.compile(r"-?(0|[1-9][0-9]*)?(\.[0-9]*)?([eE][+-]?[0-9]*)?")
_HEX = re.compile(r"[0-9A-Fa-f]{4}")
_ESCAPES = {'"': '"', "\\": "\\", "/": "/", "b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t"}
_WORDS: dict[str, tuple[str, bool | None]] = {"t": ("true", True), "f": ("false", False), "n": ("null", None)}
_JOINED = re.compile(r"[ -]([^ -])")


class BadPayload(Exception):
    """The payload is no list of commands; the text says why, as clients know it."""


class Number(str):
    """A number as it was written."""

    __slots__ = ()

    def value(self) -> int | float:
        """As JSON means it. Raises ValueError where that is beyond all bounds."""
        number: int | float = msgspec.json.decode(str(self))
        return number


Value = str | bool | list["Value"] | dict[str, "Value"] | None
"""A JSON value; its numbers are `Number`."""


class Shape(Struct, frozen=True):
    """What a known command takes: each parameter, and whether it is an array of strings."""

    parameters: Mapping[str, bool]


class Command(Struct, frozen=True):
    """One command as it was sent."""

    name: str
    """Normalised."""
    tag: str
    values: dict[str, Value] = {}
    """Of parameters that are known, under their own names."""
    unknown: str | None = None
    """The first parameter that is not known, as it was sent."""
    known: bool = True


def normal(name: str) -> str:
    """The one spelling of a name: `service status` and `service-status` are `serviceStatus`."""
    return _JOINED.sub(lambda found: found[1].upper() if found[1].isascii() else found[1], name)


def read(body: bytes, known: Callable[[str], Shape | None]) -> list[Command]:
    """The commands of a payload; `known` is asked for normalised names. Raises BadPayload."""
    return _Reader(body.decode("utf-8", "replace"), known).batch()


class _Mark:
    """A token that is no scalar."""


_LIST: Final = _Mark()
_OBJECT: Final = _Mark()
_END: Final = _Mark()
_Token = str | bool | _Mark | None


class _Reader:
    """One payload. `_at` is where the next token begins, `_depth` how many lists and objects are open."""

    def __init__(self, text: str, known: Callable[[str], Shape | None]) -> None:
        self._text = text
        self._known = known
        self._at = 0
        self._depth = 0

    def batch(self) -> list[Command]:
        if self._token() is not _LIST:
            raise BadPayload(REQUEST)
        commands: list[Command] = []
        while (token := self._element(first=not commands)) is not _END:
            if token is not _LIST:
                raise BadPayload(COMMAND)
            if len(commands) == MOST_COMMANDS:
                raise BadPayload(TOO_MANY)
            commands.append(self._command())
        if self._peek():
            raise BadPayload(TRAILING)
        return commands

    # -- commands

    def _command(self) -> Command:
        sent = self._element(first=True)
        if not _is_text(sent):
            raise BadPayload(NAME)
        name = normal(sent)
        shape = self._known(name)
        values, unknown = self._parameters(shape) if shape else self._anything()
        tag = self._element()
        if not _is_text(tag) or "\0" in tag:
            raise BadPayload(TAG)
        if self._element() is not _END:
            raise BadPayload(LONGER)
        return Command(name, tag, values, unknown, shape is not None)

    def _anything(self) -> tuple[dict[str, Value], None]:
        """Pass over the second element of an unknown command."""
        token = self._element()
        if token is _END:
            raise BadPayload(TAG)
        self._whole(token)
        return {}, None

    def _parameters(self, shape: Shape) -> tuple[dict[str, Value], str | None]:
        """The values of known parameters, and the first name that is none."""
        if self._element() is not _OBJECT:
            raise BadPayload(PARAMETERS)
        values: dict[str, Value] = {}
        unknown: str | None = None
        first = True
        while (sent := self._key(first=first)) is not None:
            first, name = False, normal(sent)
            if name in values:
                raise BadPayload(DUPLICATE % sent)
            if name in shape.parameters:
                values[name] = self._array(sent) if shape.parameters[name] else self._whole(self._token())
            else:
                self._whole(self._token())
                unknown = sent if unknown is None else unknown
        return values, unknown

    def _array(self, sent: str) -> Value:
        """A list of strings, or one string."""
        token = self._token()
        if _is_text(token):
            return [token]
        if token is not _LIST:
            raise BadPayload(ARRAY % sent)
        items: list[Value] = []
        while (item := self._element(first=not items)) is not _END:
            if not _is_text(item):
                raise BadPayload(ITEM)
            items.append(item)
        return items

    # -- structure

    def _whole(self, token: _Token) -> Value:
        """The value that begins with `token`."""
        if not isinstance(token, _Mark):
            return token
        if token is _OBJECT:
            return self._pairs()
        items: list[Value] = []
        while (item := self._element(first=not items)) is not _END:
            items.append(self._whole(item))
        return items

    def _pairs(self) -> Value:
        pairs: dict[str, Value] = {}
        first = True
        while (key := self._key(first=first)) is not None:
            pairs[key], first = self._whole(self._token()), False
        return pairs

    def _element(self, *, first: bool = False) -> _Token:
        """The next token of the open list, or _END."""
        mark = self._seen()
        if mark == "]":
            return self._close()
        if not first:
            if mark != ",":
                raise BadPayload(AFTER_ITEM)
            self._at += 1
        return self._token()

    def _key(self, *, first: bool) -> str | None:
        """The next key of the open object, up to its value; None: it is closed."""
        mark = self._seen()
        if mark == "}":
            self._close()
            return None
        if not first:
            if mark != ",":
                raise BadPayload(AFTER_PAIR)
            self._at += 1
        if self._seen() != '"':
            raise BadPayload(KEY)
        key = self._string()
        if self._seen() != ":":
            raise BadPayload(COLON)
        self._at += 1
        return key

    def _close(self) -> _Token:
        self._at += 1
        self._depth -= 1
        return _END

    # -- tokens

    def _peek(self) -> str:
        """The next character that is no blank; empty: there is none."""
        self._at = self._run(_BLANKS).end()
        return self._text[self._at : self._at + 1]

    def _run(self, pattern: re.Pattern[str]) -> re.Match[str]:
        """What comes next of a kind of which there may be none."""
        found = pattern.match(self._text, self._at)
        if found is None:
            raise BadPayload(VALUE)
        return found

    def _seen(self) -> str:
        """The same, where something has to follow."""
        mark = self._peek()
        if not mark:
            raise BadPayload(MISSING)
        return mark

    def _token(self) -> _Token:
        """A scalar, or the beginning of a list or an object."""
        mark = self._seen()
        if mark in "[{":
            self._at += 1
            self._depth += 1
            if self._depth > DEEPEST:
                raise BadPayload(NESTING)
            return _LIST if mark == "[" else _OBJECT
        if mark == '"':
            return self._string()
        if mark in "-0123456789":
            return self._number()
        if mark in _WORDS:
            return self._word(*_WORDS[mark])
        raise BadPayload(VALUE)

    def _word(self, word: str, value: bool | None) -> bool | None:
        found = self._text[self._at : self._at + len(word)]
        if found != word:
            raise BadPayload(MISSING if word.startswith(found) else VALUE)
        self._at += len(word)
        return value

    def _number(self) -> Number:
        """A number; inside a list it has to end before the payload does."""
        found = self._run(_NUMBER)
        cut = found.end() == len(self._text)
        if cut and self._depth:
            raise BadPayload(MISSING)
        whole, fraction, exponent = found.groups()
        if whole is None or fraction == "." or (exponent and not exponent[-1].isdigit()):
            raise BadPayload(MISSING if cut else VALUE)
        self._at = found.end()
        return Number(found[0])

    def _string(self) -> str:
        """A string from its opening quote on."""
        pieces: list[str] = []
        self._at += 1
        while True:
            found = self._run(_PLAIN)
            pieces.append(found[0])
            self._at = found.end() + 1
            match self._text[found.end() : self._at]:
                case '"':
                    return "".join(pieces)
                case "\\":
                    pieces.append(self._escape())
                case _:
                    raise BadPayload(MISSING)

    def _escape(self) -> str:
        """What an escape stands for, from behind its backslash on."""
        mark = self._text[self._at : self._at + 1]
        self._at += 1
        if mark == "u":
            return self._character()
        if mark not in _ESCAPES:
            raise BadPayload(ESCAPE if mark else MISSING)
        return _ESCAPES[mark]

    def _character(self) -> str:
        """A character by its number, or by the two halves of a UTF-16 pair."""
        code = self._hex()
        if 0xD800 <= code < 0xDC00:
            return self._pair(code)
        if 0xDC00 <= code < 0xE000:
            raise BadPayload(LONE % code)
        return chr(code)

    def _pair(self, high: int) -> str:
        follows = self._text[self._at : self._at + 2]
        if follows != "\\u":
            cut = len(follows) < 2 and "\\u".startswith(follows)
            raise BadPayload(MISSING if cut else HIGH % high)
        self._at += 2
        low = self._hex()
        if not 0xDC00 <= low < 0xE000:
            raise BadPayload(HIGH % high)
        return chr(0x10000 + (high - 0xD800 << 10) + low - 0xDC00)

    def _hex(self) -> int:
        found = _HEX.match(self._text, self._at)
        if found is None:
            rest = self._text[self._at : self._at + 4]
            cut = self._at + len(rest) == len(self._text) and all(each in "0123456789abcdefABCDEF" for each in rest)
            raise BadPayload(MISSING if cut else ESCAPE)
        self._at = found.end()
        return int(found[0], 16)


def _is_text(token: _Token) -> TypeGuard[str]:
    """Whether a token is a JSON string."""
    return type(token) is str
