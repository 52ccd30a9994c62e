"""What every document reader gives: the data of a file, what is wrong with its form, and the line of each place."""

import re
from collections.abc import Callable
from typing import Any, Final, NamedTuple

from ostiary.core.configuration.binding import Where
from ostiary.core.refusal import Mistake

DEEPEST: Final = 64
LARGEST: Final = 64 << 20
"""Bytes of a file."""

NUL = re.compile(r"\\u0000|\\U00000000|\\x00|\\0")

Line = Callable[[Where], int]
"""The line (from 1) of a place, or of the nearest one around it; 0 where that is the file itself."""


class Document(NamedTuple):
    """What a file says. `data` is empty where it could not be read; `line` knows where a place stands."""

    data: dict[str, Any]
    mistakes: list[Mistake]
    line: Line


def nothing(file: str, line: int, message: str) -> Document:
    """The document of a file that cannot be read, and why."""
    return Document({}, [Mistake("", message, file, line)], lambda where: 0)


def whole(data: object, mistakes: list[Mistake], line: Line, file: str, nul: int = 0) -> Document:
    """A document of what was read, if that has the form of settings; an empty file has.

    `nul`: the line in which a NUL may have been written, 0 for nowhere.
    """
    if data is None:
        return Document({}, mistakes, line)
    if not isinstance(data, dict):
        return nothing(file, 1, "expected settings (`name: value`) at the top of the file")
    if nul and _holds_nul(data):
        return nothing(file, nul, "a NUL character is no text")
    return Document(data, mistakes, line)


def _holds_nul(data: object) -> bool:
    waiting = [data]
    while waiting:
        each = waiting.pop()
        if isinstance(each, str) and "\0" in each:
            return True
        if isinstance(each, dict):
            waiting += [*each.keys(), *each.values()]
        elif isinstance(each, list):
            waiting += each
    return False


def nul_line(text: str) -> int:
    """The line of the first escape that may stand for NUL; 0 for none."""
    found = NUL.search(text)
    return text.count("\n", 0, found.start()) + 1 if found else 0
