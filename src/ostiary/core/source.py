"""What every document reader gives: the data of a file, what is wrong with its form, and the line of each place."""

from collections.abc import Callable
from typing import Any, Final, NamedTuple

from ostiary.core.binding import Where
from ostiary.core.refusal import Mistake

DEEPEST: Final = 64
LARGEST: Final = 64 << 20
"""Bytes of a file."""

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


def whole(data: object, mistakes: list[Mistake], line: Line, file: str) -> Document:
    """A document of what was read, if that has the form of settings; an empty file has."""
    if data is None:
        return Document({}, mistakes, line)
    if not isinstance(data, dict):
        return nothing(file, 1, "expected settings (`name: value`) at the top of the file")
    return Document(data, mistakes, line)
