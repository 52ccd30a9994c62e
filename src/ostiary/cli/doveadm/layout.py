"""Rows as doveadm prints them: table, tab, json, flow, pager."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from enum import Enum

import msgspec

from ostiary.cli.output import printable

Row = dict[str, str]
Columns = Mapping[str, str]
"""Key of a row -> heading, in order."""


class Format(Enum):
    """How rows are written."""

    TABLE = "table"
    TAB = "tab"
    JSON = "json"
    FLOW = "flow"
    PAGER = "pager"


def laid_out(rows: Sequence[Row], columns: Columns, form: Format) -> str:
    """The rows as text, each line with its end. What steers a terminal is taken out, but for JSON, which escapes it."""
    if form is Format.JSON:
        return msgspec.json.encode(rows).decode() + "\n"
    cells = [[printable(row.get(key, "")) for key in columns] for row in rows]
    return "".join(f"{line}\n" for line in _LINES[form](list(columns.values()), cells))


def table(headings: list[str], rows: list[list[str]]) -> Iterator[str]:
    """Columns as wide as their widest cell, one blank between, none at the end of a line."""
    from rich.cells import cell_len, set_cell_size  # here: only a table asks how wide a character is

    lines = [headings, *rows]
    widths = [max(map(cell_len, column)) for column in zip(*lines, strict=True)]
    for line in lines:
        yield " ".join(map(set_cell_size, line, widths)).rstrip(" ")


def tab(headings: list[str], rows: list[list[str]]) -> Iterator[str]:
    """A line of headings, then one a row."""
    yield from map("\t".join, [headings, *rows])


def flow(headings: list[str], rows: list[list[str]]) -> Iterator[str]:
    """A line a row."""
    for row in rows:
        yield " ".join(f"{heading}={cell}" for heading, cell in zip(headings, row, strict=True))


def pager(headings: list[str], rows: list[list[str]]) -> Iterator[str]:
    """A line a cell, an empty one between rows."""
    for number, row in enumerate(rows):
        if number:
            yield ""
        yield from (f"{heading}: {cell}" for heading, cell in zip(headings, row, strict=True))


_LINES: Mapping[Format, Callable[[list[str], list[list[str]]], Iterable[str]]] = {
    Format.TABLE: table, Format.TAB: tab, Format.FLOW: flow, Format.PAGER: pager,
}  # fmt: skip
